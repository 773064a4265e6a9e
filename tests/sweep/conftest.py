"""What the engines' tests share: a cache, and the tiny sweep as this machine alone does it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers import sweeps


@pytest.fixture(scope="session")
def sweep_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data are decoded, and a method is checked, once for all engines."""
    return tmp_path_factory.mktemp("sweep_cache")


@pytest.fixture(scope="session")
def local_sweep(tmp_path_factory: pytest.TempPathFactory, sweep_cache: Path) -> Callable[[], Path]:
    """Gives the working directory of a tiny sweep that ran to its end on the local engine: it is run for the first test
    that asks, which has found its cluster."""

    @functools.cache
    def made() -> Path:
        place = sweeps.written(tmp_path_factory.mktemp("local_sweep"))
        sweeps.swept(place, sweep_cache, "--jobs", "1")
        return place

    return made
