"""Notices: lines on stderr, apart from what a command prints. Those of the library come from the logger `harness`."""

from __future__ import annotations

import logging

from harness.cli.text_table import message
from harness.util.progress import NORMAL, QUIET, say
from harness.util.shown_text import shown


def notice(text: str) -> None:
    """Tells the user something without mixing it into what a command prints."""
    say(message(f"harness: {shown(text)}"), QUIET)


class _Notices(logging.Handler):
    """Looks up stderr at each notice, since tests and notebooks replace it."""

    def emit(self, record: logging.LogRecord) -> None:
        notice(record.getMessage())


def show_notices(level: int = NORMAL) -> None:
    """From now on, what the library logs at level INFO or above (if quiet: WARNING) is shown as notices; once, however
    often called."""
    logger = logging.getLogger("harness")
    if not any(isinstance(each, _Notices) for each in logger.handlers):
        logger.addHandler(_Notices())
    logger.setLevel(logging.WARNING if level == QUIET else logging.INFO)
