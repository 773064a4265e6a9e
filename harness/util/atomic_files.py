"""Files that appear as a whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.util.errors import RunError, UserError
from harness.util.option_names import switch

_ABANDONED = 3600  # seconds


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` to write to, renamed to `path` at the end.

    Whatever goes wrong inside, `path` stays as it was and nothing is left beside it; what writers that were killed
    left there is removed. The content is on the disk before it has the name, and its mode is what the user's umask
    gives. Raises UserError where a file cannot be made there, RunError where writing fails (a full disk).
    """
    if is_folder(path):
        raise UserError(f"'{path}' is a directory; name a file")
    if not is_folder(path.parent):
        raise UserError(f"there is no folder '{path.parent}' to write '{path.name}' into")
    temporary = path.with_name(f"{_temporary_name(path)}{os.getpid()}-{threading.get_ident()}")
    try:
        temporary.touch()
        mode = stat.S_IMODE(temporary.stat().st_mode)
        _remove_abandoned(path)
    except OSError as error:
        error.filename = str(path)
        raise UserError(f"'{path}' cannot be written: {error.strerror or error}") from error
    try:
        yield temporary
        # Some writers make the file anew, for its owner alone.
        temporary.chmod(mode)
        _sync(temporary)
        os.replace(temporary, path)
        if os.name == "posix":  # elsewhere a folder cannot be opened
            _sync(path.parent)
    except OSError as error:
        why, error.filename = error.strerror or error, str(path)  # whoever reads the error knows of no temporary file
        message = f"'{path}' could not be written ({why}); the previous file, if any, is as it was"
        raise RunError(message) from error
    finally:
        temporary.unlink(missing_ok=True)


def check_new(path: Path, overwrite: bool) -> None:
    """Raises UserError if there is something at `path`, unless it may be overwritten: whose it is cannot be told."""
    if is_folder(path):
        raise UserError(f"'{path}' is a directory; name a file")
    if not overwrite and os.path.lexists(path):
        raise UserError(
            f"{path} exists and is left as it is; choose another name, or add {switch('overwrite')} to replace it"
        )


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
    return sorted(path.parent.glob(f"{glob.escape(_temporary_name(path))}*"))


def read_limited(path: Path, most: int) -> bytes:
    """The first `most` + 1 bytes of a file, so that a longer one shows; OSError also for what is no regular file.

    A pipe would be waited for, and a device has no end.
    """
    if path.exists() and not path.is_file():
        kind = "a directory" if path.is_dir() else "not a regular file (a pipe or a device)"
        raise OSError(errno.EINVAL, f"it is {kind}", str(path))
    with path.open("rb") as file:
        return file.read(most + 1)


def check_writable(folder: Path, name: str) -> None:
    """Raises UserError unless a file of this name can be made in a folder; leaves nothing behind.

    For what is only written after hours of work: permissions, a read-only disk, a name that is too long.
    """
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".{name}.tmp-{os.getpid()}-{threading.get_ident()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(f"'{folder / name}' cannot be written: {error.strerror or error}") from error
    finally:
        for each in missing:
            with contextlib.suppress(OSError):  # another run may have begun to write there
                each.rmdir()


def _remove_abandoned(path: Path) -> None:
    """Removes what writers that are dead left beside `path` at least an hour ago.

    A process of that number may live on another machine that shares the disk, but no write takes an hour.
    """
    for each in leftovers(path):
        number = each.name.rpartition("-")[2]
        with contextlib.suppress(OSError):
            if number.isdigit() and not _lives(int(number)) and time.time() - each.stat().st_mtime > _ABANDONED:
                each.unlink()


def _lives(process: int) -> bool:
    if os.name != "posix":
        return False  # a file that is open cannot be removed there
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        pass
    return True


def _sync(path: Path) -> None:
    # Windows flushes only what is open for writing.
    handle = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _temporary_name(path: Path) -> str:
    return f".{path.name}.tmp-"
