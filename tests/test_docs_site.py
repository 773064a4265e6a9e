"""The site of docs/ builds strictly; the tutorial and the notebooks of examples/ run from top to bottom."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from harness import cli

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1", "OMP_NUM_THREADS": "1"}


def blocks(page: str) -> list[tuple[str, str]]:
    """Language and text of the code blocks of a page."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return re.findall(r"^```(\w+)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_the_site_builds_strictly_and_has_its_made_parts(tmp_path: Path) -> None:
    pytest.importorskip("material", reason="the extra docs is not installed")
    pytest.importorskip("mkdocstrings", reason="the extra docs is not installed")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(words, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr, done.stderr
    for page, words_there in (
        ("reference/protocols", ("episode.label_delay", "segmentation_distractors", "cifarfs_delay5")),
        ("reference/recipes", ("until_loss", "weight_decay")),
        ("reference/boards", ("digest", "train_episodes")),
        ("reference/command_line", ("harness verify", "--test-episodes")),
        ("reference/python", ("EpisodeStream", "learning rate of every stage")),
        ("methods", ("cl_lstm", "protonet")),
        ("experiments", ("leaderboards/README.md",)),
    ):
        text = (tmp_path / "site" / page / "index.html").read_text(encoding="utf-8")
        assert "made:" not in text
        for each in words_there:
            assert each in text, (page, each)


@pytest.mark.slow
def test_the_tutorial_runs_from_top_to_bottom(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HARNESS_CACHE", str(cache))
    monkeypatch.syspath_prepend(str(tmp_path))
    for language, text in blocks("tutorial.md"):
        if language == "bash":
            for line in text.splitlines():
                name, *words = shlex.split(line)
                assert name == "harness"
                assert cli.main(words) == 0, (line, capsys.readouterr().err)
            continue
        path = Path(text.splitlines()[0].removeprefix("# "))
        path.write_text(text, encoding="utf-8")
        if language == "python":
            exec(compile(text, str(path), "exec"), {"__name__": f"tutorial_{path.stem}"})
    printed = capsys.readouterr().out
    assert "birds-noise" in printed
    (difference,) = re.findall(r"^  accuracy +[\d.]+ - [\d.]+ = ([+-][\d.]+) ± [\d.]+$", printed, re.MULTILINE)
    assert "\nthe interval excludes zero: True\n" in printed
    assert float(difference) > 20, "the method should learn what the tutorial says"


@pytest.mark.slow
def test_the_python_blocks_of_how_to_run(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HARNESS_CACHE", str(cache))
    found = [text for page in ("index.md", "how_to.md") for language, text in blocks(page) if language == "python"]
    assert len(found) == 3
    for text in found:
        exec(compile(text, "how_to", "exec"), {"__name__": "how_to"})


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.ipynb")), ids=lambda path: path.stem)
def test_the_notebooks_run(path: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat = pytest.importorskip("nbformat", reason="the extra notebooks is not installed")
    nbclient = pytest.importorskip("nbclient", reason="the extra notebooks is not installed")
    pytest.importorskip("ipykernel", reason="the extra notebooks is not installed")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("HARNESS_CACHE", str(cache))
    notebook = nbformat.read(path, as_version=4)
    assert not [cell for cell in notebook.cells if cell.cell_type == "code" and cell.outputs], "kept without outputs"
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [
        output["data"]["text/plain"]
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        if "data" in output
    ]
    assert max(map(len, shown)) < 3000, "what a cell shows is short"
    if path.stem == "boards_and_a_method":
        assert any("'passed'" in text and "'failed'" not in text for text in shown), "the report is counted"
