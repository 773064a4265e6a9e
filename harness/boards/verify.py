"""Checking a row: what it says is held against its scores, weights and method, and its weights are scored again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from harness.boards.artifacts import lacks_weights, not_installed, scores_of, weights_of
from harness.boards.claims import wrong_numbers
from harness.boards.rescoring import Bench, inspected, rescored
from harness.boards.store import LOG
from harness.evaluation.evaluate import whole_test
from harness.evaluation.score import Scores, each, first, metrics
from harness.protocol.models import AnyProtocol
from harness.records.marks import TRAINED_BY, TRAINED_ON, is_check_mark
from harness.records.record import BESIDE, Record
from harness.runs.folder import SCORES, read_record, read_scores
from harness.util.errors import AnswerError, HarnessError, UserError
from harness.util.exits import exits_raised
from harness.util.option_names import option

EPISODE_TOLERANCE, MEAN_TOLERANCE = 1.0, 0.25
"""Percentage points by which episodes may differ on average, and by which their mean may. On the machine and the
libraries of the row every score is the same to the last bit; elsewhere sums are rounded otherwise, which turns a few
close answers around, as often for the better as for the worse."""

Outcome = Literal["same", "agrees", "differs", "not re-scored"]


@dataclass(frozen=True)
class Verdict:
    """What came of checking one row: `said` is one line for people, `episodes` how many were compared.

    `failed` is set where a row that says it can be scored again could not be: its kept weights are missing or
    damaged, say, or its method raised.
    """

    outcome: Outcome
    said: str
    episodes: int = 0
    failed: bool = False

    @property
    def wrong(self) -> bool:
        """Whether the row does not hold, or what it can be checked with does not work."""
        return self.outcome == "differs" or self.failed


def why_not(record: Record, bench: Bench) -> str | None:
    """Why a row cannot be scored again on this protocol and these data; None if it can."""
    own = bench.protocol.digest
    if record.digest != own:
        return f"the protocol has changed since: its digest is {own[:12]}, the row's {record.digest[:12]}"
    if record.data.fingerprint != bench.dataset.fingerprint:
        return (
            f"other data: the fingerprint here is {bench.dataset.fingerprint[:12]}, "
            f"the row's {record.data.fingerprint[:12]}"
        )
    return None


def verified(
    record: Record,
    bench: Bench,
    boards: Path,
    episodes: int | None = None,
    named: str | None = None,
) -> Verdict:
    """The verdict on a row of a board in the folder `boards`.

    First the row's numbers are held against its kept scores, then its marks, training episodes and cost against its
    weights and the method, and last the weights are scored again: on the first `episodes` test episodes if that is
    given. Whatever goes wrong on the way, with values that nobody would write in earnest, is a verdict as well.
    """
    try:
        with exits_raised():
            return _verified(record, bench, boards, episodes, named)
    except AnswerError as error:
        return Verdict("not re-scored", str(error), failed=True)
    except UserError as error:  # a method that is not named or not installed, say: no fault of the row
        return Verdict("not re-scored", str(error))
    except HarnessError as error:
        return Verdict("not re-scored", str(error), failed=True)
    except (Exception, SystemExit) as error:  # a row may name any options, and a method raise anything
        lines = str(error).strip().splitlines()
        return Verdict("not re-scored", f"{type(error).__name__}: {lines[0] if lines else 'no message'}", failed=True)


def _verified(
    record: Record,
    bench: Bench,
    boards: Path,
    episodes: int | None,
    named: str | None,
) -> Verdict:
    reason = why_not(record, bench)
    if reason:
        return Verdict("not re-scored", reason)
    whole = whole_test(bench.protocol, bench.dataset)
    if record.test_episodes > whole:
        return _otherwise([f"test episodes: {record.test_episodes} in the record, of {whole} that there are"])
    try:
        claimed, weights = scores_of(record, boards), weights_of(record, boards)
    except UserError as error:
        return Verdict("not re-scored", str(error), failed=True)
    wrong = [] if claimed is None else wrong_numbers(record, bench.protocol, claimed)
    if wrong:
        return _otherwise(wrong)
    if record.checkpoint is not None and weights is None:
        held = "" if claimed is None else "; its numbers are those of its kept scores"
        return Verdict("not re-scored", allows(record, boards) + held)
    wanted = min(episodes or record.test_episodes, record.test_episodes)
    if claimed is None and wanted < record.test_episodes:
        return Verdict(
            "not re-scored", f"it keeps no scores of single episodes: all must be scored (no {option('episodes')})"
        )
    player = inspected(record, bench, named, weights)
    if player.wrong:
        return _otherwise(player.wrong)
    found, _ = rescored(record, bench, player, wanted)
    return (
        against_metrics(record, bench.protocol, found)
        if claimed is None
        else compared(bench.protocol, first(claimed, wanted), found)
    )


def _otherwise(wrong: list[str]) -> Verdict:
    return Verdict("differs", f"the row says something else than what it is made of: {'; '.join(wrong)}")


def made_again(record: Record, bench: Bench, boards: Path, folder: Path) -> Verdict:
    """The verdict on a row from a finished run of the same setting and seed, in its folder.

    Raises UserError if it is a run of something else.
    """
    again = read_record(folder)
    same = ("digest", "target", "method_version", "options", "seed", "init", "budget", "budget_cut", "test_episodes")
    other = [name for name in same if getattr(again, name) != getattr(record, name)]
    if other or again.data.fingerprint != record.data.fingerprint:
        raise UserError(f"{folder} is another run than the row: it differs in {', '.join(other) or 'its data'}")
    if again.recipe_hash != record.recipe_hash:
        LOG.warning(f"the recipe has changed since: {record.recipe_hash[:8]} then, {again.recipe_hash[:8]} in {folder}")
    claimed, found = scores_of(record, boards), read_scores(folder / SCORES)
    wrong = [] if claimed is None else wrong_numbers(record, bench.protocol, claimed)
    said, there = _repeatable(record, again), _repeatable(again, record)
    wrong += [
        f"{name}: {said[name]} in the record, {there[name]} in {folder}" for name in said if said[name] != there[name]
    ]
    if wrong:
        return _otherwise(wrong)
    return (
        against_metrics(record, bench.protocol, found) if claimed is None else compared(bench.protocol, claimed, found)
    )


def _repeatable(record: Record, other: Record) -> dict[str, Any]:
    """What two runs of one setting and seed have in common, beside their scores."""
    # How many processes trained, and on what, is of the machine.
    of_machine = (TRAINED_BY, TRAINED_ON)
    marks = sorted(mark for mark in record.marks if not is_check_mark(mark) and not mark.startswith(of_machine))
    found = {"marks": marks, "parameters": record.cost.parameters}
    if "time=" in record.budget_cut or record.recipe_hash != other.recipe_hash:
        return found
    return {**found, "training episodes": record.train_episodes, "updates": record.train_updates}


def compared(protocol: AnyProtocol, claimed: Scores, found: Scores) -> Verdict:
    """The verdict from the scores of the same episodes, episode by episode."""
    by = protocol.ranking
    there, here = (100 * each(protocol, scores)[by] for scores in (claimed, found))
    if there.shape != here.shape:
        return Verdict("differs", f"the row has scores of {len(there)} episodes, {len(here)} were scored")
    measured = f"{by} {np.nanmean(here):.2f} % over {len(here)} episodes"
    if claimed.keys() == found.keys() and all(
        np.array_equal(values, found[name], equal_nan=True) for name, values in claimed.items()
    ):
        return Verdict("same", f"{measured}, every score the same to the last bit", len(here))
    change = np.nan_to_num(here - there)
    apart = (
        f"{measured}, {np.nanmean(there):.2f} % there; {np.count_nonzero(change)} episodes differ, by "
        f"{np.abs(change).mean():.3f} points on average and {np.abs(change).max():.1f} at most"
    )
    within = np.abs(change).mean() <= EPISODE_TOLERANCE and abs(change.mean()) <= MEAN_TOLERANCE
    same_gaps = np.array_equal(np.isnan(here), np.isnan(there))
    return Verdict("agrees" if within and same_gaps else "differs", apart, len(here))


def against_metrics(record: Record, protocol: AnyProtocol, found: Scores) -> Verdict:
    """The verdict from the row's means, intervals and curves alone."""
    by = protocol.ranking
    here, _, episodes = metrics(protocol, found)[by]
    if not wrong_numbers(record, protocol, found):
        return Verdict("same", f"{by} {here:.2f} % over {episodes} episodes, every mean the same", episodes)
    wrong = wrong_numbers(record, protocol, found, MEAN_TOLERANCE)
    if wrong:
        return _otherwise(wrong)
    there = record.metrics[by].mean
    return Verdict("agrees", f"{by} {here:.2f} % over {episodes} episodes, {there:.2f} % there", episodes)


def allows(record: Record, boards: Path) -> str:
    """How a row of these boards can be checked, in words: from kept weights, without any, or by its command."""
    if record.checkpoint is None:
        return "it has no weights: it is scored as it is"
    if record.kept == BESIDE and not_installed(boards, BESIDE):
        return (
            "its weights do not come with an installed harness, only with a checkout of the project: verify it there, "
            f"or make it again with: {record.command}"
        )
    if lacks_weights(record, boards):
        return f"its weights are missing from the folder {BESIDE}; make it again with: {record.command}"
    if record.kept:
        return f"from its weights, kept in {'the folder ' if record.kept == BESIDE else ''}{record.kept}"
    cut = " (time cut it short: another run of it ends elsewhere)" if "time=" in record.budget_cut else ""
    return f"its weights are not kept; make it again with: {record.command}{cut}"
