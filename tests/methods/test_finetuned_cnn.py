"""The fine-tuned CNN against a plain loop over episodes and steps with autograd."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils import _pytree as pytree

from harness.method.interface import Feedback, Task, state_bytes
from harness.method.registry import build_method
from harness.util.errors import UserError
from methods.finetuned_cnn import FinetunedCNN
from tests.helpers.stepping import gradients_of, stepped

STEPS, EPISODES = 4, 2
SMALL: dict[str, Any] = {"width": 0.125, "inner_lr": 0.5}
VARIANTS: dict[str, dict[str, Any]] = {
    "one rate": {},
    "learned rate": {"rate": "global"},
    "learned rates, two steps": {"rate": "layer", "steps": 2},
    "first order": {"rate": "layer", "first_order": True},
    "pooled": {"resolution": 16},
    "each channel alone": {"norm": "instance"},
}


def a_net(delay: int = 1, **options: Any) -> FinetunedCNN:
    """In double precision and training."""
    task = Task(1, (3, 34, 32), "segmentation_distractors", delay)
    net = build_method(FinetunedCNN, task, {**SMALL, **options}, 0).double().train()
    assert isinstance(net, FinetunedCNN)
    if net.factors is not None:
        net.factors.data += torch.linspace(-0.5, 0.5, net.factors.numel()).view_as(net.factors).double()
    return net


def a_stream(delay: int = 1) -> tuple[Tensor, Tensor]:
    """Images [T, B, 3, 34, 32] and the masks revealed before each step, one of them empty and one null."""
    random = torch.Generator().manual_seed(0)
    x = torch.randn(STEPS, EPISODES, 3, 34, 32, dtype=torch.float64, generator=random)
    masks = torch.randint(0, 2, (STEPS, EPISODES, 1, 34, 32), generator=random).double()
    masks[:delay], masks[-1, 1], masks[-2, 0] = -1, 0, -1
    return x, masks


def plain_answer(net: FinetunedCNN, weights: Mapping[str, Tensor], image: Tensor, norm: str) -> Tensor:
    """Logits [1, 1, 34, 32] of one image [3, 34, 32]; the U-Net written out."""
    down: list[Tensor] = []
    maps = F.adaptive_avg_pool2d(image[None], net.size)
    for layer in range(10):
        if layer in (1, 2, 3, 4):
            maps = F.max_pool2d(maps, 2, 2)
        if layer in (5, 6, 7, 8):
            skip = down[8 - layer]
            up = F.interpolate(maps, size=skip.shape[2:], mode="bilinear", align_corners=False)
            maps = torch.cat([up, skip], 1)
        maps = F.conv2d(maps, weights[f"maps.{layer}.weight"], weights.get(f"maps.{layer}.bias"), padding=1)
        if layer == 9:
            return F.interpolate(maps, size=image.shape[1:], mode="bilinear", align_corners=False)
        over = (1, 2, 3) if norm == "layer" else (2, 3)
        centred = maps - maps.mean(over, keepdim=True)
        maps = centred / (centred.square().mean(over, keepdim=True) + 1e-5).sqrt()
        scale, shift = (weights[f"norms.{layer}.{name}"].view(1, -1, 1, 1) for name in ("scale", "shift"))
        maps = (maps * scale + shift).clamp(min=0)
        if layer < 4:
            down.append(maps)
    raise AssertionError


def plain_stream(net: FinetunedCNN, x: Tensor, masks: Tensor, delay: int, norm: str) -> Tensor:
    """Logits [T, B, 1, H, W], an episode, a step and a tensor at a time."""
    rows = []
    for b in range(EPISODES):
        weights, row = dict(net.net.named_parameters()), []
        for t in range(STEPS):
            for _ in range(net.steps if masks[t, b].min() >= 0 else 0):
                logits = plain_answer(net, weights, x[t - delay, b], norm)[0]
                loss = F.binary_cross_entropy_with_logits(logits, masks[t, b])
                found = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
                found = tuple(each.detach() for each in found) if net.first_order else found
                factors = torch.ones(()) if net.factors is None else net.factors
                each = factors.expand(len(weights)) if factors.dim() == 0 else factors
                moved = zip(weights.items(), each, found, strict=True)
                weights = {
                    name: weight - net.inner_lr * factor * gradient for (name, weight), factor, gradient in moved
                }
            row.append(plain_answer(net, weights, x[t, b], norm)[0])
        rows.append(torch.stack(row))
    return torch.stack(rows, 1)


@pytest.mark.slow
@pytest.mark.parametrize("delay", [1, 2])
@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_every_mask_is_a_step_on_its_image_and_training_goes_through_it(options: dict[str, Any], delay: int) -> None:
    net, (x, masks) = a_net(delay, **options), a_stream(delay)
    expected = plain_stream(net, x, masks, delay, options.get("norm", "layer"))
    wanted = gradients_of(net, expected)
    fast = net.rollout(x, Feedback(masks))
    assert fast is not None
    for logits in (stepped(net, x, masks)[0], fast):
        torch.testing.assert_close(logits, expected)
        torch.testing.assert_close(gradients_of(net, logits), wanted)


def test_scoring_learns_as_training_does_and_keeps_no_graph() -> None:
    net, (x, masks) = a_net(), a_stream()
    expected = net.rollout(x, Feedback(masks))
    net.eval()
    answers, state = stepped(net, x, masks)
    fast = net.rollout(x, Feedback(masks))
    torch.testing.assert_close((answers, fast), (expected.detach(), expected.detach()))
    assert not any(each.grad_fn for each in (answers, *pytree.tree_leaves(state)))


def test_absorbing_a_stream_gives_the_state_of_stepping() -> None:
    net, (x, masks) = a_net(2), a_stream(2)
    first_part = net.absorb(net.start(EPISODES), x[:3], Feedback(masks[:3]))
    whole = net.absorb(first_part, x[3:], Feedback(masks[3:]))
    torch.testing.assert_close(whole, stepped(net, x, masks)[1])


def test_the_state_is_the_weights_and_the_images_whose_masks_are_to_come() -> None:
    for delay in (1, 3):
        net = a_net(delay, resolution=16).float()
        weights = sum(each.numel() for each in net.net.parameters())
        assert state_bytes(net.start(EPISODES)) == 4 * (weights + delay * 3 * 16 * 16)


def test_channels_normalised_alone_need_maps_of_more_than_a_pixel() -> None:
    with pytest.raises(UserError, match="images of 16x16 shrink; use 32x32 or more, or norm=layer"):
        a_net(norm="instance", resolution=16)
    assert a_net(norm="instance", resolution=32).net.sizes[4] == (2, 2)
