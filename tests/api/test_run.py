"""`harness.run` and what it returns: the same as the command line, on names and on objects."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import harness as h
from harness import cli
from harness.boards.store import read_board
from harness.runs.resolve import Request
from methods.count import Count
from tests.api.conftest import OWN


@pytest.mark.slow
def test_a_run_is_the_run_of_the_command_line(here: Path) -> None:
    recipe = {"recipe": "cl_lstm.yaml", "budget": "smoke", "data": "stand-in", "threads": 1}
    result = h.run("late.yaml", "cl_lstm", quiet=True, out="api", boards="own", **recipe)  # type: ignore[arg-type]
    words = "run late.yaml --method cl_lstm --recipe cl_lstm.yaml --budget smoke --data stand-in --threads 1"
    assert cli.main([*words.split(), "--boards", "cli"]) == 0
    (row,) = [each for _, each in read_board(Path("cli/stand_in/late.jsonl")).records]
    ours, own = (
        each.model_dump(include={"run", "metrics", "marks", "scores", "checkpoint", "curves", "target"})
        for each in (row, result.record)
    )
    assert ours == own
    assert result.boards == Path("own")
    assert result.rank == "1"


def test_every_field_of_a_request_is_an_argument() -> None:
    """Of the command line and of the call: what one can ask for, so can the other (seeds; lr, batch and override); but
    only sweeps name runs that are trained elsewhere."""
    fields = {each.name for each in dataclasses.fields(Request)}
    assert fields - set(inspect.signature(h.run).parameters) == {"seed", "changes", "command", "only_named"}


def test_a_result_gives_numbers_tables_and_plots(here: Path) -> None:
    result = h.run("late.yaml", "count", data="stand-in", seeds=[0, 1], quiet=True)
    assert [record.seed for record in result.records] == [0, 1]
    accuracy = result.metrics["accuracy"]
    assert next(iter(result.metrics)) == "accuracy"
    assert accuracy.spread == 0
    assert accuracy.mean == result.record.metrics["accuracy"].mean
    assert len(result.curves["by_step"]) == 6
    table = result.to_pandas()
    assert set(table.seed) == {0, 1}
    assert table[table.metric == "accuracy"]["mean"].tolist() == [accuracy.mean] * 2
    certain = dataclasses.replace(accuracy, mean=100.0, bounds=(96.0, 100.0))  # an interval that ends at 100 %
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(result), "metrics", {"accuracy": certain})
        assert "  accuracy  100.00 +0.00 -4.00 %" in repr(result)


@pytest.mark.slow
def test_a_plot_has_a_figure_for_each_curve_and_for_the_training(here: Path) -> None:
    options = {"channels": 4, "lstm": 8, "resolution": 8}
    result = h.run(
        "late.yaml", "cl_lstm", recipe="cl_lstm.yaml", budget="smoke", data="stand-in", options=options, quiet=True
    )
    captions = [figure.caption for figure in result.plot().figures]
    assert {"Accuracy by shot", "Accuracy by step", "Training loss, smoothed; stages shaded"} <= set(captions)
    board = h.results(protocol="late.yaml", data="stand-in").plot()
    assert board.title == "late (stand-in)"
    assert "accuracy: intervals of all entries" in [figure.caption for figure in board.figures]


@pytest.mark.slow
def test_a_class_is_recorded_as_its_file_would_be(here: Path) -> None:
    from own_bias import Bias  # type: ignore[import-not-found]

    by_class = h.run("late.yaml", Bias, data="stand-in", budget="smoke", quiet=True).record
    by_name = h.run("late.yaml", "own_bias.py:Bias", data="stand-in", budget="smoke", quiet=True, out="again").record
    assert by_class.target == by_name.target == "own_bias.py:Bias"
    assert by_class.run == by_name.run
    assert by_class.method_source == by_name.method_source


def test_an_instance_is_where_training_begins(here: Path) -> None:
    from own_bias import Bias

    instance = h.build_method(Bias, "late.yaml")
    assert isinstance(instance.bias, torch.nn.Parameter)
    torch.nn.init.constant_(instance.bias, 3.0)
    record = h.run("late.yaml", instance, data="stand-in", budget="smoke", quiet=True, board=False).record
    assert record.init is not None
    assert "starting weights from elsewhere" in record.marks


def test_a_result_is_where_training_begins(here: Path) -> None:
    call: dict[str, Any] = {"data": "stand-in", "budget": "smoke", "quiet": True, "board": False, "test_episodes": 1}
    call |= {"check": False, "threads": 1}
    first = h.run("late.yaml", "protonet", seeds=[0, 1], **call)
    with pytest.raises(h.UserError, match=r"init is a result of 2 runs; give the folder of one of them: runs/late/"):
        h.run("late.yaml", "protonet", init=first, seeds=2, **call)
    only = h.run("late.yaml", "protonet", **call)
    record = h.run("late.yaml", "protonet", init=only, seeds=2, **call).record
    assert record.init == only.record.checkpoint
    assert f"init='{only.folders[0]}'" in record.command


def test_an_instance_keeps_its_options_whatever_the_recipe_has(here: Path) -> None:
    """The recipe of cl_lstm gives others than the constructor."""
    instance = h.build_method("cl_lstm", "late.yaml", {"channels": 4})
    call: dict[str, Any] = {"data": "stand-in", "budget": "smoke", "quiet": True, "board": False, "test_episodes": 1}
    call |= {"check": False, "threads": 1}
    record = h.run("late.yaml", instance, **call).record
    assert record.options == h.run("late.yaml", "cl_lstm", options=record.options, **call).record.options
    assert record.options["channels"] == 4
    assert "options=" in record.command


@pytest.mark.parametrize("seeds", [np.arange(2), range(2), (0, 1), iter([0, 1]), list(np.arange(2))])
def test_seeds_may_come_in_any_form(here: Path, seeds: Any) -> None:
    result = h.run("late.yaml", "count", seeds=seeds, data="stand-in", quiet=True, board=False, test_episodes=1)
    assert [record.seed for record in result.records] == [0, 1]
    assert "seeds=[0, 1]" in result.record.command


@pytest.mark.parametrize("form", ["mapping", "model", "loaded"])
def test_a_protocol_may_be_an_object(here: Path, form: str) -> None:
    loaded = h.load_protocol("late.yaml")
    text = loaded.protocol.model_dump()
    given = {"mapping": text, "model": loaded.protocol, "loaded": loaded}[form]
    record = h.run(given, "count", data="stand-in", quiet=True, board=False).record  # type: ignore[arg-type]
    assert record.digest == h.for_data(loaded, "stand-in").digest
    assert record.protocol == ("late" if form == "loaded" else f"protocol-{loaded.protocol.digest[:8]}")


@pytest.mark.slow
def test_data_may_be_arrays(here: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 3, 8, 8), dtype=np.uint8)
    data = h.dataset(
        pixels, np.repeat(np.arange(6), 4), {"train": [0, 1], "validation": [2, 3], "test": [4, 5]}, name="dots"
    )
    result = h.run("late.yaml", "nearest_pixel", data=data, quiet=True)
    assert result.record.data.fingerprint == data.fingerprint
    assert result.record.protocol == "late-dots"
    assert Path("leaderboards/late-dots.jsonl").is_file()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"protocol": "lat.yaml"}, "there is no protocol 'lat.yaml'"),
        ({"protocol": {"kind": "streams"}}, "this is not a possible protocol"),
        ({"protocol": {"kind": "delayed_label"}}, "(?s)this is not a possible protocol:.*  title: missing"),
        ({"method": "cuont"}, "Did you mean 'count'"),
        ({"method": int}, "expected a method's name, 'file.py:Class', a class derived from harness.Method"),
        ({"data": "cifar"}, "unknown data 'cifar'"),
        ({"data": "stand_in"}, r"unknown data 'stand_in'\. Did you mean 'stand-in'\?"),
        ({"data": "cifar10"}, "the same in train and test"),
        ({"seeds": -1}, "a whole number from 0"),
        ({"seeds": []}, "there must be one"),
        ({"test_episodes": 0}, "at least 1"),
        ({"episodes": 2.5}, "episodes is 2.5; expected a whole number or None"),
        ({"episodes": True}, "expected a whole number"),
        ({"seconds": 0}, "more than 0"),
        ({"seconds": float("inf")}, "more than 0"),
        ({"resume": True, "fresh": True}, "choose one of them"),
        ({"seeds": [0, 1], "folder": "one"}, "is the folder of one run"),
        ({"options": {"width": 3}}, "Count has no option 'width'"),
        ({"options": {"channels": torch.tensor(4)}, "method": "cl_lstm"}, r"valid integer, found tensor\(4\)"),
        ({"budget": "huge"}, "unknown budget 'huge'"),
        ({"lr": -1.0, "method": "cl_lstm"}, "lr"),
        ({"device": "cuda:99"}, "cannot be used here"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_run(here: Path, change: dict[str, Any], message: str) -> None:
    call = {"protocol": "late.yaml", "method": "count", "data": "stand-in", **change}
    with pytest.raises(h.UserError, match=message):
        h.run(call.pop("protocol"), call.pop("method"), **call)
    assert not Path("runs").exists()


def test_a_run_that_is_refused_once_its_method_is_built_leaves_no_folder(here: Path) -> None:
    with pytest.raises(h.HarnessError, match="images of 8x8 vanish"):
        h.run("late.yaml", "lstm", options={"resolution": 8}, data="stand-in", budget="smoke", quiet=True)
    assert not [*Path("runs").glob("late/lstm-*")], "a report of runs by a pattern would stumble over it"


class Fragile(Count):
    """A method that can be built with any option, and not played with all of them."""

    def __init__(self, task: h.Task, broken: bool = False) -> None:
        super().__init__(task)
        self.broken = broken

    def predict(self, state: Any, x: torch.Tensor) -> tuple[torch.Tensor, Any]:
        if self.broken:
            raise RuntimeError("no layer is left")
        return super().predict(state, x)


def test_options_that_break_the_first_episode_are_named(here: Path) -> None:
    options: dict[str, Any] = {"options": {"broken": True}, "data": "stand-in", "quiet": True}
    with pytest.raises(h.UserError, match="Fragile with broken=True cannot play an episode: no layer is left"):
        h.run("late.yaml", Fragile, **options)
    assert not [*Path("runs").glob("late/Fragile-*")]


def test_a_class_of_a_notebook_is_known_by_the_source_of_its_cell(here: Path, cache: Path) -> None:
    import linecache

    lines = OWN.splitlines(keepends=True)
    linecache.cache["<cell 7>"] = (len(OWN), None, lines, "<cell 7>")
    space: dict[str, object] = {"__name__": "__main__"}
    exec(compile(OWN, "<cell 7>", "exec"), space)
    record = h.run("late.yaml", space["Bias"], data="stand-in", budget="smoke", quiet=True, board=False).record  # type: ignore[arg-type]
    assert record.target == "interactive:Bias"
    (file,) = (cache / "interactive").glob("Bias-*.py")
    assert file.read_text() == OWN


@pytest.mark.slow
def test_what_a_notebook_shows_of_an_object_is_short(here: Path) -> None:
    result = h.run("late.yaml", "count", data="stand-in", quiet=True)
    h.run("late.yaml", "chance", data="stand-in", quiet=True)
    shown = [
        result,
        h.results("runs/boards"),
        h.compare("late.yaml", "count", "chance", data="stand-in"),
        *h.verify("late.yaml", result, data="stand-in", in_process=True),
        h.load_protocol("late.yaml"),
        h.episodes("late.yaml", data="stand-in").source.dataset,
        result.plot(),
        result.metrics,
    ]
    for each in shown:
        assert len(repr(each)) < 600, type(each)
    assert "count less chance on late" in repr(shown[2])
    assert "late:1 count, seed 0: same: " in repr(shown[3])
    assert "Accuracy by s" in repr(shown[-2])
    assert re.fullmatch(r"\d+\.\d\d .*\d %", repr(result.metrics["accuracy"]))
    some = h.run("late.yaml", "count", data="stand-in", quiet=True, test_episodes=2)
    assert "none: 2 of " in repr(some).splitlines()[-1], "why a row is not ranked is said"

    (view,) = h.results("runs/boards").views
    one = h.Results((view,))._repr_html_()
    assert [one.count(f"<td>{name}</td>") for name in ("count", "chance")] == [1, 1]
    several = h.Results((view, dataclasses.replace(view, name="a<b")))._repr_html_()
    assert several.count(f"<td>{view.standings.ranked[0][1].newest.method}</td>") == 2, "the best of each board"
    assert several.count("<tr") == 3
    assert "<td>a&lt;b (stand-in)</td>" in several
    assert h.Results(())._repr_html_() == "<p>0 rows of 0 boards; .to_pandas() is a table of them</p>"


@pytest.mark.slow
def test_a_recipe_is_changed_by_a_call_as_by_the_command_line(here: Path) -> None:
    result = h.run("late.yaml", "own_bias.py:Bias", data="stand-in", budget="smoke", lr=0.01, batch=2, quiet=True)
    words = "run late.yaml --method own_bias.py:Bias --budget smoke --data stand-in --lr 0.01 --batch 2"
    assert cli.main([*words.split(), "--out", "cli", "--no-board"]) == 0
    (folder,) = Path("cli/late").glob("Bias-*")
    assert folder.name == result.record.run


def test_the_log_of_a_run_can_be_read(here: Path) -> None:
    result = h.run(
        "late.yaml", "cl_lstm", recipe="cl_lstm.yaml", budget="smoke", data="stand-in", quiet=True, board=False
    )
    assert {each["event"] for each in result.log()} >= {"validation", "stage"}
    assert json.dumps(result.log())


def test_a_run_leaves_the_threads_of_the_process_as_they_were(here: Path, cache: Path) -> None:
    """Results depend on them: what is computed after a run must not."""
    before = torch.get_num_threads()
    result = h.run("late.yaml", "count", data="stand-in", test_episodes=2, threads=before + 1, board=False, quiet=True)
    assert result.record.hardware.threads == before + 1
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("key", ["lr", "batch"])
def test_what_is_given_twice_is_refused(here: Path, key: str) -> None:
    twice: dict[str, Any] = {"override": {key: 8}, key: 4}
    with pytest.raises(h.UserError, match=f"{key} is given twice: as {key}=4 and in override"):
        h.run("late.yaml", "cl_lstm", data="stand-in", budget="smoke", **twice)
