"""Commands that pages print: each works when it is pasted where the report was made."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

from harness.boards.markdown import View
from harness.boards.places import boards_found
from harness.protocol.load import Loaded
from harness.report.run_log import RunFolder
from harness.report.sources import Places, Subject
from harness.runs.status import TRAINED, resuming
from harness.util.shipped_files import protocol_files


def near(path: Path) -> Path:
    """A path from the working directory if it lies in there: a page is given to others, whose folders are others."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def word_of(loaded: Loaded) -> str:
    """What names a protocol on a command line: the name of a shipped one, else the path of its file."""
    return loaded.name if protocol_files().get(loaded.name) == loaded.path else str(near(loaded.path))


def show_command(run: RunFolder, on: Subject, number: int, places: Places) -> str:
    """Writes the page of a test episode with what the run answered."""
    words = ["show", word_of(on.loaded), "--episode", str(number), "--run", str(near(run.folder))]
    words += ["--html", f"episode-{number}.html", *_stand_in(on)]
    if places.method is not None:
        words += ["--method", places.method]
    return _joined([*words, *_places(places)])


def verify_command(view: View, word: str, line: int, boards: Path) -> str:
    """Scores the row in a line of a board again, whose protocol `word` names."""
    words = ["verify", word, "--row", str(line)]
    if view.stand_in:
        words += ["--data", "stand-in"]
    if boards_found(view.stand_in, view.name).resolve() != boards.resolve():
        words += ["--boards", str(near(boards))]
    return _joined(words)


def lint_command(on: Subject, places: Places) -> str:
    """Looks for what spoils a protocol, images of its splits included."""
    return _joined(["lint", word_of(on.loaded), *_stand_in(on), *_places(places)])


def resume_command(run: RunFolder) -> str:
    """Goes on with an unfinished run ('' where its folder does not say how it was started)."""
    if not run.command:
        return ""
    command = resuming(run.command)
    return command.replace(" --train-only", "") if run.status == TRAINED else command


def _stand_in(on: Subject) -> list[str]:
    return ["--data", "stand-in"] if on.protocol.card.stand_in and not on.loaded.protocol.card.stand_in else []


def _places(places: Places) -> Iterator[str]:
    for option, path in (("--data-root", places.data_root), ("--cache", places.cache)):
        if path is not None:
            yield from (option, str(near(path)))


def _joined(words: list[str]) -> str:
    return shlex.join(["harness", *words])
