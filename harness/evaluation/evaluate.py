"""Scoring a method on numbered episodes of a split."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import numpy as np
import torch

from harness.data.dataset import Dataset
from harness.episodes.plan import plan_episodes
from harness.episodes.source import Episodes
from harness.evaluation.rollout import score_batch, without_feedback
from harness.evaluation.score import Scores, first, joined, score
from harness.method.interface import Method
from harness.protocol.models import AnyProtocol
from harness.util.arithmetic import arithmetic
from harness.util.errors import UserError
from harness.util.progress import Task, track

BATCH, SINGLES = 100, 1000
"""Episodes scored at once at most (of several steps, of one image). A last batch is filled up to the same size, so
that its kernels see the same shapes and an episode's answers do not depend on how many follow it."""

PIXELS = 15_360_000
"""Values of images in a batch at most (a hundred episodes of 50 colour images of 32x32); bounds memory."""

EVALUATION_SEED = 0
"""Test and validation episodes are fixed by the protocol: the same for every method and seed of training."""


class Source(Protocol):
    """What episodes are scored of: an `EpisodeSource`, or one like it. `values` is how many numbers an input has."""

    dataset: Dataset
    device: torch.device
    values: int

    def episodes(self, protocol: AnyProtocol, split: str, seed: int, numbers: Sequence[int] | np.ndarray) -> Episodes:
        """The numbered episodes of a split under a seed."""
        ...


def evaluate(
    method: Method,
    source: Source,
    protocol: AnyProtocol,
    split: str,
    episodes: int,
    scored: Callable[[int], None] | None = None,
    with_feedback: bool = True,
    of: int | None = None,
    batches: Sequence[int] | None = None,
) -> Scores:
    """Scores of so many `episodes` of a split (`episode_numbers`), in evaluation mode; the mode is put back afterwards.

    They may be the first of so many (`of`): they then have the very bits that they have among all of these, which
    depend on how many are scored at once. With `batches` only those are scored, by number, of the batches in which all
    of them are (`sampled` draws some). Unless `with_feedback`, every feedback is replaced by null, which shows what it
    owes to feedback. `scored` is called with the number of episodes of each batch; what it raises ends the scoring.
    Raises UserError where the data set has no such split.
    """
    if split not in source.dataset.tables:
        raise UserError(
            f"the data set '{source.dataset.name}' has no {split} split; it has {', '.join(source.dataset.tables)}"
        )
    parts = []
    size = min(_batch(source, protocol, split), of or episodes)
    was_training = method.training
    method.eval()
    try:
        with (
            arithmetic("fp32", source.device),
            torch.set_grad_enabled(method.learns_by_gradient),
            _tracked(split, episodes, size, batches) as task,
        ):
            for begin in range(0, episodes, size) if batches is None else [size * number for number in batches]:
                wanted = np.arange(begin, min(begin + size, episodes))
                numbers = np.resize(episode_numbers(protocol, source.dataset, split, wanted, of or episodes), size)
                batch = source.episodes(protocol, split, EVALUATION_SEED, numbers)
                earned = score_batch(method, batch if with_feedback else without_feedback(batch))
                parts.append(first(score(protocol, earned, batch.plan), len(wanted)))
                task.advance(len(wanted))
                if scored:
                    scored(len(wanted))
    finally:
        method.train(was_training)
    return joined(parts)


def _tracked(split: str, episodes: int, size: int, batches: Sequence[int] | None) -> AbstractContextManager[Task]:
    total = episodes if batches is None else min(episodes, size * len(batches))
    return track(f"scoring {split} episodes", total, "episodes")


def whole_test(protocol: AnyProtocol, dataset: Dataset) -> int:
    """Test episodes that the protocol asks for: its own number, or every image of the test split."""
    own = protocol.test_episodes
    return own if own is not None else _images(dataset, "test")


def episode_numbers(protocol: AnyProtocol, dataset: Dataset, split: str, places: np.ndarray, of: int) -> np.ndarray:
    """The numbers of episodes by their places among `of` that are scored, int64 as `places`.

    They are the first so many; but where episodes are the images of a split, class after class (kind supervised), as
    many from all over it: the first would be of a few classes.
    """
    if not protocol.supervised or split == "train":
        return places
    return places * max(of, _images(dataset, split)) // of


def episodes_there(protocol: AnyProtocol, dataset: Dataset, split: str) -> int | None:
    """How many episodes there are in a split, where they are its images or a file fixes them; None where they are drawn
    without end."""
    if split == "train":
        return None
    if split == "test" and protocol.episode_file is not None:
        return protocol.episode_file.count
    return _images(dataset, split) if protocol.supervised else None


def most_episodes(protocol: AnyProtocol, dataset: Dataset, split: str, wanted: int) -> int:
    """`wanted`, or as many episodes as there are in the split."""
    there = episodes_there(protocol, dataset, split)
    return wanted if there is None else min(wanted, there)


def _images(dataset: Dataset, split: str) -> int:
    return int(dataset.tables[split].offsets[-1])


def sampled(source: Source, protocol: AnyProtocol, split: str, of: int, at_least: int) -> tuple[list[int], np.ndarray]:
    """Numbers of random batches with at least so many of `of` episodes, and the numbers of these episodes.

    They are drawn from the operating system's randomness: nobody can know beforehand which they will be.
    """
    size = min(_batch(source, protocol, split), of)
    count = -(-of // size)
    chosen = sorted(random.SystemRandom().sample(range(count), min(count, -(-at_least // size))))
    return chosen, np.concatenate([np.arange(size * each, min(size * (each + 1), of)) for each in chosen])


def _batch(source: Source, protocol: AnyProtocol, split: str) -> int:
    """Episodes scored at once: a function of the protocol and the size of an input alone."""
    steps = plan_episodes(protocol, source.dataset.tables[split], split, EVALUATION_SEED, [0]).steps
    most = SINGLES if steps == 1 else BATCH
    return max(1, min(most, PIXELS // (steps * source.values)))
