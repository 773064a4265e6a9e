"""Shared by the tests of the stand-ins: generating them takes seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.data.dataset import Dataset
from harness.data.open_dataset import load_dataset

GENERATED = ("glyphs", "objects", "scenes")


@pytest.fixture(scope="session")
def generated(cache: Path) -> dict[str, Dataset]:
    """Generated in this session, never by an earlier generator."""
    return {name: load_dataset(name, cache=cache) for name in GENERATED}
