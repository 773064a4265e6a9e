"""The search for garbage, which costs more than it finds while many objects are made that are all held."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Makes and frees objects without a search for those that hold each other (which walks through all that there are,
    again and again while their number grows); a block within another, or where the search is off, changes nothing."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
