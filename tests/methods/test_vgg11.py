"""VGG-11 against torchvision's, and against the size that the paper prints."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.models import vgg

from harness.method.interface import Feedback, Task
from harness.method.registry import build_method
from methods.vgg11 import VGG11
from tests.helpers.unsettled import unsettled


def built(ways: int = 10, side: int = 32, **options: object) -> VGG11:
    return build_method(VGG11, Task(ways, (3, side, side), "supervised"), options, 0)  # type: ignore[return-value]


def torchvisions(method: VGG11) -> nn.Sequential:
    """torchvision's features of VGG-11 with batch normalisation, holding the same weights."""
    found = vgg.make_layers(vgg.cfgs["A"], batch_norm=True).double()
    for kind, ours in ((nn.Conv2d, method.convs), (nn.BatchNorm2d, method.norms)):
        theirs = [each for each in found if isinstance(each, kind)]
        assert len(theirs) == len(ours) == 8
        for one, other in zip(theirs, ours, strict=True):
            one.load_state_dict(other.state_dict())
    return found


@pytest.mark.parametrize("training", [False, True])
def test_features_are_torchvisions_in_value_and_gradient(training: bool) -> None:
    method = unsettled(built()).double().train(training)
    other = torchvisions(method).train(training)
    x = torch.randn(3, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    ours = method.rollout(x.unsqueeze(0), Feedback(torch.full((1, 3), -1)))[0]
    theirs = method.classify(other(x)[:, :, 0, 0])
    torch.testing.assert_close(ours, theirs)
    weights = [each.get_parameter("weight") for each in method.convs]
    same = [each.weight for each in other if isinstance(each, nn.Conv2d)]
    torch.testing.assert_close(
        torch.autograd.grad(ours.square().sum(), weights), torch.autograd.grad(theirs.square().sum(), same)
    )


def test_parameters_are_those_of_table_5() -> None:
    count = sum(each.numel() for each in built().parameters())
    assert count == 9_231_114
    assert round(count / 1e6, 1) == 9.2


def test_small_images_skip_the_pooling_that_has_nothing_to_pool() -> None:
    method = unsettled(built(resolution=16)).double().eval()
    x = torch.randn(2, 3, 16, 16, dtype=torch.float64).repeat_interleave(2, 2).repeat_interleave(2, 3)
    theirs = torchvisions(method).eval()[:-1](x[:, :, ::2, ::2])
    assert theirs.shape[2:] == (1, 1)
    torch.testing.assert_close(method.predict(method.start(len(x)), x)[0], method.classify(theirs[:, :, 0, 0]))


def test_large_images_are_averaged_over_space() -> None:
    method = unsettled(built(side=84)).double().eval()
    x = torch.randn(1, 3, 84, 84, dtype=torch.float64)
    theirs = torchvisions(method).eval()(x)
    assert theirs.shape[2:] == (2, 2)
    torch.testing.assert_close(method.predict(method.start(len(x)), x)[0], method.classify(theirs.mean((2, 3))))
