"""Where boards are unless somebody says so: the project's own, and those of generated data."""

from __future__ import annotations

import functools
import logging
from pathlib import Path

from harness.util.errors import UserError
from harness.util.option_names import option
from harness.util.shipped_files import boards_dir

LOG = logging.getLogger(__name__)

STAND_IN_FOLDER = "stand_in"
"""The folder inside the boards' folder for boards of generated data, apart from real ones."""

BOARDS, LOCAL_BOARDS = Path("leaderboards"), Path("runs/boards")
"""The project's boards, which git tracks, and those of generated data; both below the working directory."""


def boards_to_write(given: Path | None, stand_in: bool) -> Path:
    """The folder that a run's row goes to: rows of generated data leave the project's boards as they are.

    Raises UserError for a folder that is that of generated data inside another one.
    """
    return _not_within(given) if given else LOCAL_BOARDS if stand_in else BOARDS


def boards_found(stand_in: bool, board: str | None = None) -> Path:
    """The folder in which a board is looked for (None: all boards) if none is given: where runs write it, if it is
    there, and else the project's, which come with the harness."""
    for folder in (LOCAL_BOARDS, BOARDS) if stand_in else (BOARDS,):
        own = folder / STAND_IN_FOLDER if stand_in else folder
        if own.is_dir() if board is None else (own / f"{board}.jsonl").is_file():
            return folder
    return boards_dir() or BOARDS


def boards_to_read(given: Path | None, stand_in: bool, board: str | None = None) -> Path:
    """The folder that is given, or else that of `boards_found`; that it is the project's own is logged once.

    Raises UserError where a folder is given that is not there, or is that of generated data inside another one.
    """
    if given is not None:
        if not given.is_dir():
            raise UserError(f"there is no folder of boards '{given}'")
        return _not_within(given)
    found = boards_found(stand_in, board)
    if is_shipped(found) and found != BOARDS.resolve():
        _say_whose(found)
    return found


def _not_within(given: Path) -> Path:
    """The folder, which would otherwise pass for one of boards of real data."""
    if given.name == STAND_IN_FOLDER or given.resolve().name == STAND_IN_FOLDER:
        raise UserError(
            f"'{given}' is where boards of generated data are, inside the folder of boards "
            f"'{given.resolve().parent}': give that, and ask for {option('data', 'stand-in')}"
        )
    return given


@functools.cache
def _say_whose(boards: Path) -> None:
    LOG.info("no board below the working directory; reading the project's own in %s", boards)


def is_shipped(boards: Path) -> bool:
    """Whether these are the boards that come with the harness and not those of the working directory, so that nothing
    may be written there."""
    shipped = boards_dir()
    return shipped is not None and boards == shipped
