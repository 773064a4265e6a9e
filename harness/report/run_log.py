"""What a run's folder says, in whatever state it is: how far it got, its log, its record and scores once it is done."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

from harness.evaluation.score import Scores
from harness.records.record import Record
from harness.report.lines import Stage
from harness.runs.folder import NOTED, RECORD, SCORES, TRAINING_LOG, read_log_entries, read_record, read_scores
from harness.util.errors import UserError
from harness.util.json_files import read_json

RUNNING = ("training", "scoring")

_STRETCH = 1.0
"""Seconds over which a throughput is measured at least: those of a log are right to a tenth then."""


@dataclass(frozen=True)
class Logged:
    """One entry of a log: episodes trained on so far, seconds of training, the stage, and loss or validation."""

    stage: str
    episodes: float
    seconds: float
    loss: float | None
    validation: float | None


@dataclass(frozen=True)
class RunFolder:
    """A run as its folder has it. `status` is training, scoring, done, interrupted or failed; `identity` is what the
    run is a function of; `problems` are files that could not be read."""

    folder: Path
    status: str
    at: str
    command: str
    identity: dict[str, Any]
    log: Sequence[Logged]
    record: Record | None
    scores: Scores | None
    problems: Sequence[str]

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def protocol(self) -> str:
        return str(self.identity.get("protocol", ""))

    @property
    def when(self) -> str:
        """When it noted something last, in words."""
        return self.at.replace("T", " ").replace("Z", " UTC")

    @property
    def logged(self) -> str:
        """When its log was written last, in words; '' without one."""
        try:
            at = (self.folder / TRAINING_LOG).stat().st_mtime
        except OSError:
            return ""
        return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")

    @property
    def running(self) -> bool:
        """Whether its last note says that it goes on; one that was killed says so too."""
        return self.status in RUNNING


def is_run(folder: Path) -> bool:
    """Whether a folder is that of a run."""
    return (folder / NOTED).is_file()


def read_run(folder: Path) -> RunFolder:
    """A run's folder; UserError if it is none. Files in it that are damaged are problems, the rest is read."""
    path = folder / NOTED
    try:
        noted = read_json(path)
        status, identity = str(noted["status"]), dict(noted["identity"])
        at, command = str(noted.get("at", "")), str(noted.get("command", ""))
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{path} is missing or damaged: not the folder of a run") from None
    problems: list[str] = []
    record, scores = None, None
    try:
        record = read_record(folder) if (folder / RECORD).is_file() else None
        scores = read_scores(folder / SCORES) if record else None
    except UserError as error:
        problems.append(str(error))
    log = read_log(folder)
    return RunFolder(folder, status, at, command, identity, log, record, scores, problems)


def find_runs(folder: Path) -> list[Path]:
    """The folders of runs below `folder`, as `harness run` lays them out: PROTOCOL/RUN."""
    return sorted(path.parent for path in folder.glob(f"*/*/{NOTED}"))


def stages(log: Sequence[Logged]) -> list[Stage]:
    """The stages of a training, by the episodes at which entries of each were written.

    What was trained after the checkpoint from which a run went on was lost, and is left out.
    """
    kept: list[Logged] = []
    for each in log:
        while kept and kept[-1].episodes > each.episodes:
            kept.pop()
        kept.append(each)
    found: list[Stage] = []
    for each in kept:
        if found and found[-1].name == each.stage:
            found[-1] = Stage(each.stage, found[-1].begin, each.episodes)
        else:
            begin = found[-1].end if found else 0.0
            found.append(Stage(each.stage, begin, each.episodes))
    return found


def throughput(log: Sequence[Logged]) -> tuple[list[float], list[float]]:
    """Episodes a second over stretches of each stage, at the episodes that each ends with.

    A log has seconds to a tenth, which an update may take as well: a stretch is of a hundredth of the training and of
    at least `_STRETCH` seconds, the last one of a stage of the latter.
    """
    at: list[float] = []
    rates: list[float] = []
    least = max(_STRETCH, (log[-1].seconds - log[0].seconds) / 100) if log else 0.0
    for _, stage in groupby(log, key=lambda each: each.stage):
        before, *others = stage
        for place, each in enumerate(others, 1):
            if each.episodes < before.episodes or each.seconds < before.seconds:  # resumed from an earlier checkpoint
                before = each
            if each.seconds - before.seconds < (_STRETCH if place == len(others) else least):
                continue
            if each.episodes > before.episodes:
                at.append(each.episodes)
                rates.append((each.episodes - before.episodes) / (each.seconds - before.seconds))
            before = each
    return at, rates


def read_log(folder: Path) -> list[Logged]:
    """Entries of a run's log; a line that is cut short (the run goes on, or was killed) is left out."""
    return [*_logged(folder)]


def _logged(folder: Path) -> Iterator[Logged]:
    for entry in read_log_entries(folder):
        try:
            loss, validation = entry.get("loss"), entry.get("validation")
            yield Logged(
                str(entry["stage"]),
                float(entry["episodes"]),
                float(entry["seconds"]),
                None if loss is None else float(loss),
                None if validation is None else float(validation),
            )
        except (ValueError, KeyError, TypeError):
            continue
