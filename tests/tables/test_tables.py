"""Tables of the papers: every printed number in its cell, and measured ones only where they belong."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest

from harness import cli
from harness.boards.store import append_record
from harness.evaluation.summary import Summary
from harness.protocol.load import load_protocol
from harness.records.option_defaults import default_options
from harness.tables.cells import Filled, fill
from harness.tables.definition import all_tables, find_table
from harness.tables.reached import reached, standing
from harness.tables.render import as_json, as_text
from harness.util.shipped_files import protocol_files
from tests.helpers.boards import shipped_record

A, B = "layer-distributed memory", "norml"
Cells = dict[tuple[str, str], tuple[float, float | None]]
"""(the row's labels, the column's name) to the printed value and spread."""


def row(label: str, columns: str, *numbers: Any) -> Cells:
    """One row of a paper's table; a number is a value, or (value, spread), or None for an empty cell."""
    names = columns.split("; ")
    pairs = [(number, None) if isinstance(number, float) else number for number in numbers]
    return {(label, name): pair for name, pair in zip(names, pairs, strict=True) if pair}


ONLINE = "Omniglot 1-shot; Omniglot 5-shot; Omniglot 8-shot; CIFAR-FS 1-shot; CIFAR-FS 5-shot; CIFAR-FS 8-shot"
SHOTS, LATE = "1-shot; 5-shot; 8-shot", "6-shot; 7-shot; 8-shot"
MASKS = "Segmentation 1-shot; Segmentation 6-shot; Masking 1-shot; Masking 6-shot"
CIFAR = "Params (M); C10; C100"
COST = "GFLOP forward pass; GFLOP adapted step"
FIVE, TWENTY = "5-way 1-shot; 5-way 5-shot", "20-way 1-shot; 20-way 5-shot"

PRINTED: dict[str, Cells] = {
    f"{A} table 1": {
        **row("LSTM", ONLINE, (85.3, 0.2), (94.4, 0.1), (95.8, 0.6), None, None, None),
        **row("NTM", ONLINE, (88.7, 0.5), (96.8, 0.1), (97.3, 0.1), None, None, None),
        **row("APL", ONLINE, (89.1, 0.0), (94.9, 0.0), (95.7, 0.1), (37.6, 0.6), (45.8, 0.4), (46.9, 0.7)),
        **row("OPN", ONLINE, (91.2, 1.1), (94.6, 1.1), (95.8, 0.5), (49.9, 0.2), (54.9, 0.4), (56.8, 0.1)),
        **row("CPM", ONLINE, (94.5, 0.1), (97.0, 0.1), (97.4, 0.4), (50.2, 0.2), (55.8, 0.4), (57.8, 0.4)),
        **row("CL+LSTM", ONLINE, (96.8, 0.5), (99.4, 0.2), (99.7, 0.2), (47.6, 1.0), (56.7, 1.6), (61.0, 1.3)),
    },
    f"{A} table 2": {
        **row("CNN-F + LSTM / MAML, frozen / LSTM", SHOTS, (89.1, 0.2), (96.4, 0.0), (97.0, 0.2)),
        **row("CNN + LSTM / MAML / LSTM", SHOTS, (93.9, 0.1), (97.9, 0.2), (98.2, 0.4)),
        **row("CL+LSTM / none / LSTM", SHOTS, (94.7, 0.6), (97.3, 0.7), (97.9, 0.6)),
        **row("CL+LSTM / none / CL-1, LSTM", SHOTS, (96.8, 0.5), (99.4, 0.2), (99.7, 0.2)),
    },
    f"{A} table 3": {
        **row("2 / none", LATE, (56.8, 0.1), (58.4, 0.2), (60.0, 0.0)),
        **row("4 / none", LATE, (52.2, 0.4), (53.1, 0.3), (54.1, 0.4)),
        **row("4 / at delay 1", LATE, (56.1, 0.6), (57.6, 0.3), (59.0, 0.1)),
        **row("5 / none", LATE, (51.1, 0.8), (51.7, 0.7), (52.7, 0.3)),
        **row("5 / at delay 1", LATE, (55.2, 0.3), (56.4, 0.0), (57.4, 0.4)),
    },
    f"{A} table 4": {
        **row("Fine-tuned CNN / none", MASKS, 65.3, 64.0, 23.1, 23.6),
        **row("CL U-Net / 9th layer", MASKS, 38.7, 45.7, 73.8, 77.8),
        **row("CL U-Net / 1st layer", MASKS, 49.2, 56.0, 84.6, 91.7),
    },
    f"{A} table 5": {
        **row("VGG-11", CIFAR, 9.2, 91.5, 66.9),
        **row("CL-VGG-11 (0.5x)", CIFAR, 20.0, 91.5, 67.3),
        **row("CL-VGG-11 (0.35x)", CIFAR, 9.5, 90.7, 64.3),
        **row("ResNet-20", CIFAR, 0.3, 91.9, 68.1),
        **row("CL-ResNet-20 (0.5x)", CIFAR, 0.6, 90.9, 63.2),
        **row("CL-ResNet-20 (0.35x)", CIFAR, 0.3, 89.5, 58.8),
    },
    f"{A} figure 3": {},
    f"{A} figure 4": {
        **row("ANML", "Subtask 20; Mean of 1 to 19", 56.0, 91.78),
        **row("CL+LSTM", "Subtask 20; Mean of 1 to 19", None, 93.15),
    },
    f"{A} cost": {
        **row("OML", COST, 1.46, 4.38),
        **row("CL+LSTM", COST, 0.40, 0.40),
        **row("4-layer CNN", COST, 0.30, 0.9),
    },
    f"{B} table 1": {
        **row("Matching network (Vinyals et al. 2016)", FIVE, (43.56, 0.84), (55.31, 0.73)),
        **row("Meta-learner LSTM (Ravi & Larochelle 2017)", FIVE, (43.44, 0.77), (60.60, 0.71)),
        **row("MAML (Finn et al. 2017)", FIVE, (48.70, 1.84), (63.11, 0.92)),
        **row("LLAMA (Grant et al. 2018)", FIVE, (49.40, 1.83), None),
        **row("Reptile (Nichol et al. 2018)", FIVE, (49.97, 0.32), (65.99, 0.58)),
        **row("PLATIPUS (Finn et al. 2018)", FIVE, (50.13, 1.86), None),
        **row("SNAIL (Mishra et al. 2017)", FIVE, (55.71, 0.99), (68.88, 0.92)),
        **row("Gidaris & Komodakis 2018", FIVE, (56.20, 0.86), (73.00, 0.64)),
        **row("Bauer et al. 2018", FIVE, (56.30, 0.40), (73.90, 0.30)),
        **row("Munkhdalai et al. 2017", FIVE, (57.10, 0.70), (70.04, 0.63)),
        **row("Zhou et al. 2018", FIVE, (58.49, 0.91), (71.28, 0.69)),
        **row("Qiao et al. 2017", FIVE, (59.60, 0.41), (73.74, 0.19)),
        **row("NORML", FIVE, (60.2, 0.91), (74.1, 0.71)),
    },
    f"{B} table 2": {
        **row("MAML (constant lr)", TWENTY, 86.3, 95.7),
        **row("MAML (global lr)", TWENTY, 86.5, 95.7),
        **row("MAML (layer-wise lr)", TWENTY, 87.1, 96.0),
        **row("NORML (zero hidden & zero cell)", TWENTY, 86.3, 95.7),
        **row("NORML (zero cell)", TWENTY, 86.3, 95.7),
        **row("NORML (zero hidden)", TWENTY, 87.9, 96.5),
        **row("NORML", TWENTY, 90.3, 97.2),
    },
}


def labels_of(filled: Filled) -> list[str]:
    return [" / ".join(row.labels) for row in filled.printed.table.rows]


def measured_of(name: str, boards: Path) -> dict[tuple[str, str], float]:
    """The measured numbers of a table, by row and column."""
    return values_of(fill(find_table(name), boards))


def values_of(filled: Filled) -> dict[tuple[str, str], float]:
    columns = filled.printed.table.columns
    return {
        (label, column.name): round(cell.measured.value, 6)
        for label, cells in zip(labels_of(filled), filled.cells, strict=True)
        for cell, column in zip(cells, columns, strict=True)
        if cell.measured
    }


def put(boards: Path, name: str, value: float, **changes: Any) -> None:
    """A row of a method, by default from elsewhere."""
    changes.setdefault("target", f"elsewhere:{changes['method']}")
    append_record(shipped_record(name, value, **changes), boards, print)


def cl_lstm(boards: Path, name: str, value: float, **changes: Any) -> None:
    """A row of cl_lstm with the options of its own, and others on top."""
    options = {**default_options("methods.cl_lstm:CLLSTM"), **changes.pop("options", {})}
    changes = {"method": "cl_lstm", "target": "methods.cl_lstm:CLLSTM", "options": options, **changes}
    put(boards, name, value, **changes)


# Published numbers


def test_the_tables_are_those_of_the_papers() -> None:
    assert sorted(each.name for each in all_tables()) == sorted(PRINTED)


@pytest.mark.parametrize("name", PRINTED)
def test_every_printed_number_stands_in_its_cell_and_in_no_other(name: str, tmp_path: Path) -> None:
    filled = fill(find_table(name), tmp_path)
    found = {
        (label, column.name): (cell.published.value, cell.published.spread)
        for label, cells in zip(labels_of(filled), filled.cells, strict=True)
        for cell, column in zip(cells, filled.printed.table.columns, strict=True)
        if cell.published
    }
    assert found == PRINTED[name]
    from_boards = [] if filled.printed.table.computed else [cell for cells in filled.cells for cell in cells]
    assert not [cell for cell in from_boards if cell.measured]


def test_every_published_row_of_the_protocols_has_a_place_in_a_table() -> None:
    listed = [
        (name, each.method, each.variant, each.source)
        for name in protocol_files()
        for each in load_protocol(protocol_files()[name]).protocol.published
    ]
    placed = [
        (name, row.method, row.variant, each.table.source)
        for each in all_tables()
        for row in each.table.rows
        for name in dict.fromkeys(row.protocol or column.protocol for column in each.table.columns)
    ]
    assert len(listed) > 60
    assert sorted(set(listed) - set(placed)) == []
    assert len(set(listed)) == len(listed)


@pytest.mark.slow
@pytest.mark.parametrize("name", PRINTED)
def test_the_text_has_the_printed_numbers_in_the_rows_and_columns_of_the_table(name: str, tmp_path: Path) -> None:
    filled = fill(find_table(name), tmp_path)
    table = filled.printed.table
    lines = as_text(filled, 1000).splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("---")) + 1
    body = [re.sub(r" +\|", " |", re.sub(r" \[[\d, ]+\]", "", line)) for line in lines[start : lines.index("", start)]]
    rows = [re.split(r" {2,}", line) for line in body]
    heads = 1 if table.turned else len(table.head)
    cells = [[cell.split(" | ") for cell in each[heads:]] for each in rows]
    assert all(len(cell) == 2 and (table.computed or cell[0] == "–") for each in cells for cell in each)
    grid = [*zip(*cells, strict=True)] if table.turned else cells
    assert [" / ".join(each[:heads]) for each in rows] == (
        [column.name for column in table.columns] if table.turned else labels_of(filled)
    )

    def printed(label: str, column: str) -> str:
        value, spread = PRINTED[name].get((label, column), (None, None))
        return "–" if value is None else str(value) + (f" {'±' if B in name else ''}" if spread is not None else "")

    for label, each in zip(labels_of(filled), grid, strict=True):
        for (_, text), column in zip(each, table.columns, strict=True):
            assert text.startswith(printed(label, column.name)), (label, column.name)
            spread = PRINTED[name].get((label, column.name), (None, None))[1]
            assert ("±" in text or "(" in text) == (spread is not None)
            assert spread is None or re.search(rf"(± {spread}|\({spread}\))$", text)


def test_what_all_published_rows_note_is_said_once_and_the_rest_in_numbered_notes(tmp_path: Path) -> None:
    text = as_text(fill(find_table("norml 1"), tmp_path), 1000)
    assert text.count("± as printed") == 1
    for said in ("transductive", "Conv128", "56.88", "validation classes", "further ImageNet data", "ResNet-34"):
        assert re.search(rf"^\[\d+\] published: .*{said}", text, re.MULTILINE), said
    # A number without a note of its own, as of a size, does not keep the others from sharing theirs.
    assert "\nPublished rows: mean of 3 runs.\n" in as_text(fill(find_table("babu 5"), tmp_path), 1000)
    # A note on one of a row's two numbers stands at that number.
    (line,) = [line for line in text.splitlines() if line.startswith("Meta-learner LSTM")]
    number = re.search(r"60\.6 ± 0\.71 \[(\d+)\]$", line)
    assert number
    assert f"[{number[1]}] published: public ports reach" in text
    assert "[" not in line[: line.index("60.6")]


# Measured numbers


def test_measured_numbers_stand_beside_the_published_with_interval_and_seeds(tmp_path: Path) -> None:
    cl_lstm(tmp_path, "omniglot_5way_online", 80.0)
    cl_lstm(tmp_path, "omniglot_5way_online", 90.0, seed=1, run="second")
    assert measured_of("babu 1", tmp_path) == {
        ("CL+LSTM", "Omniglot 1-shot"): 84.0,
        ("CL+LSTM", "Omniglot 5-shot"): 83.0,
        ("CL+LSTM", "Omniglot 8-shot"): 82.0,
    }
    text = as_text(fill(find_table("babu 1"), tmp_path), 1000)
    (line,) = [line for line in text.splitlines() if line.startswith("CL+LSTM")]
    assert re.search(r"84\.0 \+16\.0 -\d+\.\d \(2 seeds\) \[\d+\] \| 96\.8 \(0\.5\)", line)
    assert re.search(r"^ +measured +\| published( +measured +\| published){5}$", text, re.MULTILINE)
    block = text.split("\n\n")[1].splitlines()
    assert len({tuple(match.start() for match in re.finditer(r"\|", line)) for line in block if "|" in line}) == 1
    cells = as_json(fill(find_table("babu 1"), tmp_path))["rows"][-1]["cells"]
    assert cells[0]["measured"]["spread"] == pytest.approx(50**0.5)
    assert cells[0]["measured"]["seeds"] == [0, 1]
    assert cells[0]["published"]["value"] == 96.8
    assert cells[3]["measured"] is None


def test_a_published_number_is_reached_by_the_end_of_the_interval(tmp_path: Path) -> None:
    """96.8 at one shot, 99.4 at five, 99.7 at eight are printed; each metric is a point below the one before it."""
    for seed in (0, 1):
        cl_lstm(tmp_path, "omniglot_5way_online", 98.0, seed=seed, run=f"run{seed}")
    filled = fill(find_table("babu 1"), tmp_path)
    counts = reached(filled)
    own = filled.cells[-1][:3]
    assert [standing(cell) for cell in own] == ["reached", "below", "below"]
    assert (counts.reached, counts.repeated, counts.below, counts.far) == (1, 0, 2, 0)
    assert counts.published == sum(cell.published is not None for row in filled.cells for cell in row)
    said = "1 of 30 reached (none of them by 3 seeds or more), 2 measured below (none of them by more than 5 points), "
    assert said + "27 not measured" in as_text(filled, 300)
    cl_lstm(tmp_path, "omniglot_5way_online", 98.0, seed=2, run="run2")
    assert "1 of 30 reached (1 of them by 3 seeds or more)" in str(reached(fill(find_table("babu 1"), tmp_path)))
    summary = Summary(98.0, (96.0, 99.5), (98.0,))
    narrow = dataclasses.replace(own[1].measured, value=98.0, summary=summary)  # type: ignore[type-var]
    assert standing(dataclasses.replace(own[1], measured=narrow)) == "reached"


def test_a_number_is_far_below_where_all_of_its_interval_is_more_than_five_points_below(tmp_path: Path) -> None:
    for seed, ours in enumerate((92.0, 93.0)):  # of which 99.4 and 99.7 are printed at five and eight shots
        cl_lstm(tmp_path, "omniglot_5way_online", ours, seed=seed, run=f"run{seed}")
    cell = fill(find_table("babu 1"), tmp_path).cells[-1][1]
    filled = fill(find_table("babu 1"), tmp_path)
    counts = {}
    for end in (94.3, 94.5, 99.5):
        summary = Summary(92.0, (90.0, end), (92.0,))
        given = dataclasses.replace(cell, measured=dataclasses.replace(cell.measured, summary=summary))  # type: ignore
        blank = [[dataclasses.replace(each, measured=None) for each in line] for line in filled.cells]
        blank[-1][1] = given
        found = reached(dataclasses.replace(filled, cells=tuple(map(tuple, blank))))
        counts[end] = found.reached, found.below, found.far
    assert counts == {94.3: (0, 1, 1), 94.5: (0, 1, 0), 99.5: (1, 0, 0)}


def test_seeds_that_begin_from_the_same_weights_repeat_no_number(tmp_path: Path) -> None:
    starts = {"init": "a" * 64, "init_episodes": 100}
    for seed in range(3):
        cl_lstm(tmp_path, "omniglot_5way_online", 98.0, seed=seed, run=f"run{seed}", **starts)
    filled = fill(find_table("babu 1"), tmp_path)
    assert (reached(filled).reached, reached(filled).repeated) == (1, 0)
    text = as_text(filled, 1000)
    assert "(3 seeds)" in text
    assert "run0, run1, run2; all of them from the same weights" in text


def test_the_best_entry_that_is_the_row_s_system_is_taken(tmp_path: Path) -> None:
    cl_lstm(tmp_path, "omniglot_5way_online", 70.0, options={"channels": 16})
    cl_lstm(tmp_path, "omniglot_5way_online", 75.0, options={"channels": 32})
    cl_lstm(tmp_path, "omniglot_5way_online", 90.0, options={"labels": "lstm"})
    cl_lstm(tmp_path, "omniglot_5way_online", 60.0, options={"labels": "all"})
    put(tmp_path, "omniglot_5way_online", 99.0, method="mine")
    assert measured_of("babu 1", tmp_path)[("CL+LSTM", "Omniglot 1-shot")] == 74.0
    assert {key[0]: value for key, value in measured_of("babu 2", tmp_path).items() if key[1] == "1-shot"} == {
        "CL+LSTM / none / LSTM": 89.0,
        "CL+LSTM / none / CL-1, LSTM": 74.0,
        "CL+LSTM / none / every layer": 59.0,
    }


def test_an_option_that_a_record_leaves_out_is_the_method_s_default(tmp_path: Path) -> None:
    put(tmp_path, "omniglot_5way_online", 80.0, method="cl_lstm", target="methods.cl_lstm:CLLSTM", options={})
    put(tmp_path, "omniglot_5way_online", 90.0, method="cl_lstm", target="elsewhere:CLLSTM", options={})
    assert measured_of("babu 1", tmp_path)[("CL+LSTM", "Omniglot 1-shot")] == 79.0


def test_a_pretrained_row_takes_runs_that_began_from_weights_and_the_other_row_takes_none(tmp_path: Path) -> None:
    cl_lstm(tmp_path, "cifarfs_delay5", 40.0)
    cl_lstm(tmp_path, "cifarfs_delay5", 50.0, init="e" * 64, init_episodes=500)
    found = measured_of("babu 3", tmp_path)
    assert found[("5 / none", "6-shot")] == 39.0
    assert found[("5 / at delay 1", "6-shot")] == 49.0
    assert len(found) == 6


def test_a_run_that_goes_on_from_a_row_of_its_board_has_begun_as_that_one(tmp_path: Path) -> None:
    """From fresh weights through two rows; from weights of elsewhere; from another method's; in a circle."""
    board, rows = "cifarfs_delay5", ((40, "a", None), (45, "b", "a"), (50, "c", "b"), (60, "d", "e"), (65, "f", "d"))
    for value, own, start in rows:
        init = {"init": start * 64, "init_episodes": value} if start else {}
        cl_lstm(tmp_path, board, value, run=f"run {own}", checkpoint=own * 64, **init)
    found = measured_of("babu 3", tmp_path)
    assert found[("5 / none", "6-shot")] == 49.0
    assert found[("5 / at delay 1", "6-shot")] == 64.0
    put(tmp_path, board, 30.0, method="lstm", run="lstm", checkpoint="1" * 64)
    cl_lstm(tmp_path, board, 70.0, run="of lstm", checkpoint="2" * 64, init="1" * 64, init_episodes=1)
    cl_lstm(tmp_path, board, 75.0, run="circle", checkpoint="3" * 64, init="4" * 64, init_episodes=3)
    cl_lstm(tmp_path, board, 74.0, run="circle too", checkpoint="4" * 64, init="3" * 64, init_episodes=2)
    found = measured_of("babu 3", tmp_path)
    assert found[("5 / none", "6-shot")] == 49.0
    assert found[("5 / at delay 1", "6-shot")] == 74.0


@pytest.mark.parametrize(
    "change",
    [
        {"digest": "e" * 64},
        {"test_episodes": 100},
        {"marks": ["failed check: no anticipation"]},
        {"stand_in": True},
    ],
)
def test_a_row_that_stands_apart_or_is_of_stand_in_data_fills_no_cell(change: dict[str, Any], tmp_path: Path) -> None:
    cl_lstm(tmp_path, "omniglot_5way_online", 99.0, **change)
    assert measured_of("babu 1", tmp_path) == {}
    cl_lstm(tmp_path, "omniglot_5way_online", 60.0)
    assert measured_of("babu 1", tmp_path)[("CL+LSTM", "Omniglot 1-shot")] == 59.0


def test_a_note_says_with_which_options_budget_and_marks_a_number_was_measured(tmp_path: Path) -> None:
    cl_lstm(tmp_path, "omniglot_5way_online", 80.0, options={"channels": 16, "resolution": 14}, marks=["odd"])
    text = as_text(fill(find_table("babu 1"), tmp_path), 1000)
    (note,) = [line for line in text.splitlines() if re.match(r"\[\d+\] measured", line)]
    assert "cl_lstm on omniglot_5way_online: options channels=16, resolution=14; budget quick" in note
    assert "training episodes 20,000; marks: odd; run opn-quick-s0" in note
    number = note[: note.index("]") + 1]
    (line,) = [line for line in text.splitlines() if line.startswith("CL+LSTM")]
    assert line.count(number) == 3


def test_single_subtasks_come_from_the_curve_and_the_means_from_the_metrics(tmp_path: Path) -> None:
    put(tmp_path, "omniglot_continual20", 80.0, method="anml", options={})
    found = measured_of("babu figure 4", tmp_path)
    assert {key[0] for key in found} == {"ANML"}
    assert [found[("ANML", f"Subtask {n}")] for n in range(1, 20)] == [91.0 - n for n in range(1, 20)]
    assert found[("ANML", "Mean of 1 to 19")] == 79.0
    assert found[("ANML", "Subtask 20")] == 78.0
    lines = as_text(fill(find_table("babu figure 4"), tmp_path), 1000).splitlines()
    (line,) = [line for line in lines if line.startswith("Subtask 20")]
    assert re.search(r"78\.0 ± 0\.5 \[\d+\] \| 56\.0$", line)


def test_a_record_without_the_curve_leaves_its_cells_empty(tmp_path: Path) -> None:
    put(tmp_path, "omniglot_continual20", 80.0, method="anml", options={}, curves={"by_subtask": [50.0, 40.0]})
    found = measured_of("babu figure 4", tmp_path)
    assert sorted(found.values()) == [40.0, 50.0, 78.0, 79.0]


def test_figure_3_has_the_accuracy_of_each_length_of_task(tmp_path: Path) -> None:
    for n in (5, 10, 15, 20):
        put(tmp_path, f"omniglot_continual{n}", 60.0 + n, method="oml", options={})
    assert measured_of("figure 3", tmp_path) == {("OML", f"Subtasks {n}"): 60.0 + n for n in (5, 10, 15, 20)}


def test_parameters_come_from_the_records(tmp_path: Path) -> None:
    cost = shipped_record("cifar10_supervised").cost.model_copy(update={"parameters": 9_231_114})
    put(tmp_path, "cifar10_supervised", 80.0, method="vgg11", options={}, cost=cost)
    assert measured_of("babu 5", tmp_path) == {("VGG-11", "Params (M)"): 9.231114, ("VGG-11", "C10"): 80.0}
    assert re.search(r"VGG-11 +9\.23 \[\d+\] \| 9\.2", as_text(fill(find_table("babu 5"), tmp_path), 1000))


def test_the_cost_paragraph_is_computed_at_once_and_comes_to_what_is_printed(tmp_path: Path) -> None:
    """Forward passes of 1.46, 0.40 and 0.30 GFLOP; what adapts through the whole net pays three more."""
    filled = fill(find_table("cost"), tmp_path)
    found = values_of(filled)
    for label, printed in (("OML", 1.46), ("CL+LSTM", 0.40), ("4-layer CNN", 0.30)):
        assert found[(label, "GFLOP forward pass")] == pytest.approx(printed, abs=0.01)
    assert found[("CL+LSTM", "GFLOP adapted step")] == pytest.approx(found[("CL+LSTM", "GFLOP forward pass")], rel=1e-6)
    ratio = found[("4-layer CNN", "GFLOP adapted step")] / found[("4-layer CNN", "GFLOP forward pass")]
    assert ratio == pytest.approx(4, rel=0.05)
    # No gradient passes OML's convolutions, and its features are kept: the linear layers alone are paid again.
    assert 1.46 < found[("OML", "GFLOP adapted step")] < 1.5
    # To the digit: how it is counted may change, what is counted may not.
    assert [found[(label, "GFLOP adapted step")] for label in ("OML", "CL+LSTM", "4-layer CNN", "ANML")] == [
        *(1.471818, 0.407073, 1.209371, 0.693575),
    ]
    assert "computed, cl_lstm on omniglot_continual5: default options; 2,055,429 parameters" in as_text(filled, 1000)


def test_options_that_are_numbers_tell_rows_apart(tmp_path: Path) -> None:
    for width, value in ((0.5, 70.0), (0.35, 60.0), (1.0, 90.0)):
        put(tmp_path, "cifar100_supervised", value, method="cl_vgg11", options={"width": width})
    assert measured_of("babu 5", tmp_path) == {
        ("CL-VGG-11 (0.5x)", "C100"): 70.0,
        ("CL-VGG-11 (0.35x)", "C100"): 60.0,
    }


@pytest.mark.parametrize("name", PRINTED)
def test_every_cell_can_be_filled(name: str, tmp_path: Path) -> None:
    printed = find_table(name)
    for number, each in enumerate(printed.table.rows):
        for protocol in sorted({each.protocol or column.protocol for column in printed.table.columns}):
            init = {"init": "e" * 64, "init_episodes": 1} if each.init else {}
            cost = shipped_record(protocol).cost.model_copy(update={"gflop_per_query": 1.0})
            fields = {"method": each.method, "target": "elsewhere:It", "options": {**each.options, "row": number}}
            put(tmp_path, protocol, 50.0, cost=cost, **fields, **init)
    filled = fill(printed, tmp_path)
    assert all(cell.measured for cells in filled.cells for cell in cells)
    assert " –" not in as_text(filled, 1000).split("\nMeasured:")[0].replace("| –", "")
    json.dumps(as_json(filled), allow_nan=False)


# The command


@pytest.mark.slow
def test_the_command_lists_prints_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["table"]) == 0
    lines = [line.split("  ")[0] for line in capsys.readouterr().out.splitlines()]
    assert [name for name in lines if name in PRINTED] == list(PRINTED)
    assert cli.main(["table", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [each["table"] for each in listed] == list(PRINTED)
    assert [each["reached"] is None for each in listed] == ["cost" in name for name in PRINTED]
    boards = tmp_path / "boards"
    boards.mkdir()
    for words in (["layer-distributed memory 1"], ["layer-distributed", "memory", "1"]):
        assert cli.main(["table", *words, "--boards", str(boards)]) == 0
        assert capsys.readouterr().out.startswith(f"{A} table 1: Omniglot and CIFAR-FS, 5-way online\nBabu, ")
    assert cli.main(["table", "norml 2", "--boards", str(boards), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["rows"][6]["cells"][0]["published"] == {
        "value": 90.3,
        "spread": None,
        "note": "no interval printed; fully-connected learner",
    }
    assert not [*boards.iterdir()]
    assert cli.main(["table", "norml 3"]) == 2
    assert "unknown table 'norml 3'" in capsys.readouterr().err


def test_a_table_that_is_wider_than_the_terminal_is_cut_between_its_groups(tmp_path: Path) -> None:
    filled = fill(find_table("babu 1"), tmp_path)
    whole, cut = as_text(filled, 1000), as_text(filled, 120)
    assert max(map(len, whole.split("\n\n")[1].splitlines())) > 120
    blocks = [block for block in cut.split("\n\n") if block.startswith("Model")]
    assert len(blocks) == 2
    assert max(len(line) for block in blocks for line in block.splitlines()) <= 120
    assert "Omniglot" in blocks[0]
    assert "CIFAR-FS" not in blocks[0]
    assert [line.split()[0] for line in blocks[1].splitlines()[4:]] == ["LSTM", "NTM", "APL", "OPN", "CPM", "CL+LSTM"]
    numbers = re.findall(r"\d+\.\d \(\d\.\d\)", whole)
    assert sorted(numbers) == sorted(re.findall(r"\d+\.\d \(\d\.\d\)", cut))
