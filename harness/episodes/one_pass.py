"""Images gathered, changed and normalised in one pass over memory, on a CPU where a C compiler is found."""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor
from ctypes import CDLL, c_longlong, c_void_p
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from harness.util.compiled import compiled

LEAST = 2**16
"""Values of a batch below which nothing is compiled for it."""

_A_THREAD = 2**20  # values that are worth another thread


@dataclass(frozen=True)
class OnePass:
    """x[n] = scale * image + shift for each channel, of images that are turned, cropped and mirrored on the way."""

    images: Tensor
    scale: Tensor
    shift: Tensor

    def into(self, x: Tensor, which: np.ndarray, changes: np.ndarray | None) -> None:
        """Fills float x [N, C, H, W] with the images of these numbers int64 [N].

        `changes` int64 [N, 4] are those of `harness.episodes.changes`. Raises IndexError for a number of no image.
        """
        threads = max(1, min(torch.get_num_threads(), x.numel() // _A_THREAD))
        if threads == 1:
            self._fill(x, which, changes)
            return
        size = -(-len(x) // threads)
        parts = [slice(first, first + size) for first in range(0, len(x), size)]

        def fill(part: slice) -> None:
            self._fill(x[part], which[part], None if changes is None else changes[part])

        with ThreadPoolExecutor(threads) as pool:  # of this call alone: its threads would not survive a fork
            list(pool.map(fill, parts))

    def _fill(self, x: Tensor, which: np.ndarray, changes: np.ndarray | None) -> None:
        count, channels, height, width = x.shape
        which = np.ascontiguousarray(which, np.int64)
        changes = None if changes is None else np.ascontiguousarray(changes, np.int64)
        plane = np.empty(height * width, np.uint8)
        pointers = (
            *(self.images.data_ptr(), which.ctypes.data, None if changes is None else changes.ctypes.data),
            *(self.scale.data_ptr(), self.shift.data_ptr(), x.data_ptr(), plane.ctypes.data),
        )
        library = _library()
        assert library is not None, "there is none of these without it"
        sizes = (len(self.images), count, channels, height, width)
        filled: int = library.one_pass(*map(c_void_p, pointers), *map(c_longlong, sizes))
        if filled < count:
            raise IndexError(f"images are numbered from 0 to {len(self.images) - 1}, found {which[filled]}")


def one_pass(images: Tensor, scale: Tensor, shift: Tensor) -> OnePass | None:
    """The pass over uint8 images [., C, H, W] with scale and shift [C], float32, in memory of the host.

    None where there is no compiler, or where what it makes would not give the very bits that torch's `addcmul` gives:
    for each channel, every value of a byte is tried.
    """
    if not images.is_contiguous() or _library() is None:
        return None
    values = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).repeat(1, len(scale), 1, 1)
    wide = [each.view(-1, 1, 1).expand(values.shape[1:]).contiguous() for each in (scale, shift)]
    expected = torch.addcmul(wide[1], values.float(), wide[0])
    found = torch.empty_like(expected)
    OnePass(values, scale, shift).into(found, np.zeros(1, np.int64), None)
    return OnePass(images, scale, shift) if torch.equal(found, expected) else None


@functools.cache
def _library() -> CDLL | None:
    library = compiled(Path(__file__).with_suffix(".c").read_text(encoding="utf-8"))
    if library is not None:
        library.one_pass.restype = c_longlong
    return library
