"""From a sweep file to its runs, and what is wrong with one at its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.method.options import parse_options
from harness.method.registry import load_method, method_names
from harness.protocol.load import load_protocol
from harness.sweep.definition import read_sweep
from harness.sweep.expand import SweepRun, as_text, expand
from harness.tables.definition import all_tables, find_table
from harness.util.shipped_files import sweep_files
from harness.yaml_files.source_location import YamlError

GOOD = """\
budgets: [smoke]
seeds: 0-1
runs:
  - protocols: [omniglot_20way_1shot, omniglot_20way_5shot]
    methods: [maml, protonet]
  - protocols: [omniglot_20way_1shot]
    methods: [maml]
    options: [{rate: layer}, {rate: global}]
    seeds: [7]
    priority: 1
exclude:
  - {method: protonet, seed: 1}
"""


def runs_of(tmp_path: Path, text: str) -> list[SweepRun]:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    _, sweep, document = read_sweep(path)
    return expand(sweep, document)


def test_a_grid_is_every_combination_once_without_what_is_excluded(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, GOOD + "\n")
    first, rest = runs[:2], runs[2:]
    assert [(run.method, run.options, run.seed) for run in first] == [
        ("maml", {"rate": "layer"}, 7),
        ("maml", {"rate": "global"}, 7),
    ]
    expected = [
        (protocol, method, seed)
        for protocol in ("omniglot_20way_1shot", "omniglot_20way_5shot")
        for method in ("maml", "protonet")
        for seed in (0, 1)
        if (method, seed) != ("protonet", 1)
    ]
    assert [(run.protocol, run.method, run.seed) for run in rest] == expected


def test_a_run_listed_twice_is_run_once(tmp_path: Path) -> None:
    again = "  - {protocols: [omniglot_20way_1shot], methods: [maml], seeds: [0]}\n"
    assert len(runs_of(tmp_path, GOOD.replace("exclude:", f"{again}exclude:"))) == len(runs_of(tmp_path, GOOD))


@pytest.mark.parametrize(
    ("found", "put", "line", "message"),
    [
        ("omniglot_20way_5shot", "omniglot_20way_5shots", 4, "there is no protocol 'omniglot_20way_5shots'"),
        ("protonet]", "protonat]", 5, "unknown method 'protonat'. Did you mean 'protonet'"),
        ("maml, protonet", "resnet20", 5, "resnet20 does not run on omniglot_20way_1shot"),
        ("rate: layer", "rato: layer", 8, "MAML has no option 'rato'. Did you mean 'rate'"),
        ("rate: layer", "rate: 3", 8, "option rate"),
        ("seeds: [7]", "seeds: [-7]", 9, "at least 0"),
        ("seeds: 0-1", "seeds: 0-x", 2, "write 0, 0-2 or 0,3,7"),
        ("seed: 1}", "seed: 5}", 12, "agrees with no run of the sweep"),
        ("- {method: protonet, seed: 1}", "- {}", 12, "say which runs to leave out"),
        ("- {method: protonet, seed: 1}", "- {budget: smoke}", 11, "leaves no run"),
        ("priority: 1", "time: soon", 10, "write it as 90s, 10m or 2h"),
        ("priority: 1", "recipe: mine_too.yaml", 10, "there is no file"),
        ("seeds: 0-1", "table: norml table 99\nseeds: 0-1", 2, "unknown table 'norml table 99'"),
    ],
)
def test_what_is_wrong_is_said_at_its_line(tmp_path: Path, found: str, put: str, line: int, message: str) -> None:
    with pytest.raises(YamlError) as error:
        runs_of(tmp_path, GOOD.replace(found, put))
    assert any(problem.line == line and message in problem.message for problem in error.value.problems), error.value


def test_everything_wrong_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(YamlError) as error:
        runs_of(tmp_path, GOOD.replace("omniglot_20way_5shot", "nowhere").replace("protonet]", "nobody]"))
    assert {problem.line for problem in error.value.problems} >= {4, 5}


def test_a_sweep_takes_over_another_and_files_beside_it(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(GOOD, encoding="utf-8")
    (tmp_path / "own.yaml").write_text("extends: omniglot_20way_1shot\ntitle: own\n", encoding="utf-8")
    runs = runs_of(
        tmp_path, "extends: base.yaml\nruns: [{protocols: [own.yaml], methods: [maml]}]\nexclude: [{seed: 1}]\n"
    )
    assert [(Path(run.protocol), run.seed) for run in runs] == [(tmp_path / "own.yaml", 0)]


@pytest.mark.parametrize(
    "value",
    [
        True,
        None,
        1e-05,
        "word",
        "true",
        "1",
        "",
        "no",
        "[x",
        "a, b",
        "'",
        '"',
        "猫",
        ["a, b", "no", [1.5, "]"]],
        {"a": ["{"]},
    ],
)
def test_options_come_through_the_command_line_as_they_are(value: object) -> None:
    """Those of a sweep are handed to each of its runs as words."""
    (read,) = parse_options([f"name={as_text(value)}"]).values()
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize("name", sweep_files())
def test_shipped_sweeps_name_what_there_is(name: str) -> None:
    _, sweep, document = read_sweep(name)
    runs = expand(sweep, document)
    assert len({run.command for run in runs}) == len(runs)
    for run in runs:
        given = [word for before, word in zip(run.words, run.words[1:], strict=False) if before == "--set"]
        assert parse_options(given) == dict(run.options)


def test_the_smoke_sweep_runs_every_method_on_every_kind_it_can() -> None:
    _, sweep, document = read_sweep("smoke_all")
    ran = {(run.method, load_protocol(run.protocol).protocol.kind) for run in expand(sweep, document)}
    can = {(name, kind) for name in method_names() for kind in load_method(name).cls.kinds}
    assert {method for method, _ in ran} == set(method_names())
    assert {kind for _, kind in ran} == {kind for _, kind in can}


@pytest.mark.parametrize("name", [name for name in sweep_files() if read_sweep(name)[1].table])
def test_the_sweep_of_a_table_has_the_runs_that_fill_it_and_no_others(name: str) -> None:
    """But for rows that begin from the weights of another run."""
    _, sweep, document = read_sweep(name)
    table = find_table(sweep.table).table
    wanted = [
        (row.method, protocol, row.options)
        for row in table.rows
        if not row.init
        for protocol in {row.protocol or column.protocol for column in table.columns}
    ]
    ran = [(run.method, run.protocol, dict(run.options)) for run in expand(sweep, document)]
    assert sorted(map(str, ran)) == sorted(map(str, wanted))


def test_every_table_of_a_paper_has_a_sweep() -> None:
    """But for those that are computed at once, and figure 4, whose runs are those of figure 3 with 20 subtasks."""
    swept = {find_table(sweep.table).name for sweep in (read_sweep(name)[1] for name in sweep_files()) if sweep.table}
    tables = {each.name for each in all_tables() if not each.table.computed}
    assert tables - swept == {"layer-distributed memory figure 4"}


def test_files_are_beside_the_sweep_that_names_them_and_can_be_excluded_by_these_words(tmp_path: Path) -> None:
    for folder, ways in (("base", 5), ("child", 10)):
        (tmp_path / folder).mkdir()
        own = f"extends: omniglot_20way_1shot\ntitle: with {ways} ways\nepisode: {{ways: {ways}}}\n"
        (tmp_path / folder / "own.yaml").write_text(own)
    text = "runs: [{protocols: [own.yaml, omniglot_20way_1shot], methods: [maml, protonet]}]\n"
    exclude = "exclude: [{protocol: own.yaml, method: maml}]\n"
    (tmp_path / "base" / "base.yaml").write_text(text + exclude)
    runs = runs_of(tmp_path / "child", "extends: ../base/base.yaml\n")
    theirs = tmp_path / "child" / ".." / "base" / "own.yaml"
    assert [(run.protocol, run.method) for run in runs] == [
        (str(theirs), "protonet"),
        ("omniglot_20way_1shot", "maml"),
        ("omniglot_20way_1shot", "protonet"),
    ]


def test_a_time_of_many_days_is_read_by_the_run(tmp_path: Path) -> None:
    (run,) = runs_of(tmp_path, "runs: [{protocols: [omniglot_20way_1shot], methods: [maml], time: 12d}]\n")
    assert run.words[-2:] == ["--time", "1036800s"]
