"""The beginning of a run: its first note, and those who are told of it."""

from __future__ import annotations

from harness.runs.folder import NOTED, note
from harness.runs.resolve import Prepared
from harness.training.callbacks import Called
from harness.util.errors import UserError


def begin(prepared: Prepared, called: Called) -> None:
    """Notes that the run begins and then tells the callbacks: what these write into the folder must not make it a
    foreign one. Of a run that one of them refuses nothing is left, as of others that are refused."""
    noted = prepared.folder / NOTED
    begins = not noted.is_file()
    note(prepared, "training")
    try:
        called.start(prepared.identity, prepared.folder)
    except UserError:
        if begins and [*prepared.folder.iterdir()] == [noted]:
            noted.unlink()
        raise
