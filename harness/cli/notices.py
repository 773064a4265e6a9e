"""Notices: lines on stderr, apart from what a command prints. Those of the library come from the logger `harness`."""

from __future__ import annotations

import logging
import sys

from harness.util.shown_text import shown


def notice(message: str) -> None:
    """Tells the user something without mixing it into what a command prints."""
    print(f"harness: {shown(message)}", file=sys.stderr, flush=True)


class _Notices(logging.Handler):
    """Looks up stderr at each notice, since tests and notebooks replace it."""

    def emit(self, record: logging.LogRecord) -> None:
        notice(record.getMessage())


def show_notices() -> None:
    """From now on, what the library logs at level INFO or above is shown as notices; once, however often called."""
    logger = logging.getLogger("harness")
    if not any(isinstance(each, _Notices) for each in logger.handlers):
        logger.addHandler(_Notices())
        logger.setLevel(logging.INFO)
