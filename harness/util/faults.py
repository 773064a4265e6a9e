"""Errors that code of the user's raises, in a few lines: what, and where in that code."""

from __future__ import annotations

import sys
import sysconfig
import traceback
from pathlib import Path
from traceback import FrameSummary

_HARNESS = Path(__file__).parents[1]
_LIBRARIES = ("stdlib", "platstdlib", "purelib", "platlib")
_MOST = 8
"""Places that are named at most: those nearest to the error."""


def told(error: BaseException) -> str | None:
    """What was raised, with the lines of the user's own code that led to it, outermost first; None where no such code
    took part, so that the whole traceback is wanted.

    Python's library, installed packages, the harness and its methods are nobody's own code.
    """
    frames = [each for each in traceback.extract_tb(error.__traceback__) if _is_users(each)]
    if not frames:
        return None
    said = "".join(traceback.format_exception_only(error)).strip()
    return "\n".join([said, *(f"  at {_place(each)}" for each in frames[-_MOST:])])


def in_a_line(error: BaseException, during: str = "") -> str:
    """What was raised, `during` what, by its first line, with the innermost place in code of the user's, or else in a
    method of the harness, if there is one: "raised KeyError in predict: 'x' (mine.py, line 4, in predict)"."""
    frames = traceback.extract_tb(error.__traceback__)
    places = [each for each in frames if _is_users(each)] or [each for each in frames if _is_within(each, _methods())]
    lines = str(error).strip().splitlines()
    said = f"raised {type(error).__name__}{f' in {during}' * bool(during)}: {lines[0] if lines else 'no message'}"
    return said + _last(places)


def place_in_users_code(error: BaseException) -> str:
    """The innermost place in code of the user's, as " (mine.py, line 4, in predict)"; '' where none took part."""
    return _last([each for each in traceback.extract_tb(error.__traceback__) if _is_users(each)])


def _last(places: list[FrameSummary]) -> str:
    return f" ({Path(places[-1].filename).name}, line {places[-1].lineno}, in {places[-1].name})" if places else ""


def _is_users(frame: FrameSummary) -> bool:
    if not Path(frame.filename).is_file():  # such as <frozen runpy>
        return False
    libraries = [Path(sysconfig.get_path(name)) for name in _LIBRARIES]
    return not _is_within(frame, [*libraries, *_methods(), _HARNESS])


def _methods() -> list[Path]:
    """Where the methods of the harness are: not beside other packages in a checkout."""
    return [Path(each) for each in getattr(sys.modules.get("methods"), "__path__", ())]


def _is_within(frame: FrameSummary, folders: list[Path]) -> bool:
    return any(Path(frame.filename).is_relative_to(each) for each in folders)


def _place(frame: FrameSummary) -> str:
    path, here = Path(frame.filename), Path.cwd()
    shown = path.relative_to(here) if path.is_relative_to(here) else path
    return f"{shown}:{frame.lineno}, in {frame.name}: {frame.line}"
