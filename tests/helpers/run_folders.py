"""A tiny run from the command line, and what lies in its folder."""

from __future__ import annotations

from pathlib import Path

from harness.records.record import Record

WORDS = ["run", "cifarfs_delay5", "--method", "cl_lstm", "--budget", "smoke", "--test-episodes", "6", "--threads", "1"]
"""The words of a run that takes a second or two on a tiny data set."""


def the_run(out: Path = Path("runs")) -> Path:
    """The folder of the only run below `out`."""
    (found,) = [path for path in out.glob("*/*") if path.is_dir()]
    return found


def record_of(folder: Path) -> Record:
    """The record in the folder of a finished run."""
    return Record.model_validate_json((folder / "record.json").read_text())
