"""Boards of every kind: what they are ranked by, their columns, and how to read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.boards import markdown
from harness.boards.columns import best_published
from harness.boards.legend import COLUMNS as COLUMN_WORDS
from harness.boards.legend import LEGEND
from harness.boards.markdown import render_index, view_all, view_board
from harness.boards.standings import standings
from harness.boards.store import append_record
from harness.protocol.load import Loaded
from harness.protocol.models import PROTOCOL, AnyProtocol
from harness.records.parts import Metric
from tests.helpers.boards import PROTOCOL_TEXT, record_of, rendered

TEXTS: dict[str, dict[str, Any]] = {
    "stream": PROTOCOL_TEXT,
    "iid": {**PROTOCOL_TEXT, "episode": {"ways": 5, "presentations": 10, "order": "iid"}},
    "continual": {
        "kind": "continual",
        "dataset": "omniglot_lake",
        "episode": {"subtasks": 5, "shots": 5, "queries": 15},
        "scoring": {"test_episodes": 1000},
    },
    "k_shot": {
        "kind": "n_way_k_shot",
        "dataset": "omniglot",
        "episode": {"ways": 5, "shots": 1, "queries": 15},
        "scoring": {"test_episodes": 1000},
    },
    "distractor": {
        "kind": "segmentation_distractors",
        "dataset": "fss1000",
        "episode": {"presentations": 9},
        "scoring": {"shots": [1, 6], "test_episodes": 1000},
    },
    "plain": {
        "kind": "segmentation_distractors",
        "dataset": "fss1000",
        "episode": {"presentations": 9, "distractor": False},
        "scoring": {"shots": [1, 6], "test_episodes": 1000},
    },
    "supervised": {"kind": "supervised", "dataset": "cifar10"},
}

COLUMNS = {
    "stream": ["accuracy@shot=1", "accuracy@shot=5", "accuracy"],
    "iid": ["accuracy@shot=1", "accuracy@shot=5", "accuracy"],
    "continual": ["query_accuracy@earlier", "query_accuracy@last", "query_accuracy"],
    "k_shot": ["query_accuracy"],
    "distractor": ["iou@shot=1", "iou@shot=6", "masking@shot=1", "masking@shot=6", "joint"],
    "plain": ["iou@shot=1", "iou@shot=6", "iou"],
    "supervised": ["accuracy"],
}

LEGENDS = {
    "stream": "",
    "iid": "`accuracy` is the mean over all\nsteps",
    "continual": "`query_accuracy@earlier` is over\nthose of all subtasks but the last",
    "k_shot": "cannot be compared with `accuracy@shot=k`",
    "distractor": "`joint` the\nmean of both over these shots",
    "plain": "`iou` the mean over\nthese shots",
    "supervised": "images of the test split",
}


def loaded(kind: str, **changes: Any) -> Loaded:
    text = {**TEXTS[kind], "title": kind, "published": [], **changes}
    return Loaded(kind, Path(f"{kind}.yaml"), PROTOCOL.validate_python(text))


def rows_of(text: str) -> list[dict[str, str]]:
    """The first table of a Markdown text."""
    lines = [line for line in text.split("\n## ")[1].splitlines() if line.startswith("|")]
    header, _, *rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    return [dict(zip(header, row, strict=True)) for row in rows]


@pytest.mark.parametrize("kind", TEXTS)
def test_a_board_has_the_columns_of_its_kind_and_says_how_to_read_them(tmp_path: Path, kind: str) -> None:
    own = loaded(kind)
    append_record(record_of(own.protocol, kind, 80.0), tmp_path)
    text = rendered(own, tmp_path)
    (row,) = rows_of(text)
    names = list(row)
    assert names[names.index("options") + 1 : names.index("seeds")] == COLUMNS[kind]
    assert row[COLUMNS[kind][-1]] == "80.0 ± 0.5"
    assert f"standard deviation of the {COLUMNS[kind][-1]} over them" in text
    assert LEGENDS[kind] in text
    others = [said for name, said in LEGENDS.items() if said and name != kind]
    assert not [said for said in others if said in text]


def test_the_legend_of_a_balanced_stream_is_the_general_one_alone(tmp_path: Path) -> None:
    own = loaded("stream")
    append_record(record_of(own.protocol, "stream"), tmp_path)
    words = " ".join([LEGEND.format(ranking="accuracy"), *COLUMN_WORDS.values()])
    assert rendered(own, tmp_path).endswith(f"{words}\n")


@pytest.mark.parametrize("kind", TEXTS)
def test_a_board_is_ranked_by_the_metric_of_its_kind(kind: str) -> None:
    protocol = loaded(kind).protocol
    by = protocol.ranking
    worse = record_of(protocol, kind, 60.0, options={"n": 1})
    better = record_of(protocol, kind, 70.0, options={"n": 2})
    # Another metric, on which the order is the other way round, has no say.
    worse = worse.model_copy(update={"metrics": {**worse.metrics, "other": Metric(mean=99, interval=0, episodes=9)}})
    lacking = {"other": Metric(mean=99.0, interval=0.1, episodes=1000)}
    apart = record_of(protocol, kind, options={"n": 3}, metrics=lacking)
    result = standings([(1, worse), (2, better), (3, apart)], protocol.digest, None, by)
    assert [entry.newest.options["n"] for _, entry in result.ranked] == [2, 1]
    ((heading, (entry,)),) = result.apart
    assert heading == f"Without '{by}'"
    assert entry.reasons == ((heading, f"no metric '{by}'"),)


@pytest.mark.parametrize("kind", TEXTS)
def test_a_board_without_its_protocol_is_ranked_by_what_its_newest_record_has(tmp_path: Path, kind: str) -> None:
    protocol = loaded(kind).protocol
    record = record_of(protocol, kind, 60.0)
    if kind == "distractor":  # Such records have the means of both scores too.
        record = record.model_copy(update={"metrics": {**record.metrics, "iou": record.metrics["iou@shot=1"]}})
    append_record(record, tmp_path)
    view = view_board(kind, None, tmp_path, stand_in=False)
    assert view.standings.ranking == protocol.ranking
    assert len(view.standings.ranked) == 1


def test_the_index_never_puts_two_metrics_into_one_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(markdown, "_shipped", lambda name: None)
    for kind in TEXTS:
        append_record(record_of(loaded(kind).protocol, kind), tmp_path)
    parts = render_index(view_all(tmp_path)).split("\n## ")[1:]
    found = {part.splitlines()[0]: [kind for kind in TEXTS if f"[{kind}]" in part] for part in parts}
    assert found == {
        "Real data, ranked by `accuracy`": ["stream", "iid", "supervised"],
        "Real data, ranked by `query_accuracy`": ["continual", "k_shot"],
        "Real data, ranked by `joint`": ["distractor"],
        "Real data, ranked by `iou`": ["plain"],
    }


def test_what_a_query_costs_is_shown_where_there_are_queries(tmp_path: Path) -> None:
    for kind in TEXTS:
        own = loaded(kind)
        record = record_of(own.protocol, kind)
        cost = record.cost.model_copy(update={"gflop_per_query": 0.125})
        append_record(record.model_copy(update={"cost": cost}), tmp_path)
        (row,) = rows_of(rendered(own, tmp_path))
        assert row.get("GFLOP/query") == ("0.125" if kind in {"continual", "k_shot"} else None)


def published(kind: str, *rows: dict[str, Any]) -> AnyProtocol:
    """A protocol with published rows of methods a, b, ..."""
    listed = [{"method": chr(97 + n), "source": "S", "metrics": metrics} for n, metrics in enumerate(rows)]
    return loaded(kind, published=listed).protocol


def test_the_best_published_is_by_the_board_s_metric_or_by_what_it_is_the_mean_of() -> None:
    scores = {"iou@shot=1": 65.0, "iou@shot=6": 64.0, "masking@shot=1": 23.0, "masking@shot=6": 24.0}
    masked = {"iou@shot=1": 49.0, "iou@shot=6": 56.0, "masking@shot=1": 84.0, "masking@shot=6": 91.0}
    assert best_published(published("distractor", scores, masked)) == "b 70.0 (S)"
    assert best_published(published("k_shot", {"query_accuracy": [60.25, 0.5]}, {"query_accuracy": 50})) == "a 60.2 (S)"
    # Neither of these makes the metric of its board.
    earlier = {"query_accuracy@earlier": 93.15, "query_accuracy@last": 56.0}
    assert best_published(published("continual", earlier)) == "a 56.0 query_accuracy@last (S)"
    shots = {"accuracy@shot=1": 50.0, "accuracy@shot=5": 60.0}
    assert best_published(published("stream", shots)) == "a 55.0 (S)"
    assert best_published(published("iid", shots)) == "a 60.0 accuracy@shot=5 (S)"


def test_published_columns_stand_in_the_order_of_the_board(tmp_path: Path) -> None:
    rows = [{"masking@shot=6": 4.0, "joint": 5.0, "iou@shot=1": 1.0, "extra": 6.0}]
    own = loaded("distractor", published=[{"method": "a", "source": "S", "metrics": rows[0]}])
    header = next(line for line in rendered(own, tmp_path).splitlines() if line.startswith("| method"))
    names = [cell.strip() for cell in header.split("|")[1:-1]]
    assert names[2:-2] == ["iou@shot=1", "masking@shot=6", "joint", "extra"]
