"""Conformance: every built-in method passes, honest oddities are not accused, and every break is named.

Breaks are tried on streams here; those where queries follow, of masks and of single images are in test_kinds.py.
"""

from __future__ import annotations

import gc
import inspect
import random
import re
from functools import cache, partial
from typing import Any

import numpy as np
import pytest
import torch

from harness.check import CHECKS, Report, check_method, subject
from harness.check.conditions import random_states
from harness.check.settings import STREAMS, settings_for
from harness.check.skips import SKIPPABLE
from harness.check.state import memory
from harness.check.subject import Subject
from harness.evaluation import rollout
from harness.evaluation.evaluate import evaluate
from harness.method.interface import MASKS, Method
from harness.method.registry import build_method, load_method, method_names
from harness.protocol.load import load_protocol
from harness.util.errors import UserError
from tests.helpers import broken_carriers as carriers
from tests.helpers import broken_methods as methods
from tests.helpers import broken_thieves as thieves

_SMALL: dict[Any, tuple[str, ...]] = {
    4: ("channels", "modulator", "key", "value"),
    8: ("units", "lstm", "hidden", "slots"),
    16: ("width",),
    0.125: ("width",),
    1: ("blocks", "inner_steps", "test_steps", "passes"),
    2: ("heads", "samples", "shifts", "steps"),
    25: ("length",),
    64: ("memory",),
}
SMALL: list[tuple[str, Any]] = [(option, size) for size, options in _SMALL.items() for option in options]
"""Options that make built-in methods small, for those that have them as such a number."""

STACK = {"label timing", "no cross-talk", "forking", "pairing", "stepping equals rollout"}
"""Checks that a method may fail too which takes targets from the stack or from memory: they are not always there."""

BROKEN: list[tuple[type[Method], str, str, set[str]]] = [
    # the class, the check that must catch it, words of the reason, and the other checks that may truly fail with it
    (
        methods.PeeksAtTheNextLabel,
        "no anticipation",
        r"in rollout, answer at step 0 of episode \d changed by \S+ when the label of step 0, revealed before step 1, "
        "was changed: the method sees a label before it is revealed",
        {"label timing", "stepping equals rollout"},
    ),
    (
        methods.PeeksBehindAZeroHead,
        "no anticipation",
        "the method sees a label before it is revealed",
        {"label timing", "stepping equals rollout"},
    ),
    (
        methods.NormalisesOverTime,
        "no anticipation",
        r"in rollout, .* when the input of step \d+ was changed: the method sees an input before it is shown",
        {"stepping equals rollout"},
    ),
    (
        thieves.ReadsTheCallersFrame,
        "no anticipation",
        "^answer at step 0 of .* the method sees a label before it is revealed",
        STACK,
    ),
    (
        methods.PairsTooLate,
        "pairing",
        "told that labels come 3 steps late, it pairs each label with the input of 2 steps before",
        set(),
    ),
    (
        methods.PairsTooEarly,
        "pairing",
        "told that labels come 1 step late, it pairs each label with the input of 2 steps before",
        set(),
    ),
    (methods.IgnoresFeedback, "label timing", "the method ignores feedback", set()),
    (
        methods.BatchNormInTrainMode,
        "no cross-talk",
        r"changed by \S+ when the other episodes of the batch were replaced: the method mixes episodes "
        r"\(batch statistics, .*'norm' is in train mode",
        {"no anticipation", "no hidden state", "forking", "stepping equals rollout"},
    ),
    (
        methods.BatchNormInTrainMode,
        "no hidden state",
        "answering changed buffer 'norm.running_mean'.*scoring must not train",
        {"no anticipation", "no cross-talk", "forking", "stepping equals rollout"},
    ),
    (
        methods.NormalisesOverTheBatch,
        "no cross-talk",
        "when the other episodes of the batch were replaced",
        {"no anticipation", "forking", "stepping equals rollout"},
    ),
    (methods.AveragesOverTheBatch, "no cross-talk", "when the episode was answered alone", {"forking"}),
    (
        carriers.RemembersTheLastEpisode,
        "no hidden state",
        r"when another batch had been answered in between: .* outside its state \(attribute 'last' changed\)",
        {"forking"},
    ),
    (carriers.RemembersOnTheClass, "repeatable", "class attribute 'RemembersOnTheClass.seen' changed", set()),
    (
        carriers.KeepsItsStateOnTheModule,
        "forking",
        "answer at step 6 .* had been continued another way before: something is kept outside the state",
        set(),
    ),
    (methods.EditsItsState, "nothing in place", r"observe at step 1 edited the state before step 1\['counts'\]", set()),
    (
        methods.EditsItsInput,
        "nothing in place",
        "predict at step 0 edited the input of step 0 in place",
        {"stepping equals rollout"},
    ),
    (carriers.DrawsRandomNumbers, "no global randomness", "the method draws random numbers while it answers", set()),
    (carriers.AdvancesTheRandomState, "no global randomness", "advanced the global random state of torch", set()),
    (carriers.SharesABuffer, "state", r"state\['all'\] has shape \[3\] for 4 episodes", {"no cross-talk"}),
    (carriers.CountsInAnInteger, "state", r"state\['steps'\] is of type int", set()),
    *[
        (cls, "no anticipation", rf"^answer at step \d+ of episode \d changed by \S+ .*: the method sees {what}", STACK)
        for cls, what in (
            (thieves.WalksUpTheStack, "a label before it is revealed"),
            (thieves.KnowsTheScorersNames, "a label before it is revealed"),
            (thieves.InspectsItsCallers, "a label before it is revealed"),
            (thieves.SearchesAllObjects, "a label before it is revealed"),
            (thieves.SearchesAllTensors, "a label before it is revealed"),
            (thieves.ReadsFeedbackToCome, "a label before it is revealed"),
            (thieves.ReadsTheNextImage, "an input before it is shown"),
        )
    ],
    (
        methods.CountsLabelsToCome,
        "no anticipation",
        r"in rollout, answer at step \d+ of episode \d changed by \S+ when the label of step \d+, revealed before step "
        r"\d+, was changed: the method sees a label before it is revealed",
        {"label timing", "stepping equals rollout"},
    ),
    (
        carriers.CountsInABuffer,
        "no hidden state",
        r"answer at step 0 of episode \d changed by \S+ when another batch .* \(buffer 'calls' changed\)",
        {"forking", "save and load"},
    ),
    (
        carriers.CountsItsCalls,
        "no hidden state",
        r"answer at step 0 of episode \d changed by \S+ when another batch .* \(attribute 'calls' changed\)",
        {"forking"},
    ),
    (
        carriers.KeepsWhatItSawFirst,
        "no hidden state",
        "in rollout, answer at step .* when another batch had been answered in between",
        set(),
    ),
    (
        carriers.RemembersInAGlobal,
        "repeatable",
        r"answer at step 0 of episode \d .* on its class or in a global",
        set(),
    ),
    (carriers.RemembersInADefault, "repeatable", "asked the same: the method keeps something", set()),
    (carriers.RemembersInAFile, "repeatable", "asked the same: the method keeps something", set()),
    (carriers.DrawsFromTheSystem, "repeatable", "draws randomness that no seed controls", set()),
    (carriers.HidesInTheRandomState, "no global randomness", "random states were others", set()),
    (carriers.DrawsFromPython, "no global randomness", "the method draws random numbers while it answers", set()),
    (
        carriers.EditsItsFeedback,
        "nothing in place",
        "observe at step 0 edited the feedback of step 0 in place",
        set(),
    ),
    (carriers.TurnsTheBatch, "no cross-talk", "the method mixes episodes", {"no anticipation", "forking", "pairing"}),
    (
        methods.ShiftsItsRollout,
        "stepping equals rollout",
        r"answer at step \d+ of episode \d differs by \S+ between stepping and rollout \(float64, tolerance 1e-09",
        set(),
    ),
    (
        methods.DetachesInRollout,
        "stepping equals rollout",
        "gradient through rollout differs by .* in parameter 'encode.weight'",
        set(),
    ),
    (methods.HasAnUnusedParameter, "trainable", "parameter 'gate' gets no gradient", set()),
    (methods.KeepsAnUnsavedTensor, "save and load", "not in the state_dict", set()),
    (methods.RulesOutWithInfinity, "answers", "predict at step 0: .* not finite", set()),
    (methods.ExpectsALabelOnceTheyCome, "null feedback", "is not finite when every other label stayed null", set()),
    (methods.AnswersForOneClassMore, "answers", r"shape \[4, 4\] instead of \[4, 3\]", set()),
    (methods.Raises, "answers", r"raised KeyError: 'no label' \(broken_methods.py, line \d+, in observe\)", set()),
    (methods.CannotBeBuilt, "builds", "raised LookupError: nothing to build", set()),
]

HONEST = [
    methods.Honest,
    methods.StartsAtZero,
    methods.CachesAMask,
    methods.RoundsWithTheFuture,
    methods.TiesItsWeights,
    methods.ComputesInFloat32,
    methods.LearnsByGradient,
]


@cache
def report_of(cls: type[Method]) -> Report:
    """The report of a class on streams, made once for all tests."""
    gc.freeze()  # what the tests themselves hold: methods that search all objects need not go through it
    try:
        return check_method(cls, kinds=STREAMS)
    finally:
        gc.unfreeze()


def small(cls: type[Method]) -> dict[str, Any]:
    defaults = {name: each.default for name, each in inspect.signature(cls).parameters.items()}
    return {
        option: size
        for option, size in SMALL
        if type(defaults.get(option)) is type(size) and not size > defaults[option]
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", method_names())
def test_every_built_in_method_conforms_on_all_its_kinds(name: str) -> None:
    cls = load_method(name).cls
    # A delay of one step is that of continual streams, and the tests of each method have it.
    report = check_method(cls, options=small(cls), delays=[3], name=name)
    assert report.passed, report.text()
    assert set(cls.kinds).isdisjoint(report.untested)
    assert all(kind in report.tried_on for kind in set(cls.kinds) - {*STREAMS, *MASKS})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cls", "check", "reason", "also"),
    BROKEN,
    ids=[f"{each[0].__name__}-{each[1].replace(' ', '_')}" for each in BROKEN],
)
def test_a_broken_method_is_caught_for_its_own_reason(
    cls: type[Method], check: str, reason: str, also: set[str]
) -> None:
    report = report_of(cls)  # type: ignore[arg-type]
    found = report.result(check)
    assert found.outcome == "failed", report.text()
    assert re.search(reason, found.reason), found.reason
    assert {each.name for each in report.failures} - {check} <= also, report.text()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("cls", HONEST, ids=lambda cls: cls.__name__)
def test_an_honest_method_is_not_accused(cls: type[Method]) -> None:
    report = report_of(cls)  # type: ignore[arg-type]
    assert report.passed, report.text()


@pytest.mark.slow
def test_an_honest_method_earns_a_plain_pass_wherever_one_can_be_had() -> None:
    outcomes = {result.name: result.outcome for result in check_method(methods.Honest).results}
    assert outcomes.pop("relabelling") == "note"
    assert outcomes.pop("adapt") == "skipped"
    assert set(outcomes.values()) == {"passed"}


def test_rounding_that_depends_on_the_future_is_noted_and_not_called_a_leak() -> None:
    found = report_of(methods.RoundsWithTheFuture).result("no anticipation")
    assert (found.outcome, "within rounding" in found.reason) == ("note", True)


def test_a_method_computing_in_float32_is_not_held_to_the_tolerance_of_float64() -> None:
    assert report_of(methods.ComputesInFloat32).result("stepping equals rollout").outcome == "passed"
    assert "float64" in report_of(methods.DetachesInRollout).result("stepping equals rollout").reason


def test_a_failure_names_step_episode_delay_and_size_of_the_change() -> None:
    found = report_of(methods.PeeksAtTheNextLabel).result("no anticipation")
    assert (found.step, found.delay) == (0, 1)
    assert found.episode in range(4)
    assert found.size_of_change is not None
    assert found.size_of_change > 0


def test_a_rule_without_parameters_that_ignores_feedback_is_noted() -> None:
    found = check_method(load_method("chance").cls, kinds=STREAMS).result("label timing")
    assert found.outcome == "note"
    assert "does not react to feedback" in found.reason


def test_checks_that_a_failure_confounds_are_skipped_and_say_so() -> None:
    found = report_of(carriers.DrawsRandomNumbers).result("no cross-talk")
    assert (found.outcome, "'no global randomness' fails" in found.reason) == ("skipped", True)


@pytest.mark.parametrize(
    ("name", "growth", "per_step", "per_delay"),
    [
        ("majority", "constant", 0, 0),
        ("opn", "with d", 0, 4 * 4),  # one vector of four float32 features for each pending sample
        ("nearest_pixel", "with t and support pairs", 28 * 28 * 4 + 8, 0),  # a float32 image and an int64 label
    ],
)
def test_state_bytes_are_recorded_and_their_growth_named(
    name: str, growth: str, per_step: float, per_delay: float
) -> None:
    cls = load_method(name).cls
    subjects = []
    for setting in settings_for(cls, None, None, None):
        task = setting.task(cls.needs_label_delay)
        subjects.append(Subject(partial(build_method, cls, task, small(cls)), setting))
    found = memory(subjects)
    assert found is not None
    assert (found.growth, found.bytes_per_step, found.bytes_per_delay) == (growth, per_step, per_delay)
    assert found.bytes_per_pair == per_step
    steps = {setting: len(series) for setting, series in found.bytes_after_step.items()}
    assert steps == {"label delay 1": 12, "label delay 3": 12, "continual": 6, "n_way_k_shot": 6}


@pytest.mark.slow
def test_checking_is_a_pure_function_and_leaves_global_state_alone() -> None:
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    threads, before = torch.get_num_threads(), random_states()
    first = check_method(methods.Honest, kinds=STREAMS).as_json()
    assert random_states() == before
    assert torch.get_num_threads() == threads
    torch.manual_seed(2)
    assert check_method(methods.Honest, kinds=STREAMS).as_json() == first


@pytest.mark.slow
def test_a_protocol_gives_ways_image_shape_and_its_own_delay() -> None:
    report = check_method(methods.Honest, load_protocol("cifarfs_delay5").protocol, {"units": 4})
    assert report.tried_on == "random tasks: 5 ways, 3x32x32 images, label delays 1, 3 and 5; and on images of objects"
    assert report.passed, report.text()


def test_other_delays_can_be_asked_for_and_long_ones_are_reached() -> None:
    report = check_method(methods.Honest, kinds=STREAMS, delays=[15])
    assert report.passed, report.text()
    assert report.memory is not None
    assert list(report.memory.bytes_after_step) == ["label delay 15"]


class _Skips(methods.HasAnUnusedParameter):
    """Has a parameter that another program trains."""

    skips = {"trainable": "the gate is set by hand", "pairing": "it works the delay out"}  # noqa: RUF012


@pytest.mark.slow
def test_a_check_that_the_method_declares_to_skip_is_skipped_with_its_reason(
    capsys: pytest.CaptureFixture[str],
) -> None:
    report = check_method(_Skips, kinds=STREAMS)
    assert report.passed, report.text()
    found = report.result("trainable")
    assert (found.outcome, found.reason) == ("skipped", "the method declares: the gate is set by hand")
    assert report.result("pairing").outcome == "skipped"
    assert "the method declares: the gate is set by hand" in report.text()
    assert check_method(methods.HasAnUnusedParameter, kinds=STREAMS).failures[0].name == "trainable"


def test_a_loss_that_easy_episodes_end_is_no_fault_and_one_that_never_teaches_is() -> None:
    found = check_method(methods.MeetsItsMargin, kinds=("continual",)).result("trainable")
    assert (found.outcome, "labels that fit no image give one" in found.reason) == ("note", True)
    found = check_method(methods.LearnsNothing, kinds=("continual",)).result("trainable")
    assert (found.outcome, "a gradient of exactly zero" in found.reason) == ("failed", True)


@pytest.mark.parametrize(
    ("skips", "message"),
    [
        ({"trainible": "so"}, r"unknown check in Wrong.skips 'trainible'. Did you mean 'trainable'"),
        ({"no anticipation": "so"}, "'no anticipation' cannot be skipped"),
        ({"no cross-talk": "so"}, "'no cross-talk' cannot be skipped"),
        ({"trainable": " "}, "say in words why 'trainable' does not apply"),
    ],
)
def test_skipping_what_cannot_be_skipped_is_the_authors_error(skips: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_method(type("Wrong", (methods.Honest,), {"skips": skips}), kinds=STREAMS)


def test_what_can_be_skipped_is_a_check_that_no_other_rests_on() -> None:
    assert {check.name for check in CHECKS} >= set(SKIPPABLE)
    assert not {name for check in CHECKS for name in check.after} & set(SKIPPABLE)


def test_a_report_states_how_closely_each_check_compares() -> None:
    report = report_of(methods.Honest)
    compared = {result.name: result.compared for result in report.results}
    assert {name for name, how in compared.items() if how == "bit for bit"} == {
        *("repeatable", "no global randomness", "no hidden state", "nothing in place", "adapt", "save and load"),
        *("nothing remembered", "null is no class", "as scored"),
    }
    assert compared["no anticipation"].startswith("stepping bit for bit, a fast path within 1e-12")
    assert compared["stepping equals rollout"].startswith("within 1e-09 of their size")
    assert "Answers are compared bit for bit." in report.text()


def test_the_check_puts_scorings_own_names_on_the_stack() -> None:
    """Else a method that looks for targets by name would find none here, and find them where they count."""
    for name, variable, scoring in (("evaluate", "batch", evaluate), ("score_batch", "episodes", rollout.score_batch)):
        here = getattr(subject, name)
        assert here.__name__ == scoring.__name__ == name
        assert variable in here.__code__.co_varnames
        assert variable in scoring.__code__.co_varnames


@pytest.mark.parametrize("delay", [0, -1])
def test_a_label_delay_before_the_next_step_is_refused(delay: int) -> None:
    with pytest.raises(UserError, match=f"a label delay is {delay}; the label of step t comes before step t"):
        settings_for(methods.Honest, None, None, [3, delay])


def test_an_unknown_option_is_the_users_error_and_no_finding() -> None:
    with pytest.raises(UserError, match="units"):
        check_method(methods.Honest, options={"unit": 3})
