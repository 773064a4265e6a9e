"""Stand-ins: generated data sets that take the place of real ones for trying things out."""

from __future__ import annotations

from harness.data.sources import Source


def version(name: str) -> int:
    """The version of a stand-in's generator: another version draws other pixels."""
    from harness.data import glyphs, objects

    return {"glyphs": glyphs, "objects": objects}[name].VERSION


def source(name: str) -> Source:
    """The generator of a stand-in as a source that is always there."""
    from harness.data import glyphs, objects

    generate = {"glyphs": glyphs.generate, "objects": objects.generate}[name]
    return Source("generated", "generated", lambda scratch: generate())
