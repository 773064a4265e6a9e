"""What `harness show` says is what the plan does."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from harness import cli, show
from harness.data.dataset import ClassTable
from harness.load import load_protocol
from harness.plan import plan_episodes
from harness.spec import PROTOCOL, AnyProtocol, StreamProtocol

TABLE = ClassTable(
    names=tuple("abcdefgh"),
    offsets=np.arange(9, dtype=np.int64) * 20,
    members=np.arange(160, dtype=np.int32),
    turns=np.zeros(8, np.int8),
)


def stream(delay: int, ways: int = 3, presentations: int = 4, order: str = "balanced") -> StreamProtocol:
    episode = {"ways": ways, "presentations": presentations, "order": order}
    kind = "online_few_shot" if delay == 1 else "delayed_label"
    if delay > 1:
        episode["label_delay"] = delay
    data = {"kind": kind, "title": "t", "dataset": "cifar_fs", "episode": episode, "scoring": {"shots": [1, 3]}}
    return PROTOCOL.validate_python(data)  # type: ignore[return-value]


def test_timing_is_told_with_an_example() -> None:
    assert show.timing(5, 50) == (
        "The label of step t is revealed before step t + 5: at step 12 the labels of steps 0..7 are known.\n"
        "The labels of steps 45..49 are never revealed."
    )
    assert show.timing(1, 10).startswith(
        "The label of step t is revealed before step t + 1: at step 9 the labels of steps 0..8 are known.\n"
        "The label of step 9 is never revealed."
    )
    assert "at step 20 the label of step 0 is known" in show.timing(20, 50)
    assert show.timing(50, 50) == "Labels would be revealed 50 steps late: never, as an episode has 50 steps."


def test_runs_of_numbers_are_drawn_together() -> None:
    assert show.ranges([]) == ""
    assert show.ranges([4]) == "4"
    assert show.ranges([5, 0, 1, 2, 7, 8]) == "0..2, 5, 7..8"


@pytest.mark.parametrize("delay", [1, 3, 12, 40])
def test_a_row_of_the_timeline_says_what_is_revealed_known_shown_and_scored(delay: int) -> None:
    protocol = stream(delay)
    plan = plan_episodes(protocol, TABLE, "test", 0, [4, 9])
    head, *rows = show.timeline(plan, TABLE, protocol.scoring.shots, row=1).splitlines()
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
    card = show.table_of_card(protocol, "test")
    real = ClassTable(
        names=tuple(f"real {i}" for i in range(20)),
        offsets=np.arange(21, dtype=np.int64) * 600,
        members=np.arange(12_000, dtype=np.int32)[::-1].copy(),
        turns=np.zeros(20, np.int8),
    )
    ours, theirs = (plan_episodes(protocol, table, "test", 0, range(20)) for table in (card, real))
    for field in ("classes", "target", "shot", "revealed"):
        np.testing.assert_array_equal(getattr(ours, field), getattr(theirs, field))


EPISODES = {
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
        "9 images of a target class and 9 of a distractor class in random order, scored at shots 1, 5",
    ),
    "n_way_k_shot": (
        {"ways": 5, "shots": 1, "queries": 15},
        "5 classes, 1 labelled and 15 query samples of each, scored by query accuracy",
    ),
    "supervised": ({}, "one image, classes as in training, scored by accuracy on the whole test split"),
}


@pytest.mark.parametrize("kind", EPISODES)
def test_every_kind_has_a_summary_of_one_line(kind: str) -> None:
    episode, expected = EPISODES[kind]
    scoring = {"shots": [1, 5]} if kind not in {"continual", "n_way_k_shot", "supervised"} else {}
    data = {"kind": kind, "title": "t", "dataset": "cifar_fs", "episode": episode, "scoring": scoring}
    protocol: AnyProtocol = PROTOCOL.validate_python(data)
    assert show.summary(protocol).startswith(f"on cifar_fs, {expected}")
    assert "\n" not in show.summary(protocol)
    assert show.heading("x", protocol).startswith("x: t\n")


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


def test_a_kind_that_cannot_be_drawn_yet_is_described_and_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "k.yaml"
    path.write_text("kind: n_way_k_shot\ntitle: few\ndataset: cifar_fs\nepisode: {ways: 5, shots: 1, queries: 15}\n")
    assert cli.main(["show", str(path)]) == 2
    out, err = capsys.readouterr()
    assert "k: few" in out
    assert "episodes of kind 'n_way_k_shot' cannot be drawn yet" in err


def test_scores_are_taken_under_the_seed_that_is_shown_by_default() -> None:
    from harness.cli.show import add_arguments
    from harness.evaluate import EVALUATION_SEED

    parser = cli.Parser("harness show", "show")
    add_arguments(parser)
    args = parser.parse(["x"])
    assert args is not None
    assert (args.seed, args.split) == (EVALUATION_SEED, "test")
    assert load_protocol("cifarfs_delay5").protocol.scoring.test_episodes == 2000  # type: ignore[union-attr]
