"""Submitting a run: everything about it that can be checked is checked before its row goes onto a board."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.boards.claims import identity_of, wrong_numbers
from harness.boards.lines import AHEAD
from harness.boards.rescoring import Bench, Inspected, inspected, method_of, rescored
from harness.boards.standings import standings
from harness.boards.store import board_path, read_board
from harness.boards.verify import Verdict, compared, why_not
from harness.check.pictures import Pictures, pictures_of
from harness.data.open_dataset import load_dataset
from harness.episodes.fixed import episode_places, with_episodes
from harness.episodes.source import EpisodeSource
from harness.evaluation.evaluate import sampled, whole_test
from harness.evaluation.isolated import files_of
from harness.evaluation.score import Scores
from harness.method.options import resolved_options
from harness.protocol.load import Loaded, for_data, load_protocol
from harness.protocol.models import AnyProtocol
from harness.records.parts import Isolated
from harness.records.record import Record
from harness.runs.folder import NOTED, RECORD, SCORES, differences, read_scores, untouched
from harness.runs.status import resuming
from harness.util.aside import aside
from harness.util.errors import UserError, VerificationError
from harness.util.json_files import read_json
from harness.util.shipped_files import protocol_files
from harness.util.tensor_files import WEIGHTS, load_tensors, sha256_of

SAMPLE = 200
"""Test episodes that are scored again at least, where there are so many (of a supervised protocol: images)."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Submission:
    """A finished run, the board it is for, and where data is looked for.

    `method` is what the user named as its method: needed where it is not built in, since nothing else is imported.
    With `full` all test episodes are scored again; `in_process` does without processes of the method's own.
    """

    folder: Path
    record: Record
    loaded: Loaded
    boards: Path
    method: str | None = None
    data_root: Path | None = None
    cache: Path | None = None
    full: bool = False
    in_process: bool = False


def examined(submission: Submission, say: Say) -> Isolated | None:
    """Checks a run, and gives how its method was isolated meanwhile (None: it was not).

    Each thing that holds is told to `say`, the first that does not is raised.

    In this order: the folder's files are those of its record; the record's numbers are those of its scores; protocol,
    data and number of test episodes are those of the board; its marks, training episodes and cost are those of its
    weights and of the method; the method keeps the rules (`harness check`); and its weights, scored again on some of
    the episodes that nobody can foresee (or on all), give the scores of the folder. Raises UserError for what cannot
    be checked, VerificationError for a claim that does not hold.

    What only another training can show is not proved: that seed, recipe, budget, training classes, times, machine and
    versions are those of the record (`harness verify --run` compares a row with such a run).
    """
    record = submission.record
    if record.when > datetime.now(UTC) + AHEAD:
        raise VerificationError(f"the run was finished in the future ({record.finished})")
    _files(submission)
    say("files: weights, scores and record belong together")
    bench = _bench(submission)
    scores = read_scores(submission.folder / SCORES)
    _numbers(record, bench.protocol, scores, say)
    _comparable(record, bench, submission.boards)
    say("board: protocol, data and number of test episodes are the board's")
    weights = submission.folder / WEIGHTS if record.checkpoint is not None else None
    found = inspected(record, bench, submission.method, weights)
    if found.wrong:
        raise VerificationError(
            "the record does not tell what its weights and method do:\n  " + "\n  ".join(found.wrong)
        )
    say(f"marks: {', '.join(record.marks) or 'none'}; these, training episodes and cost are as they should be")
    _conforms(submission, bench, say)
    verdict, isolated = _again(submission, bench, found, scores)
    if verdict.outcome == "differs":
        raise VerificationError(f"the weights do not give the scores of this run: {verdict.said}")
    say(f"scores: {verdict.said}")
    return isolated


def loaded_for(record: Record, protocol: str | None) -> Loaded:
    """The protocol of a run: the shipped one of its name, or the file given.

    Raises UserError if it is neither shipped nor given, or another.
    """
    if protocol is None and record.protocol not in protocol_files():
        raise UserError(f"protocol '{record.protocol}' is not shipped; give its file: --protocol FILE")
    loaded = load_protocol(protocol or record.protocol)
    if loaded.name != record.protocol:
        raise UserError(f"the run is on {record.protocol}, not on {loaded.name}")
    return loaded


def _files(submission: Submission) -> None:
    folder, record = submission.folder, submission.record
    if record.scores is None:
        raise UserError(f"{folder} is a run from before scores were named in the record; run it again")
    for name, claimed in ((SCORES, record.scores), (WEIGHTS, record.checkpoint)):
        if claimed is None:
            continue
        path = folder / name
        if not path.is_file():
            raise UserError(f"{path} is missing; the record names it: copy it as well, or run again")
        if sha256_of(path) != claimed:
            raise VerificationError(f"{path} is not the file that the record names: it was changed after the run")
    try:
        noted = read_json(folder / NOTED)
        identity, status = noted["identity"], noted["status"]
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{folder / NOTED} is missing or damaged") from None
    if status != "done":
        raise UserError(f"{folder} holds an unfinished run ({status}); go on with it: {resuming(record.command)}")
    if not untouched(folder, noted):
        raise VerificationError(f"{folder / RECORD} was changed after the run; run again with --fresh")
    wrong = differences(identity, {**identity, **identity_of(record)})
    if wrong:
        raise VerificationError(f"{folder}: the record is not of the run in {NOTED}:\n  " + "\n  ".join(wrong))
    if record.checkpoint is not None and load_tensors(folder / WEIGHTS)[1].get("identity") != identity:
        raise VerificationError(f"{folder / WEIGHTS} is of another run")


def _bench(submission: Submission) -> Bench:
    loaded = submission.loaded
    stand_in = submission.record.data.stand_in and not loaded.protocol.card.stand_in
    protocol = for_data(loaded, "stand-in" if stand_in else "real")
    dataset = load_dataset(protocol.dataset, submission.data_root, submission.cache, base=loaded.base, rehash=True)
    dataset = with_episodes(protocol, dataset, submission.cache, rehash=True)
    places = episode_places(protocol, submission.data_root, submission.cache, loaded.base)
    return Bench(protocol, dataset, torch.device("cpu"), places, submission.in_process, loaded=loaded)


def _numbers(record: Record, protocol: AnyProtocol, scores: Scores, say: Say) -> None:
    """The record's metrics and curves are those of its scores, but for the rounding of sums."""
    wrong = wrong_numbers(record, protocol, scores)
    if wrong:
        raise VerificationError(f"the record's metrics are not those of its scores: {'; '.join(wrong)}")
    by = protocol.ranking
    metric = record.metrics[by]
    say(f"numbers: {by} {metric.mean:.2f} % over {metric.episodes} episodes, as the scores say")


def _comparable(record: Record, bench: Bench, boards: Path) -> None:
    """The row can be ranked with the others of its board."""
    reason = why_not(record, bench)
    if reason:
        raise VerificationError(f"the run cannot be compared with others: {reason}")
    episodes = whole_test(bench.protocol, bench.dataset)
    if record.test_episodes != episodes:
        raise VerificationError(f"{record.test_episodes} test episodes were scored; the board asks for {episodes}")
    board = read_board(board_path(boards, record.protocol, record.data.stand_in))
    ranked = standings(board.records, bench.protocol.digest, episodes, bench.protocol.ranking).ranked
    others = {entry.newest.data.fingerprint for _, entry in ranked}
    if others and record.data.fingerprint not in others:
        raise VerificationError(
            f"the board's rows are on data with fingerprint {others.pop()[:12]}, this run on "
            f"{record.data.fingerprint[:12]}: other images or class lists"
        )


def _again(submission: Submission, bench: Bench, found: Inspected, scores: Scores) -> tuple[Verdict, Isolated | None]:
    """The verdict from random batches of episodes (`full`: all), each played by a worker that has seen no other."""
    record, source = submission.record, EpisodeSource(bench.dataset, bench.device)
    batches, numbers = None, np.arange(record.test_episodes)
    if not submission.full:
        batches, numbers = sampled(source, bench.protocol, "test", record.test_episodes, SAMPLE)
    claimed = {name: values[numbers] for name, values in scores.items()}
    again, isolated = rescored(record, bench, found, record.test_episodes, batches=batches, fresh=True)
    return compared(bench.protocol, claimed, again), isolated


def _conforms(submission: Submission, bench: Bench, say: Say) -> None:
    """The method, with the options of the run, passes every check on protocols of this kind, with this code."""
    arguments = submission.record, bench.protocol, submission.method, pictures_of(bench.dataset)
    if submission.method is None or submission.in_process:
        report = _checked(*arguments)
    else:
        report = aside(_checked, *arguments, hidden=bench.places, needed=files_of(submission.method), seconds=1800)
    if not report["passed"]:
        raise VerificationError(f"the method breaks the rules:\n{report['text']}")
    outcomes = report["outcomes"]
    say(f"rules: {outcomes.count('passed')} checks passed, {outcomes.count('skipped')} skipped")


def _checked(record: Record, protocol: AnyProtocol, named: str | None, pictures: Pictures) -> dict[str, Any]:
    from harness.check import check_method

    method = method_of(record, named)
    options = resolved_options(method.cls, record.options)
    report = check_method(method.cls, protocol, options, name=method.name, pictures=pictures)
    outcomes = [result.outcome for result in report.results]
    return {"passed": report.passed, "text": report.text(), "outcomes": outcomes}
