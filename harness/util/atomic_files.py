"""Files that appear as a whole or not at all."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.util.errors import RunError, UserError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` to write to, renamed to `path` at the end.

    Whatever goes wrong inside, `path` stays as it was and nothing is left beside it. Raises UserError where a
    file cannot be made there, RunError where writing fails (a full disk).
    """
    if path.is_dir():
        raise UserError(f"'{path}' is a directory; name a file")
    if not path.parent.is_dir():
        raise UserError(f"there is no folder '{path.parent}' to write '{path.name}' into")
    temporary = path.with_name(f"{_beside(path)}{os.getpid()}")
    try:
        temporary.touch()
    except OSError as error:
        error.filename = str(path)
        raise UserError(f"'{path}' cannot be written: {error.strerror or error}") from error
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        why, error.filename = error.strerror or error, str(path)  # whoever reads the error knows of no temporary file
        message = f"'{path}' could not be written ({why}); the previous file, if any, is as it was"
        raise RunError(message) from error
    finally:
        temporary.unlink(missing_ok=True)


def is_file(path: Path) -> bool:
    """Whether there is a file of that name; not, too, where no file can have it (it is too long, say)."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_folder(path: Path) -> bool:
    """Whether there is a folder of that name; as `is_file`."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def leftovers(path: Path) -> list[Path]:
    """What writers of `path` that were killed left beside it; not for use while somebody may be writing."""
    return sorted(path.parent.glob(f"{glob.escape(_beside(path))}*"))


def _beside(path: Path) -> str:
    return f".{path.name}.tmp-"
