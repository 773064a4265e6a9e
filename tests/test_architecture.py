"""The floors of `harness/`: an import never runs back up, and nothing imports itself in a circle (pyproject.toml)."""

from __future__ import annotations

from pathlib import Path

import pytest
from importlinter.cli import lint_imports


def test_the_contracts_of_imports_hold(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(Path(__file__).parents[1])
    failed = lint_imports(no_cache=True)
    assert not failed, capsys.readouterr().out
