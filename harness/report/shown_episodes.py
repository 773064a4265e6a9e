"""Episodes as pages show them: their plan, images and masks as stored, and what a method answered, played again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from harness.data.dataset import ClassTable, Dataset
from harness.episodes.fixed import table_without_data
from harness.episodes.plan import EpisodePlan, plan_episodes
from harness.evaluation.score.credit import credit, overlap
from harness.protocol.models import AnyProtocol
from harness.records.record import Record

if TYPE_CHECKING:
    from harness.episodes.source import Episodes
    from harness.method.interface import Method

_AT_ONCE = 8_000_000
"""Values of images that a method is given at once; bounds memory."""


@dataclass(frozen=True)
class ShownEpisodes:
    """B episodes of T steps of a split.

    `table` has the split's classes; `pixels` are uint8 [T, B, C, H, W], None without the data set; `objects`
    are the masks of whatever object is shown, bool [T, B, H, W], None without masks. `logits` are the answers of the
    method `method` to the A steps that are answered, [A, B, ways] or [A, B, 1, H, W]; None where nothing was played.
    """

    protocol: AnyProtocol
    split: str
    seed: int
    table: ClassTable
    plan: EpisodePlan
    pixels: np.ndarray | None = None
    objects: np.ndarray | None = None
    method: str = ""
    logits: np.ndarray | None = None

    def class_name(self, row: int, number: int) -> str:
        """What class number `number` stands for in episode `row`."""
        return self.table.names[int(self.plan.classes[row, number])]

    def logits_at(self, row: int, t: int) -> np.ndarray | None:
        """The answer at step t of episode `row`, [ways] or [1, H, W]; None if there is none."""
        if self.logits is None or not self.plan.answer_mask[t]:
            return None
        answer: np.ndarray = self.logits[int(self.plan.answer_mask[:t].sum()), row]
        return answer

    def part(self, rows: slice) -> ShownEpisodes:
        """Some of the episodes."""
        return replace(
            self,
            plan=self.plan.part(rows),
            pixels=None if self.pixels is None else self.pixels[:, rows],
            objects=None if self.objects is None else self.objects[:, rows],
            logits=None if self.logits is None else self.logits[:, rows],
        )

    @cached_property
    def earned(self) -> np.ndarray | None:
        """What each answer earned, float64 [T, B], NaN where nothing is answered; None where nothing was played."""
        if self.logits is None:
            return None
        earned, where = np.full(self.plan.target.T.shape, np.nan), self.plan.answer_mask
        target = self.plan.target.T[where]
        if self.objects is None:
            earned[where] = credit(self.logits, target)
        else:
            objects = self.objects[where][:, :, None].astype(np.float32)
            earned[where] = overlap(self.logits, objects * (target == 0)[:, :, None, None, None], objects)
        return earned


def shown_episodes(
    protocol: AnyProtocol, dataset: Dataset | None, split: str, seed: int, numbers: Sequence[int]
) -> ShownEpisodes:
    """The numbered episodes of a split under a seed; without the data set, by its card and without images.

    Raises UserError where there is no such split, or it cannot hold such an episode.
    """
    table = table_without_data(protocol, split) if dataset is None else dataset.table(split)
    plan = plan_episodes(protocol, table, split, seed, numbers)
    shown = ShownEpisodes(protocol, split, seed, table, plan)
    if dataset is None:
        return shown
    rotations = _rotations(plan, table)
    objects = None
    if protocol.masks and dataset.masks is not None:
        objects = _gathered(dataset.masks, plan, rotations)[:, :, 0] > 0
    return replace(shown, pixels=_gathered(dataset.images, plan, rotations), objects=objects)


def answered(shown: ShownEpisodes, dataset: Dataset, method: Method, name: str) -> ShownEpisodes:
    """The same episodes with what a method answers, step by step as it is scored."""
    import torch

    from harness.evaluation.answers import plain
    from harness.evaluation.rollout import step_through

    steps, episodes = shown.plan.target.T.shape
    size = max(1, _AT_ONCE // (steps * int(np.prod(dataset.card.image_shape))))
    method.eval()
    with torch.set_grad_enabled(method.learns_by_gradient):
        parts = [
            plain(step_through(method, _as_tensors(shown.part(slice(first, first + size)), dataset))[0])
            for first in range(0, episodes, size)
        ]
    return replace(shown, method=name, logits=np.concatenate(parts, 1))


def method_of_run(
    record: Record, weights: Path | None, protocol: AnyProtocol, dataset: Dataset, named: str | None = None
) -> Method:
    """The method of a record with its weights, on the processor.

    Only built-in code is imported, or the method that the user `named`. Raises UserError where it cannot be had, or the
    weights are missing or not those that were scored.
    """
    import torch

    from harness.boards.rescoring import Bench, method_of, rebuilt
    from harness.util.errors import UserError
    from harness.util.tensor_files import sha256_of

    if record.data.fingerprint != dataset.fingerprint:
        raise UserError(f"it was scored on other data of the name {record.data.name} (the fingerprint differs)")
    if record.checkpoint is not None and weights is None:
        raise UserError("its weights are not kept")
    if record.checkpoint is not None and weights is not None and sha256_of(weights) != record.checkpoint:
        raise UserError(f"{weights.name} is not the file that was scored (the SHA-256 differs)")
    bench = Bench(protocol, dataset, torch.device("cpu"))
    return rebuilt(record, bench, method_of(record, named), weights if record.checkpoint else None)


def _rotations(plan: EpisodePlan, table: ClassTable) -> np.ndarray:
    """Quarter turns of the image of each step, [T, B]."""
    turns: np.ndarray = table.rotations[np.take_along_axis(plan.classes, plan.target, axis=1)].T
    return turns


def _gathered(stored: np.ndarray, plan: EpisodePlan, rotations: np.ndarray) -> np.ndarray:
    """Images or masks of every step, [T, B, C, H, W], turned."""
    found = np.array(stored[plan.image.T])
    for quarters in range(1, 4):
        turned = rotations == quarters
        if turned.any():
            found[turned] = np.rot90(found[turned], quarters, (-2, -1))
    return found


def _as_tensors(shown: ShownEpisodes, dataset: Dataset) -> Episodes:
    """What a method is given, from the images at hand: the data set, which may have gigabytes, is not read again."""
    import torch

    from harness.episodes.source import Episodes, EpisodeSource

    assert shown.pixels is not None
    steps, episodes = shown.pixels.shape[:2]
    count = steps * episodes
    few = replace(dataset, images=shown.pixels.reshape(count, *shown.pixels.shape[2:]), image_ids=(), masks=None)
    x = EpisodeSource(few).pictures(np.arange(count), np.zeros(count, np.int8)).unflatten(0, (steps, episodes))
    target = torch.from_numpy(np.ascontiguousarray(shown.plan.target.T))
    scored = torch.from_numpy(shown.plan.scored)[:, None].expand_as(target)
    if shown.objects is None:
        return Episodes(x, target, scored, shown.plan)
    objects = torch.from_numpy(shown.objects.astype(np.float32))[:, :, None]
    return Episodes(x, objects * (target == 0)[:, :, None, None, None], scored, shown.plan, objects)
