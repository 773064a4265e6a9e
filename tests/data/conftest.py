"""Shared by the tests of the stand-ins: generating them takes seconds."""

from __future__ import annotations

import pytest

from harness.data.dataset import Dataset
from harness.data.open_dataset import load_dataset

GENERATED = ("glyphs", "objects", "scenes")


@pytest.fixture(scope="session")
def generated(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Dataset]:
    """Freshly generated, never from a cache that an earlier generator may have filled."""
    fresh = tmp_path_factory.mktemp("stand-ins")
    return {name: load_dataset(name, cache=fresh) for name in GENERATED}
