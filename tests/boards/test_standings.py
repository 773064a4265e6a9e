"""Standings: rows grouped into entries, ranked, or set apart with a reason."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness.boards.entries import Summary
from harness.boards.standings import Standings, standings
from harness.protocol.models import PROTOCOL
from harness.records.marks import FAILED_CHECK, NOT_CHECKED
from harness.records.parts import Isolated, Metric
from harness.records.record import Record
from tests.helpers.boards import DIGEST, PROTOCOL_TEXT, record

STAND_IN_DIGEST = PROTOCOL.validate_python({**PROTOCOL_TEXT, "dataset": "glyphs"}).digest


def ranking(*records: Record, test_episodes: int | None = 1000) -> Standings:
    return standings(list(enumerate(records, start=1)), DIGEST, test_episodes, "accuracy")


def test_seeds_of_one_setting_are_one_entry_with_mean_and_spread() -> None:
    ((rank, entry),) = ranking(record(70, 0.4, seed=2), record(80, 0.6, seed=0), record(90, 0.5, seed=1)).ranked
    assert rank == "1"
    assert [each.seed for each in entry.records] == [0, 1, 2]
    summary = entry.summary("accuracy")
    assert summary is not None
    assert summary.mean == pytest.approx(80)
    assert summary.spread == pytest.approx(10)
    of_seeds, of_episodes = 4.3027 * 10 / 3**0.5, 0.5  # Student's with two degrees of freedom; not 0.5 / sqrt(3)
    assert summary.interval is not None
    assert summary.interval == pytest.approx(np.hypot(of_seeds, of_episodes), rel=0.1)
    assert summary.bounds is not None
    assert 100 - summary.bounds[1] < summary.bounds[0], "wider on the side away from 100 %"


def test_one_seed_has_no_spread() -> None:
    ((_, entry),) = ranking(record()).ranked
    summary = entry.summary("accuracy")
    assert summary is not None
    assert summary.spread is None


def test_a_metric_that_one_seed_lacks_is_not_averaged_over_the_others() -> None:
    short = record(seed=1)
    short = short.model_copy(update={"metrics": {"accuracy": short.metrics["accuracy"]}})
    ((_, entry),) = ranking(record(), short).ranked
    assert entry.summary("accuracy@shot=1") is None
    assert entry.summary("accuracy") is not None


def test_a_row_of_the_same_run_that_says_less_hides_none_that_says_more() -> None:
    isolated = Isolated(confined="bubblewrap", episodes=1000, fresh=True)
    plain = record(70).model_copy(update={"kept": ""})
    more = plain.model_copy(update={"isolated": isolated, "kept": "checkpoints"})
    unchecked = plain.model_copy(update={"marks": [*plain.marks, NOT_CHECKED]})
    for less in (plain, unchecked, more.model_copy(update={"isolated": None})):
        for rows in ((more, less), (less, more)):
            found = ranking(*rows)
            ((_, entry),) = found.ranked
            assert (entry.records, entry.older, found.apart) == ((more,), 1, ())
    another = plain.model_copy(update={"run": "another", "finished": "2026-03-01T00:00:00Z"})
    assert ranking(more, another).ranked[0][1].records == (another,), "a run of its own"
    failed = plain.model_copy(update={"marks": [*plain.marks, f"{FAILED_CHECK}: no cross-talk"]})
    assert not ranking(more, failed).ranked, "that is news"


def test_of_one_setting_and_seed_the_later_line_counts_whatever_time_it_says_and_the_older_are_counted() -> None:
    last = record(80, finished="2026-02-01T00:00:00Z")
    ((_, entry),) = ranking(record(60, finished="2026-03-01T00:00:00Z"), record(70), last).ranked
    assert entry.records == (last,)
    assert entry.older == 2


def test_one_seed_from_two_runs_weights_is_two_trainings_of_one_entry() -> None:
    first, second = (record(value, init=start * 64, init_episodes=500) for value, start in ((70, "e"), (80, "f")))
    ((_, entry),) = ranking(first, second).ranked
    assert entry.records == (first, second)
    assert entry.older == 0


def test_a_newer_record_that_failed_a_check_takes_the_older_one_out_of_the_ranking() -> None:
    failed = record(marks=["failed check: no cross-talk"], finished="2026-03-01T00:00:00Z")
    result = ranking(record(), failed)
    assert result.ranked == ()
    assert [heading for heading, _ in result.apart] == ["Failed a check"]


UNCHECKED = ["not checked"]


def test_a_newer_record_that_was_not_checked_hides_none_that_was() -> None:
    checked, unchecked = record(70), record(80, marks=UNCHECKED)
    result = ranking(checked, unchecked)
    assert [entry.records for _, entry in result.ranked] == [(checked,)]
    assert [(heading, entry.records) for heading, (entry,) in result.apart] == [("Not checked", (unchecked,))]
    failed = record(60, marks=["failed check: no cross-talk"])
    assert {heading for heading, _ in ranking(failed, unchecked).apart} == {"Failed a check", "Not checked"}


def test_a_checked_record_stands_for_all_before_it() -> None:
    last = record(90)
    result = ranking(record(70), record(75, marks=UNCHECKED), record(80, marks=UNCHECKED), last)
    ((_, entry),) = result.ranked
    assert (entry.records, entry.older, result.apart) == ((last,), 3, ())
    ((_, entries),) = ranking(record(70, marks=UNCHECKED), record(80, marks=UNCHECKED)).apart
    assert [entry.older for entry in entries] == [1]


def test_rows_that_stand_apart_do_not_decide_on_which_data_the_others_are_ranked() -> None:
    good = [record(70, seed=0), record(71, seed=1)]
    other = good[0].data.model_copy(update={"fingerprint": "9" * 64})
    apart = [record(80, seed=each, marks=UNCHECKED).model_copy(update={"data": other}) for each in range(3)]
    ((_, entry),) = ranking(*good, *apart).ranked
    assert entry.records == tuple(good)
    ((heading, (entry,)),) = ranking(*apart).apart
    assert (heading, len(entry.reasons)) == ("Not checked", 1), "alone, their data are the usual ones"


def test_two_runs_of_one_name_but_different_settings_are_both_shown() -> None:
    assert len(ranking(record(), record(options={"width": 32}, finished="2026-03-01T00:00:00Z")).ranked) == 2


def test_entries_share_a_rank_if_the_interval_of_their_difference_includes_zero() -> None:
    entries = [(90.0, 0.5), (89.4, 0.5), (88.8, 0.5), (80.0, 0.1), (20.0, 0.0), (20.0, 0.0)]
    result = ranking(*(record(a, i, options={"n": n}) for n, (a, i) in enumerate(entries)))
    # The third is like the second but not like the first, which is what counts.
    assert [rank for rank, _ in result.ranked] == ["1=", "1=", "3", "4", "5=", "5="]


def test_scores_of_single_episodes_separate_what_their_intervals_do_not() -> None:
    episodes = np.random.default_rng(0).random(1000)
    values = {0: episodes, 1: np.clip(episodes - 0.005, 0, 1), 2: np.roll(episodes, 1) - 1e-6}
    rows = [record(100 * each.mean(), 1.8, options={"n": n}) for n, each in values.items()]
    alone = standings(list(enumerate(rows)), DIGEST, 1000, "accuracy")
    assert [rank for rank, _ in alone.ranked] == ["1=", "1=", "1="]

    def stored(row: Record) -> dict[str, np.ndarray]:
        return {"accuracy": values[int(str(row.options["n"]))]}

    result = standings(list(enumerate(rows)), DIGEST, 1000, "accuracy", stored)
    assert [(rank, entry.newest.options["n"]) for rank, entry in result.ranked] == [("1=", 0), ("1=", 2), ("3", 1)]


@pytest.mark.parametrize(
    ("bounds", "text"),
    [
        ((96.9, 97.3), "97.1 ± 0.2"),
        ((96.5, 97.3), "97.1 +0.2 -0.6"),
        ((96.89, 97.3), "97.1 ± 0.2"),
        ((97.1, 97.1 + 1e-14), "97.1 ± 0.0"),
        (None, "97.1"),
        ((97.1 + 1e-13, 97.1 + 1e-13), "97.1 ± 0.0"),
    ],
)
def test_an_interval_whose_sides_differ_is_printed_with_both(bounds: tuple[float, float] | None, text: str) -> None:
    assert Summary(97.1, bounds, (97.1,)).text() == text


def test_the_ranking_does_not_depend_on_the_order_of_the_lines() -> None:
    rows = [record(50, 0.1, options={"n": n}, run=f"r{n}", seed=n % 2) for n in range(6)]
    assert ranking(*rows).ranked == ranking(*reversed(rows)).ranked


@pytest.mark.parametrize(
    ("change", "heading", "why"),
    [
        (
            {"digest": "e" * 64},
            "Another protocol digest",
            f"digest {'e' * 12}, the protocol's is {DIGEST[:12]}",
        ),
        (
            {"data": record().data.model_copy(update={"fingerprint": "e" * 64})},
            "Other data",
            f"fingerprint {'e' * 12}, most rows have {'a' * 12}",
        ),
        ({"marks": ["failed check: no anticipation"]}, "Failed a check", "failed check: no anticipation"),
        ({"test_episodes": 999}, "Partial test", "999 of 1000 test episodes"),
        ({"marks": ["partial test"]}, "Partial test", "marked so; 1000 test episodes"),
        (
            {"metrics": {"accuracy@shot=1": Metric(mean=99.0, interval=0.1, episodes=1000)}},
            "Without 'accuracy'",
            "no metric 'accuracy'",
        ),
    ],
)
def test_a_row_that_cannot_be_compared_stands_apart_with_its_reason(
    change: dict[str, Any], heading: str, why: str
) -> None:
    result = ranking(record(10), record(11, seed=1), record(99, **{"options": {"n": 1}, **change}))
    assert [entry.records[0].options for _, entry in result.ranked] == [{"width": 16}]
    ((found, (entry,)),) = result.apart
    assert found == heading
    assert entry.reasons == ((heading, why),)


def test_more_test_episodes_than_there_are_stand_apart() -> None:
    result = ranking(record(test_episodes=10**9), record())
    assert [heading for heading, _ in result.apart] == ["More test episodes than the protocol has"]
    assert len(result.ranked) == 1


def test_a_row_whose_check_was_left_out_stands_apart_with_the_reason() -> None:
    result = ranking(record(marks=["not checked"]), record(seed=1))
    ((heading, (entry,)),) = result.apart
    assert heading == "Not checked"
    assert entry.reasons == (("Not checked", "the run left the conformance check out"),)
    assert len(result.ranked) == 1


def test_seeds_of_different_versions_of_a_method_are_different_entries() -> None:
    result = ranking(record(), record(seed=1, method_version=2), record(seed=2, method_version=1))
    assert sorted([each.seed for each in entry.records] for _, entry in result.ranked) == [[0, 2], [1]]


def test_the_data_of_most_rows_are_compared_and_of_two_equal_sets_the_later() -> None:
    other = record().data.model_copy(update={"fingerprint": "e" * 64})
    late = record(data=other, run="late", finished="2026-06-01T00:00:00Z")
    ((_, entry),) = ranking(record(), late).ranked
    assert entry.newest.run == "late"
    result = ranking(record(), record(seed=1), late)
    assert [each.run for each in result.ranked[0][1].records] == ["opn-quick-s0"] * 2


def test_rows_of_another_digest_have_no_say_in_what_the_data_are() -> None:
    other = record().data.model_copy(update={"fingerprint": "e" * 64})
    strangers = [record(digest="e" * 64, data=other, seed=seed) for seed in range(3)]
    assert len(ranking(record(), *strangers).ranked) == 1
