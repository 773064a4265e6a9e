"""How the process keeps memory that was freed."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_BYTES = 2**30


def keep_freed_memory() -> bool:
    """Asks the C library to keep freed blocks for the next use instead of giving them back to the system.

    A training step frees and asks again for the same blocks of megabytes; each time the system clears every page
    anew, which took a sixth of the time of small nets on a CPU. Returns whether it was granted: only glibc knows
    how, elsewhere nothing changes.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return all(mallopt(which, _BYTES) == 1 for which in (_TRIM_THRESHOLD, _MMAP_THRESHOLD))
