"""Files of test episodes: what is wrong with one is said with its row; what they say is hashed, not how."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.api.named import load_protocol as from_mapping
from harness.evaluation.kinds import register, unregister
from harness.protocol.json_schema import file_schema
from harness.protocol.load import load_protocol
from harness.protocol.models import PROTOCOL, on_dataset
from harness.training.recipe import EpisodeChange, staged
from harness.util.errors import UserError
from harness.yaml_files.document import YamlError
from tests.helpers.revisit import KIND

STREAM: dict[str, Any] = {
    "kind": "online_few_shot",
    "title": "a stream",
    "dataset": "glyphs",
    "episode": {"ways": 2, "presentations": 2},
    "scoring": {"shots": [1]},
}
KSHOT: dict[str, Any] = {
    "kind": "n_way_k_shot",
    "title": "pairs",
    "dataset": "glyphs",
    "episode": {"ways": 2, "shots": 1, "queries": 1},
    "scoring": {},
}
Row = dict[str, Any]


def stream_rows() -> list[Row]:
    """Two episodes of four steps."""
    targets = {"a": [0, 1, 1, 0], "b": [1, 0, 1, 0]}
    return [
        {
            "episode": episode,
            "step": t,
            "phase": "stream",
            "image_id": f"{episode}{t}",
            "class_name": f"{episode}-{target}",
            "target": target,
            "reveals": t - 1 if t else None,
            "feedback": numbers[t - 1] if t else None,
            "scored": True,
        }
        for episode, numbers in targets.items()
        for t, target in enumerate(numbers)
    ]


def kshot_rows() -> list[Row]:
    return [
        {"episode": 0, "step": t, "phase": "query" if t > 1 else "support", "image_id": f"{t}", "target": t % 2}
        for t in range(4)
    ]


def written(path: Path, rows: list[Row]) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def protocol_with(file: Path, frame: dict[str, Any] = STREAM) -> Any:
    return PROTOCOL.validate_python({**frame, "scoring": {**frame["scoring"], "episodes": file}})


def said_of(folder: Path, rows: list[Row], frame: dict[str, Any], suffix: str = ".jsonl") -> str:
    """What is said of a protocol file whose episodes are these rows."""
    file = written(folder / f"e{suffix}", rows)
    path = folder / "p.yaml"
    path.write_text(json.dumps({**frame, "scoring": {**frame["scoring"], "episodes": file.name}}))
    with pytest.raises(YamlError) as caught:
        load_protocol(path)
    return "\n".join(str(each) for each in caught.value.problems).replace(f"{folder}/", "")


def test_a_file_beside_the_protocol_fixes_its_test_episodes(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    written(tmp_path / "data" / "e.jsonl", stream_rows())
    path = tmp_path / "p.yaml"
    path.write_text(json.dumps({**STREAM, "scoring": {"shots": [1], "episodes": "data/e.jsonl"}}))
    protocol = load_protocol(path).protocol
    assert protocol.test_episodes == 2
    assert protocol.episode_file is not None
    assert protocol.episode_file.path == tmp_path / "data" / "e.jsonl"
    assert "over the 2 episodes of e.jsonl" in protocol.words.scoring
    (tmp_path / "child.yaml").write_text(json.dumps({"extends": "p.yaml", "title": "another title"}))
    assert load_protocol(tmp_path / "child.yaml").protocol.digest == protocol.digest


def changed(number: int, **values: Any) -> Callable[[list[Row]], None]:
    return lambda rows: rows[number].update(values)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (changed(2, target=7), "row 3, target: found 7, but class 'a-1' of this episode is number 1 (row 2)"),
        (changed(2, target=-1), "row 3, target: found -1; expected a whole number from 0"),
        (changed(2, step=1), "row 3: step 1 of episode a is in row 2 already"),
        (
            lambda rows: [changed(n, phase="query")(rows) for n in (3, 7)],
            "row 4, phase: found 'query', but step 3 of the protocol is 'stream'",
        ),
        (changed(7, phase="query"), "row 8, phase: found 'query'; step 3 of the first episode is 'stream'"),
        (changed(3, reveals=1), "row 4, reveals: found step 1, but by the label timing of the protocol step 3 follows"),
        (changed(3, feedback=0), "row 4, feedback: found 0, but what is revealed before this step is 1"),
        (changed(3, scored=False), "row 4, scored: expected true, since kind online_few_shot scores all of its steps"),
        (
            lambda rows: [row.update(feedback=None) for row in rows],
            "row 2, feedback: found null, but what is revealed before this step is 0",
        ),
        (
            lambda rows: [row.update(reveals=None) for row in rows],
            "row 2, reveals: found null, but by the label timing",
        ),
        (changed(3, scored=None), "row 4, scored: missing; expected true or false, as in other rows"),
        (changed(3, scored="yes"), 'row 4, scored: found "yes"; expected true or false'),
        (changed(3, split="train"), "row 4, split: found 'train'; test episodes are of the test split"),
        (changed(3, image_id=None), "row 4: nothing says which image is shown; expected 'image_id' or 'image'"),
        (changed(3, clas_name="x"), "row 4: unknown column 'clas_name'; did you mean 'class_name'?"),
        (changed(3, turns=4), "row 4, turns: 4; expected 0, 1, 2 or 3"),
        (changed(3, image="no.png"), "row 4, image: there is no file 'no.png'"),
        (changed(3, image={"bytes": "%"}), "row 4, image: its bytes are not base64"),
        (changed(3, step=None), "row 4, step: missing"),
        (lambda rows: rows.pop(), "episode b (from row 5) has no step 3; all episodes of a file have the same steps"),
        (lambda rows: rows.clear(), "it has no rows"),
        (lambda rows: [row.pop("phase") for row in rows], "there is no column 'phase': support, stream or query"),
    ],
)
def test_what_is_wrong_is_said_with_its_row(tmp_path: Path, change: Callable[[list[Row]], Any], said: str) -> None:
    rows = stream_rows()
    change(rows)
    found = said_of(tmp_path, rows, STREAM)
    assert found.startswith("p.yaml:1:")
    assert "scoring.episodes: " in found
    assert "e.jsonl" in found
    assert said in found


def test_parquet_counts_rows_the_same(tmp_path: Path) -> None:
    rows = stream_rows()
    rows[2]["target"] = 7
    assert "row 3, target: found 7" in said_of(tmp_path, rows, STREAM, ".parquet")


def test_columns_that_say_nothing_are_as_if_they_were_not_there(tmp_path: Path) -> None:
    rows = [{**row, "image": None, "mask": None, "turns": None} for row in stream_rows()]
    file = protocol_with(written(tmp_path / "e.parquet", rows)).episode_file
    assert not file.own_images
    assert file.digest == protocol_with(written(tmp_path / "f.jsonl", stream_rows())).episode_file.digest


def test_text_that_is_not_json_and_other_files_are_refused(tmp_path: Path) -> None:
    for name, content, said in (
        ("e.jsonl", b'{"episode": 0}\n{"episode"\n', "row 2: not JSON"),
        ("e.jsonl", b"[1]\n", "row 1: found [1]; expected an object"),
        ("e.parquet", b"not parquet", "cannot be read as a Parquet file"),
        ("e.csv", b"a,b", "its name must end in .jsonl or .parquet"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match="cannot be used") as caught:
            protocol_with(tmp_path / name)
        assert said in str(caught.value)


@pytest.mark.parametrize(
    ("frame", "rows", "said"),
    [
        (
            {**STREAM, "episode": {"ways": 2, "presentations": 3}},
            stream_rows(),
            "have 4 steps, but those of the protocol have 6",
        ),
        (
            {**STREAM, "episode": {"ways": 2, "presentations": 2, "order": "cyclic"}},
            stream_rows(),
            "since one order of the classes repeats",
        ),
        (
            {**STREAM, "kind": "continual", "episode": {"subtasks": 2, "shots": 1, "queries": 1}, "scoring": {}},
            [{**row, "phase": "stream" if row["step"] < 2 else "query"} for row in stream_rows()],
            "row 4, reveals: found step 2, but by the label timing of the protocol step 3 follows the label of step 1",
        ),
        (
            KSHOT,
            [{**row, "target": 0} for row in kshot_rows()],
            "row 1, target: 2 support steps of this episode show class number 0, but the protocol has 1 of each class",
        ),
        (KSHOT, [{**row, "target": 2} for row in kshot_rows()], "row 1, target: found 2, allowed are 0..1"),
        (
            {**KSHOT, "scoring": {"test_episodes": 5}},
            kshot_rows(),
            "scoring.test_episodes: found 5, and e.jsonl has 1 episodes",
        ),
        (
            {"kind": "supervised", "title": "t", "dataset": "objects_supervised", "episode": {}, "scoring": {}},
            kshot_rows(),
            "scoring.episodes: kind supervised takes no episodes from a file, since it scores every image",
        ),
    ],
)
def test_episodes_must_be_of_the_protocol(tmp_path: Path, frame: dict[str, Any], rows: list[Row], said: str) -> None:
    assert said in said_of(tmp_path, rows, frame)


def test_the_digest_is_of_what_is_shown_and_asked_not_of_how_it_is_written(tmp_path: Path) -> None:
    rows = stream_rows()
    digest = protocol_with(written(tmp_path / "a.jsonl", rows)).digest
    assert protocol_with(written(tmp_path / "a.parquet", rows)).digest == digest
    shuffled = rows[1:]
    random.Random(0).shuffle(shuffled)
    assert protocol_with(written(tmp_path / "b.jsonl", [rows[0], *shuffled])).digest == digest
    assert protocol_with(written(tmp_path / "c.jsonl", [{**row, "seed": 3} for row in rows])).digest == digest
    renamed = [{**row, "image_id": f"{row['image_id']}!"} for row in rows]
    assert protocol_with(written(tmp_path / "d.jsonl", renamed)).digest != digest
    swapped = [
        {**{key: row[key] for key in ("episode", "step", "phase", "image_id")}, "target": 1 - row["target"]}
        for row in rows
    ]
    assert protocol_with(written(tmp_path / "e.jsonl", swapped)).digest != digest
    assert PROTOCOL.validate_python(STREAM).digest != digest


def test_the_digest_has_the_classes_where_they_alone_say_how_images_are_turned(tmp_path: Path) -> None:
    def digest(name: str, renamed: bool = False, **more: Any) -> str:
        rows = [{**row, **more} for row in stream_rows()]
        for row in rows:
            row["class_name"] = row["class_name"].replace("a-0", "a-0 on its side") if renamed else row["class_name"]
        return protocol_with(written(tmp_path / f"{name}.jsonl", rows)).digest

    assert digest("a") != digest("b", renamed=True)
    assert digest("c", turns=0) == digest("d", renamed=True, turns=0)


def test_images_of_their_own_are_hashed_by_content(tmp_path: Path) -> None:
    rows = [{key: value for key, value in row.items() if key != "image_id"} for row in stream_rows()]
    for n, row in enumerate(rows):
        (tmp_path / f"{n}.png").write_bytes(bytes([n]))
        row["image"] = f"{n}.png"
    file = written(tmp_path / "a.jsonl", rows)
    digest = protocol_with(file).digest
    assert protocol_with(file).digest == digest
    (tmp_path / "3.png").write_bytes(b"other")
    assert protocol_with(file).digest != digest


def test_classes_without_numbers_are_numbered_at_random_and_always_the_same(tmp_path: Path) -> None:
    rows = [
        {"episode": e, "step": t, "phase": "stream", "image_id": f"{e}/{t}", "class_name": "ab"[t // 2]}
        for e in range(40)
        for t in range(4)
    ]
    once, again = (protocol_with(written(tmp_path / name, rows)).episode_file for name in ("a.jsonl", "b.parquet"))
    assert (once.target == again.target).all()
    assert set(map(tuple, once.target.tolist())) == {(0, 0, 1, 1), (1, 1, 0, 0)}
    assert 8 < (once.target[:, 0] == 0).sum() < 32


def test_on_other_data_and_in_stages_of_training_test_episodes_are_drawn(tmp_path: Path) -> None:
    protocol = protocol_with(written(tmp_path / "a.jsonl", stream_rows()))
    assert on_dataset(protocol, "objects").episode_file is None
    assert staged(protocol, EpisodeChange(ways=1)).episode_file is None
    assert staged(protocol, EpisodeChange()) is protocol
    assert protocol.without_episode_file.digest != protocol.digest
    assert PROTOCOL.validate_python(protocol.model_dump()).digest == protocol.digest


def test_the_schema_knows_the_key_where_it_can_be_used() -> None:
    definitions = file_schema()["$defs"]
    assert definitions["StreamScoring"]["properties"]["episodes"]["type"] == "string"
    assert definitions["QueryScoring"]["properties"]["episodes"]["type"] == "string"
    assert "episodes" not in definitions["SupervisedScoring"].get("properties", {})


def test_a_kind_of_ones_own_that_says_nothing_of_its_parts_takes_no_file(tmp_path: Path) -> None:
    register(KIND)
    try:
        frame = {**KSHOT, "kind": "revisit", "episode": {"ways": 2, "shots": 1}}
        assert "kind revisit takes no episodes from a file" in said_of(tmp_path, kshot_rows(), frame)
    finally:
        unregister("revisit")


def test_other_values_than_names_are_refused() -> None:
    with pytest.raises(ValueError, match=r"found 3; expected the name of a \.jsonl or \.parquet file"):
        PROTOCOL.validate_python({**STREAM, "scoring": {"shots": [1], "episodes": 3}})
    with pytest.raises(UserError, match="there is no such file"):
        from_mapping({**STREAM, "scoring": {"shots": [1], "episodes": "nowhere.jsonl"}})
