"""One entry has one interval: after a run, on its board, in comparisons, data frames, logs, trackers, pages, JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import harness as h
from harness import cli
from harness.api.result import Result
from harness.boards import conformance
from harness.boards.compare import _difference
from harness.evaluation.summary import of_metrics
from harness.report.run_log import read_run
from harness.report.run_page import run_page
from harness.runs import resolve
from harness.runs.folder import read_record
from harness.testing import tiny_dataset
from harness.tracking.numbers import test_numbers as tracked_numbers


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    capsys.readouterr()
    assert cli.main(list(words)) == 0
    return capsys.readouterr().out


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    ours, theirs = ([each["mean"], each["interval"], each["spread"] or 0.0, *each["bounds"]] for each in (one, other))
    return np.allclose(ours, theirs)


@pytest.mark.slow
def test_one_entry_has_one_interval_wherever_it_is_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(resolve, "load_dataset", lambda name, **_: tiny_dataset(name, classes=8, images=10))
    monkeypatch.setattr(conformance, "check_marks", lambda *_: [])
    monkeypatch.chdir(tmp_path)
    Path("six.yaml").write_text("extends: cifarfs_delay5\ntitle: six\nscoring: {test_episodes: 6}\n")
    words = ["run", "six.yaml", "--threads", "1", "--method"]
    seeds = {"nearest_pixel": "0-1", "count": "0"}
    lines = {name: printed(capsys, *words, name, "--seeds", each) for name, each in seeds.items()}
    after = {name: json.loads(printed(capsys, *words, name, "--seeds", each, "--json")) for name, each in seeds.items()}
    board = {each["method"]: each for each in json.loads(printed(capsys, "board", "six.yaml", "--json"))["entries"]}
    pair = ("compare", "six.yaml", "nearest_pixel", "count")
    compared = printed(capsys, *pair)
    pairs = {each["metric"]: each for each in json.loads(printed(capsys, *pair, "--json"))["differences"]}
    differences = {each.metric: each for each in h.compare(*pair[1:]).differences}
    apart = json.loads(printed(capsys, *words, "nearest_pixel", "--seeds", "0-1", "--json", "--no-board"))
    frame = h.results("leaderboards").to_pandas().set_index("run")
    for name in ("accuracy", "accuracy@shot=7"):
        for method, place in (("nearest_pixel", "first"), ("count", "second")):
            shown = board[method]["metrics"][name]
            text = getattr(differences[name], place).text(2)
            assert same(after[method]["metrics"][name], shown)
            assert same(pairs[name][place], shown)
            assert text in compared
            assert text in lines[method]
            folders = [Path(each) for each in after[method]["folders"]]
            records = tuple(read_record(each) for each in folders)
            result = Result(h.load_protocol("six.yaml").protocol, records, tuple(folders))
            assert same(result.metrics[name].as_json(), shown)
            assert text in repr(result)
        assert same(apart["metrics"][name], board["nearest_pixel"]["metrics"][name])
        half = board["count"]["metrics"][name]["interval"]
        assert half > 0
        (record,), (folder,) = records, folders
        assert frame.loc[record.run, f"{name} ±"] == pytest.approx(half)
        assert result.to_pandas().set_index("metric").loc[name, "interval"] == pytest.approx(half)
        tracked = tracked_numbers(record)[f"test/{name.replace('@', '_').replace('=', '_')}_interval"]
        assert tracked == pytest.approx(half)
        logged = [each["metrics"] for each in result.log() if each["event"] == "test"]
        assert logged[0][name][1] == pytest.approx(half)
        assert of_metrics(record.metrics)[name].text(2) in run_page(read_run(folder), result.protocol)
    baseline = after["nearest_pixel"]["baselines"]["count"]
    assert same(baseline, board["count"]["metrics"]["accuracy"]), "the same method, played without images"


def test_answers_that_are_all_right_have_an_interval_in_a_comparison_too() -> None:
    found = _difference("accuracy", np.ones((1, 400)), np.zeros((1, 400)))
    assert (found.first.text(2), found.second.text(2)) == ("100.00 +0.00 -0.92", "0.00 +0.92 -0.00")
