"""What a run that cannot go on tells its user: what happened, what is kept, and what to do."""

from __future__ import annotations

import errno
from pathlib import Path

from harness.util.errors import RunError, UserError
from harness.util.option_names import option, switch

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP}
_NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed")
"""What torch's allocators and the libraries beneath it say, in lower case."""


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there was no memory left, on the device or beside it."""
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _NO_MEMORY)


def memory_error(error: BaseException, checkpoint: Path) -> RunError:
    """The RunError in place of one that says that there was no memory left."""
    said = (str(error).strip() or type(error).__name__).splitlines()[0]
    return RunError(
        f"out of memory: {said}\n"
        f"{_saved(checkpoint)} Where more memory is free (other jobs stopped, another {option('device')}), "
        f"go on with {switch('resume')}.\n"
        f"To need less, which makes it another run: a smaller {option('batch')}, smaller options of the method "
        f"({option('set')}), a protocol with fewer ways or steps; where it ran out while scoring, fewer "
        f"{option('test-episodes')}."
    )


def file_error(error: OSError, checkpoint: Path) -> RunError:
    """The RunError in place of a file or folder that could not be read or written."""
    where = error.filename or checkpoint.parent
    advice = " Make room there, then" if error.errno in _FULL else " Once that is fixed,"
    return RunError(f"{where}: {error.strerror or error}. {_saved(checkpoint)}{advice} go on with {switch('resume')}.")


def folder_error(error: OSError, folder: Path, given: bool) -> UserError | RunError:
    """The error in place of a run folder that cannot be made; `given` tells that it was named itself."""
    said = f"the run folder {folder} cannot be made: {error.filename or folder.parent}: {error.strerror or error}"
    if error.errno in _REFUSED:
        where = option("run", "DIR") if given else option("out", "DIR")
        return UserError(f"{said}. Choose another place with {where}")
    return RunError(f"{said}. Nothing was begun; give the same command again once that is fixed")


def _saved(checkpoint: Path) -> str:
    if checkpoint.is_file():
        return f"The last good checkpoint is kept ({checkpoint})."
    return "No checkpoint was written yet."
