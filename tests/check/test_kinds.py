"""Conformance where queries follow, of masks and of single images; and which kinds a method is checked on."""

from __future__ import annotations

import gc
import re
from functools import cache

import numpy as np
import pytest
import torch

from harness.check import Report, check_method
from harness.check.settings import QUERIES, Setting, settings_for, streamed
from harness.check.tasks import changed, draw, first_seen, numbers
from harness.data.dataset import ClassTable
from harness.episodes.plan import plan_episodes
from harness.evaluation.rollout import feedback_of, step_through
from harness.method.interface import CLASSES, MASKS, Method
from harness.method.registry import load_method
from harness.protocol.load import load_protocol
from harness.protocol.models import KINDS, PROTOCOL
from harness.util.errors import UserError
from tests.helpers import broken_others as others
from tests.helpers import broken_queries as queries
from tests.helpers.broken_methods import Honest

QUERIED = ("continual", "n_way_k_shot")

BROKEN: list[tuple[type[Method], str, str | None, str, set[str]]] = [
    # the class, the check that must catch it, the kind it is named at (None: alike on all), words of the reason, and
    # the other checks that may truly fail with it
    (
        queries.CentresTheQueries,
        "queries are independent",
        "continual",
        r"answer to query 0 of episode \d changed by \S+ when the other queries were replaced: queries see each other",
        set(),
    ),
    (queries.SharesTheClassesOut, "queries are independent", None, "when the other queries were replaced", set()),
    (queries.SortsTheQueries, "queries are independent", "continual", "when the other queries were replaced", set()),
    (queries.CountsTheQueries, "queries are independent", None, "in reverse order: their places tell", set()),
    (
        queries.RemembersTheLastQuery,
        "queries are independent",
        None,
        "asked twice: query keeps something outside the state",
        {"no hidden state", "forking"},
    ),
    (
        queries.KeepsFastWeightsOnTheModule,
        "adapt",
        "continual",
        "when another state had been adapted in between: adapt keeps something outside the state",
        set(),
    ),
    (
        queries.AdaptsLessEachTime,
        "adapt",
        "continual",
        "when the same state was adapted twice",
        {"no hidden state", "forking"},
    ),
    (queries.AdaptsInPlace, "nothing in place", None, r"adapt edited the state before adapt\['sums'\] in place", set()),
    (queries.EditsTheStateItIsAskedFrom, "nothing in place", None, r"query edited the state\['counts'\]", set()),
    (queries.AnswersQueriesOneByOne, "answers", None, r"query: .* shape \[6, 4, 3\] instead of \[4, 6, 3\]", set()),
    (
        queries.ReadsTheTargetsOfQueries,
        "no anticipation",
        None,
        r"answer to query 0 of episode \d .* the label of query 0, which is never revealed, was changed",
        {"forking"},
    ),
    (
        queries.ReadsTheNextPair,
        "no anticipation",
        "n_way_k_shot",
        "the state after support pair 0 changed when the pairs after support pair 0",
        {"forking"},
    ),
    (queries.IgnoresTheLabelOfAPair, "label timing", None, "the method ignores feedback", set()),
    (
        queries.PairsWithTheImageBefore,
        "pairing",
        None,
        "given support pairs, it pairs each label with the input of the pair before",
        set(),
    ),
    (
        queries.AbsorbsAllButTheLast,
        "stepping equals absorb",
        "continual",
        r"answer to query 0 of episode \d differs by \S+ between stepping and absorb",
        set(),
    ),
    (
        queries.AbsorbsWithoutGradient,
        "stepping equals absorb",
        "continual",
        "gradient through absorb differs by .* in parameter 'encode.weight'",
        set(),
    ),
    (
        queries.NormalisesOverWhatItAbsorbs,
        "stepping equals absorb",
        None,
        r"answer to query \d of episode \d differs by \S+ between stepping and absorb",
        set(),
    ),
    (
        queries.SearchesForItsQueries,
        "no anticipation",
        None,
        r"answer to query \d of episode \d changed by \S+ when the label of query \d, which is never revealed",
        {"forking", "label timing", "pairing", "queries are independent", "stepping equals absorb"},
    ),
    (queries.AbsorbsPairsAsAStream, "stepping equals absorb", "n_way_k_shot", "between stepping and absorb", set()),
    (queries.AbsorbsInPlace, "stepping equals absorb", None, "absorb edits its inputs in place", set()),
    (
        others.PeeksAtTheNextMask,
        "no anticipation",
        None,
        r"in rollout, .* when the label of step \d+, revealed before step \d+, was changed",
        {"label timing", "stepping equals rollout"},
    ),
    (
        others.WritesMasksIntoItsPast,
        "nothing in place",
        None,
        r"observe at step 0 edited the state before step 0\['mask'\] in place",
        set(),
    ),
    (others.EditsTheMask, "nothing in place", None, "observe at step 0 edited the feedback of step 0", set()),
    (others.ExpectsAMaskOnceTheyCome, "null feedback", None, "not finite when every other label stayed null", set()),
    (others.IgnoresMasks, "label timing", None, "the method ignores feedback", set()),
    (others.AnswersWithoutAChannel, "answers", None, r"shape \[4, 32, 32\] instead of \[4, 1, 32, 32\]", set()),
    (others.ReadsTheTarget, "no anticipation", None, "the label of step 0, which is never revealed", set()),
    (others.ClassifierOverTheBatch, "no cross-talk", None, "the other episodes of the batch were replaced", set()),
]


@cache
def report_of(cls: type[Method]) -> Report:
    """The report of a class on all of its kinds but streams, made once for all tests."""
    gc.freeze()  # what the tests themselves hold: methods that search all objects need not go through it
    try:
        return check_method(cls, kinds=[kind for kind in cls.kinds if kind in (*QUERIED, *MASKS, "supervised")])
    finally:
        gc.unfreeze()


@pytest.mark.parametrize(("cls", "check", "kind", "reason", "also"), BROKEN, ids=[each[0].__name__ for each in BROKEN])
def test_a_broken_method_is_caught_for_its_own_reason(
    cls: type[Method], check: str, kind: str | None, reason: str, also: set[str]
) -> None:
    report = report_of(cls)  # type: ignore[arg-type]
    found = report.result(check)
    assert found.outcome == "failed", report.text()
    assert re.search(reason, found.reason), found.reason
    assert found.kind == kind
    assert {each.name for each in report.failures} - {check} <= also, report.text()


@pytest.mark.parametrize(
    ("cls", "skipped"),
    [
        (
            queries.AdaptsByGradient,
            {"stepping equals rollout", "stepping equals absorb", "null feedback", "null is no class"},
        ),
        (
            others.HonestMasks,
            {"pairing", "relabelling", "queries are independent", "adapt", "stepping equals absorb"},
        ),
        (
            others.Classifier,
            {
                *("label timing", "pairing", "forking", "null feedback", "null is no class", "relabelling"),
                *("queries are independent", "adapt", "stepping equals rollout", "stepping equals absorb"),
            },
        ),
    ],
)
def test_an_honest_method_passes_all_that_can_be_said_of_its_kind(cls: type[Method], skipped: set[str]) -> None:
    outcomes = {result.name: result.outcome for result in report_of(cls).results}  # type: ignore[arg-type]
    outcomes.pop("relabelling")
    assert {name for name, outcome in outcomes.items() if outcome == "skipped"} == skipped - {"relabelling"}
    assert {outcome for name, outcome in outcomes.items() if name not in skipped} == {"passed"}


def test_a_failure_on_one_kind_alone_names_it() -> None:
    report = report_of(queries.AbsorbsPairsAsAStream)
    assert "on n_way_k_shot: answer to query" in report.text(400)
    assert report.result("stepping equals absorb").delay is None


def test_kinds_that_a_method_does_not_declare_are_not_tested_and_named() -> None:
    report = report_of(others.HonestMasks)
    assert report.untested == CLASSES
    assert "does not declare them: online_few_shot, delayed_label" in report.text()
    assert max(map(len, report.text(80).splitlines())) <= 80
    assert report.tried_on == "random tasks: masks of 3x32x32 images; and on images of scenes"


def test_state_bytes_grow_with_support_pairs_where_pairs_are_kept() -> None:
    found = report_of(queries.AdaptsByGradient).memory
    assert found is not None
    # Six float32 features and an int64 label for each pair.
    assert (found.growth, found.bytes_per_pair, found.bytes_per_step) == ("with support pairs", 6 * 4 + 8, 0)
    assert report_of(others.Classifier).memory is None


@pytest.mark.parametrize(
    ("protocol", "setting"),
    [
        ("omniglot_continual5", Setting(5, (1, 28, 28), "continual", 1, classes=869)),
        ("omniglot_20way_1shot", Setting(20, (1, 28, 28), "n_way_k_shot", classes=4112)),
        ("cifar100_supervised", Setting(100, (3, 32, 32), "supervised", classes=100)),
    ],
)
def test_a_protocol_gives_its_kind_alone_with_its_ways_and_image_shape(protocol: str, setting: Setting) -> None:
    cls = load_method("cl_lstm").cls
    assert settings_for(cls, load_protocol(protocol).protocol, None, None) == [setting]


def test_masks_are_checked_in_the_image_shape_of_the_protocol() -> None:
    found = settings_for(others.HonestMasks, load_protocol("fss1000_plain").protocol, None, None)
    assert found == [Setting(2, (3, 224, 224), "segmentation_distractors", 1, classes=520)]


def test_a_protocol_of_a_kind_that_the_method_does_not_declare_is_refused() -> None:
    with pytest.raises(UserError, match="HonestMasks does not run on protocols of kind continual; it runs on segm"):
        check_method(others.HonestMasks, load_protocol("omniglot_continual5").protocol)


def test_a_kind_that_does_not_exist_is_refused_with_the_nearest_that_does() -> None:
    with pytest.raises(UserError, match=r"'n_way_kshot'\. Did you mean 'n_way_k_shot'"):
        check_method(others.MisspellsItsKind)
    with pytest.raises(UserError, match="nothing to check: HonestMasks runs on segmentation_distractors"):
        check_method(others.HonestMasks, kinds=["continual"])


def test_what_check_calls_misshapen_stops_a_run_with_the_same_words() -> None:
    setting = settings_for(others.AnswersWithoutAChannel, None, None, None)[0]
    with pytest.raises(UserError) as stopped:
        step_through(others.AnswersWithoutAChannel(setting.task(True)), draw(setting, "episodes"))
    said = report_of(others.AnswersWithoutAChannel).result("answers").reason.split(": ")[1]
    assert said in str(stopped.value)


TABLE = ClassTable(
    names=tuple("abcdef"),
    offsets=np.arange(7, dtype=np.int64) * 20,
    members=np.arange(120, dtype=np.int32),
    rotations=np.zeros(6, np.int8),
)


@pytest.mark.parametrize("kind", [*QUERIED, *MASKS])
def test_made_up_episodes_have_the_timing_of_planned_ones(kind: str) -> None:
    setting = next(each for each in settings_for(_Everything, None, None, None) if each.kind == kind)
    shots, queries_per_class = (setting.steps - setting.queries) // setting.ways, setting.queries // setting.ways
    shape = {
        "continual": {"subtasks": setting.ways, "shots": shots, "queries": queries_per_class},
        "n_way_k_shot": {"ways": setting.ways, "shots": shots, "queries": queries_per_class},
        "segmentation_distractors": {"presentations": shots},
    }
    text = {"kind": kind, "title": "t", "dataset": "scenes", "episode": shape[kind]}
    scoring = {"scoring": {"shots": [1]}} if kind in MASKS else {}
    plan = plan_episodes(PROTOCOL.validate_python({**text, **scoring}), TABLE, "test", 0, [0, 1])
    drawn = draw(setting, "a").plan
    assert plan.feedback_step.tolist() == drawn.feedback_step.tolist()
    assert plan.phase.tolist() == drawn.phase.tolist()
    assert plan.scored.tolist() == drawn.scored.tolist()
    if kind in QUERIED:
        first = plan.first_query
        for field in ("target", "shot"):
            made, planned = (np.sort(getattr(each, field)[:, :first]) for each in (drawn, plan))
            assert (made == planned[0]).all()
            assert (planned == planned[0]).all()
    if kind == "continual":
        assert ((np.diff(drawn.target[:, :first]) != 0).sum(1) == setting.ways - 1).all()


class _Everything(Honest):
    kinds = tuple(KINDS)


def test_a_label_is_seen_from_the_step_that_reveals_it() -> None:
    assert first_seen(streamed(4, 2)).tolist() == [2, 3, 4, 4]
    continual = Setting(3, (1, 4, 4), "continual", 1)
    assert first_seen(continual.timing).tolist() == [1, 2, 3, 4, 5, 6] + [6 + QUERIES] * QUERIES
    pairs = Setting(3, (1, 4, 4), "n_way_k_shot")
    assert first_seen(pairs.timing).tolist() == [0, 1, 2, 3, 4, 5] + [6 + QUERIES] * QUERIES


def test_another_mask_is_always_another_one_exactly_where_asked() -> None:
    setting = Setting(2, (3, 16, 12), "segmentation_distractors", 1)
    episodes, by = draw(setting, "a"), draw(setting, "b")
    assert episodes.objects is not None
    assert bool(episodes.objects.flatten(2).any(2).all())
    assert bool((episodes.target.flatten(2).any(2) == (numbers(episodes) == 0)).all())
    at = (torch.arange(setting.steps) % 3 == 1)[:, None]
    after = changed(episodes, by, inputs=~at, labels=at)
    moved = (after.target != episodes.target).flatten(2).any(2)
    assert torch.equal(moved, at.expand_as(moved))
    assert torch.equal((after.x != episodes.x).flatten(2).any(2), ~moved)
    assert by.objects is not None
    shown = moved & (numbers(episodes) == 1)
    assert torch.equal(after.target[shown], by.objects[shown])
    revealed = (feedback_of(after).target != feedback_of(episodes).target).flatten(2).any(2)
    assert torch.equal(revealed[1:], moved[:-1])
