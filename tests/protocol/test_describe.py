"""What `harness show` says is what the plan does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness import cli
from harness.data.cards import CARDS
from harness.data.dataset import ClassTable, card_table
from harness.episodes.plan import plan_episodes
from harness.episodes.timeline import QUERIES, class_list, timeline
from harness.protocol import describe, words
from harness.protocol.models import PROTOCOL, DelayedLabel, StreamProtocol
from harness.util.shipped_files import protocol_files
from tests.helpers.plans import of_kind
from tests.helpers.protocols import protocol_as

TABLE = ClassTable(
    names=tuple("abcdefgh"),
    offsets=np.arange(9, dtype=np.int64) * 20,
    members=np.arange(160, dtype=np.int32),
    rotations=np.zeros(8, np.int8),
)


def stream(delay: int, ways: int = 3, presentations: int = 4, order: str = "balanced") -> StreamProtocol:
    episode = {"ways": ways, "presentations": presentations, "order": order}
    kind = "online_few_shot" if delay == 1 else "delayed_label"
    if delay > 1:
        episode["label_delay"] = delay
    data = {"kind": kind, "title": "t", "dataset": "cifar_fs", "episode": episode, "scoring": {"shots": [1, 3]}}
    return PROTOCOL.validate_python(data)  # type: ignore[return-value]


def test_timing_is_reported_with_an_example() -> None:
    assert words.timing(5, 50) == (
        "The label of step t is revealed before step t + 5: at step 12 the labels of steps 0..7 are known.\n"
        "The labels of steps 45..49 are never revealed."
    )
    assert words.timing(1, 10).startswith(
        "The label of step t is revealed before step t + 1: at step 9 the labels of steps 0..8 are known.\n"
        "The label of step 9 is never revealed."
    )
    assert "at step 20 the label of step 0 is known" in words.timing(20, 50)
    assert words.timing(50, 50) == "Labels would be revealed 50 steps late: never, as an episode has 50 steps."


def test_runs_of_numbers_are_drawn_together() -> None:
    assert words.ranges([]) == ""
    assert words.ranges([4]) == "4"
    assert words.ranges([5, 0, 1, 2, 7, 8]) == "0..2, 5, 7..8"


@pytest.mark.parametrize("delay", [1, 3, 12, 40])
def test_a_row_of_the_timeline_says_what_is_revealed_known_shown_and_scored(delay: int) -> None:
    protocol = stream(delay)
    plan = plan_episodes(protocol, TABLE, "test", 0, [4, 9])
    head, *rows = timeline(protocol, plan, TABLE, row=1).splitlines()
    assert head.split("  ")[0] == "step"
    assert len(rows) == 12
    target = plan.target[1].tolist()
    for t, line in enumerate(rows):
        step, feedback, known, shown, scored, revealed = re.split(r" {2,}", line)
        assert int(step) == t
        seen = range(max(t - delay + 1, 0))
        assert feedback == (f"{target[t - delay]} (of step {t - delay})" if t >= delay else "null")
        assert known == ("none" if not seen else "0" if len(seen) == 1 else f"0..{t - delay}")
        assert shown == f"{target[t]} {TABLE.names[plan.classes[1, target[t]]]}"
        shot = target[:t].count(target[t])
        assert scored == f"{shot}-shot" + (" *" if shot in (1, 3) else "")
        assert int(revealed) == sum(target[i] == target[t] for i in seen)


@pytest.mark.parametrize("order", ["balanced", "iid"])
def test_a_table_made_from_the_card_gives_the_same_episode_as_the_data(order: str) -> None:
    protocol = stream(3, order=order)
    card = card_table(protocol.card, "test")
    real = ClassTable(
        names=tuple(f"real {i}" for i in range(20)),
        offsets=np.arange(21, dtype=np.int64) * 600,
        members=np.arange(12_000, dtype=np.int32)[::-1].copy(),
        rotations=np.zeros(20, np.int8),
    )
    ours, theirs = (plan_episodes(protocol, table, "test", 0, range(20)) for table in (card, real))
    for field in ("classes", "target", "shot", "revealed"):
        np.testing.assert_array_equal(getattr(ours, field), getattr(theirs, field))


EPISODES: dict[str, tuple[dict[str, Any], str]] = {
    "online_few_shot": (
        {"ways": 5, "presentations": 10},
        "5 classes x 10 presentations in random order = 50 steps, labels one step late, scored at shots 1, 5",
    ),
    "delayed_label": (
        {"ways": 5, "presentations": 10, "label_delay": 4, "order": "iid"},
        "50 steps, each of a class drawn anew from 5, labels 4 steps late, scored at shots 1, 5",
    ),
    "continual": (
        {"subtasks": 16, "shots": 5, "queries": 15},
        "16 classes one after another, 5 samples each, then 15 queries of each, scored by query accuracy",
    ),
    "segmentation_distractors": (
        {"presentations": 9},
        "9 images of a target class and 9 of a distractor class in random order, "
        "scored by IoU of the target and masking of the distractor at shots 1, 5",
    ),
    "n_way_k_shot": (
        {"ways": 5, "shots": 1, "queries": 15},
        "5 classes, 1 labelled and 15 query samples of each, scored by query accuracy",
    ),
    "supervised": ({}, "one image, classes as in training, scored by accuracy on the whole test split"),
}


@pytest.mark.parametrize("kind", EPISODES)
def test_every_kind_has_a_summary_of_one_line(kind: str) -> None:
    shape, expected = EPISODES[kind]
    protocol = of_kind(kind, scored=(1, 5), **shape)
    assert describe.summary(protocol).startswith(f"on {protocol.dataset}, {expected}")
    assert "\n" not in describe.summary(protocol)
    assert describe.heading("name", protocol).startswith("name: x\n")


def rows(text: str) -> list[list[str]]:
    """The cells of lines of a table."""
    return [re.split(r" {2,}", line) for line in text.splitlines()]


def test_cyclic_order_is_reported() -> None:
    assert "5 classes x 10 presentations taking turns in one random order = 50 steps" in describe.heading(
        "x", of_kind("online_few_shot", ways=5, presentations=10, order="cyclic")
    )


def test_a_continual_timeline_has_a_stream_by_subtask_and_then_the_first_queries() -> None:
    protocol = of_kind("continual", subtasks=3, shots=2, queries=5)
    plan = plan_episodes(protocol, TABLE, "test", 0, [4, 9])
    target, text = plan.target[1].tolist(), timeline(protocol, plan, TABLE, row=1)
    names = [TABLE.names[index] for index in plan.classes[1]]
    stream, queries = text.split("\n\n")
    title, head, *steps = stream.splitlines()
    assert title == "Stream:"
    assert rows(head) == [["step", "feedback", "labels known", "shown", "subtask"]]
    assert rows("\n".join(steps)) == [
        [
            str(t),
            f"{target[t - 1]} (of step {t - 1})" if t else "null",
            "none" if t == 0 else "0" if t == 1 else f"0..{t - 1}",
            f"{target[t]} {names[target[t]]}",
            str(t // 2),
        ]
        for t in range(6)
    ]
    narrow = timeline(protocol, plan, TABLE, row=1, width=60)
    assert max(map(len, narrow.splitlines())) <= 60
    assert narrow.split("\n\n")[0] == stream, "a sentence that is wrapped leaves the names of classes whole"
    title, head, *table = queries.splitlines()
    assert title == (
        "Queries, 5 of each class in random order, each asked as if it were step 6, "
        f"with feedback {target[5]} (of step 5):"
    )
    assert rows(head) == [["step", "asked", "subtask"]]
    assert table.pop() == "... and 5 more, up to step 20"
    assert rows("\n".join(table)) == [
        [str(t), f"{target[t]} {names[target[t]]}", str(target[:6:2].index(target[t]))] for t in range(6, 6 + QUERIES)
    ]


def test_a_k_shot_timeline_has_the_pairs_and_then_the_queries() -> None:
    protocol = of_kind("n_way_k_shot", ways=3, shots=2, queries=2)
    plan = plan_episodes(protocol, TABLE, "test", 0, [0])
    target, text = plan.target[0].tolist(), timeline(protocol, plan, TABLE)
    names = [TABLE.names[index] for index in plan.classes[0]]
    pairs, queries = text.split("\n\n")
    title, head, *given = pairs.splitlines()
    assert title == "Support pairs:"
    assert rows(head) == [["step", "image and label", "earlier pairs of the class"]]
    assert rows("\n".join(given)) == [
        [str(t), f"{target[t]} {names[target[t]]}", str(target[:t].count(target[t]))] for t in range(6)
    ]
    title, head, *table = queries.splitlines()
    assert title == "Queries, 2 of each class in random order, each asked after the pairs:"
    assert rows(head) == [["step", "asked"]]
    assert rows("\n".join(table)) == [[str(t), f"{target[t]} {names[target[t]]}"] for t in range(6, 12)]


@pytest.mark.parametrize("distractor", [True, False])
def test_a_timeline_of_masks_says_whose_object_is_shown_and_whose_mask_is_revealed(distractor: bool) -> None:
    protocol = of_kind("segmentation_distractors", scored=(1,), presentations=3, distractor=distractor)
    plan = plan_episodes(protocol, TABLE, "test", 0, [2])
    names = [TABLE.names[index] for index in plan.classes[0]]
    target = plan.target[0].tolist()
    expected = f"target = {names[0]}" + (f", distractor = {names[1]}" if distractor else "")
    assert class_list(protocol, plan, TABLE) == f"Classes: {expected}"
    head, *steps = rows(timeline(protocol, plan, TABLE))
    assert head == ["step", "feedback", "masks known", "shown", "scored as", "revealed"]
    assert len(steps) == (6 if distractor else 3)
    for t, (step, feedback, _, shown, scored, revealed) in enumerate(steps):
        shot = target[:t].count(target[t])
        assert int(step) == t
        answer = ("object", "empty")[target[t - 1]]
        assert feedback == (f"{answer} (of step {t - 1})" if t else "null (plane of -1)")
        assert shown == ("target", "distractor")[target[t]] + f" {names[target[t]]}"
        assert scored == ("IoU", "masking")[target[t]] + f", {shot}-shot" + (" *" if shot == 1 else "")
        assert int(revealed) == shot


def test_a_supervised_timeline_is_one_image_and_many_classes_are_cut_short() -> None:
    protocol = of_kind("supervised", "cifar100")
    table = card_table(CARDS["cifar100"], "test")
    plan = plan_episodes(protocol, table, "test", 0, [4321])
    assert rows(timeline(protocol, plan, table)) == [
        ["step", "feedback", "shown", "scored as"],
        ["0", "null", "43 class 43", "accuracy"],
    ]
    listed = class_list(protocol, plan, table)
    assert listed.startswith("Classes: 0 = class 0, 1 = class 1,")
    assert listed.endswith("22 = class 22, ..., 99 = class 99")


@pytest.mark.parametrize("name", protocol_files())
def test_every_shipped_protocol_is_shown(name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cli.main(["show", name, "--cache", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"{name}: ")
    assert re.search(r"^0 ", text, re.MULTILINE)
    assert max(map(len, text.splitlines())) < 1000


OWN = """kind: online_few_shot
title: mine
dataset:
  name: mine
  folder: pictures
  size: 8
  classes: {train: [a, b], test: [c, d]}
episode: {ways: 2, presentations: 2}
scoring: {shots: [1], test_episodes: 3}
"""


def test_a_data_set_of_ones_own_is_shown_once_it_can_be_loaded(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from PIL import Image

    path = tmp_path / "own.yaml"
    path.write_text(OWN)
    words = ["show", str(path), "--cache", str(tmp_path / "cache")]
    assert cli.main(words) == 0
    text = capsys.readouterr().out
    assert "Data: mine (your own: an image folder, 8x8 RGB)." in text
    assert "No episode is shown: the classes of mine are known once it is loaded." in text
    assert "pictures" in text.partition("No episode is shown")[2]
    for number, name in enumerate("abcd"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for image in range(3):
            Image.new("RGB", (8, 8), (60 * number, 80 * image, 0)).save(tmp_path / "pictures" / name / f"{image}.png")
    assert cli.main(words) == 0
    text = capsys.readouterr().out
    assert re.search(r"^Classes: 0 = [cd], 1 = [cd]$", text, re.MULTILINE)
    assert re.search(r"^3 .* [cd] ", text, re.MULTILINE)


def test_a_split_that_the_data_set_lacks_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cli.main(["show", "cifar10_supervised", "--split", "validation", "--cache", str(tmp_path)]) == 2
    assert "the data set 'cifar10' has no validation split; it has train, test" in capsys.readouterr().err


def test_without_the_data_the_episode_is_shown_by_numbers(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["show", "cifarfs_delay5", "--cache", str(tmp_path / "none")]
    assert cli.main(words) == 0
    text = capsys.readouterr().out
    assert "at step 12 the labels of steps 0..7 are known" in text
    assert "Classes are shown by number only: the data set 'cifar_fs'" in text
    assert re.search(r"^12 .* 0\.\.7 ", text, re.MULTILINE)
    assert cli.main([*words, "--episode", "1"]) == 0
    assert capsys.readouterr().out != text


def test_the_stand_in_is_shown_with_its_class_names(capsys: pytest.CaptureFixture[str], cache: Path) -> None:
    assert cli.main(["show", "omniglot_5way_online", "--data", "stand-in", "--cache", str(cache)]) == 0
    text = capsys.readouterr().out
    assert "Data: glyphs (stand-in for Omniglot" in text
    assert "by number only" not in text


def test_the_real_classes_are_named(capsys: pytest.CaptureFixture[str], data_root: Path, cache: Path) -> None:
    words = ["show", "omniglot_5way_online", "--data-root", str(data_root), "--cache", str(cache)]
    assert cli.main(words) == 0
    named = capsys.readouterr().out
    assert cli.main(["show", "omniglot_5way_online", "--cache", str(cache / "none")]) == 0
    numbered = capsys.readouterr().out
    feedback = re.compile(r"^\d+ +(null|\d \(of step \d+\))", re.MULTILINE)
    assert feedback.findall(named) == feedback.findall(numbered), "the same episode, with and without the data"
    assert "/rot" in named


def test_scores_are_taken_under_the_seed_that_is_shown_by_default() -> None:
    from harness.cli.show import BY_DEFAULT
    from harness.evaluation.evaluate import EVALUATION_SEED

    assert (BY_DEFAULT["seed"], BY_DEFAULT["split"]) == (EVALUATION_SEED, "test")
    assert protocol_as(DelayedLabel, "cifarfs_delay5").scoring.test_episodes == 2000
