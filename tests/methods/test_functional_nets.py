"""Nets with per-episode weights, layer by layer against the library's own layers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from methods.nn.functional_nets import Norm, Normalise


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def a_norm(norm: Norm) -> Normalise:
    """One of three channels, with scales of both signs."""
    layer = Normalise(3, norm).double()
    with torch.no_grad():
        layer.scale.copy_(torch.tensor([0.5, -2.0, 1.5]))
        layer.shift.copy_(torch.tensor([1.0, 0.0, -3.0]))
    return layer


@pytest.mark.parametrize("shape", [(4, 3, 5, 2), (7, 3)])
@pytest.mark.parametrize("norm", ["support", "batch"])
def test_statistics_of_a_support_set_are_those_of_batch_normalisation(shape: tuple[int, ...], norm: Norm) -> None:
    layer, x = a_norm(norm), (5 + 0.1 * random(*shape)).requires_grad_()
    found, statistics = layer(x)
    expected = F.batch_norm(x, None, None, layer.scale, layer.shift, training=True)
    torch.testing.assert_close(found, expected)
    weight = random(*shape, seed=1)
    gradients = [torch.autograd.grad((each * weight).sum(), x)[0] for each in (found, expected)]
    torch.testing.assert_close(*gradients)
    if norm == "batch":
        assert statistics is None
        return
    over = [0, *range(2, len(shape))]
    variance, mean = torch.var_mean(x, over, correction=0)
    torch.testing.assert_close(statistics, torch.stack([mean, variance]))
    torch.testing.assert_close(layer(x[:1], statistics)[0], expected[:1])
