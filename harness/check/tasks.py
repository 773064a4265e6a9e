"""Small random episodes to check methods on: no data set, and every draw from `harness.util.philox`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from harness.check.settings import Setting, Timing
from harness.episodes.plan import QUERY, EpisodePlan
from harness.episodes.source import Episodes
from harness.util import philox

BATCH = 4
"""Episodes of a batch, unless a check asks for another number."""


def uniform(shape: tuple[int, ...], *name: object) -> Tensor:
    """Float32 numbers in [-1, 1), the same for the same name."""
    count = int(np.prod(shape))
    words = philox.words(philox.key_of("check", *name), np.zeros(1, np.int64), 0, count)[0]
    return torch.from_numpy((words.astype(np.float64) / 2**31 - 1).astype(np.float32)).reshape(shape)


def draw(
    setting: Setting, name: str, *, batch: int = BATCH, timing: Timing | None = None, noise: float = 0.5
) -> Episodes:
    """Random episodes: each class a random image, each showing of it that image plus `noise`.

    Classes come as the kind says: drawn independently in a stream, one after another in continual learning, equally
    often in random order among support pairs; those of queries are drawn independently. Where masks are asked for, the
    class's image shows through a random rectangle, and there is nothing but noise around it.
    """
    timing = timing or setting.timing
    number = _numbers(setting, name, batch, timing)
    prototypes = uniform((batch, setting.ways, *setting.image_shape), name, "prototypes")
    shown = prototypes[torch.arange(batch), number]
    objects = None
    if setting.masks:
        objects = _rectangles(len(number), batch, setting.image_shape[1:], name)
        shown = shown * objects
    x = shown + noise * uniform(tuple(shown.shape), name, "noise")
    return assemble(x, number, setting.ways, timing, objects)


def _numbers(setting: Setting, name: str, batch: int, timing: Timing) -> Tensor:
    """The class number shown at each step, int64 [T, B]."""
    rows, steps = np.arange(batch), len(timing.phase)
    words = philox.words(philox.key_of("check", name, "targets"), rows, 0, steps)
    number = philox.below(words, setting.ways)
    before = int((timing.phase != QUERY).sum())
    if setting.pairs:
        number[:, :before] = philox.shuffled(words[:, :before]) % setting.ways
    elif setting.kind == "continual":
        order = philox.shuffled(philox.words(philox.key_of("check", name, "order"), rows, 0, setting.ways))
        number[:, :before] = order[:, np.arange(before) * setting.ways // before]
    return torch.from_numpy(np.ascontiguousarray(number.T))


def _rectangles(steps: int, batch: int, size: tuple[int, int], name: str) -> Tensor:
    """Masks float [T, B, 1, H, W] of random rectangles, each between a quarter and three quarters of a side long."""
    inside = torch.ones(steps, batch, 1, *size, dtype=torch.bool)
    for axis, length in ((-2, size[0]), (-1, size[1])):
        place = uniform((2, steps, batch, 1, 1, 1), name, "object", axis) / 2 + 0.5
        long = length * (1 + 2 * place[0]) / 4
        first = (length - long) * place[1]
        at = torch.arange(length).view(-1, 1) if axis == -2 else torch.arange(length)
        inside &= (at + 0.5 >= first) & (at + 0.5 < first + long)
    return inside.float()


def assemble(
    x: Tensor, number: Tensor, ways: int, timing: Timing | EpisodePlan, objects: Tensor | None = None
) -> Episodes:
    """Episodes from inputs [T, B, C, H, W], class numbers int64 [T, B] and a timing, with a true plan.

    With `objects` [T, B, 1, H, W] the targets are masks: the object where number 0 is shown, else nothing.
    """
    feedback_step, phase = timing.feedback_step, timing.phase
    steps, batch = number.shape
    shown = number.T.numpy()
    now = np.arange(steps)
    queried = phase == QUERY
    earlier = (now[None, :] < now[:, None]) & ~queried[None, :]  # [t, i]: step i was shown before t, and not as a query
    same = (shown[:, :, None] == shown[:, None, :]) & earlier  # [B, t, i]: and it shows the class of step t
    known = np.zeros((steps, steps), bool)  # [t, i]: the label of step i is known at t
    for t in range(steps):
        known[t, feedback_step[: t + 1][feedback_step[: t + 1] >= 0]] = True
    scored = queried if queried.any() else np.ones(steps, bool)
    plan = EpisodePlan(
        episode=np.arange(batch),
        classes=np.tile(np.arange(ways), (batch, 1)),
        image=np.arange(steps * batch).reshape(steps, batch).T,
        target=shown,
        shot=same.sum(axis=2),
        revealed=(same & known).sum(axis=2),
        feedback_step=feedback_step,
        phase=phase,
        scored=scored,
    )
    target = number if objects is None else objects * (number == 0)[:, :, None, None, None]
    return Episodes(x, target, torch.from_numpy(scored)[:, None].expand(steps, batch), plan, objects)


def numbers(episodes: Episodes) -> Tensor:
    """The class numbers shown, int64 [T, B]; where targets are masks, 0 is the target class and 1 the distractor."""
    return torch.from_numpy(np.ascontiguousarray(episodes.plan.target.T))


def first_seen(timing: Timing | EpisodePlan) -> Tensor:
    """The first step before which each step's label is revealed, int64 [T]: a support pair's own; T if it never is."""
    steps = len(timing.feedback_step)
    seen = torch.full((steps,), steps)
    for t in reversed(range(steps)):
        if timing.feedback_step[t] >= 0:
            seen[timing.feedback_step[t]] = t
    return seen


def changed(episodes: Episodes, by: Episodes, *, inputs: Tensor, labels: Tensor) -> Episodes:
    """The episodes with other inputs (those of `by`) and other labels (always different ones) where marked.

    `inputs` and `labels` are bool and broadcast to [T, B]. Another mask is none where there was one, and one of `by`
    where there was none.
    """
    number, ways = numbers(episodes), episodes.plan.classes.shape[1]
    inputs, labels = (each.expand_as(number) for each in (inputs, labels))
    x = torch.where(inputs[..., None, None, None], by.x, episodes.x)
    objects = None
    if episodes.objects is not None and by.objects is not None:
        objects = torch.where(labels[..., None, None, None], by.objects, episodes.objects)
    other = (number + 1 + numbers(by) % (ways - 1)) % ways
    return assemble(x, torch.where(labels, other, number), ways, episodes.plan, objects)


def relabelled(episodes: Episodes) -> Episodes:
    """The same episodes with every class number k called k + 1 (the last one called 0)."""
    ways = episodes.plan.classes.shape[1]
    return assemble(episodes.x, (numbers(episodes) + 1) % ways, ways, episodes.plan)


def only(episodes: Episodes, episode: int) -> Episodes:
    """One episode of the batch, as a batch of one."""
    here = slice(episode, episode + 1)
    ways, objects = episodes.plan.classes.shape[1], episodes.objects
    alone = None if objects is None else objects[:, here]
    return assemble(episodes.x[:, here], numbers(episodes)[:, here], ways, episodes.plan, alone)


def revealing(episodes: Episodes, feedback_step: np.ndarray) -> Episodes:
    """The same inputs and targets with another timing of the labels."""
    timing = Timing(feedback_step, episodes.plan.phase)
    return assemble(episodes.x, numbers(episodes), episodes.plan.classes.shape[1], timing, episodes.objects)


def in_double(episodes: Episodes) -> Episodes:
    """The same episodes with inputs (and masks) in float64."""
    target = episodes.target.double() if episodes.target.is_floating_point() else episodes.target
    return replace(episodes, x=episodes.x.double(), target=target)
