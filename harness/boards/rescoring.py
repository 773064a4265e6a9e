"""Scoring a row again: its method is built and inspected, and played in a process of its own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.boards.claims import wrong_facts
from harness.boards.recipe_claims import wrong_training
from harness.data.dataset import Dataset
from harness.episodes.source import EpisodeSource
from harness.evaluation.evaluate import evaluate
from harness.evaluation.isolated import Bounds, Player, files_of, named_player, player_of, scored
from harness.evaluation.score import Scores
from harness.method.interface import Method
from harness.method.options import resolved_options
from harness.method.registry import LoadedMethod, build_method, built_in, load_method, task_for, task_of
from harness.protocol.load import Loaded
from harness.protocol.models import AnyProtocol
from harness.records.parts import Isolated
from harness.records.record import Record
from harness.util.aside import aside
from harness.util.errors import UserError
from harness.util.option_names import option
from harness.util.tensor_files import load_tensors, load_weights, sha256_of


@dataclass(frozen=True)
class Bench:
    """What rows of one board are scored on: `protocol` is on the data set of the board, which lies in `places`.

    `in_process` switches isolation off; with `fresh_workers` each batch is played by a worker that has seen no other.
    With `loaded`, the protocol as it was read, a row's training is held against the recipe of this code as well.
    """

    protocol: AnyProtocol
    dataset: Dataset
    device: torch.device
    places: tuple[Path, ...] = ()
    in_process: bool = False
    fresh_workers: bool = False
    loaded: Loaded | None = None

    def without_pixels(self) -> Bench:
        """The same for a process that need not see any image."""
        shape = (0, *self.dataset.images.shape[1:])
        return replace(self, dataset=replace(self.dataset, images=np.empty(shape, np.uint8), image_ids=(), masks=None))


@dataclass(frozen=True)
class Inspected:
    """What came of building a row's method: what is `wrong` with the row, and else what plays it: the method itself
    where it is scored in this process, or how a worker builds it."""

    wrong: list[str]
    played: Method | Player | None = None


def method_of(record: Record, named: str | None = None) -> LoadedMethod:
    """The class of a row: the built-in method of its target, or else the file or plugin that the user named.

    Nothing else is imported: a row may name any code. Raises UserError if the user named no code and the row's is not
    built in, or if it is not what the row's was.
    """
    name = built_in(record.target)
    if name is None and named is not None:
        found = load_method(named)
        file, theirs = found.own_file, Path(record.target.partition(":")[0]).name
        imported = f"the files that {file} imports are not those"
        if file.name != theirs and theirs.endswith(".py"):  # names are part of what is hashed
            imported = f"{file} is not named {theirs}, or imports other files than those"
        for what, there, here in (
            (f"{file} is not the file", record.method_file, sha256_of(file)),
            (imported, record.method_source, found.source_hash),
        ):
            if there not in {None, here}:
                raise UserError(f"{what} that the row was made with (the SHA-256 differs)")
    elif name is None:
        raise UserError(
            f"method {record.target} is not part of the harness, and is imported only if you name it: "
            f"{option('method', record.target)}"
        )
    else:
        found = load_method(name)
    if found.cls.version != record.method_version:
        raise UserError(
            f"the row is of version {record.method_version} of {record.method}; this code is version "
            f"{found.cls.version}, which computes something else"
        )
    return found


def rebuilt(record: Record, bench: Bench, method: LoadedMethod, weights: Path | None) -> Method:
    """The method of a row with its weights from a file (None: it has none).

    Raises UserError if this code cannot build such a method, or the file does not fit it.
    """
    card = bench.dataset.card
    task = task_for(method.cls, bench.protocol, card.image_shape, card.classes["train"])
    built = build_method(method.cls, task, resolved_options(method.cls, record.options), record.seed, bench.device)
    if weights is not None:
        load_weights(built, load_tensors(weights)[0], weights)
    return built


def too_large(record: Record, bench: Bench, method: LoadedMethod) -> str | None:
    """Why the row's options cannot be those of its run, told without memory for weights; None if they can be.

    The method is built without memory where it can be. What cannot be built so is built as it is.
    """
    card = bench.dataset.card
    task = task_for(method.cls, bench.protocol, card.image_shape, card.classes["train"])
    options = resolved_options(method.cls, record.options)
    try:
        with torch.device("meta"), torch.random.fork_rng(devices=[]):
            count = sum(each.numel() for each in method.cls(task, **options).parameters())
    except Exception:  # a constructor may look at its numbers, which are not there
        return None
    if count != record.cost.parameters:
        return f"parameters: {record.cost.parameters} in the record, {count} with its options"
    return None


def inspected(record: Record, bench: Bench, named: str | None, weights: Path | None) -> Inspected:
    """Builds a row's method, and holds the row against it and its weights (a file; None: it has none).

    Code that is not built in is imported in a process of its own, so that none of it runs where scores and boards are.
    A row of a built-in method is played by that, whatever is named. Raises UserError where the method cannot be had or
    built.
    """
    if named is not None and built_in(record.target) is None and not bench.in_process:
        needed = [*files_of(named), *([] if weights is None else [weights])]
        arguments = record, bench.without_pixels(), named, weights
        said = aside(_said_aside, *arguments, hidden=bench.places, needed=needed)
        if said["wrong"]:
            return Inspected([str(each) for each in said["wrong"]])
        tensors = {} if weights is None else load_tensors(weights)[0]
        card = bench.dataset.card
        task = task_of(bench.protocol, card.image_shape, card.classes["train"], bool(said["delay_told"]))
        return Inspected([], named_player(named, task, record.options, record.seed, tensors))
    method = method_of(record, named)
    reason = too_large(record, bench, method)
    if reason:
        return Inspected([reason])
    built = rebuilt(record, bench, method, weights)
    wrong = wrong_facts(record, bench.protocol, bench.dataset, built, weights)
    if bench.loaded is not None:
        wrong += wrong_training(record, bench.loaded, bench.protocol, bench.dataset, method)
    return Inspected(wrong, built if bench.in_process else player_of(method, built, record.options, record.seed))


def rescored(
    record: Record,
    bench: Bench,
    found: Inspected,
    episodes: int,
    batches: list[int] | None = None,
    fresh: bool = False,
) -> tuple[Scores, Isolated | None]:
    """Scores of the first test episodes (or of `batches`), in the batches of the row's own scoring; and how the method
    was isolated, None where it was not.

    With `fresh` each batch is played by a worker that has seen no other.
    """
    source, of = EpisodeSource(bench.dataset, bench.device), record.test_episodes
    if isinstance(found.played, Method):
        scores = evaluate(found.played, source, bench.protocol, "test", episodes, of=of, batches=batches)
        return scores, None
    assert found.played is not None
    return scored(
        found.played,
        source,
        bench.protocol,
        "test",
        episodes,
        of=of,
        batches=batches,
        fresh=fresh or bench.fresh_workers,
        bounds=Bounds(hidden=bench.places),
    )


def _said_aside(record: Record, bench: Bench, named: str, weights: Path | None) -> dict[str, Any]:
    """What the process says in which a method is inspected that is not built in."""
    found = inspected(record, replace(bench, in_process=True), named, weights)
    knows_delay = isinstance(found.played, Method) and found.played.task.label_delay is not None
    return {"wrong": found.wrong, "delay_told": knows_delay}
