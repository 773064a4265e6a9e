"""Kronecker-factored curvature of a `Learner`'s loss on a support set, and its log-determinant (Martens and Grosse,
"Optimizing neural networks with Kronecker-factored approximate curvature", ICML 2015; for convolutions Grosse and
Martens, "A Kronecker-factored approximate Fisher matrix for convolution layers", ICML 2016)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.nn import inner_loop
from methods.nn.functional_nets import FunctionalDense, Learner

Fisher = Literal["expected", "empirical"]
Factors = list[tuple[Tensor, Tensor]]
"""A [B, in, in] and G [B, out, out] of each linear map, the classifier last: its curvature is about A (x) G."""


class _Probed(nn.Module):
    """A learner with a zero added to the output of each linear map, to take gradients by.

    Besides the logits it gives the second moments of the inputs of each map, or with `last_only` of the classifier's.
    """

    def __init__(self, learner: Learner, last_only: bool) -> None:
        super().__init__()
        self.learner, self.last_only = learner, last_only

    def forward(self, x: Tensor, probes: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        body, moments = self.learner.body, []
        x = x.flatten(1) if isinstance(body, FunctionalDense) else x
        for each, norm, probe in zip(body.maps, body.norms, probes, strict=True):
            if not self.last_only:
                moments.append(_second_moments(x) if x.dim() == 2 else _of_patches(x))
            x, _ = body.activate(norm, each(x) + probe)
        x = x.flatten(1)
        moments.append(_second_moments(torch.cat([x, torch.ones_like(x[:, :1])], 1)))  # the 1 is the bias's
        return self.learner.classify(x), tuple(moments)


def factors(
    learner: Learner, weights: Mapping[str, Tensor], x: Tensor, target: Tensor, fisher: Fisher, last_only: bool
) -> Factors:
    """The factors of each layer's curvature of the mean loss over images x [B, N, C, H, W] with labels [B, N].

    With a_i the input of a layer for image i (and 1 where it has a bias) and g_i the gradient of the loss by its
    output, A = mean_i a_i a_i^T and G = mean_i E[g_i g_i^T]. A convolution has both at every pixel; A is then summed
    over pixels and G averaged (Grosse and Martens 2016, theorem 1). 'expected' takes E over the labels' probabilities
    under the learner, exactly: G of the classifier is mean_i (diag(p_i) - p_i p_i^T). 'empirical' has the true labels,
    and one backward pass where the other has as many as there are classes. Scales and shifts of normalisation have no
    factors; with `last_only` the classifier alone has some.

    All A, and G of the classifier, are differentiable; the other G, which take backward passes, count as constants.
    """
    probes = tuple(each.requires_grad_() for each in _zeros(learner, x))
    named = {f"learner.{name}": each for name, each in weights.items()}
    with torch.enable_grad():
        logits, moments = inner_loop.forward(_Probed(learner, last_only), named, x, probes)
    last = _of_classifier(logits, target, fisher)
    if last_only:
        return [(moments[-1], last)]
    outer = [probe.new_zeros(len(x), probe.shape[2], probe.shape[2]) for probe in probes]
    for gradient in _output_gradients(logits.detach(), target, fisher):
        found = torch.autograd.grad(logits, probes, gradient, retain_graph=True)
        for total, each in zip(outer, found, strict=True):
            flat = each.flatten(3).transpose(2, 3).flatten(1, 2) if each.dim() == 5 else each
            total += flat.transpose(1, 2) @ flat / flat.shape[1]
    return list(zip(moments, [*outer, last], strict=True))


def log_determinant(layers: Factors, samples: int, precision: float) -> Tensor:
    """log det of the curvature of the summed loss of `samples` images and a prior of `precision`, [B].

    The precision is spread over both factors (factored Tikhonov damping), so that it is, over all layers,

        sum_l out_l log det(sqrt(N) A_l + sqrt(precision) I) + in_l log det(sqrt(N) G_l + sqrt(precision) I).
    """
    total = []
    for inputs, gradients in layers:
        into, out = (_log_det(samples**0.5 * each, precision**0.5) for each in (inputs, gradients))
        total.append(gradients.shape[-1] * into + inputs.shape[-1] * out)
    return torch.stack(total).sum(0)


def _log_det(matrix: Tensor, damping: float) -> Tensor:
    damped = matrix + damping * torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    return 2 * torch.linalg.cholesky(damped).diagonal(dim1=-2, dim2=-1).log().sum(-1)


def _of_classifier(logits: Tensor, target: Tensor, fisher: Fisher) -> Tensor:
    """G of the classifier, [B, ways, ways].

    'expected' without the roots of `_output_gradients`: where a probability is 0, the gradient of its root is not a
    number, while that of p_i p_i^T is 0.
    """
    probabilities = logits.softmax(-1)
    if fisher == "empirical":
        (gradient,) = _output_gradients(logits, target, fisher)
        return gradient.mT @ gradient / gradient.shape[1]
    outer = probabilities.mT @ probabilities / probabilities.shape[1]
    return torch.diag_embed(probabilities.mean(1)) - outer


def _output_gradients(logits: Tensor, target: Tensor, fisher: Fisher) -> list[Tensor]:
    """Gradients [B, N, ways] by the logits, whose outer products sum to the Fisher information of each image."""
    probabilities = logits.softmax(-1)
    if fisher == "empirical":
        return [probabilities - F.one_hot(target, logits.shape[-1])]
    labels = torch.eye(logits.shape[-1], dtype=logits.dtype, device=logits.device)
    return [probabilities[..., way, None].sqrt() * (probabilities - labels[way]) for way in range(logits.shape[-1])]


def _zeros(learner: Learner, x: Tensor) -> list[Tensor]:
    """Zeros [B, N, ...] in the shape of the output of each linear map of the body."""
    widths = [len(own) for own in learner.body.parameters() if own.dim() > 1]
    if isinstance(learner.body, FunctionalDense):
        return [x.new_zeros(*x.shape[:2], width) for width in widths]
    height, breadth = x.shape[3:]
    return [x.new_zeros(*x.shape[:2], width, height >> n, breadth >> n) for n, width in enumerate(widths)]


def _second_moments(x: Tensor) -> Tensor:
    """mean_i x_i x_i^T of vectors [N, D]."""
    return x.T @ x / len(x)


def _of_patches(x: Tensor) -> Tensor:
    """The same of the 3x3 patches of maps [N, C, H, W], summed over pixels: [9 C, 9 C]."""
    patches = F.unfold(x, 3, padding=1).transpose(1, 2).flatten(0, 1)
    return patches.T @ patches / len(x)
