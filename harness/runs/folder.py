"""The folder of a run: what it holds, whose it is, and how far the run got."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.evaluation.score import Scores
from harness.records.canonical import canonical_json
from harness.records.record import Record, utc_now
from harness.runs.earlier import with_new_options
from harness.runs.status import CHECKPOINT, CUT, NOTED, TRAINED
from harness.util.atomic_files import is_folder, leftovers, replacing
from harness.util.errors import UserError
from harness.util.json_files import parsed_json, read_bounded, read_json
from harness.util.option_names import option, switch
from harness.util.shown_text import in_line
from harness.util.tensor_files import WEIGHTS, load_tensors, sha256_of

if TYPE_CHECKING:
    from harness.runs.resolve import Prepared

LOG = logging.getLogger(__name__)

SCORES, RECORD, TRAINING_LOG = "scores.npz", "record.json", "log.jsonl"
"""What a run folder holds besides the scored weights, NOTED and CHECKPOINT: the scores of every test episode; the
record, which is there once the run is done; the log of training."""

UNTRAINED = {"updates": 0}
"""What the header of scored weights says of those that no update has made: they come without a checkpoint."""

_REPLACED = (NOTED, CHECKPOINT, WEIGHTS, SCORES, RECORD)
"""Files that are written as a whole, under another name first."""

_MOST_LOGGED = 2**30
"""Bytes of a log that are read at most: those of ten million updates are fewer."""


_MOST_NAMED = 8
"""Unfinished runs that an error names at most."""


_MOST_BYTES = 2**30
"""Scores of ten million episodes have less."""


def check_place(prepared: Prepared) -> None:
    """Raises UserError where the run folder can be none: a file, somebody else's folder, or nothing where a run was to
    be resumed. Nothing is written, and nothing that no run has written is ever set aside."""
    folder, request = prepared.folder, prepared.request
    if os.path.lexists(folder) and not is_folder(folder):
        raise UserError(
            f"{folder} is not a folder and is left as it is; choose another place with {option('run', 'DIR')}"
        )
    found = _held(folder)
    if request.resume and not is_folder(folder):
        raise UserError(nothing_to_resume(prepared))
    if found and NOTED not in found:
        raise UserError(
            f"{folder} is not empty and not a run folder; it is left as it is. "
            f"Choose another place with {option('run', 'DIR')}"
        )
    if found and request.fresh and Path.cwd().is_relative_to(folder.resolve()):
        raise UserError(f"{folder} is, or holds, the folder that you work in: it can be set aside from elsewhere only")


@dataclass(frozen=True)
class Found:
    """What a run finds in its folder: the record of the finished run, or the status of the unfinished one with which it
    goes on, neither of them where it begins; `aside` where what is there is set aside first."""

    record: Record | None = None
    status: str | None = None
    aside: bool = False


def look(prepared: Prepared) -> Found:
    """What there is in the run folder, of which nothing is changed.

    Raises UserError if the folder is of another run, of an unfinished one that is not asked to go on, damaged, or not
    a run folder at all (`check_place`).
    """
    folder, request = prepared.folder, prepared.request
    check_place(prepared)
    noted = folder / NOTED
    if request.fresh:
        return Found(aside=bool(_held(folder)))
    if not noted.is_file():
        return Found()
    try:
        found = read_json(noted)
        theirs, status = dict(found["identity"]), str(found["status"])
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{noted} is damaged; set the folder aside with {switch('fresh')}") from None
    differing = _differing(found, prepared)
    if differing:
        raise UserError("\n  ".join([f"{folder} belongs to another run:", *differing, *_begun_by(found)]))
    if status == "done":
        _check_limits(folder, theirs.get(CUT, ""), prepared.identity[CUT])
        if not (folder / RECORD).is_file():
            raise UserError(
                f"{folder / RECORD} is missing, though the run was finished; copy it as well, or run again "
                f"with {switch('fresh')}"
            )
        record = read_record(folder)
        if not untouched(folder, found):
            raise UserError(f"{folder / RECORD} was changed after the run; run again with {switch('fresh')}")
        return Found(record, status)
    if not request.resume:
        holds = "a run that is trained and not scored" if status == TRAINED else f"an unfinished run ({status})"
        goes_on = ", and leave out --train-only, to score it" if status == TRAINED else " to go on with it"
        raise UserError(
            f"{folder} holds {holds}; add {switch('resume')}{goes_on}, "
            f"or {switch('fresh')} to set it aside and begin again"
        )
    if prepared.budget.episodes and not (folder / CHECKPOINT).is_file() and _was_trained(folder / WEIGHTS):
        raise UserError(
            f"{folder / CHECKPOINT} is missing, though the run was trained; copy it as well, or train again with "
            f"{switch('fresh')}"
        )
    return Found(status=status)


def _was_trained(weights: Path) -> bool:
    """Whether a run has written weights that come of updates, whose checkpoint it then had before."""
    return weights.is_file() and not UNTRAINED.items() <= load_tensors(weights)[1].items()


def enter(prepared: Prepared) -> Record | None:
    """Makes the run folder ready; the record if the run is already finished. Raises UserError as `look` does; nothing
    is written then."""
    folder = prepared.folder
    found = look(prepared)
    if found.record is not None:
        return found.record
    for each in _stale(folder):
        each.unlink(missing_ok=True)
    if found.aside:
        aside = next(p for n in range(1, 10_000) if not (p := folder.with_name(f"{folder.name}.old-{n}")).exists())
        os.replace(folder, aside)
        LOG.info(f"what was in {folder} is in {aside}")
    begun = found.status and prepared.budget.episodes and not (folder / CHECKPOINT).is_file()
    if begun and not (folder / WEIGHTS).is_file():
        LOG.warning(f"there is no {CHECKPOINT} in {folder}: its training begins anew")
    folder.mkdir(parents=True, exist_ok=True)
    return None


def _held(folder: Path) -> set[str]:
    """The names of what is in a folder, but for what a killed run left; none where there is no folder."""
    if not is_folder(folder):
        return set()
    return {each.name for each in folder.iterdir()} - {each.name for each in _stale(folder)}


def _stale(folder: Path) -> list[Path]:
    """What a run that was killed while it wrote left in its folder; for who holds the folder's lock."""
    return [each for name in _REPLACED for each in leftovers(folder / name)]


def nothing_to_resume(prepared: Prepared) -> str:
    """Why there is nothing to resume: unfinished runs of the same protocol and method, and in what they differ."""
    text = f"there is no unfinished run to resume in {prepared.folder}"
    others = []
    for noted in sorted(prepared.folder.parent.glob(f"*/{NOTED}")):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            found = read_json(noted)
            theirs, same = dict(found["identity"]), ("protocol", "method")
            if found["status"] != "done" and all(theirs.get(key) == prepared.identity[key] for key in same):
                differing = _differing(found, prepared) or [f"this very run: add {option('run', str(noted.parent))}"]
                others.append("\n    ".join([f"{noted.parent} ({found['status']})", *differing, *_begun_by(found)]))
    if not others:
        return f"{text}; leave {switch('resume')} out to begin one"
    listed = [f"  {each}" for each in others[:_MOST_NAMED]]
    more = [f"  and {len(others) - _MOST_NAMED} more"] if len(others) > _MOST_NAMED else []
    own = f"{prepared.method.name} on {prepared.loaded.name}"
    return "\n".join([f"{text}. Unfinished runs of {own}, and in what they differ:", *listed, *more])


def _differing(found: dict[str, Any], prepared: Prepared) -> list[str]:
    """A line for each part in which the run of a folder (by its note) is another than the one asked for."""
    theirs, ours = dict(found["identity"]), prepared.identity
    if isinstance(options := theirs.get("options"), dict):
        theirs = {**theirs, "options": with_new_options(options, prepared.method.cls)}
    lines = differences({**theirs, CUT: ""}, {**ours, CUT: ""})
    there, here = found.get("precision"), prepared.budget.precision
    if theirs.get("recipe_hash") != ours["recipe_hash"] and there not in (None, here):  # of which it is part
        lines.append(f"precision: there {there!r}, asked for {here!r}")
    return lines


def _begun_by(found: dict[str, Any]) -> list[str]:
    """The command that began a run, as a line: the hash of a recipe does not say what changed it."""
    command = found.get("command")
    return [f"begun by: {in_line(command)}"] if command and isinstance(command, str) else []


def _check_limits(folder: Path, theirs: str, ours: str) -> None:
    """UserError if a finished run had other limits than those that are given now."""
    if theirs != ours:
        there, here = (f"limited to {each}" if each else "without a limit" for each in (theirs, ours))
        raise UserError(
            f"{folder} holds this run, finished and {there}; now it would be {here}. "
            f"Add {switch('fresh')} to set it aside and "
            f"train again, or {option('run', 'DIR')} to have both"
        )


def read_record(folder: Path) -> Record:
    """The record of a finished run; UserError if it is missing or damaged."""
    from pydantic import ValidationError

    path = folder / RECORD
    if not path.is_file():
        raise UserError(f"there is no {RECORD} in {folder}: not the folder of a finished run")
    try:
        content = read_json(path)
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}); run again with {switch('fresh')}") from None
    try:
        return Record.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise UserError(f"{path} is damaged ({where}: {first['msg']}); run again with {switch('fresh')}") from None


def note(prepared: Prepared, status: str) -> None:
    """Writes down how far the run got, and of a finished one the SHA-256 of its record."""
    entry = {"status": status, "identity": prepared.identity, "command": prepared.request.command, "at": utc_now()}
    entry["precision"] = prepared.budget.precision
    if status == "done":
        entry["record"] = sha256_of(prepared.folder / RECORD)
    write_text(prepared.folder / NOTED, canonical_json(entry))


def untouched(folder: Path, noted: dict[str, Any]) -> bool:
    """Whether a finished run's record is as the run left it; runs of older versions have noted nothing to tell."""
    return noted.get("record") in (None, sha256_of(folder / RECORD))


def write_text(path: Path, text: str) -> None:
    """Replaces a text file as a whole."""
    with replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_log_entries(folder: Path) -> Iterator[dict[str, Any]]:
    """The entries of a run's log, none where there is none. A line that was cut short (the run goes on, or was killed)
    or damaged is left out."""
    try:
        lines = read_bounded(folder / TRAINING_LOG, _MOST_LOGGED).splitlines()
    except (OSError, ValueError):
        return
    for line in lines:
        with contextlib.suppress(ValueError):
            entry = parsed_json(line)
            if isinstance(entry, dict):
                yield entry


def write_scores(path: Path, scores: Scores) -> None:
    """Writes the scores of every episode: the same bytes for the same scores."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **scores)


def read_scores(path: Path) -> Scores:
    """Scores written by `write_scores`; UserError if they are missing or damaged. Nothing in the file is run."""
    if not path.is_file():
        raise UserError(f"there are no scores at {path}")
    try:
        with np.load(path, allow_pickle=False) as file:
            size = sum(each.file_size for each in file.zip.infolist())
            if size > _MOST_BYTES:  # some kilobytes can be packed so that they unpack to gigabytes
                raise ValueError(f"it holds {size} bytes once it is unpacked")
            return {name: np.asarray(file[name], np.float64) for name in file.files}
    except Exception as error:  # damaged bytes can make the readers raise nearly anything
        raise UserError(f"{path} is damaged or not a file of scores: {error}") from None


def differences(theirs: dict[str, Any], ours: dict[str, Any]) -> list[str]:
    """A line for each key, however deep, in which two identities differ."""
    lines = []
    for key in sorted(theirs.keys() | ours.keys()):
        there, here = theirs.get(key), ours.get(key)
        if isinstance(there, dict) and isinstance(here, dict):
            lines += [f"{key}.{line}" for line in differences(there, here)]
        elif there != here:
            lines.append(f"{key}: there {there!r}, asked for {here!r}")
    return lines
