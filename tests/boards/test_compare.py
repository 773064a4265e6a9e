"""Comparing two methods on the same episodes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from harness import cli
from harness.boards.artifacts import scores_of
from harness.boards.store import append_record
from harness.records.record import Record
from harness.runs.folder import read_record
from tests.helpers.submissions import (
    RUN,
    rows,
)

pytestmark = pytest.mark.usefixtures("tiny_board")


@pytest.mark.slow
def test_compare_takes_differences_episode_by_episode(capsys: pytest.CaptureFixture[str]) -> None:
    for method in ("opn", "nearest_pixel"):
        assert cli.main([*RUN, "--method", method, "--seeds", "0-1" if method == "opn" else "0"]) == 0
    capsys.readouterr()
    assert cli.main(["compare", "tiny.yaml", "opn", "nearest_pixel", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["first"]) == 2

    def values(record: Record) -> np.ndarray:
        scores = scores_of(record, Path("leaderboards"))
        assert scores is not None
        return (scores["right"][:, 1:3] / scores["count"][:, 1:3]).mean(1)

    seeds = np.stack([values(row) for row in rows() if row.method == "opn"])
    first = seeds.mean(0)
    second = np.mean([values(row) for row in rows() if row.method == "nearest_pixel"], axis=0)
    change = 100 * (first - second)
    main = found["differences"][0]
    assert main["metric"] == "accuracy"
    assert main["difference"]["mean"] == pytest.approx(change.mean())
    of_episodes = stats.t.ppf(0.975, 11) * change.std(ddof=1) / np.sqrt(12)
    of_seeds = stats.t.ppf(0.975, 1) * 100 * seeds.mean(1).std(ddof=1) / np.sqrt(2)
    assert main["difference"]["interval"] == pytest.approx(np.hypot(of_episodes, of_seeds))
    assert main["better"] == pytest.approx(100 * (change > 0).mean())
    assert main["excludes_zero"] == (abs(main["difference"]["mean"]) > main["difference"]["interval"])
    assert cli.main(["compare", "tiny.yaml", "opn", "nearest_pixel"]) == 0
    assert "interval of the difference" in capsys.readouterr().out
    assert cli.main(["compare", "tiny.yaml", "opn", "nearest_pixle"]) == 2
    assert "Did you mean 'nearest_pixel'?" in capsys.readouterr().err


def test_compare_refuses_what_cannot_be_paired(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = read_record(run)
    append_record(record, Path("leaderboards"))  # its scores are not kept there
    assert cli.main([*RUN, "--method", "nearest_pixel"]) == 0
    assert cli.main(["compare", "tiny.yaml", "opn", "nearest_pixel"]) == 2
    assert "are not kept with this board" in capsys.readouterr().err
    (Path("leaderboards") / "scores").mkdir(exist_ok=True)
    damaged = Path("leaderboards") / "scores" / f"{record.scores}.npz"
    damaged.write_bytes(b"PK\x03\x04 and nothing more")
    assert cli.main(["compare", "tiny.yaml", "opn", "nearest_pixel"]) == 2
    assert "damaged" in capsys.readouterr().err


def test_one_episode_in_common_separates_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    for method in ("count", "nearest_pixel"):
        assert cli.main([*RUN, "--method", method, "--test-episodes", "1"]) == 0
    names = [row.run for row in rows()]
    capsys.readouterr()
    assert cli.main(["compare", "tiny.yaml", *names, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["differences"][0]
    assert (found["difference"]["interval"], found["excludes_zero"], found["episodes"]) == (None, False, 1)
    assert cli.main(["compare", "tiny.yaml", *names]) == 0
    said = capsys.readouterr().out
    assert "The two have a single episode in common" in said
    assert "±" not in said


def test_different_numbers_of_images_from_all_over_a_split_are_other_images(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("images.yaml").write_text("kind: supervised\ntitle: tiny\ndataset: objects_supervised\n", encoding="utf-8")
    for count in ("20", "30"):
        words = ["run", "images.yaml", *RUN[2:], "--method", "chance", "--run", count, "--test-episodes", count]
        assert cli.main([*words, "--boards", "boards"]) == 0
    capsys.readouterr()
    assert cli.main(["compare", "images.yaml", "20", "30", "--boards", "boards"]) == 2
    assert "were scored on other images: 20 and 30, each from all over the test split" in capsys.readouterr().err


def test_rows_that_are_not_ranked_are_told_apart_from_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*RUN, "--method", "count", "--no-check"]) == 0
    assert cli.main([*RUN, "--method", "nearest_pixel"]) == 0
    capsys.readouterr()
    assert cli.main(["compare", "tiny.yaml", "count", "nearest_pixel"]) == 2
    (row,) = [row for row in rows() if row.method == "count"]
    said = capsys.readouterr().err
    assert "no row of count is ranked here (the run left the conformance check out); name a run to compare" in said
    assert cli.main(["compare", "tiny.yaml", row.run, "nearest_pixel"]) == 0


def test_runs_of_an_earlier_form_of_the_protocol_are_not_measured_by_the_present_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for method in ("count", "nearest_pixel"):
        assert cli.main([*RUN, "--method", method]) == 0
    names = [row.run for row in rows()]
    assert cli.main(["compare", "tiny.yaml", *names]) == 0
    text = Path("tiny.yaml").read_text(encoding="utf-8")
    Path("tiny.yaml").write_text(text.replace("shots: [1, 2]", "shots: [1]"), encoding="utf-8")
    capsys.readouterr()
    assert cli.main(["compare", "tiny.yaml", *names]) == 2
    assert "were scored by another protocol than the present one" in capsys.readouterr().err


def test_a_run_is_found_behind_a_newer_one_of_its_setting_and_seed(capsys: pytest.CaptureFixture[str]) -> None:
    for folder in ("first", "second"):
        assert cli.main([*RUN, "--method", "nearest_pixel", "--run", f"runs/{folder}"]) == 0
    assert [row.run for row in rows()] == ["first", "second"]
    capsys.readouterr()
    assert cli.main(["compare", "tiny.yaml", "first", "second", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["first"], found["second"]) == (["first"], ["second"])
    assert cli.main(["compare", "tiny.yaml", "frist", "second"]) == 2
    assert "one that went to no board has no row to compare" in " ".join(capsys.readouterr().err.split())
