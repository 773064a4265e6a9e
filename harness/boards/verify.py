"""Checking a row: its weights are scored again on the same episodes, and the answers compared with those it claims."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from harness.data.dataset import Dataset
from harness.episodes.source import EpisodeSource
from harness.evaluation.evaluate import evaluate
from harness.evaluation.score import Scores, each, first, metrics
from harness.method.interface import Method
from harness.method.registry import LoadedMethod, build_method, load_method, resolved_options, task_for
from harness.protocol.models import AnyProtocol, digest, ranking
from harness.records.record import BESIDE, Record
from harness.util.errors import HarnessError, UserError
from harness.util.tensor_files import load_tensors, load_weights, sha256_of

EPISODE_TOLERANCE, MEAN_TOLERANCE = 1.0, 0.25
"""Percentage points by which episodes may differ on average, and by which their mean may. On the machine and the
libraries of the row every score is the same to the last bit; elsewhere sums are rounded otherwise, which turns a few
close answers around, as often for the better as for the worse."""

Outcome = Literal["same", "agrees", "differs", "not re-scored"]


@dataclass(frozen=True)
class Verdict:
    """What came of checking one row: `said` is one line for people, `episodes` how many were compared."""

    outcome: Outcome
    said: str
    episodes: int = 0


@dataclass(frozen=True)
class Bench:
    """What rows of one board are scored on: `protocol` is on the data set of the board."""

    protocol: AnyProtocol
    dataset: Dataset
    device: torch.device


def method_of(record: Record, named: str | None = None) -> LoadedMethod:
    """The class of a row: the built-in method of its target, or the file or plugin that the user named.

    Nothing else is imported: a row may name any code. Raises UserError if the user named no code and the row's is not
    built in, or if it is not what the row's was.
    """
    from methods import BUILT_IN

    if named is not None:
        found = load_method(named)
        if record.method_file not in {None, sha256_of(found.own_file)}:
            raise UserError(f"{found.own_file} is not the file that the row was made with (its SHA-256 differs)")
        return found
    built_in = next((name for name, (target, _) in BUILT_IN.items() if target == record.target), None)
    if built_in is None:
        raise UserError(
            f"its method {record.target} is not part of the harness and is imported only if you name it: "
            f"--method {record.target}"
        )
    return load_method(built_in)


def why_not(record: Record, bench: Bench) -> str | None:
    """Why a row cannot be scored again on this protocol and these data; None if it can."""
    own = digest(bench.protocol)
    if record.digest != own:
        return f"the protocol has changed since: its digest is {own[:12]}, the row's {record.digest[:12]}"
    if record.data.fingerprint != bench.dataset.fingerprint:
        return (
            f"other data: the fingerprint here is {bench.dataset.fingerprint[:12]}, "
            f"the row's {record.data.fingerprint[:12]}"
        )
    return None


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


def rescored(
    record: Record, bench: Bench, method: Method, episodes: int, progress: Callable[[int], None] | None = None
) -> Scores:
    """Scores of a rebuilt method on the first test episodes, in the batches of the row's own scoring."""
    source = EpisodeSource(bench.dataset, bench.device)
    return evaluate(method, source, bench.protocol, "test", episodes, progress, of=record.test_episodes)


def verified(
    record: Record,
    bench: Bench,
    weights: Path | None,
    claimed: Scores | None,
    episodes: int | None = None,
    named: str | None = None,
    progress: Callable[[int], None] | None = None,
) -> Verdict:
    """The verdict on a row whose weights are in the file `weights` (None: it has none).

    `claimed` are the scores that are kept of it; without them the means of a whole scoring are compared. Only the first
    `episodes` are scored if that is given.
    """
    reason = why_not(record, bench)
    if reason:
        return Verdict("not re-scored", reason)
    wanted = min(episodes or record.test_episodes, record.test_episodes)
    if claimed is None and wanted < record.test_episodes:
        return Verdict("not re-scored", "it keeps no scores of single episodes: all must be scored (no --episodes)")
    try:
        built = rebuilt(record, bench, method_of(record, named), weights)
        found = rescored(record, bench, built, wanted, progress)
    except HarnessError as error:
        return Verdict("not re-scored", str(error))
    return (
        against_metrics(record, bench.protocol, found)
        if claimed is None
        else compared(bench.protocol, first(claimed, wanted), found)
    )


def compared(protocol: AnyProtocol, claimed: Scores, found: Scores) -> Verdict:
    """The verdict from the scores of the same episodes, episode by episode."""
    by = ranking(protocol)
    there, here = (100 * each(protocol, scores)[by] for scores in (claimed, found))
    if there.shape != here.shape:
        return Verdict("differs", f"the row has scores of {len(there)} episodes, {len(here)} were scored")
    told = f"{by} {np.nanmean(here):.2f} % over {len(here)} episodes"
    if claimed.keys() == found.keys() and all(
        np.array_equal(values, found[name], equal_nan=True) for name, values in claimed.items()
    ):
        return Verdict("same", f"{told}, every score the same to the last bit", len(here))
    change = np.nan_to_num(here - there)
    apart = (
        f"{told}, {np.nanmean(there):.2f} % there; {np.count_nonzero(change)} episodes differ, by "
        f"{np.abs(change).mean():.3f} points on average and {np.abs(change).max():.1f} at most"
    )
    within = np.abs(change).mean() <= EPISODE_TOLERANCE and abs(change.mean()) <= MEAN_TOLERANCE
    same_gaps = np.array_equal(np.isnan(here), np.isnan(there))
    return Verdict("agrees" if within and same_gaps else "differs", apart, len(here))


def against_metrics(record: Record, protocol: AnyProtocol, found: Scores) -> Verdict:
    """The verdict from the row's means alone."""
    by = ranking(protocol)
    again = metrics(protocol, found)
    if again.keys() != record.metrics.keys() or by not in again:
        return Verdict("differs", f"the row has the metrics {', '.join(record.metrics)}; now: {', '.join(again)}")
    here, there, episodes = again[by][0], record.metrics[by].mean, again[by][2]
    if all(abs(value[0] - record.metrics[name].mean) < 1e-9 for name, value in again.items()):
        return Verdict("same", f"{by} {here:.2f} % over {episodes} episodes, every mean the same", episodes)
    told = f"{by} {here:.2f} % over {episodes} episodes, {there:.2f} % there"
    return Verdict("agrees" if abs(here - there) <= MEAN_TOLERANCE else "differs", told, episodes)


def allows(record: Record) -> str:
    """How a row can be checked, in words: from kept weights, without any, or by its command."""
    if record.checkpoint is None:
        return "it has no weights: it is scored as it is"
    if record.kept:
        return f"from its weights, kept in {'the folder ' if record.kept == BESIDE else ''}{record.kept}"
    cut = " (time cut it short: another run of it ends elsewhere)" if "time=" in record.budget_cut else ""
    return f"its weights are not kept; make it again with: {record.command}{cut}"
