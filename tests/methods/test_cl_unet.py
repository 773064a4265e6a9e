"""CL U-Net against a plain loop over steps and layers, and what it does with the masks it is told."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.method.interface import Feedback, Task, state_bytes
from harness.method.registry import build_method
from harness.util.errors import UserError
from methods.cl_unet import CLUNet
from methods.nn.unet import WIDTHS
from tests.helpers.stepping import gradients_of, stepped, stream_batch

TASK = Task(1, (3, 34, 32), "segmentation_distractors")
STEPS, EPISODES = 4, 2
SMALL: dict[str, Any] = {"width": 0.125}
VARIANTS: dict[str, dict[str, Any]] = {
    "masks at layer 1": {},
    "masks at layer 9": {"label_layer": 9},
    "pooled": {"resolution": 16},
    "memory begins deep": {"memory_begins": "deep"},
    "memory begins deep, masks at layer 9": {"memory_begins": "deep", "label_layer": 9},
    "a small kernel of memory": {"memory_kernel": 1},
    "without normalisation": {"norm": "none"},
    "checkpointed": {"checkpoint": True},
}


def a_net(seed: int = 0, **options: Any) -> CLUNet:
    """In double precision and scoring, with running statistics that are not those of the start."""
    net = build_method(CLUNet, TASK, {**SMALL, **options}, seed).double().eval()
    assert isinstance(net, CLUNet)
    random = torch.Generator().manual_seed(seed)
    for name, each in net.named_buffers():
        if "running" in name:
            each.copy_(torch.rand(each.shape, generator=random) + 0.1)
    return net


def a_life(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Images [T, B, 3, 34, 32] and the masks revealed before each step: null first, one of them empty."""
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(STEPS, EPISODES, *TASK.image_shape, dtype=torch.float64, generator=random)
    masks = torch.randint(0, 2, (STEPS, EPISODES, 1, 34, 32), generator=random).double()
    masks[0], masks[2, 1] = -1, 0
    return x, masks


def plain(net: CLUNet, x: Tensor, masks: Tensor, label_layer: int, size: tuple[int, int]) -> Tensor:
    """Logits [T, 1, H, W] of one episode x [T, 3, H, W]: every layer and gate of every step written out."""
    memory: list[Any] = [None] * 10
    answers = []
    for image, mask in zip(x, masks, strict=True):
        if mask.min() < 0:
            planes = torch.zeros(2, *size).double()
        else:
            sign = 1.0 if mask.max() > 0 else -1.0
            planes = torch.stack([F.adaptive_avg_pool2d(mask, size)[0], torch.full(size, sign).double()])
        down: list[Tensor] = []
        maps = F.adaptive_avg_pool2d(image, size)
        for layer, cell in enumerate(net.cells):
            if layer in (1, 2, 3, 4):
                maps = F.max_pool2d(maps, 2, 2)
            if layer in (5, 6, 7, 8):
                skip = down[8 - layer]
                up = F.interpolate(maps[None], size=skip.shape[1:], mode="bilinear", align_corners=False)[0]
                maps = torch.cat([up, skip])
            if layer + 1 == label_layer:
                maps = torch.cat([maps, planes])
            count = cell.channels
            h, c = memory[layer] or (torch.zeros(count, *maps.shape[1:]).double(),) * 2
            gates = []
            for gate in range(4):
                part = slice(gate * count, (gate + 1) * count)
                driven = F.conv2d(maps[None], cell.inputs.weight[part], cell.inputs.bias[part], padding="same")
                gates.append((driven + F.conv2d(h[None], cell.hidden.weight[part], padding="same"))[0])
            i, f, o, g = gates[0].sigmoid(), gates[1].sigmoid(), gates[2].sigmoid(), gates[3].tanh()
            c = f * c + i * g
            h = o * c.tanh()
            memory[layer], maps = (h, c), h
            norm = net.norms[layer] if layer < 9 else None
            if isinstance(norm, nn.BatchNorm2d):
                mean, scale = norm.running_mean, norm.weight / (norm.running_var + norm.eps).sqrt()
                maps = (maps - mean[:, None, None]) * scale[:, None, None] + norm.bias[:, None, None]
            if layer < 4:
                down.append(maps)
        logits = F.interpolate(
            (net.gain * maps + net.bias)[None], image.shape[1:], mode="bilinear", align_corners=False
        )
        answers.append(logits[0])
    return torch.stack(answers)


@pytest.mark.slow
@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_answers_and_gradients_are_those_of_a_plain_loop(options: dict[str, Any]) -> None:
    net, (x, masks) = a_net(**options), a_life()
    size = (16, 16) if "resolution" in options else (34, 32)
    wanted = torch.stack(
        [plain(net, x[:, b], masks[:, b], options.get("label_layer", 1), size) for b in range(EPISODES)], 1
    )
    expected = gradients_of(net, wanted)
    for logits in (stepped(net, x, masks)[0], net.rollout(x, Feedback(masks))):
        torch.testing.assert_close(logits, wanted)
        torch.testing.assert_close(gradients_of(net, logits), expected)


def test_at_16_pixels_the_fifth_layer_is_torchs_lstm() -> None:
    net = a_net(resolution=16, memory_kernel=1)
    cell, steps = list(net.cells)[4], 5
    units, inputs = cell.channels, cell.inputs.in_channels
    lstm = nn.LSTM(inputs, units).double()
    with torch.no_grad():
        # torch orders its gates i, f, g, o; a single pixel sees the middle of a 3x3 kernel alone.
        order = torch.cat([torch.arange(units) + units * gate for gate in (0, 1, 3, 2)])
        lstm.weight_ih_l0.copy_(cell.inputs.weight[order, :, 1, 1])
        lstm.weight_hh_l0.copy_(cell.hidden.weight[order, :, 0, 0])
        lstm.bias_ih_l0.copy_(cell.inputs.bias[order])
        lstm.bias_hh_l0.zero_()
    x = torch.randn(steps, EPISODES, inputs, dtype=torch.float64)
    assert net.start(1)["cells"][4][0].shape == (1, units, 1, 1)
    ours, _ = cell.sequence(x.flatten(0, 1)[:, :, None, None], cell.start(EPISODES, 1, 1))
    torch.testing.assert_close(ours[:, :, 0, 0].unflatten(0, (steps, EPISODES)), lstm(x)[0])


def test_masks_reach_the_layers_from_the_one_they_enter() -> None:
    x, masks = a_life()
    for layer in (1, 9):
        net = a_net(label_layer=layer)
        expected_cells = stepped(net, x[:2], masks[:2])[1]["cells"]
        silent = stepped(net, x[:2], torch.full_like(masks[:2], -1))[1]["cells"]
        moved = [not torch.equal(ours[0], theirs[0]) for ours, theirs in zip(expected_cells, silent, strict=True)]
        assert moved == [number >= layer for number in range(1, 11)]


def test_null_an_empty_mask_and_a_full_one_are_told_apart() -> None:
    net = a_net()
    planes = [
        net.observe(net.start(1), Feedback(torch.full((1, 1, 34, 32), value).double()))["mask"] for value in (-1, 0, 1)
    ]
    assert [[plane.unique().tolist() for plane in each[0]] for each in planes] == [
        [[0.0], [0.0]],
        [[0.0], [-1.0]],
        [[1.0], [1.0]],
    ]
    state = net.observe(net.start(1), Feedback(torch.ones(1, 1, 34, 32).double()))
    assert not net.predict(state, torch.zeros(1, *TASK.image_shape).double())[1]["mask"].any()  # it enters once


def test_every_layer_has_memory_of_its_size_and_none_grows() -> None:
    net = a_net().float()
    widths = [round(0.125 * each) for each in WIDTHS] + [1]
    pixels = [(34 >> level) * (32 >> level) for level in (0, 1, 2, 3, 4, 3, 2, 1, 0, 0)]
    wanted = 4 * (2 * 34 * 32 + 2 * sum(n * s for n, s in zip(widths, pixels, strict=True)))
    state = net.start(EPISODES)
    assert state_bytes(state) == wanted
    x, masks = (each.float() for each in a_life())
    assert state_bytes(stepped(net, x, masks)[1]) == wanted


@pytest.mark.parametrize(("label_layer", "open_layer"), [(1, 4), (9, 8)])
def test_where_memory_begins_deep_other_layers_begin_without(label_layer: int, open_layer: int) -> None:
    net = a_net(memory_begins="deep", label_layer=label_layer)
    for number, cell in enumerate(net.cells):
        assert bool(cell.hidden.weight.any()) == (number == open_layer)
        forgets = cell.inputs.bias[cell.channels : 2 * cell.channels]
        assert bool((forgets > 0).all()) == (number == open_layer)


def saved_bytes(net: CLUNet, x: Tensor, masks: Tensor) -> int:
    """Bytes that are kept for the backward pass, each piece of memory once."""
    retained: dict[int, int] = {}

    def pack(each: Tensor) -> Tensor:
        retained[each.untyped_storage().data_ptr()] = each.untyped_storage().nbytes()
        return each

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda each: each):
        net.rollout(x, Feedback(masks)).sum()
    return sum(retained.values())


def test_checkpointing_keeps_less_and_changes_nothing_else() -> None:
    x, masks = a_life()
    found = []
    for checkpoint in (False, True):
        net = a_net(checkpoint=checkpoint).train()
        retained = saved_bytes(net, x, masks)
        logits = net.rollout(x, Feedback(masks))
        gradients = gradients_of(net, logits)
        found.append((retained, logits, gradients, dict(net.named_buffers())))
    (much, *plainly), (little, *again) = found
    torch.testing.assert_close(again, plainly)
    assert little < 0.6 * much


@pytest.mark.parametrize(("label_layer", "deepest"), [(1, 4), (9, 8)])
def test_the_pretext_trains_the_coarsest_layer_that_masks_reach_to_know_the_target(
    label_layer: int, deepest: int
) -> None:
    net, (x, masks) = a_net(label_layer=label_layer), a_life()
    pretext = net.pretraining_method(TASK).double()
    target = masks.clamp(min=0)
    target[1, 0] = 0
    logits = pretext.rollout(x, Feedback(masks))
    assert logits is not None
    loss = pretext.loss(logits, stream_batch(target))
    h = torch.stack(list(layers_of(net, x, masks, deepest)))
    said = pretext.say(net.norms[deepest](h.flatten(0, 1)).mean((2, 3))).view(STEPS, EPISODES)
    shown = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]]).double()
    wanted = F.binary_cross_entropy_with_logits(said.float(), shown, reduction="sum") / EPISODES
    torch.testing.assert_close(loss, wanted, check_dtype=False)
    loss.backward()
    trained = {name for name, each in net.named_parameters() if each.grad is not None}
    assert {name.split(".")[1] for name in trained} == {str(deepest)}


def layers_of(net: CLUNet, x: Tensor, masks: Tensor, number: int) -> list[Tensor]:
    """h of one layer after each step."""
    state, found = net.start(EPISODES), []
    for image, mask in zip(x, masks, strict=True):
        _, state = net.predict(net.observe(state, Feedback(mask)), image)
        found.append(state["cells"][number][0])
    return found


def test_features_of_single_images_are_the_fifth_layers() -> None:
    net, (x, _) = a_net(), a_life()
    features = net.memoryless_features().net(x[0])
    state = stepped(net, x[:1], torch.full((1, EPISODES, 1, 34, 32), -1.0).double())[1]
    torch.testing.assert_close(features, net.norms[4](state["cells"][4][0]).flatten(1))


def test_images_that_vanish_are_refused() -> None:
    with pytest.raises(UserError, match="8x8 vanish in four"):
        build_method(CLUNet, TASK, {"resolution": 8}, 0)
