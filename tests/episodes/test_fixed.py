"""Test episodes from a file are those that were exported: the same tensors, label timing and scores."""

from __future__ import annotations

import dataclasses
import io
import json
import runpy
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import harness
from harness.data.cards import CARDS
from harness.data.dataset import Dataset
from harness.data.own_test_images import drawing, encoded
from harness.data.real.omniglot import shrunk
from harness.data.registered import register_dataset
from harness.data.user.items import Item
from harness.episodes.export import export_episodes
from harness.episodes.fixed import episode_places, table_without_data, with_episodes
from harness.episodes.plan import PHASES, plan_episodes
from harness.episodes.source import EpisodeSource
from harness.evaluation.evaluate import evaluate
from harness.evaluation.rollout import feedback_of
from harness.lint.repeats import repeat_findings
from harness.method.registry import build_method, load_method, task_for
from harness.protocol.episode_fit import revealing_steps
from harness.protocol.models import PROTOCOL, AnyProtocol
from harness.testing import protocols, tiny_dataset
from harness.util.errors import UserError

KINDS = ("online_few_shot", "delayed_label", "continual", "segmentation_distractors", "n_way_k_shot")
LEARNERS = {True: "copy_last_mask", False: "nearest_pixel"}


def from_file(protocol: AnyProtocol, file: Path) -> Any:
    """The protocol with its test episodes taken from a file."""
    data = protocol.model_dump()
    scoring = {key: value for key, value in data["scoring"].items() if key != "test_episodes"}
    return PROTOCOL.validate_python({**data, "scoring": {**scoring, "episodes": str(file)}})


def data_for(protocol: AnyProtocol) -> Dataset:
    return tiny_dataset(protocol.dataset, 8, 8, turned=not protocol.masks)


@pytest.mark.slow
@settings(max_examples=25)
@given(
    st.sampled_from(KINDS).flatmap(lambda kind: protocols([kind])),
    st.sampled_from([".jsonl", ".parquet"]),
    st.booleans(),
)
def test_exported_episodes_come_back_bit_for_bit(protocol: AnyProtocol, suffix: str, images: bool) -> None:
    dataset, count = data_for(protocol), 5
    with TemporaryDirectory() as folder:
        file = Path(folder) / f"e{suffix}"
        export_episodes(protocol, dataset, "test", 0, count, file, images)
        fixed = from_file(protocol, file)
        assert fixed.test_episodes == count
        assert fixed.episode_file.own_images == images
        loaded = with_episodes(fixed, dataset, Path(folder) / "cache")
        sources = EpisodeSource(dataset), EpisodeSource(loaded)
        drawn, read = (
            source.episodes(each, "test", 0, range(count))
            for source, each in zip(sources, (protocol, fixed), strict=True)
        )
        assert torch.equal(drawn.x, read.x)
        assert torch.equal(drawn.target, read.target)
        assert torch.equal(drawn.scored, read.scored)
        assert torch.equal(feedback_of(drawn).target, feedback_of(read).target)
        for name in ("target", "shot", "revealed", "feedback_step", "phase"):
            assert np.array_equal(getattr(drawn.plan, name), getattr(read.plan, name)), name
        shown = [
            np.array(each.tables["test"].names)[np.take_along_axis(batch.plan.classes, batch.plan.target, 1)]
            for each, batch in zip((dataset, loaded), (drawn, read), strict=True)
        ]
        assert np.array_equal(*shown)
        learner = load_method(LEARNERS[protocol.masks]).cls
        scores = [
            evaluate(
                build_method(learner, task_for(learner, each, dataset.card.image_shape, 8), {}, 0),
                source,
                each,
                "test",
                count,
            )
            for source, each in zip(sources, (protocol, fixed), strict=True)
        ]
        assert scores[0].keys() == scores[1].keys()
        assert all(np.array_equal(scores[0][name], scores[1][name], equal_nan=True) for name in scores[0])
        # Training episodes are drawn as ever.
        assert (
            plan_episodes(fixed, loaded.tables["train"], "train", 3, [0, 1]).image.shape == drawn.plan.image[:2].shape
        )


def mine() -> Dataset:
    """A small data set that protocols may name 'mine'."""
    made = tiny_dataset("glyphs", 6, 6)
    named = dataclasses.replace(made, card=dataclasses.replace(made.card, name="mine", ink=False))
    return register_dataset(named)


ON_MINE: dict[str, Any] = {
    "kind": "n_way_k_shot",
    "title": "fixed runs",
    "dataset": "mine",
    "episode": {"ways": 3, "shots": 1, "queries": 2},
    "scoring": {},
}


@pytest.mark.slow
def test_a_run_on_episodes_from_a_file_scores_in_isolation_and_verifies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row is ranked and scored again; the file with the answers is hidden from the method's process."""
    monkeypatch.chdir(tmp_path)
    dataset = mine()
    drawn = PROTOCOL.validate_python(ON_MINE)
    export_episodes(drawn, dataset, "test", 7, 4, tmp_path / "e.parquet")
    (tmp_path / "fixed.yaml").write_text(json.dumps({**ON_MINE, "scoring": {"episodes": "e.parquet"}}))
    result = harness.run("fixed.yaml", "nearest_pixel", isolated=True, check=False, quiet=True, boards="boards")
    fixed = harness.load_protocol("fixed.yaml").protocol
    assert result.record.digest == fixed.digest
    assert result.record.test_episodes == 4
    assert result.record.isolated is not None
    assert tmp_path / "e.parquet" in episode_places(fixed)
    (row,) = harness.verify("fixed.yaml", boards="boards", in_process=True)
    assert row.holds, row.verdict
    # The first episodes under another seed than that of scoring: not those that are drawn for the test.
    source = EpisodeSource(with_episodes(fixed, dataset))
    assert torch.equal(
        source.episodes(fixed, "test", 0, range(4)).x, EpisodeSource(dataset).episodes(drawn, "test", 7, range(4)).x
    )


def test_images_of_their_own_lie_beside_the_file_and_are_hidden(tmp_path: Path) -> None:
    dataset = mine()
    (tmp_path / "images").mkdir()
    rows = []
    for t in range(9):
        path = tmp_path / "images" / f"{t}.png"
        path.write_bytes(encoded(dataset.card, dataset.images[t]))
        phase = "support" if t < 3 else "query"
        rows.append({"episode": "a", "step": t, "phase": phase, "target": t % 3, "image": f"images/{t}.png"})
    file = tmp_path / "e.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    fixed = from_file(PROTOCOL.validate_python(ON_MINE), file)
    assert {file, tmp_path / "images"} <= set(episode_places(fixed))
    loaded = with_episodes(fixed, dataset, tmp_path / "cache")
    pixels, _ = EpisodeSource(loaded).pixels(fixed, "test", 0, [0])
    assert np.array_equal(pixels[:, 0].numpy(), dataset.images[:9])
    assert loaded.tables["test"].names == tuple(f"class {n} of episode 0" for n in range(3))
    assert loaded.tables["train"].names == dataset.tables["train"].names
    assert loaded.fingerprint != dataset.fingerprint
    (tmp_path / "images" / "4.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"e\.jsonl, row 5, image: cannot be read as an image"):
        with_episodes(from_file(PROTOCOL.validate_python(ON_MINE), file), dataset, tmp_path / "cache")


def test_drawings_are_decoded_as_those_of_omniglot_are() -> None:
    """A published drawing of 105x105 is shrunk as the data set's own; one of 28x28 is taken as it is; no other."""
    ink = np.zeros((105, 105), bool)
    ink[20:60, 30:40] = True
    file = io.BytesIO()
    Image.fromarray(~ink).save(file, "PNG")
    card, small = CARDS["omniglot"], shrunk(ink[None])
    content = {"large": file.getvalue(), "small": encoded(card, small)}
    for each in content.values():
        pixels, plane = drawing(card, Item("", "row 1", "", lambda: (None, None)), each, None)
        assert plane is None
        assert np.array_equal(pixels, small)
    Image.fromarray(~ink).resize((50, 50)).save(file := io.BytesIO(), "PNG")
    said = drawing(card, Item("", "row 1", "", lambda: (None, None)), file.getvalue(), None)
    assert list(said) == ["row 1: it is 50x50; a drawing for omniglot is 105x105 or 28x28, dark ink on white"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"image_id": "tiny-9999"}, "row 1, image_id: there is no image 'tiny-9999', did you mean 'tiny-"),
        (
            {"image_id": "tiny-0", "class_name": None},
            "row 1, image_id: 'tiny-0' is of train; test episodes",
        ),
        ({"class_name": "test clas 1"}, "row 1, class_name: there is no test class 'test clas 1', did you mean"),
        ({"turns": 1}, "row 1, image_id: 'tiny-80' at 1 quarter turns is no image of class 'test class 1'"),
        ({"fingerprint": "0" * 16}, "its images are others"),
    ],
)
def test_images_that_the_data_set_has_not_are_refused_with_their_row(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    dataset = mine()
    rows = [
        {
            "episode": 0,
            "step": t,
            "phase": "support" if t < 3 else "query",
            "target": t % 3,
            "class_name": f"test class {1 + t % 3}",
            "image_id": f"tiny-{78 + 6 * (t % 3) + t // 3 + 2 * (t % 3 == 0)}",
        }
        for t in range(9)
    ]
    for row in rows[:1] if "image_id" in change or "turns" in change else rows[::3]:
        row |= change
    (tmp_path / "e.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    fixed = from_file(PROTOCOL.validate_python(ON_MINE), tmp_path / "e.jsonl")
    with pytest.raises(UserError, match="the episodes of") as caught:
        with_episodes(fixed, dataset)
    assert said in str(caught.value)


def test_targets_that_contradict_the_classes_of_the_data_set_are_refused(tmp_path: Path) -> None:
    dataset = mine()
    file = tmp_path / "e.jsonl"
    export_episodes(PROTOCOL.validate_python(ON_MINE), dataset, "test", 0, 2, file)
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    for row in rows:
        del row["class_name"]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert with_episodes(from_file(PROTOCOL.validate_python(ON_MINE), file), dataset).table("test").fixed is not None
    other = next(n for n in range(4, 9) if rows[n]["target"] != rows[3]["target"])
    rows[3]["target"], rows[other]["target"] = rows[other]["target"], rows[3]["target"]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    fixed = from_file(PROTOCOL.validate_python(ON_MINE), file)
    with pytest.raises(UserError, match=r"e\.jsonl contradict mine:") as caught:
        with_episodes(fixed, dataset)
    assert "row 4, target: found" in str(caught.value)
    assert f"row {other + 1}, target: found" in str(caught.value)


def test_images_that_are_not_square_are_not_turned_by_a_quarter(tmp_path: Path) -> None:
    made = mine()
    wide = dataclasses.replace(made.card, image_shape=(1, 14, 28))
    CARDS["mine"] = wide
    dataset = dataclasses.replace(made, card=wide, images=np.ascontiguousarray(made.images[:, :, :14]))
    rows = []
    for t in range(9):
        (tmp_path / f"{t}.png").write_bytes(encoded(wide, dataset.images[t]))
        phase = "support" if t < 3 else "query"
        rows.append(
            {"episode": 0, "step": t, "phase": phase, "target": t % 3, "image": f"{t}.png", "turns": 2 * (t == 4)}
        )
    file = tmp_path / "e.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    fixed = from_file(PROTOCOL.validate_python(ON_MINE), file)
    source = EpisodeSource(with_episodes(fixed, dataset, tmp_path / "cache"))
    pixels, _ = source.pixels(fixed, "test", 0, [0])
    assert np.array_equal(pixels[4, 0].numpy(), dataset.images[4][:, ::-1, ::-1])
    rows[4]["turns"] = 3
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    fixed = from_file(PROTOCOL.validate_python(ON_MINE), file)
    with pytest.raises(UserError, match="row 5, image: images of 28x14 cannot be turned by 3 quarter turns"):
        with_episodes(fixed, dataset, tmp_path / "cache")


def test_episodes_with_images_of_their_own_may_need_more_than_the_test_split_has() -> None:
    """They take its place."""
    episode = {"ways": 40, "shots": 1, "queries": 1}
    needs = {**ON_MINE, "dataset": "cifar_fs", "episode": episode}
    with pytest.raises(ValueError, match="40 classes in an episode, but the test split of cifar_fs has 20"):
        PROTOCOL.validate_python(needs)
    with TemporaryDirectory() as folder:
        file = Path(folder) / "e.jsonl"
        rows = [
            {"episode": 0, "step": t, "phase": "query" if t >= 40 else "support", "target": t % 40, "image": "a.png"}
            for t in range(80)
        ]
        (Path(folder) / "a.png").write_bytes(encoded(CARDS["cifar_fs"], np.zeros((3, 32, 32), np.uint8)))
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        assert PROTOCOL.validate_python({**needs, "scoring": {"episodes": str(file)}}).test_episodes == 1


def test_numbers_beyond_the_file_and_data_without_it_are_refused(tmp_path: Path) -> None:
    dataset = mine()
    export_episodes(PROTOCOL.validate_python(ON_MINE), dataset, "test", 0, 2, tmp_path / "e.jsonl")
    fixed = from_file(PROTOCOL.validate_python(ON_MINE), tmp_path / "e.jsonl")
    with pytest.raises(UserError, match=r"has 2 episodes, from 0; episode 2 does not exist"):
        plan_episodes(fixed, with_episodes(fixed, dataset).tables["test"], "test", 0, [2])
    with pytest.raises(UserError, match=r"harness\.with_episodes\(protocol, dataset\) does so"):
        plan_episodes(fixed, dataset.tables["test"], "test", 0, [0])
    # Without any data the course of an episode is known all the same.
    plan = plan_episodes(fixed, table_without_data(fixed, "test"), "test", 0, [1])
    assert plan.target.shape == (1, 9)


def test_lint_finds_images_that_come_back_and_episodes_that_do(tmp_path: Path) -> None:
    dataset = mine()
    file = tmp_path / "e.jsonl"
    export_episodes(PROTOCOL.validate_python(ON_MINE), dataset, "test", 0, 3, file)
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    rows[9:18] = [{**row, "episode": 1} for row in rows[:9]]
    support = next(row for row in rows[18:21] if row["target"] == rows[21]["target"])
    rows[21] |= {"image_id": support["image_id"]}
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    fixed = from_file(PROTOCOL.validate_python(ON_MINE), file)
    table = with_episodes(fixed, dataset).tables["test"]
    found = [each.message for each in repeat_findings(fixed, table)]
    assert found == [
        "scoring.episodes: 1 of 3 episodes of e.jsonl show an image twice (first in row 22): "
        "its answer can be looked up",
        "scoring.episodes: 1 of 3 episodes of e.jsonl are the same as others: intervals over episodes are too narrow",
    ]
    assert not list(repeat_findings(fixed.without_episode_file, dataset.tables["test"]))


@settings(max_examples=15)
@given(st.sampled_from(KINDS).flatmap(lambda kind: protocols([kind])))
def test_the_timing_that_files_are_compared_with_is_that_of_the_plans(protocol: AnyProtocol) -> None:
    plan = plan_episodes(protocol, data_for(protocol).tables["test"], "test", 0, [0])
    assert np.array_equal(revealing_steps(protocol.course), plan.feedback_step)
    assert [phase for part in protocol.parts for phase in [part.phase] * part.steps] == [PHASES[n] for n in plan.phase]


@pytest.mark.slow
def test_the_twenty_runs_of_the_documentation_are_scored(
    tmp_path: Path, data_root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The example writes a file that its protocol takes, within one alphabet a run, by two drawers."""
    monkeypatch.setenv("HARNESS_DATA", str(data_root))
    root = Path(__file__).parents[2]
    monkeypatch.setattr(sys, "argv", ["within_alphabet_runs.py", str(tmp_path / "runs.jsonl")])
    runpy.run_path(str(root / "examples" / "within_alphabet_runs.py"), run_name="__main__")
    text = (root / "docs" / "protocols.md").read_text()
    block = next(each for each in text.split("```yaml\n") if "episodes: runs.jsonl" in each).partition("```")[0]
    (tmp_path / "within_alphabet.yaml").write_text(block)
    protocol = harness.load_protocol(tmp_path / "within_alphabet.yaml").protocol
    assert (protocol.test_episodes, protocol.ways) == (20, 20)
    dataset = with_episodes(protocol, harness.load_dataset("omniglot_lake"))
    plan = plan_episodes(protocol, dataset.tables["test"], "test", 0, range(20))
    for classes in plan.classes.tolist():
        assert len({dataset.tables["test"].names[row].split("/")[0] for row in classes}) == 1
    method = harness.build_method("nearest_pixel", protocol)
    accuracy = harness.evaluate(method, protocol)["query_accuracy"]
    assert accuracy.mean > 10  # guessing: 5
