"""CL-VGG-11 and CL-ResNet-20 against loops over the equations of their layers, and against the paper's sizes."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from harness.data.cards import CARDS
from harness.data.dataset import card_table
from harness.episodes.plan import plan_episodes
from harness.evaluation.cost import measured_cost
from harness.method.interface import Feedback, Task
from harness.method.registry import build_method
from harness.protocol.models import PROTOCOL
from methods.cl_resnet20 import CLResNet20
from methods.cl_vgg11 import CLVGG11
from methods.nn.cl_classifier import CLClassifier
from methods.nn.conv_lstm import ConvLSTM
from tests.helpers.unsettled import unsettled

TWINS: dict[str, type[CLClassifier]] = {"vgg": CLVGG11, "resnet": CLResNet20}
NORMS = ("gates", "outputs", "none")
SMALL = {"vgg": 0.02, "resnet": 0.25}  # widths; of VGG 8 and 16 channels
Memories = list[tuple[Tensor, Tensor]]


def built(twin: str, side: int = 8, ways: int = 5, **options: Any) -> CLClassifier:
    """A twin in double precision and evaluation mode whose normalisation is at something."""
    options = {"width": SMALL[twin], **options}
    method = build_method(TWINS[twin], Task(ways, (3, side, side), "supervised"), options, 0)
    return unsettled(method).double().eval()  # type: ignore[return-value]


def images(count: int = 2, side: int = 8) -> Tensor:
    return torch.randn(count, 3, side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


class Loop:
    """One layer after another by the paper's equations 1 to 5, a convolution for each gate, from memories kept here."""

    def __init__(self, method: CLClassifier, memories: Memories | None) -> None:
        self.weights = method.state_dict(keep_vars=True)
        self.before, self.after = memories, []  # type: ignore[var-annotated]

    def norm(self, maps: Tensor, name: str, part: slice = slice(None)) -> Tensor:
        at = [self.weights[f"{name}.{each}"][part] for each in ("running_mean", "running_var", "weight", "bias")]
        mean, variance, scale, shift = (each[:, None, None] for each in at)
        return (maps - mean) / (variance + 1e-5).sqrt() * scale + shift

    def layer(self, name: str, x: Tensor, stride: int = 1) -> Tensor:
        hidden, inputs = self.weights[f"{name}.cell.hidden.weight"], self.weights[f"{name}.cell.inputs.weight"]
        n = hidden.shape[1]
        if self.before is None:
            h = c = x.new_zeros(len(x), n, -(-x.shape[2] // stride), -(-x.shape[3] // stride))
        else:
            h, c = self.before[len(self.after)]

        def gate(number: int) -> Tensor:
            part = slice(number * n, number * n + n)
            bias = self.weights.get(f"{name}.cell.inputs.bias")
            driven = F.conv2d(x, inputs[part], None if bias is None else bias[part], stride, 1)
            if f"{name}.cell.norm.weight" in self.weights:
                driven = self.norm(driven, f"{name}.cell.norm", part)
            return driven + F.conv2d(h, hidden[part], padding=1)

        c = gate(1).sigmoid() * c + gate(0).sigmoid() * gate(3).tanh()
        h = gate(2).sigmoid() * c.tanh()
        self.after.append((h, c))
        return self.norm(h, f"{name}.norm") if f"{name}.norm.weight" in self.weights else h


def vgg(loop: Loop, x: Tensor) -> Tensor:
    for number in range(8):
        x = loop.layer(f"layers.{number}", x)
        if number in (0, 1, 3, 5, 7) and x.shape[-1] > 1:
            x = F.max_pool2d(x, 2)
    return x.mean((2, 3))


def resnet(loop: Loop, x: Tensor) -> Tensor:
    maps = loop.layer("stem", x)
    for number in range(9):
        stride = 2 if number in (3, 6) else 1
        h = loop.layer(f"seconds.{number}", loop.layer(f"firsts.{number}", maps, stride))
        if stride == 2:
            new = h.shape[1] - maps.shape[1]
            maps = F.avg_pool2d(maps, 1, 2)
            sides = [maps.new_zeros(len(maps), each, *maps.shape[2:]) for each in (new // 2, new - new // 2)]
            maps = torch.cat([sides[0], maps, sides[1]], 1)
        maps = maps + h
    return maps.mean((2, 3))


def looped(method: CLClassifier, x: Tensor, steps: int, memories: Memories | None = None) -> tuple[Tensor, Memories]:
    """Logits of the last of some steps on the same images, and the memories after it."""
    for _ in range(steps):
        loop = Loop(method, memories)
        features = (vgg if isinstance(method, CLVGG11) else resnet)(loop, x)
        memories = loop.after
    assert memories is not None
    return features @ method.classify.weight.T + method.classify.bias, memories


def empty(method: CLClassifier, x: Tensor) -> Memories:
    """Zeros in the shape of every layer's memory."""
    return [(torch.zeros_like(h), torch.zeros_like(c)) for h, c in looped(method, x, 1)[1]]


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("twin", TWINS)
def test_answers_and_memories_follow_the_papers_equations(twin: str, norm: str, steps: int) -> None:
    method, x = built(twin, norm=norm, steps=steps), images()
    logits, state = method.predict(method.start(2), x)
    expected, memories = looped(method, x, steps)
    torch.testing.assert_close(logits, expected)
    torch.testing.assert_close(state["cells"], memories)
    assert all(h.any() and c.any() for h, c in state["cells"])


@pytest.mark.parametrize("twin", TWINS)
def test_memory_goes_on_from_step_to_step(twin: str) -> None:
    method, x = built(twin), images()
    logits, state = method.predict(method.start(2), x)
    again, after = method.predict(method.observe(state, Feedback(torch.tensor([-1, -1]))), x)
    expected, memories = looped(method, x, 2)
    torch.testing.assert_close(again, expected)
    torch.testing.assert_close(after["cells"], memories)
    assert not torch.allclose(logits, again)
    twice = built(twin, steps=2)
    torch.testing.assert_close(twice.predict(twice.start(2), x)[0], again)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("twin", TWINS)
def test_leaving_out_what_meets_only_zeros_changes_neither_value_nor_gradient(
    twin: str, norm: str, training: bool
) -> None:
    method, x = built(twin, norm=norm), images(4)
    weights = dict(method.named_parameters())
    zeros = {"cells": empty(method, x)}
    method.train(training)
    found = []
    for state in (method.start(4), zeros):
        logits = method.predict(state, x)[0]
        gradients = torch.autograd.grad(logits.square().sum(), list(weights.values()), allow_unused=True)
        found.append((logits, dict(zip(weights, gradients, strict=True))))
    (fast, some), (slow, whole) = found
    torch.testing.assert_close(fast, slow)
    for name, each in whole.items():
        expected = torch.zeros_like(weights[name]) if some[name] is None else some[name]
        torch.testing.assert_close(expected, each, msg=partial("{}: {}".format, name))
    unused = {name for name, each in some.items() if each is None}
    assert unused == {name for name in weights if ".hidden." in name}
    assert all(each.any() for name, each in some.items() if name not in unused and ".bias" not in name)


@pytest.mark.parametrize("norm", ["gates", "outputs"])
@pytest.mark.parametrize("twin", TWINS)
def test_statistics_are_those_of_all_steps_together(twin: str, norm: str) -> None:
    """Two looks in training: normalisation is over the maps of both, and running statistics move once."""
    method, x = built(twin, norm=norm, steps=2).train(), images(4)
    seen: dict[str, Tensor] = {}
    layers = [(name, each) for name, each in method.named_modules() if isinstance(each, ConvLSTM)]
    for name, cell in layers:
        if norm == "gates":
            cell.norm.reset_running_stats()
        sequence = cell.sequence

        def watched(x: Tensor, *rest: Any, cell: ConvLSTM = cell, name: str = name, sequence: Any = sequence) -> Any:
            maps, state = sequence(x, *rest)
            seen[name] = F.conv2d(x, cell.inputs.weight, None, cell.inputs.stride, 1) if norm == "gates" else maps
            return maps, state

        cell.sequence = watched  # type: ignore[method-assign, assignment]
    norms = {name: each for name, each in method.named_modules() if isinstance(each, torch.nn.BatchNorm2d)}
    for each in norms.values():
        each.reset_running_stats()
    method.predict(method.start(4), x)
    for name, cell in layers:
        maps, at = seen[name], cell.norm if norm == "gates" else norms[name.replace("cell", "norm")]
        assert len(maps) == 8
        torch.testing.assert_close(at.running_mean, 0.1 * maps.mean((0, 2, 3)))


@pytest.mark.parametrize("twin", TWINS)
def test_training_is_by_what_stepping_gives(twin: str) -> None:
    method, x = built(twin, steps=2), images()
    fast = method.rollout(x.unsqueeze(0), Feedback(torch.full((1, 2), -1)))
    assert fast is not None
    torch.testing.assert_close(fast[0], method.predict(method.start(2), x)[0], rtol=0, atol=0)


def sizes(twin: str, widths: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """Channels before, channels and side of the maps of each layer, on 32x32 images."""
    if twin == "vgg":
        sides = (32, 16, 8, 8, 4, 4, 2, 2)
        return list(zip((3, *widths), widths, sides, strict=False))
    stages = [(side, n) for side, n in zip((32, 16, 8), widths, strict=True) for _ in range(6)]
    rows = [(32, widths[0]), *stages]
    return [(3, *rows[0][::-1])] + [(m, n, side) for (_, m), (side, n) in pairwise(rows)]


SIZES = [
    ("vgg", 0.5, (32, 64, 128, 128, 256, 256, 256, 256), 20.0),
    ("vgg", 0.35, (24, 48, 88, 88, 176, 176, 176, 176), 9.5),
    ("resnet", 0.5, (8, 16, 32), 0.6),
    ("resnet", 0.35, (6, 11, 22), 0.3),
]


@pytest.mark.parametrize(("twin", "width", "widths", "millions"), SIZES)
def test_parameters_are_those_of_table_5(twin: str, width: float, widths: tuple[int, ...], millions: float) -> None:
    convolutions = sum(4 * 9 * (n + m) * m + 4 * m for n, m, _ in sizes(twin, widths))
    normalised = {"none": 0, "gates": 4, "outputs": 2}  # weights a channel; shifts of gates are their biases
    for norm, each in normalised.items():
        method = build_method(TWINS[twin], Task(10, (3, 32, 32), "supervised"), {"width": width, "norm": norm}, 0)
        count = sum(each.numel() for each in method.parameters())
        assert count == convolutions + each * sum(m for _, m, _ in sizes(twin, widths)) + 10 * widths[-1] + 10
        assert round(count / 1e6, 1) == millions


@pytest.mark.parametrize(("twin", "width", "widths", "millions"), SIZES)
def test_empty_memory_costs_nothing(twin: str, width: float, widths: tuple[int, ...], millions: float) -> None:
    """In one step neither hidden convolutions nor the forget gate's; in two steps all of the second, and all gates."""
    protocol = PROTOCOL.validate_python({"kind": "supervised", "title": "CIFAR-10", "dataset": "cifar10"})
    plan = plan_episodes(protocol, card_table(CARDS["cifar10"], "test"), "test", 0, [0])
    inputs, hidden = (
        sum(2 * 4 * 9 * (n, m)[part] * m * side**2 for n, m, side in sizes(twin, widths)) for part in (0, 1)
    )
    for steps, expected in ((1, 0.75 * inputs), (2, 2 * inputs + hidden)):
        options = {"width": width, "steps": steps}
        method = build_method(TWINS[twin], Task(10, (3, 32, 32), "supervised"), options, 0)
        found = measured_cost(method, plan)
        assert found.gflop_per_step == pytest.approx((expected + 2 * 10 * widths[-1]) / 1e9)
        assert found.state_bytes == 4 * 2 * sum(m * side**2 for _, m, side in sizes(twin, widths))
