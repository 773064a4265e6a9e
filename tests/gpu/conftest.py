"""The device that these tests are about: a GPU, or by `--device cpu` the CPU, to try the tests themselves."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> torch.device:
    """What `--device` names; the test is skipped where that is a GPU and there is none."""
    named = torch.device(request.config.getoption("--device"))
    if named.type == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU: torch.cuda.is_available() is False (--device cpu tries these tests on the CPU)")
    return named
