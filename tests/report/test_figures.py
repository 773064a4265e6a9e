"""The parts of figures: scales with round ticks, intervals best first, the frontier, words that are text."""

from __future__ import annotations

import itertools
import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.report.forest import Interval, forest
from harness.report.histogram import histogram
from harness.report.label_places import Box, label_place, mark_box
from harness.report.lines import Series, Stage, lines
from harness.report.scatter import Point, pareto, scatter
from harness.report.svg import linear, powers, tick_text
from tests.helpers.pages import HOSTILE

NUMBERS = st.floats(-1e6, 1e6)


@given(st.lists(NUMBERS, min_size=1, max_size=20))
def test_a_scale_has_room_for_all_values_and_few_ticks(values: list[float]) -> None:
    scale = linear(values, 10, 110)
    assert all(10 - 1e-6 <= scale(value) <= 110 + 1e-6 for value in values)
    assert 1 <= len(scale.ticks) <= 12


@given(st.lists(st.floats(0, 1e12).filter(lambda x: x == 0 or x > 1e-6), min_size=1, max_size=20))
def test_powers_have_room_for_all_values_zeros_apart(values: list[float]) -> None:
    scale = powers(values, 0, 100)
    assert all(-1e-6 <= scale(value) <= 100 + 1e-6 for value in values)
    assert all(scale(0) < scale(value) for value in values if value > 0 and 0 in values)
    assert all(value > 0 and math.isclose(math.log10(value), round(math.log10(value))) for value in scale.ticks)


@pytest.mark.parametrize(("value", "text"), [(0.0, "0"), (0.5, "0.5"), (20, "20"), (12_000, "12k"), (3e6, "3M")])
def test_ticks_are_short(value: float, text: str) -> None:
    assert tick_text(value) == text


def test_intervals_are_best_first_and_published_ones_have_a_shape_of_their_own() -> None:
    found = forest(
        "f",
        "accuracy, %",
        [Interval("a", 40, (39.5, 40.5), "40.0 ± 0.5", False, [39, 41]), Interval("b", 50, None, "50.0", True)],
    )
    assert [row[0] for row in found.rows] == ["b", "a"]
    assert found.rows[1] == ["a", "40.0 ± 0.5", "measured", "39.0, 41.0"]
    picture = str(found.picture)
    assert picture.count('class="seed"') == 2
    assert 'class="mark s3"' in picture
    assert 'class="mark s0"' in picture
    assert len(found.keys) == 3


def test_the_frontier_is_what_no_other_beats() -> None:
    points = [Point("a", 0, 20), Point("b", 10, 50), Point("c", 10, 60), Point("d", 20, 60), Point("e", 30, 70)]
    assert [each.label for each in pareto(points)] == ["a", "c", "e"]
    assert str(scatter("s", "parameters", "accuracy, %", points).picture).count("<title>") == 5


@given(st.lists(st.tuples(st.floats(20, 380), st.floats(50, 250)), min_size=1, max_size=30), st.integers(1, 26))
def test_a_name_covers_no_mark_and_stays_in_its_picture(places: list[tuple[float, float]], letters: int) -> None:
    marks, room = [mark_box(x, y) for x, y in places], Box(2, 30, 398, 262)
    found = label_place("n" * letters, *places[0], marks, [], room)
    if len(places) == 1 and letters < 20:
        assert found, "there is room beside a mark that stands alone"
    if found:
        assert found.box.within(room)
        assert not any(found.box.overlaps(mark) for mark in marks)


def test_a_name_avoids_a_line_where_it_can() -> None:
    room, line = Box(0, 0, 400, 300), [Box(0, 149, 200, 151)]
    free = label_place("name", 200, 150, [mark_box(200, 150)], line, room)
    assert free is not None
    assert free.anchor == "start"
    crowded = label_place("name", 200, 150, [mark_box(200, 150)], [room], room)
    assert crowded is not None
    assert crowded.anchor == "end"


def test_what_tells_an_entry_from_others_stands_below_its_name() -> None:
    found = forest("f", "accuracy, %", [Interval("opn, width=8", 40, None, "40.0", False)])
    assert found.narrow is not None
    assert re.findall(r"<text[^>]*>([^<]*)</text>", found.picture)[-3:] == ["opn", "width=8", "40.0"]
    assert re.findall(r"<text[^>]*>([^<]*)</text>", found.narrow)[-2:] == ["opn, width=8", "40.0"]


def test_a_curve_with_a_gap_a_band_and_stages() -> None:
    found = lines(
        "c",
        "step",
        "loss",
        [Series("one", [0, 1, 2], [1.0, float("nan"), 3.0], [0.1, 0.1, 0.1]), Series("two", [1], [2.0])],
        stages=[Stage("warm start of this run", 0, 1), Stage("episodes", 1, 2)],
    )
    assert "nan" not in str(found.picture)
    assert found.rows[1] == ["1", "–", "2"]
    assert found.rows[0] == ["0", "1 ± 0.1", "–"]


def test_marks_along_a_curve_are_apart_wherever_its_points_are() -> None:
    dense = [*range(0, 900, 100), *range(900, 1000)]
    found = lines("c", "episodes", "loss", [Series("one", dense, [1.0] * len(dense))])
    places = [float(x) for x in re.findall(r'<circle[^>]*cx="([\d.]+)"', found.picture)]
    assert 9 <= len(places) <= 16
    assert min(b - a for a, b in itertools.pairwise(places[:-1])) > 40
    assert places[-1] == 702, "the last point has a mark"


def test_a_line_whose_meaning_changes_is_interrupted_between_stages() -> None:
    x, stages = [0, 1, 2, 3, 4], [Stage("classes", 0, 2), Stage("episodes", 2, 4)]
    for broken in (False, True):
        found = lines("c", "x", "loss", [Series("one", x, [9, 8, 7, 2, 1], broken=broken)], stages=stages)
        (path,) = re.findall(r'<path d="([^"]*)" class="line', found.picture)
        assert path.count("M") == 1 + broken
        assert path.count("L") == 4 - broken


def test_an_axis_of_per_cent_does_not_blow_up_what_does_not_matter() -> None:
    for values, least in (([82.27, 82.41], 80), ([99.9, 99.95], 95), ([0.0, 0.0], 0)):
        found = lines("c", "episodes", "score, %", [Series("one", [0, 1], values)], bounds=(0, 100))
        ticks = [float(each) for each in re.findall(r'text-anchor="end">([\d.]+)<', found.picture)]
        assert max(ticks) - min(ticks) >= 4
        assert abs(min(ticks) - least) <= 1
        assert max(ticks) <= 100


def test_an_axis_of_rates_begins_at_zero() -> None:
    found = lines("c", "episodes", "episodes a second", [Series("one", [0, 1], [90.0, 120.0])], from_zero=True)
    ticks = [float(each) for each in re.findall(r'text-anchor="end">([\d.]+)<', found.picture)]
    assert (min(ticks), max(ticks)) == (0, 120)


def test_a_histogram_counts_every_episode() -> None:
    found = histogram("h", "accuracy, %", np.array([0.0, 20, 20, 100]))
    assert sum(int(row[1]) for row in found.rows) == 4


@pytest.mark.parametrize("answers", [5, 7, 15, 20, 50, 75, 300])
def test_bars_of_a_histogram_hold_as_many_values_each(answers: int) -> None:
    right = np.arange(answers + 1)
    counts = [int(row[1]) for row in histogram("h", "accuracy, %", 100 * right / answers).rows]
    assert sum(counts) == answers + 1
    assert len(set(counts[1:])) == 1 or answers < 10, "no bar is empty, or twice as high, for want of values alone"
    assert 5 <= 100 / (len(counts) - 1) <= 11


def test_bars_of_a_histogram_are_five_wide_for_any_other_score() -> None:
    found = histogram("h", "joint, %", 100 * np.random.default_rng(0).random(200))
    assert [row[0] for row in found.rows[:2]] == ["0 to 5", "5 to 10"]
    assert sum(int(row[1]) for row in found.rows) == 200


@pytest.mark.parametrize("text", HOSTILE)
def test_words_in_a_picture_are_text(text: str) -> None:
    pictures = [
        forest(text, text, [Interval(text, 50, (49, 51), text, False, note=text)]),
        lines(text, text, text, [Series(text, [0, 1], [0, 1])], stages=[Stage(text, 0, 1)]),
        scatter(text, text, text, [Point(text, 1, 1)]),
    ]
    for each in pictures:
        assert "<script" not in each.picture
        assert "<img" not in each.picture
        assert "<svg onload" not in each.picture
