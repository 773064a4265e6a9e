"""Images that are mapped from a file larger than memory: no reading ahead, and pages that are let go again."""

from __future__ import annotations

import mmap

import numpy as np

from harness.util.memory import machine_memory

HELD = 2**28
"""Bytes of such a file, at most about, that count as memory of the process."""

_AROUND = 2**16  # bytes around an image that Linux maps with it


class MappedPages:
    """The pages that a process holds of files it picks images from at random.

    The system reads ahead in a file, 128 KB by default: of images that lie far apart that is several times what is
    wanted, and it drives out what was read before. And each page that was looked at counts as memory of the process
    until it is unmapped; what the system itself keeps of the file is not affected by that.
    """

    def __init__(self, maps: list[mmap.mmap]) -> None:
        self._maps, self._held = maps, 0
        for each in maps:
            each.madvise(mmap.MADV_RANDOM)

    def looked_at(self, images: int, size: int) -> None:
        """Counts images of `size` bytes that were read, and lets all pages go once they are `HELD` bytes."""
        self._held += images * (size + _AROUND)
        if self._held > HELD:
            for each in self._maps:
                each.madvise(mmap.MADV_DONTNEED)
            self._held = 0

    def __reduce__(self) -> tuple[type[MappedPages], tuple[list[mmap.mmap]]]:
        # A copy in another process comes with copies of the images, and not with maps.
        return MappedPages, ([],)


def mapped_pages(*arrays: np.ndarray | None) -> MappedPages | None:
    """Those of the arrays that are maps of files; None where they fit into half of this machine's memory.

    What fits is better read ahead: soon all of it is in memory. None also where the system takes no such advice.
    """
    found = [getattr(each, "_mmap", None) for each in arrays if isinstance(each, np.memmap)]
    maps = [each for each in found if isinstance(each, mmap.mmap)]
    if sum(map(len, maps)) <= machine_memory() // 2 or not hasattr(mmap, "MADV_RANDOM"):
        return None
    return MappedPages(maps)
