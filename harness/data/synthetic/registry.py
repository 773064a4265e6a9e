"""Stand-ins: generated data sets that take the place of real ones for trying things out."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np

from harness.data.sources import Decoded, Source

_GENERATORS = {
    "glyphs": ("glyphs", "generate"),
    "objects": ("objects", "generate"),
    "objects_supervised": ("objects", "generate_supervised"),
    "scenes": ("scenes", "generate"),
}
"""Module of `harness.data` and the function in it that generates each stand-in."""


def version(name: str) -> int:
    """The version of a stand-in's generator: another version draws other pixels."""
    return int(_module(name).VERSION)


def first_classes(name: str, classes: int, images: int) -> tuple[np.ndarray, np.ndarray | None]:
    """The first images of the first classes of a stand-in, uint8 [classes, images, C, H, W], and their masks if any.

    In a fraction of the time of the whole data set, without a cache.
    """
    found: tuple[np.ndarray, np.ndarray | None] = _module(name).first_classes(classes, images)
    return found


def source(name: str) -> Source:
    """The generator of a stand-in as a source that is always there."""

    def decode(scratch: Path) -> Decoded:
        made: Decoded = getattr(_module(name), _GENERATORS[name][1])()
        return made

    return Source("generated", "generated", decode)


def _module(name: str) -> ModuleType:
    return import_module(f"harness.data.synthetic.{_GENERATORS[name][0]}")
