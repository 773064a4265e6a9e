"""Small random episodes to check methods on: no data set, and every draw from `harness.bits`."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from harness import bits
from harness.episodes import Episodes
from harness.plan import NULL, STREAM, EpisodePlan

BATCH = 4
"""Episodes of a batch, unless a check asks for another number."""


@dataclass(frozen=True)
class Setting:
    """What the random tasks look like: `image_shape` is (C, H, W), `delay` the label delay d."""

    ways: int
    image_shape: tuple[int, int, int]
    kind: str
    delay: int

    @property
    def steps(self) -> int:
        """T: some steps before the first label and at least nine after it."""
        return 9 + max(3, self.delay)


def uniform(shape: tuple[int, ...], *name: object) -> Tensor:
    """Float32 numbers in [-1, 1), the same for the same name."""
    count = int(np.prod(shape))
    words = bits.words(bits.key_of("check", *name), np.zeros(1, np.int64), 0, count)[0]
    return torch.from_numpy((words.astype(np.float64) / 2**31 - 1).astype(np.float32)).reshape(shape)


def draw(setting: Setting, name: str, *, batch: int = BATCH, steps: int | None = None, noise: float = 0.5) -> Episodes:
    """Random episodes: each class a random image, each showing of it that image plus `noise`; iid classes."""
    steps = setting.steps if steps is None else steps
    prototypes = uniform((batch, setting.ways, *setting.image_shape), name, "prototypes")
    words = bits.words(bits.key_of("check", name, "targets"), np.arange(batch), 0, steps)
    target = torch.from_numpy(np.ascontiguousarray(bits.below(words, setting.ways).T))
    shown = prototypes[torch.arange(batch), target]
    x = shown + noise * uniform(tuple(shown.shape), name, "noise")
    return assemble(x, target, setting.ways, delayed(steps, setting.delay))


def delayed(steps: int, delay: int) -> np.ndarray:
    """Which step's label is revealed before each step (int64 [T]) at label delay `delay` >= 0."""
    return np.maximum(np.arange(steps) - delay, NULL)


def assemble(x: Tensor, target: Tensor, ways: int, reveals: np.ndarray) -> Episodes:
    """Episodes from inputs [T, B, C, H, W], targets int64 [T, B] and `reveals` [T], with a true plan."""
    steps, batch = target.shape
    shown = target.T.numpy()
    same = shown[:, :, None] == shown[:, None, :]  # [B, t, i]: step i shows the class of step t
    now = np.arange(steps)
    known = np.zeros((steps, steps), bool)  # [t, i]: the label of step i is known at t
    for t in range(steps):
        known[t, reveals[: t + 1][reveals[: t + 1] >= 0]] = True
    plan = EpisodePlan(
        episode=np.arange(batch),
        classes=np.tile(np.arange(ways), (batch, 1)),
        image=np.arange(steps * batch).reshape(steps, batch).T,
        target=shown,
        shot=(same & (now[None, :] < now[:, None])).sum(axis=2),
        revealed=(same & known).sum(axis=2),
        reveals=reveals,
        phase=np.full(steps, STREAM, np.int8),
        scored=np.ones(steps, bool),
    )
    return Episodes(x, target, torch.ones_like(target, dtype=torch.bool), plan)


def changed(episodes: Episodes, by: Episodes, *, inputs: Tensor, labels: Tensor) -> Episodes:
    """The episodes with other inputs (those of `by`) and other labels (always different ones) where marked.

    `inputs` and `labels` are bool and broadcast to [T, B].
    """
    ways = episodes.plan.classes.shape[1]
    inputs = inputs.expand_as(episodes.target)[..., None, None, None]
    other = (episodes.target + 1 + by.target % (ways - 1)) % ways
    target = torch.where(labels.expand_as(episodes.target), other, episodes.target)
    return assemble(torch.where(inputs, by.x, episodes.x), target, ways, episodes.plan.reveals)


def relabelled(episodes: Episodes) -> Episodes:
    """The same episodes with every class number k called k + 1 (the last one called 0)."""
    ways = episodes.plan.classes.shape[1]
    return assemble(episodes.x, (episodes.target + 1) % ways, ways, episodes.plan.reveals)


def only(episodes: Episodes, episode: int) -> Episodes:
    """One episode of the batch, as a batch of one."""
    here = slice(episode, episode + 1)
    ways = episodes.plan.classes.shape[1]
    return assemble(episodes.x[:, here], episodes.target[:, here], ways, episodes.plan.reveals)


def revealing(episodes: Episodes, reveals: np.ndarray) -> Episodes:
    """The same inputs and targets with another timing of the labels."""
    return assemble(episodes.x, episodes.target, episodes.plan.classes.shape[1], reveals)


def in_double(episodes: Episodes) -> Episodes:
    """The same episodes with inputs in float64."""
    return replace(episodes, x=episodes.x.double())
