"""Linear maps by weights of each episode's own, or by one view for all."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from methods.nn.affine import apply_transposed, apply_weight, is_shared

VIEWS: dict[str, Callable[[Tensor], Tensor]] = {
    "a parameter": lambda stored: stored.expand(3, -1, -1),
    "its transpose, of the same shape": lambda stored: stored.T.expand(3, -1, -1),
    "rows of it, of other numbers": lambda stored: stored[1:].expand(3, -1, -1),
    "a copy that is a leaf of its own": lambda stored: stored.expand(3, -1, -1).detach().requires_grad_(),
    "one set an episode": lambda stored: torch.stack([stored, 2 * stored, -stored]),
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_a_map_and_its_gradients_are_those_of_each_episodes_own_product(view: Callable[[Tensor], Tensor]) -> None:
    draw = torch.Generator().manual_seed(1)
    stored = torch.randn(4, 4, generator=draw, dtype=torch.float64, requires_grad=True)
    x, bias = (torch.randn(size, generator=draw, dtype=torch.float64) for size in ((3, 5, 4), (4,)))
    weight = view(stored)
    out = weight.shape[1]
    offset = bias[:out].expand(3, -1) if is_shared(weight) else torch.stack([bias, bias, -bias])
    found, wanted = apply_weight(weight, x, offset), torch.einsum("boi,bni->bno", weight, x) + offset[:, None]
    back = apply_transposed(weight, found), torch.einsum("boi,bno->bni", weight, wanted)
    plain = apply_weight(weight, x), wanted - offset[:, None]
    for ours, theirs in ((found, wanted), back, plain):
        torch.testing.assert_close(ours, theirs)
        leaf = weight if weight.is_leaf else stored
        gradients = [torch.autograd.grad(each.sin().sum(), leaf, retain_graph=True)[0] for each in (ours, theirs)]
        # Of a view that is a leaf the first episode gets what all would: who asks for more must not share.
        torch.testing.assert_close(*(each.sum(0) if leaf is weight else each for each in gradients))


def test_a_shared_map_forms_no_gradient_of_each_episode() -> None:
    stored = torch.ones(2, 2, requires_grad=True)
    seen: list[torch.Size] = []
    weight = stored.expand(3, -1, -1)
    weight.register_hook(lambda gradient: seen.append(gradient.shape))
    apply_weight(weight, torch.ones(3, 1, 2)).sum().backward()
    assert stored.grad is not None
    assert seen == []
