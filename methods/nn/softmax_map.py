"""Softmax regression under a Gaussian prior, fitted for every episode of a batch at once."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.method.interface import one_hot

_ABSENT = -1e9


def fitted(features: Tensor, target: Tensor, ways: int, precision: Tensor | float, steps: int) -> Tensor:
    """Coefficients A [B, ways, n] of the most probable weights W = A H, for features H [B, n, D], target [B, n].

    They minimise the sum over labelled images of the cross-entropy of softmax(W h) plus precision / 2 times |W|^2.
    Null targets (-1) have no say, and a class without labels has no part in the softmax: its weights are zero. The
    minimum lies in the span of the features, hence A. The problem is convex, and the curvature of the cross-entropy in
    its logits is at most 1/2 of the identity (Böhning, 1992), so that

        A <- A - (softmax(A G) - Y + precision A) (G / 2 + precision I)^-1,   G = H H^T

    never goes up; each of `steps` steps is this one, from a point ahead as Nesterov has it, and momentum begins anew
    for an episode in which it points uphill (O'Donoghue and Candès, 2015). Nothing here is differentiated.
    """
    with torch.no_grad():
        own = one_hot(target, ways).to(features.dtype).mT  # Y [B, ways, n]
        known = (target >= 0).to(features.dtype)
        gram = features @ features.mT * known.unsqueeze(1) * known.unsqueeze(2)
        unseen = (own.amax(-1, keepdim=True) == 0) if own.shape[-1] else own.new_ones(*own.shape[:2], 1).bool()
        eye = torch.eye(own.shape[-1], dtype=gram.dtype, device=gram.device)
        inverse = torch.linalg.inv(gram / 2 + precision * eye)
        at = ahead = torch.zeros_like(own)
        time = own.new_ones(len(own), 1, 1)
        for _ in range(steps):
            probability = (ahead @ gram).masked_fill(unseen, _ABSENT).softmax(1).masked_fill(unseen, 0.0)
            gradient = (probability - own) * known.unsqueeze(1) + precision * ahead
            after = ahead - gradient @ inverse
            moved = after - at
            uphill = (gradient * (moved @ gram)).sum((1, 2), keepdim=True) > 0
            later = torch.where(uphill, 1.0, (1 + (1 + 4 * time.square()).sqrt()) / 2)
            ahead = after + torch.where(uphill, 0.0, (time - 1) / later) * moved
            at, time = after, later
        return at
