"""Files that are written where a user says: one that is there is replaced only when that is safe or asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import cli
from harness.report.plot import Plot
from harness.util.errors import UserError
from tests.helpers.own_images import image_folder

BIRDS = """\
kind: online_few_shot
title: Birds
dataset:
  name: garden_birds
  folder: birds
  size: 8
  classes: {train: [robin, wren, kite], validation: [owl, rook, crow], test: [jay, tit, lark]}
episode: {ways: 3, presentations: 3}
scoring: {shots: [1]}
"""
EXPORT = ["export", "mine.yaml", "--episodes", "1", "--cache", "cache"]
COMMANDS = [(EXPORT, "episodes.jsonl"), (EXPORT, "episodes.parquet"), (["schema"], "schema.json")]


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    image_folder(Path("birds"))
    Path("mine.yaml").write_text(BIRDS)


@pytest.mark.parametrize(("words", "out"), COMMANDS, ids=[out for _, out in COMMANDS])
def test_a_file_is_replaced_only_where_that_is_asked_for(
    words: list[str], out: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(out).write_text("years of work")
    assert cli.main([*words, "--out", out]) == 2
    assert f"{out} exists and is left as it is; choose another name, or add --overwrite" in capsys.readouterr().err
    assert Path(out).read_text() == "years of work"
    assert cli.main([*words, "--out", out, "--overwrite"]) == 0
    assert b"years of work" not in Path(out).read_bytes()
    Path(out).with_stem("folder").mkdir()
    for more in ([], ["--overwrite"]):
        capsys.readouterr()
        assert cli.main([*words, "--out", str(Path(out).with_stem("folder")), *more]) == 2
        assert "is a directory; name a file" in capsys.readouterr().err
    link = Path(out).with_stem("link")
    link.symlink_to("nowhere")
    assert cli.main([*words, "--out", str(link)]) == 2
    assert link.is_symlink()


def test_a_plot_replaces_plots_alone() -> None:
    """Cells of a notebook are run again."""
    plot = Plot("mine", ())
    plot.save("mine.svg")
    Plot("changed", ()).save("mine.svg")
    assert "changed" in Path("mine.svg").read_text()
    Path("drawn.svg").write_text("<svg>by hand</svg>")
    with pytest.raises(UserError, match=r"drawn.svg is no plot that was saved and is left as it is"):
        plot.save("drawn.svg")
    assert Path("drawn.svg").read_text() == "<svg>by hand</svg>"
    with pytest.raises(UserError, match=r"must end in .svg"):
        plot.save("mine.png")
    assert not Path("mine.png").exists()
