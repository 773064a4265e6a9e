"""Definitions of the papers' tables: they fit protocols and methods, are found by name, and broken ones are refused."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

from harness.method.options import default_options
from harness.method.registry import load_method, method_names
from harness.protocol.load import load_protocol
from harness.tables.cells import fill
from harness.tables.definition import Printed, all_tables, find_table, read_paper
from harness.util.errors import UserError
from harness.util.shipped_files import papers_dir, protocol_files
from harness.yaml_files.document import YamlError

A, B = "layer-distributed memory", "norml"


@pytest.mark.parametrize("printed", all_tables(), ids=lambda each: each.name)
def test_a_table_reads_metrics_that_its_boards_have_and_options_that_its_methods_have(printed: Printed) -> None:
    for each in printed.table.rows:
        for column in printed.table.columns:
            protocol = load_protocol(protocol_files()[each.protocol or column.protocol]).protocol
            assert not column.metric or column.metric in {protocol.ranking, *protocol.reported}
        if each.method in method_names():
            assert set(each.options) <= set(default_options(load_method(each.method).cls))


@pytest.mark.parametrize("printed", all_tables(), ids=lambda each: each.name)
def test_no_measured_entry_can_be_two_systems_of_a_table(printed: Printed) -> None:
    for one, other in itertools.combinations(printed.table.rows, 2):
        if (one.method, one.protocol) == (other.method, other.protocol):
            unlike = [name for name in one.options if one.options[name] != other.options.get(name)]
            assert unlike or one.init != other.init, (one.labels, other.labels)


def test_the_settings_of_norml_are_those_that_its_rows_are_named_after() -> None:
    rows = [each for each in find_table("norml 2").table.rows if each.method == "norml"]
    assert {(each.options["zero_hidden"], each.options["zero_cell"]) for each in rows} == {
        (hidden, cell) for hidden in (False, True) for cell in (False, True)
    }
    for each in rows:
        for state in ("hidden", "cell"):
            assert each.options[f"zero_{state}"] == (f"zero {state}" in each.labels[0])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("    metric: m", "    metric: m\n    cost: GFLOP per step"), "give one of metric, curve and cost"),
        (("    metric: m", "    label_two: x"), "label_two"),
        (("labels: [x]", "labels: [x, y]"), "number 1 has 2 labels for 1 head columns"),
        (("method: opn", "method: opn\n    printed: {other: 1.0}"), "prints 'other'"),
        (("    protocol: p\n", ""), "must name one protocol together"),
        (("method: opn", "method: opn\n    protocol: q"), "must name one protocol together"),
    ],
)
def test_a_broken_definition_is_an_error_at_its_line(change: tuple[str, str], said: str, tmp_path: Path) -> None:
    path = tmp_path / "paper.yaml"
    text = """name: paper
citation: c
tables:
- name: table 1
  title: t
  head: [Model]
  columns:
  - label: a
    protocol: p
    metric: m
  rows:
  - labels: [x]
    method: opn
"""
    path.write_text(text)
    assert read_paper(path).tables[0].name == "table 1"
    path.write_text(text.replace(*change))
    with pytest.raises(YamlError, match=said) as error:
        read_paper(path)
    assert re.search(r"paper\.yaml:\d+:\d+", str(error.value))


def test_the_definitions_are_inside_the_package_so_that_a_wheel_has_them() -> None:
    import harness

    assert papers_dir() == Path(harness.__file__).parent / "tables" / "papers"
    assert len(list(papers_dir().glob("*.yaml"))) == 2


def test_two_published_rows_for_one_cell_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "omniglot_5way_online.yaml"
    text = protocol_files()["omniglot_5way_online"].read_text(encoding="utf-8")
    twice = "  - {method: apl, source: 'Babu et al. 2021, table 1', metrics: {accuracy@shot=1: 1.0}}\n"
    path.write_text(f"{text.rstrip()}\n{twice}", encoding="utf-8")
    files = {**protocol_files(), "omniglot_5way_online": path}
    monkeypatch.setattr("harness.tables.cells.protocol_files", lambda: files)
    with pytest.raises(UserError, match="omniglot_5way_online has 2 published rows for apl"):
        fill(find_table("babu 1"), tmp_path)


def test_a_table_of_an_unknown_protocol_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {name: path for name, path in protocol_files().items() if name != "cifarfs_5way_online"}
    monkeypatch.setattr("harness.tables.cells.protocol_files", lambda: files)
    with pytest.raises(UserError, match="unknown protocol 'cifarfs_5way_online'"):
        fill(find_table("babu 1"), tmp_path)


# Names


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("layer-distributed memory 1", f"{A} table 1"),
        ("layer-distributed memory table 1", f"{A} table 1"),
        ("Layer Distributed Memory, Table 3", f"{A} table 3"),
        ("layer-distributed memory figure 3", f"{A} figure 3"),
        ("layer-distributed memory fig. 4", f"{A} figure 4"),
        ("layer-distributed memory 3", f"{A} table 3"),
        ("layer-distributed memory cost", f"{A} cost"),
        ("norml 2", f"{B} table 2"),
        ("NORML table1", f"{B} table 1"),
        ("Babu et al. 2021, table 5", f"{A} table 5"),
        ("LDM-4", f"{A} table 4"),
        ("cost", f"{A} cost"),
        ("figure 3", f"{A} figure 3"),
        ("table 5", f"{A} table 5"),
    ],
)
def test_a_table_is_found_by_forgiving_names(given: str, name: str) -> None:
    assert find_table(given).name == name


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("layer distributed memry 1", "Did you mean 'layer-distributed memory table 1'?"),
        ("nrml table 2", "Did you mean 'norml table 2'?"),
        ("norml figure 3", "unknown table 'norml figure 3'"),
        ("layer-distributed memory figure 1", "unknown table"),
        ("table 1", "may mean any of: layer-distributed memory table 1, norml table 1"),
        ("norml", "unknown table 'norml'"),
        ("", "unknown table ''"),
    ],
)
def test_a_name_that_is_no_table_s_gets_the_nearest_or_all_that_it_may_mean(given: str, said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said)):
        find_table(given)
