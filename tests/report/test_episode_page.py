"""Pages of episodes: images, when each label arrives, what a method answered; of every kind, with and without data."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness import cli
from harness.boards import store
from harness.data.dataset import Dataset
from harness.protocol.load import load_protocol
from harness.protocol.models import AnyProtocol
from harness.report import sources
from harness.report.choice import by_confidence
from harness.report.confusion import counted, outcomes_figure
from harness.report.episode_page import episode_page
from harness.report.pixels import DISTRACTOR, TARGET, data_uri, painted
from harness.report.shown_episodes import ShownEpisodes, shown_episodes
from harness.report.single_image import answer_in_words, answered_image
from harness.report.step_words import confidence
from harness.runs import resolve
from harness.testing import tiny_dataset
from harness.util.errors import MissingData
from tests.helpers.boards import shipped_record
from tests.helpers.pages import HOSTILE, check_page, text_of

KINDS = (
    "cifarfs_delay5",
    "omniglot_continual5",
    "cifarfs_5way_1shot",
    "fss1000_distractors",
    "cifar100_supervised",
)


def protocol_named(name: str) -> AnyProtocol:
    """The shipped protocol; that with masks on its stand-in, whose images are smaller."""
    loaded = load_protocol(name)
    return loaded.on_stand_in if loaded.protocol.masks else loaded.protocol


def tiny(name: str) -> Dataset:
    protocol = protocol_named(name)
    needs = protocol.needs
    return tiny_dataset(protocol.dataset, max(8, needs.classes), max(6, needs.images), turned=not protocol.supervised)


def answering(shown: ShownEpisodes, wrong: int = -1) -> ShownEpisodes:
    """Every answer is right, but that to step `wrong`, which is the class after the right one, or an empty mask."""
    plan = shown.plan
    if shown.objects is not None:
        marked = shown.objects & (plan.target.T == 0)[:, :, None, None]
        logits = np.where(marked, 1.0, -1.0)[:, :, None]
        logits[wrong] = -1 if wrong >= 0 else logits[wrong]
    else:
        ways = len(shown.table.names) if shown.protocol.supervised else plan.classes.shape[1]
        target = plan.target.T.copy()
        target[wrong] += wrong >= 0
        logits = 3.0 * (np.arange(ways) == target[plan.answer_mask][..., None] % ways)
    return replace(shown, method="mine", logits=logits)


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_with_and_without_answers_and_data(name: str) -> None:
    protocol = protocol_named(name)
    shown = shown_episodes(protocol, tiny(name), "test", 0, [3, 5])
    for each, row, images in (
        (shown, 0, True),
        (answering(shown), 1, True),
        (shown_episodes(protocol, None, "test", 0, [5]), 0, False),
    ):
        page = episode_page(each, name, row=row)
        check_page(page)
        text = text_of(page)
        assert f"Episode {each.plan.episode[row]} of {name}" in text
        assert ("<image " in page) == images
        assert ("100.0 %" in text) == bool(each.method)
        assert each.class_name(row, 0) in text


def test_labels_arrive_where_the_protocol_reveals_them() -> None:
    shown = shown_episodes(protocol_named("cifarfs_delay5"), None, "test", 0, [0])
    page = episode_page(shown, "cifarfs_delay5")
    assert page.count('class="tip"') == 2 * 45, "the labels of the last five steps are never revealed; two widths"
    text = text_of(page)
    for t in (5, 49):
        target = shown.plan.target[0, t - 5]
        assert f"revealed before it: {target} of step {t - 5}" in text
    assert re.search("step 4: [0-4] class [0-9]+; revealed before it: nothing", text)


def test_answers_are_right_or_wrong_with_their_confidence() -> None:
    shown = answering(shown_episodes(protocol_named("cifarfs_delay5"), tiny("cifarfs_delay5"), "test", 0, [0]), 7)
    page = episode_page(shown, "cifarfs_delay5")
    assert page.count("frame right") == 2 * 49 + 1, "one in the key; two widths"
    assert page.count("frame wrong") == 2 * 1 + 1
    assert page.count("<image ") == page.count("<use ") == 50, "an image's bytes stand on the page once"
    share = np.exp(3) / (np.exp(3) + 4)
    assert f"· {share:.0%}" in text_of(page)
    assert shown.earned is not None
    assert shown.earned[7, 0] == 0
    assert shown.earned.sum() == 49


def single(name: str = "cifar100_supervised") -> ShownEpisodes:
    """Six images of a class each, three of them answered right; the method is surer of later ones."""
    shown = shown_episodes(protocol_named(name), tiny(name), "test", 0, [*range(0, 36, 6)])
    answers = np.zeros((1, 6, len(shown.table.names)))
    for row, target in enumerate(shown.plan.target[:, 0].tolist()):
        answers[0, row, (target + row % 2) % answers.shape[2]] = 1 + row
    return replace(shown, method="mine", logits=answers)


def test_of_single_images_those_are_shown_whose_answers_surprise() -> None:
    shown = single()
    wrong, right = by_confidence(shown)
    assert wrong.numbers == [30, 18, 6], "the surest first"
    assert right.numbers == [0, 12, 24], "the least sure first"
    assert "Of the 6 images that were played again, 3 were answered right." in wrong.note
    assert shown.logits is not None
    assert [group.title for group in by_confidence(replace(shown, logits=np.full_like(shown.logits, np.nan)))] == []
    names = [shown.class_name(5, int(shown.plan.target[5, 0]) + more) for more in (0, 1)]
    assert re.fullmatch(f"{names[0]}, taken for {names[1]} with [0-9]+ %", answer_in_words(shown, 5))
    assert re.fullmatch("class [0-9]+, with [0-9]+ %", answer_in_words(shown, 0))


def test_a_single_image_stands_beside_its_likeliest_classes() -> None:
    shown = single()
    for row in (4, 5):
        figure = answered_image(shown, row)
        assert 5 <= len(figure.rows) <= 6
        assert [cells[1].endswith(", its class") for cells in figure.rows].count(True) == 1
        shares = [float(cells[2].removesuffix(" %")) for cells in figure.rows[:5]]
        assert shares == sorted(shares, reverse=True)
    assert answered_image(replace(shown, logits=None), 0).rows == []


def test_a_confidence_that_is_no_number_is_left_out() -> None:
    number, share = confidence(np.array([np.nan, 1.0, 2.0]))
    assert number == 2
    assert np.isnan(share)


def test_confusion_is_by_subtask_and_outcomes_by_what_was_revealed() -> None:
    shown = answering(
        shown_episodes(protocol_named("omniglot_continual5"), tiny("omniglot_continual5"), "test", 0, [0, 1])
    )
    assert (counted(shown) == 30 * np.eye(5)).all()
    stream = shown_episodes(protocol_named("cifarfs_5way_online"), tiny("cifarfs_5way_online"), "test", 0, [0, 1])
    right = outcomes_figure(answering(stream))
    assert [row[1] for row in right.rows] == ["100"] * 50
    first = outcomes_figure(answering(stream, 0)).rows[0]
    assert first[1:] == ["0", "0", "0", "100"], "no label of its class can have been revealed"


def test_masks_are_painted_in_two_colours() -> None:
    pixels, where = np.zeros((3, 2, 2), np.uint8), np.array([[True, False], [False, False]])
    found = painted(pixels, (where, TARGET), (~where, DISTRACTOR))
    assert found[:, 0, 0].tolist() == [round(0.55 * part) for part in TARGET]
    assert found[:, 1, 1].tolist() == [round(0.55 * part) for part in DISTRACTOR]
    shown = answering(
        shown_episodes(protocol_named("fss1000_distractors"), tiny("fss1000_distractors"), "test", 0, [0])
    )
    text = text_of(episode_page(shown, "fss1000_distractors"))
    assert text.count("IoU 100%") >= 9
    assert text.count("masked 100%") >= 9


@pytest.mark.parametrize(
    ("channels", "side", "kind"), [(1, 28, "png"), (3, 32, "webp"), (3, 84, "webp"), (3, 224, "webp")]
)
def test_images_are_small_files(channels: int, side: int, kind: str) -> None:
    found = data_uri(np.full((channels, side, side), 7, np.uint8))
    assert found.startswith(f"data:image/{kind};base64,")
    assert len(found) < 1000


def test_names_of_classes_and_methods_are_text() -> None:
    every = " ".join(HOSTILE)
    for name in ("cifarfs_delay5", "omniglot_continual5"):
        protocol, data = protocol_named(name).model_copy(update={"title": every}), tiny(name)
        names = tuple(HOSTILE[number % len(HOSTILE)] for number in range(len(data.table("test").names)))
        own = replace(data, tables={**data.tables, "test": replace(data.table("test"), names=names)})
        shown = replace(answering(shown_episodes(protocol, own, "test", 0, [0]), 9), method=every)
        page = episode_page(shown, every, note=every)
        check_page(page)
        text = text_of(page)
        assert text.count(every) > 3
        assert all(text.count(shown.class_name(0, number)) > 5 for number in range(5))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with tiny data in place of all data sets."""

    def load(name: Any, *_: Any, **__: Any) -> Dataset:
        return tiny_dataset(name, classes=8, images=10)

    monkeypatch.setattr(sources, "load_dataset", load)
    monkeypatch.setattr(resolve, "load_dataset", load)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_of(method: str) -> Path:
    words = ["run", "cifarfs_delay5", "--method", method, "--test-episodes", "20", "--threads", "1", "--no-board"]
    assert cli.main(words) == 0
    (noted,) = Path("runs").glob(f"*/{method}*/run.json")
    return noted.parent


def test_show_writes_a_page_with_what_a_run_answered(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = run_of("nearest_pixel")
    capsys.readouterr()
    assert cli.main(["show", "cifarfs_delay5", "--episode", "2", "--html", "e.html", "--run", str(folder)]) == 0
    assert capsys.readouterr().err == "", "nothing is said of boards, of which none is read"
    text = text_of(Path("e.html").read_text())
    assert "nearest_pixel" in text
    assert "frame right" in text
    assert cli.main(["show", "cifarfs_delay4", "--html", "e.html", "--run", str(folder)]) == 2
    assert "another protocol" in capsys.readouterr().err
    assert cli.main(["show", "cifarfs_delay5", "--run", str(folder)]) == 2
    assert cli.main(["show", "cifarfs_delay5", "--html", "e.html", "--run", "nope"]) == 2
    assert cli.main(["show", "opn", "--html", "e.html"]) == 2
    Path("mine.html").write_text("my own")
    assert cli.main(["show", "cifarfs_delay5", "--html", "mine.html"]) == 2
    assert Path("mine.html").read_text() == "my own"


def test_a_row_of_a_board_whose_code_or_weights_are_not_there_has_no_answers(here: Path) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"run": "a", "target": "my.own:Code"}, "imported only if you name it"),
        ({"run": "b", "method": "count", "target": "methods.count:Count"}, "its weights are not kept"),
    ]
    for changes, reason in cases:
        fingerprint = tiny_dataset("cifar_fs", classes=8, images=10).fingerprint
        made = shipped_record("cifarfs_delay5", checkpoint=None if changes["run"] == "a" else "d" * 64, **changes)
        store.append_record(
            made.model_copy(update={"data": made.data.model_copy(update={"fingerprint": fingerprint})}), here
        )
        words = ["show", "cifarfs_delay5", "--html", "e.html", "--run", changes["run"], "--boards", str(here)]
        assert cli.main(words) == 0
        assert re.search(f"Without answers: .*{reason}", text_of(Path("e.html").read_text()))


def test_without_the_data_classes_are_boxes(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: Any, **__: Any) -> Dataset:
        raise MissingData("the data set 'cifar_fs' is missing.\nLooked for: ...")

    monkeypatch.setattr(sources, "load_dataset", missing)
    assert cli.main(["show", "cifarfs_delay5", "--html", "e.html"]) == 0
    page = Path("e.html").read_text()
    check_page(page)
    assert "Without images: the data set &#39;cifar_fs&#39; is missing." in page
