"""The convolutional LSTM layer with strides and normalised gates, and with empty memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from methods.nn.conv_lstm import ConvLSTM
from tests.helpers.stepping import seeded
from tests.helpers.unsettled import unsettled

OPTIONS: list[dict[str, Any]] = [{}, {"stride": 2}, {"normalize": True}, {"stride": 2, "normalize": True}]


def layer(**options: Any) -> ConvLSTM:
    with seeded(0):
        return unsettled(ConvLSTM(3, 4, **options)).double().eval()


def images(count: int, side: int = 6) -> Tensor:
    return torch.randn(count, 3, side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("options", OPTIONS)
def test_gates_are_strided_and_normalised_before_memory_is_added(options: dict[str, Any]) -> None:
    cell, x = layer(**options), images(2)
    stride = options.get("stride", 1)
    h, c = (torch.randn(2, 4, 6 // stride, 6 // stride, dtype=torch.float64) for _ in range(2))
    driven = F.conv2d(x, cell.inputs.weight, cell.inputs.bias, stride, 1)
    if options.get("normalize"):
        norm = cell.norm
        mean, variance, scale, shift = (
            each[:, None, None] for each in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
        )
        driven = (driven - mean) / (variance + norm.eps).sqrt() * scale + shift
    i, f, o, g = (driven + F.conv2d(h, cell.hidden.weight, padding=1)).chunk(4, 1)
    new_c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    maps, (got_h, got_c) = cell.sequence(x, (h, c))
    torch.testing.assert_close(got_c, new_c)
    torch.testing.assert_close(got_h, o.sigmoid() * new_c.tanh())
    torch.testing.assert_close(maps, got_h)
    torch.testing.assert_close(cell.apart(x, (h, c)), maps)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("options", OPTIONS)
def test_no_state_is_a_state_of_zeros(options: dict[str, Any], steps: int, training: bool) -> None:
    cell, x = layer(**options).train(training), images(2 * steps)
    side = 6 // options.get("stride", 1)
    found = []
    for state in (None, cell.start(2, side, side)):
        maps, after = cell.sequence(x, state, steps)
        weights = dict(cell.named_parameters())
        gradients = torch.autograd.grad(maps.square().sum(), list(weights.values()), allow_unused=True)
        pairs = zip(weights.items(), gradients, strict=True)
        found.append((maps, after, {name: torch.zeros_like(w) if g is None else g for (name, w), g in pairs}))
    torch.testing.assert_close(*found)
    if steps == 1:
        torch.testing.assert_close(cell.first(x), found[1][0])


def test_forget_gates_begin_open() -> None:
    for normalize in (False, True):
        plain, open_ = (ConvLSTM(3, 4, forget_bias=bias, normalize=normalize) for bias in (0.0, 5.0))
        bias = open_.norm.bias if normalize else open_.inputs.bias
        assert bool((bias[4:8] > 4).all())
        assert bool((torch.cat([bias[:4], bias[8:]]).abs() < 1).all())
        assert (plain.inputs.bias is None) == normalize


def test_running_statistics_of_three_gates_move_in_one_step_without_memory() -> None:
    cell, x = layer(normalize=True).train(), images(4)
    cell.norm.reset_running_stats()
    cell.sequence(x, None)
    mean = 0.1 * F.conv2d(x, cell.inputs.weight, padding=1).mean((0, 2, 3))
    mean[4:8] = 0
    torch.testing.assert_close(cell.norm.running_mean, mean)
