"""Streams of noise for small methods, and what stepping through them gives."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from harness.method.interface import Feedback, Method
from harness.training.interface import Batch


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Random numbers of torch from `seed` inside, and as they would have been outside."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def perturb(parameters: Iterable[nn.Parameter], scale: float) -> None:
    """Adds noise, so that what a method initialises to zero or one is neither."""
    with torch.no_grad():
        for each in parameters:
            each.add_(scale * torch.randn_like(each))


def stepped(method: Method, x: Tensor, feedback: Tensor) -> tuple[Tensor, Any]:
    """Logits [T, B, ...] of stepping through x [T, B, C, H, W] and feedback [T, B, ...], and the last state."""
    state, answers = method.start(x.shape[1]), []
    for image, target in zip(x, feedback, strict=True):
        logits, state = method.predict(method.observe(state, Feedback(target)), image)
        answers.append(logits)
    return torch.stack(answers), state


def rolled(method: Method, x: Tensor, feedback: Tensor) -> Tensor:
    """Logits [T, B, ways] of the method's own rollout, which it must have."""
    logits = method.rollout(x, Feedback(feedback))
    assert logits is not None
    return logits


def stepped_logits(method: Method, x: Tensor, feedback: Tensor) -> Tensor:
    """The logits of `stepped`."""
    return stepped(method, x, feedback)[0]


def delayed(target: Tensor, delay: int) -> Tensor:
    """Feedback [T, B] that reveals target [T, B] `delay` steps later."""
    null = torch.full_like(target[:delay], -1)
    return torch.cat([null, target[: max(0, len(target) - delay)]])


def noise_stream(delay: int, steps: int, ways: int, episodes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Uniform noise x [T, B, 1, 16, 16] in double precision, targets and feedback [T, B]; another for each delay."""
    random = torch.Generator().manual_seed(delay)
    x = torch.rand(steps, episodes, 1, 16, 16, generator=random).double()
    target = torch.randint(0, ways, (steps, episodes), generator=random)
    return x, target, delayed(target, delay)


def normal_stream(
    shape: tuple[int, int, int], steps: int, episodes: int, delay: int = 1
) -> tuple[Tensor, Tensor, Tensor]:
    """Normal noise x [T, B, C, H, W] in single precision, targets of 5 ways and feedback [T, B]."""
    random = torch.Generator().manual_seed(5)
    x = torch.randn(steps, episodes, *shape, generator=random)
    target = torch.randint(0, 5, (steps, episodes), generator=random)
    return x, target, delayed(target, delay)


def stream_batch(target: Tensor, scored: Tensor | None = None) -> Batch:
    """A batch as losses see it, of streams with targets [T, B], all of them scored unless `scored` [T, B] says."""
    scored = torch.ones(target.shape[:2], dtype=torch.bool) if scored is None else scored
    return Batch(torch.empty(*target.shape[:2], 0), target, scored, len(target), torch.empty(target.shape[1], 0).long())


def gradients_of(method: nn.Module, logits: Tensor) -> list[Tensor]:
    """The gradient of a fixed weighting of the logits with respect to every parameter that is trained."""
    weight = torch.linspace(-1, 1, logits.numel(), dtype=torch.float64).sin().view_as(logits)
    return list(
        torch.autograd.grad((weight * logits).sum(), [each for each in method.parameters() if each.requires_grad])
    )
