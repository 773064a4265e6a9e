"""MAML written out as a plain loop over episodes and steps with autograd, for its tests and those of its relatives."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from harness.episodes.source import Episodes, EpisodeSource
from harness.protocol.models import PROTOCOL
from harness.testing import tiny_dataset
from methods.maml import MAML

WAYS, EPISODES, STEPS = 3, 2, 6


def k_shot_protocol(shots: int = 2, queries: int = 2) -> Any:
    return PROTOCOL.validate_python(
        {
            "kind": "n_way_k_shot",
            "title": "tiny",
            "dataset": "omniglot",
            "episode": {"ways": WAYS, "shots": shots, "queries": queries},
            "scoring": {"test_episodes": 3},
        }
    )


def source_for(protocol: Any) -> EpisodeSource:
    return EpisodeSource(tiny_dataset("omniglot", WAYS + 2, protocol.episode.shots + protocol.episode.queries))


def some_episodes(protocol: Any) -> Episodes:
    single = source_for(protocol).episodes(protocol, "test", 0, range(EPISODES))
    return Episodes(single.x.double(), single.target, single.scored, single.plan)


def plain_answers(net: MAML, weights: dict[str, Tensor], x: Tensor, statistics: list[Tensor] | None) -> Any:
    """Logits of images [N, 1, 28, 28], and the mean and variance of each layer; written out."""
    x, used, dense = F.adaptive_avg_pool2d(x, 16), [], weights["body.maps.0.weight"].dim() == 2
    x = x.flatten(1) if dense else x
    norm = next(iter(net.learner.body.norms)).norm
    for layer in range(4):
        weight = weights[f"body.maps.{layer}.weight"]
        x = x @ weight.T if dense else F.conv2d(x, weight, padding=1)
        places = [] if dense else [2, 3]
        over = {"support": [0, *places], "batch": [0, *places], "layer": [1, *places]}.get(norm, places or [1])
        mean, variance = x.mean(over, keepdim=True), x.var(over, keepdim=True, correction=0)
        if statistics is not None and norm == "support":
            mean, variance = statistics[2 * layer : 2 * layer + 2]
        used += [mean, variance]
        shape = (1, -1) if dense else (1, -1, 1, 1)
        scale, shift = scale_and_shift(weights, layer, shape)
        x = ((x - mean) / (variance + 1e-5).sqrt() * scale + shift).clamp(min=0)
        x = x if dense else F.max_pool2d(x, 2)
    return x.flatten(1) @ weights["classify.weight"].T + weights["classify.bias"], used


def scale_and_shift(weights: dict[str, Tensor], layer: int, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Of a layer's normalisation; with norm 'source' there is no scale."""
    shift = weights[f"body.norms.{layer}.shift"].view(shape)
    scale = weights.get(f"body.norms.{layer}.scale")
    return torch.ones_like(shift) if scale is None else scale.view(shape), shift


def adapted(weights: dict[str, Tensor]) -> list[str]:
    """The names of those that episodes adapt: all, but for the shifts with norm 'source'."""
    source = not any(name.endswith(".scale") for name in weights)
    return [name for name in weights if not (source and name.endswith(".shift"))]


def start_weights(net: MAML) -> dict[str, Tensor]:
    return dict(net.learner.named_parameters())


def plain_step(
    net: MAML, weights: dict[str, Tensor], x: Tensor, labels: Tensor, statistics: list[Tensor] | None = None
) -> dict[str, Tensor]:
    """The weights after one step of one episode."""
    logits, _ = plain_answers(net, weights, x, statistics)
    names = adapted(weights)
    found = torch.autograd.grad(F.cross_entropy(logits, labels), [weights[name] for name in names], create_graph=True)
    gradients = {name: each.detach() if net.first_order else each for name, each in zip(names, found, strict=True)}
    factors = torch.ones(()) if net.factors is None else net.factors
    rates = dict(
        zip(weights, net.inner_lr * (factors.expand(len(weights)) if factors.dim() == 0 else factors), strict=True)
    )
    return {name: w - rates[name] * gradients[name] if name in gradients else w for name, w in weights.items()}


def plain_loss(net: MAML, episodes: Episodes, steps: int) -> Tensor:
    """What training minimises: the summed cross-entropy of the queries, averaged over episodes."""
    first, total = episodes.plan.first_query, torch.zeros((), dtype=torch.float64)
    for b in range(episodes.target.shape[1]):
        weights = start_weights(net)
        x, labels = episodes.x[:first, b], episodes.target[:first, b]
        for _ in range(steps):
            weights = plain_step(net, weights, x, labels)
        logits, _ = plain_answers(net, weights, episodes.x[first:, b], plain_answers(net, weights, x, None)[1])
        total = total + F.cross_entropy(logits, episodes.target[first:, b], reduction="sum")
    return total / episodes.target.shape[1]


def meta_gradients(net: MAML, scalar: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(scalar, [each for each in net.parameters() if each.requires_grad])


def assert_nearly(found: Any, wanted: Any) -> None:
    """Equal but for rounding: the loss itself is computed in single precision, and few places are normalised over."""
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def noisy_stream(delay: int) -> tuple[Tensor, Tensor]:
    """Images [T, B, 1, 28, 28] and what is revealed before each step [T, B], one label never."""
    random = torch.Generator().manual_seed(6)
    x = torch.randn(STEPS, EPISODES, 1, 28, 28, dtype=torch.float64, generator=random)
    target = torch.randint(0, WAYS, (STEPS, EPISODES), generator=random)
    target[1, 0] = -1
    return x, torch.cat([torch.full((delay, EPISODES), -1), target[: STEPS - delay]])
