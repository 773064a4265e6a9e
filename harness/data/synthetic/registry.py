"""Stand-ins: generated data sets that take the place of real ones for trying things out."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

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
    return int(import_module(f"harness.data.synthetic.{_GENERATORS[name][0]}").VERSION)


def source(name: str) -> Source:
    """The generator of a stand-in as a source that is always there."""
    module, function = _GENERATORS[name]

    def decode(scratch: Path) -> Decoded:
        made: Decoded = getattr(import_module(f"harness.data.synthetic.{module}"), function)()
        return made

    return Source("generated", "generated", decode)
