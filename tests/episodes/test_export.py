"""Exported episodes are the episodes that are scored, in both formats, written as a whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from harness import cli
from harness.data.cards import CARDS
from harness.data.dataset import ClassTable, Dataset
from harness.episodes import export
from harness.episodes.export import COLUMNS, export_episodes
from harness.episodes.plan import plan_episodes
from harness.protocol.models import PROTOCOL, AnyProtocol
from harness.testing import reference_tally, reference_timeline
from harness.util.atomic_files import replacing
from harness.util.errors import RunError, UserError
from tests.helpers.plans import of_kind


def table(classes: int, first: int) -> ClassTable:
    return ClassTable(
        names=tuple(f"class {first + i}" for i in range(classes)),
        offsets=np.arange(classes + 1, dtype=np.int64) * 12,
        members=(first * 12 + np.arange(classes * 12)[::-1]).astype(np.int32),
        rotations=(np.arange(classes) % 4).astype(np.int8),
    )


DATA = Dataset(
    card=CARDS["glyphs"],
    images=np.zeros((360, 1, 2, 2), np.uint8),
    image_ids=tuple(f"image {i}" for i in range(360)),
    tables={"train": table(10, 0), "validation": table(10, 10), "test": table(10, 20)},
    fingerprint="f" * 64,
    source="made here",
)
PROTOCOL_3: AnyProtocol = PROTOCOL.validate_python(
    {
        "kind": "delayed_label",
        "title": "t",
        "dataset": "glyphs",
        "episode": {"ways": 4, "presentations": 5, "label_delay": 3},
        "scoring": {"shots": [1], "test_episodes": 7},
    }
)


def rows_of(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
@pytest.mark.parametrize("split", ["test", "train"])
def test_each_row_is_a_step_of_the_plan(
    tmp_path: Path, suffix: str, split: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "CHUNK", 3)
    out = tmp_path / f"e{suffix}"
    assert export_episodes(PROTOCOL_3, DATA, split, 5, 7, out) == 140
    rows = rows_of(out)
    assert len(rows) == 140
    plan, classes = plan_episodes(PROTOCOL_3, DATA.tables[split], split, 5, range(7)), DATA.tables[split]
    for i, row in enumerate(rows):
        b, t = divmod(i, 20)
        target = int(plan.target[b, t])
        shown = int(plan.classes[b, target])
        assert row == {
            "digest": PROTOCOL_3.digest[:16],
            "fingerprint": "f" * 16,
            "split": split,
            "seed": 5,
            "episode": b,
            "step": t,
            "phase": "stream",
            "class_name": classes.names[shown],
            "image_id": f"image {plan.image[b, t]}",
            "turns": shown % 4,
            "target": target,
            "feedback": None if t < 3 else int(plan.target[b, t - 3]),
            "reveals": None if t < 3 else t - 3,
            "scored": True,
            "shot": int((plan.target[b, :t] == target).sum()),
            "revealed": int((plan.target[b, : max(t - 2, 0)] == target).sum()),
        }
        assert list(row) == [each for each in COLUMNS if each not in ("image", "mask")]


@pytest.mark.parametrize(
    ("kind", "episode"),
    [
        ("continual", {"subtasks": 3, "shots": 2, "queries": 2}),
        ("n_way_k_shot", {"ways": 3, "shots": 2, "queries": 2}),
        ("segmentation_distractors", {"presentations": 4}),
        ("supervised", {}),
    ],
)
def test_rows_of_other_kinds_can_be_replayed_by_the_reference(
    tmp_path: Path, kind: str, episode: dict[str, Any]
) -> None:
    protocol, out = of_kind(kind, **episode), tmp_path / "e.parquet"
    export_episodes(protocol, DATA, "test", 0, 5, out)
    steps: dict[int, list[dict[str, Any]]] = {}
    for row in rows_of(out):
        steps.setdefault(row["episode"], []).append(row)
    assert list(steps) == list(range(5))
    for rows in steps.values():
        targets = [row["target"] for row in rows]
        events: list[Any] = []
        for t, row in enumerate(rows):
            assert row["step"] == t
            source = row["reveals"]
            assert row["feedback"] == (None if source is None else targets[source])
            first_query = row["phase"] == "query" and rows[t - 1]["phase"] != "query"
            if row["phase"] == "support":
                assert source == t
                events.append(("pair", t, row["feedback"]))
                continue
            if source is not None and (row["phase"] == "stream" or first_query):
                events.append(("reveal", source, row["feedback"]))
            if first_query:
                events.append(("adapt",))
            events.append(("show" if row["phase"] == "stream" else "ask", t))
        assert events == list(reference_timeline(protocol, targets))
        assert [(row["shot"], row["revealed"]) for row in rows] == reference_tally(protocol, targets)
        queried = any(row["phase"] == "query" for row in rows)
        assert all(row["scored"] == (row["phase"] == "query" or not queried) for row in rows)


def test_a_supervised_split_is_exported_whole(tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "e.parquet"
    words = ["export", "cifar10_supervised", "--data", "stand-in", "--cache", str(cache), "--out", str(out)]
    assert cli.main(words) == 0
    card = CARDS["objects_supervised"]
    images = card.classes["test"] * card.images_per_class["test"]
    assert capsys.readouterr().out.startswith(f"wrote {images} episodes ({images} steps) of the test split")
    assert len({row["image_id"] for row in rows_of(out)}) == images
    assert cli.main([*words, "--overwrite", "--split", "validation"]) == 2
    assert "has no validation split" in capsys.readouterr().err


def test_both_formats_hold_the_same_and_parquet_names_protocol_and_data_in_full(tmp_path: Path) -> None:
    files = [tmp_path / "a.jsonl", tmp_path / "a.parquet"]
    for out in files:
        export_episodes(PROTOCOL_3, DATA, "test", 0, 7, out)
    assert rows_of(files[0]) == rows_of(files[1])
    metadata = pq.read_schema(files[1]).metadata
    assert metadata[b"protocol_digest"].decode() == PROTOCOL_3.digest
    assert metadata[b"data_fingerprint"].decode() == DATA.fingerprint
    assert metadata[b"data"] == b"glyphs"


def test_more_episodes_do_not_change_the_first(tmp_path: Path) -> None:
    few, many = tmp_path / "few.jsonl", tmp_path / "many.jsonl"
    export_episodes(PROTOCOL_3, DATA, "test", 0, 2, few)
    export_episodes(PROTOCOL_3, DATA, "test", 0, 600, many)
    assert many.read_text().startswith(few.read_text())


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_a_failure_leaves_the_old_file_and_nothing_beside_it(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / f"e{suffix}"
    out.write_text("old")
    monkeypatch.setattr(export, "CHUNK", 2)
    calls: list[int] = []

    def full_disk(*args: Any) -> Any:
        calls.append(1)
        if len(calls) > 2:
            raise OSError(28, "No space left on device")
        return plan_episodes(*args)

    monkeypatch.setattr(export, "plan_episodes", full_disk)
    with pytest.raises(RunError, match="No space left on device"):
        export_episodes(PROTOCOL_3, DATA, "test", 0, 7, out)
    assert out.read_text() == "old"
    assert list(tmp_path.iterdir()) == [out]


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    for out, said in (
        (tmp_path / "e.csv", "must end in .jsonl or .parquet"),
        (tmp_path / "no" / "e.jsonl", "there is no folder"),
        (tmp_path / "d.jsonl", "is a directory"),
    ):
        (tmp_path / "d.jsonl").mkdir(exist_ok=True)
        with pytest.raises(UserError, match=said):
            export_episodes(PROTOCOL_3, DATA, "test", 0, 1, out)


def test_an_interrupted_write_leaves_nothing(tmp_path: Path) -> None:
    def interrupted() -> None:
        with replacing(tmp_path / "a") as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_the_command_writes_the_episodes_that_are_scored(
    tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "e.parquet"
    words = ["export", "omniglot_5way_online", "--data", "stand-in", "--cache", str(cache), "--out", str(out)]
    assert cli.main([*words, "--episodes", "3"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"wrote 3 episodes (150 steps) of the test split to {out}\n")
    rows = rows_of(out)
    assert len(rows) == 150
    assert rows[0]["digest"] in said
    assert rows[0]["fingerprint"] in said
    assert cli.main([*words, "--episodes", "0"]) == 2


def test_missing_data_is_an_error_that_says_how_to_get_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["export", "cifarfs_delay5", "--data-root", str(tmp_path / "no"), "--out", str(tmp_path / "e.jsonl")]
    assert cli.main(words) == 2
    assert "is not a folder (--data-root DIR" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_real_episodes_are_exported(tmp_path: Path, data_root: Path, cache: Path) -> None:
    out = tmp_path / "e.jsonl"
    words = ["export", "omniglot_5way_online", "--data-root", str(data_root), "--cache", str(cache)]
    assert cli.main([*words, "--episodes", "2", "--out", str(out)]) == 0
    rows = rows_of(out)
    assert len(rows) == 100
    assert all(row["class_name"].endswith(f"rot{90 * row['turns']:03d}") for row in rows)
    assert all(row["class_name"].rsplit("/", 1)[0] in row["image_id"] for row in rows)
