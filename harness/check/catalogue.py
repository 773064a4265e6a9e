"""The checks: what each is called, what it proves, on which kinds of protocols it runs, and after which others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from harness.check.agreement import stepping_equals_absorb, stepping_equals_rollout
from harness.check.answers import answers, null_feedback, relabelling
from harness.check.at_scoring_size import as_scored
from harness.check.causality import label_timing, no_anticipation
from harness.check.compare import AGREED, EXACTLY, ROUNDED
from harness.check.history import nothing_remembered, null_is_no_class
from harness.check.isolation import no_cross_talk, no_global_randomness, no_hidden_state, repeatable
from harness.check.learning import save_and_load, trainable
from harness.check.pairing import pairing
from harness.check.queries import adapting, queries_are_independent
from harness.check.report import Finding
from harness.check.state import nothing_in_place, state_is_all, state_is_batched
from harness.check.subject import Subject
from harness.method.interface import MASKS
from harness.protocol.models import KINDS

_BY_PATH = f"stepping {EXACTLY}, a fast path {ROUNDED}"
_SOUND = ("answers", "repeatable")
_UNDISTURBED = (*_SOUND, "no global randomness", "nothing in place")
_QUERIED = ("continual", "n_way_k_shot")
_WITH_LABELS = tuple(kind for kind in KINDS if kind != "supervised")
_WITH_CLASSES = tuple(kind for kind in _WITH_LABELS if kind not in MASKS)


@dataclass(frozen=True)
class Check:
    """One check: its name, the sentence it proves when it passes, and the function that runs it.

    Where a check named in `after` did not pass, this one is skipped: it would fail for the other's reason, and
    say something untrue of the method. It is run on the kinds of protocols in `on`; on others it has nothing to say.
    `compared` says how alike the values must be that it compares; empty where it compares none.
    """

    name: str
    proves: str
    run: Callable[[Subject], Finding]
    after: tuple[str, ...] = _SOUND
    on: tuple[str, ...] = tuple(KINDS)
    compared: str = ""


CHECKS = (
    Check("answers", "logits are finite floats of the right shape, at every step and to queries", answers, after=()),
    Check(
        "repeatable",
        "the same weights asked the same give the same answers",
        repeatable,
        ("answers",),
        compared=EXACTLY,
    ),
    Check(
        "no global randomness",
        "answers neither use nor advance global random states",
        no_global_randomness,
        compared=EXACTLY,
    ),
    Check(
        "no anticipation",
        "no answer depends on later inputs or on labels not yet revealed",
        no_anticipation,
        compared=_BY_PATH,
    ),
    Check(
        "label timing",
        "labels move answers from their reveal on, and never before",
        label_timing,
        on=_WITH_LABELS,
        compared=_BY_PATH,
    ),
    Check(
        "as scored",
        "in batches of the size of scoring, after many calls, answers know no more",
        as_scored,
        (*_SOUND, "no anticipation"),
        compared=EXACTLY,
    ),
    Check(
        "no cross-talk",
        "an episode's answers do not depend on the other episodes of its batch",
        no_cross_talk,
        (*_SOUND, "no global randomness"),  # a batch of another size draws other numbers
        compared=f"beside others {ROUNDED}, alone {AGREED}",
    ),
    Check(
        "no hidden state",
        "answers do not depend on what ran before, and scoring changes nothing",
        no_hidden_state,
        compared=EXACTLY,
    ),
    Check("state", "every state is a pytree of tensors with leading dimension B", state_is_batched),
    Check("nothing in place", "no call edits a state, input or answer in place", nothing_in_place, compared=EXACTLY),
    Check(
        "forking",
        "a state can be forked and cut: it is all that is carried",
        state_is_all,
        (*_UNDISTURBED, "state"),
        _WITH_LABELS,
        f"forked {EXACTLY}, cut {AGREED}",
    ),
    Check("pairing", "a label is paired with the input it belongs to", pairing, (*_SOUND, "forking"), _WITH_CLASSES),
    Check(
        "queries are independent",
        "a query's answer depends on no other query, nor on its place among them",
        queries_are_independent,
        _UNDISTURBED,
        _QUERIED,
        f"as many at once {ROUNDED}, more or fewer {AGREED}",
    ),
    Check(
        "adapt",
        "adapt gives a state that is all it learned, and always the same",
        adapting,
        _UNDISTURBED,
        _QUERIED,
        EXACTLY,
    ),
    Check(
        "nothing remembered",
        "what the method holds beside its state does not depend on what it answered",
        nothing_remembered,
        (*_SOUND, "no hidden state", "forking", "queries are independent", "adapt"),
        compared=EXACTLY,
    ),
    Check(
        "stepping equals rollout",
        "both give the same answers and gradients",
        stepping_equals_rollout,
        on=tuple(kind for kind in KINDS if kind not in _QUERIED),
        compared=AGREED,
    ),
    Check(
        "stepping equals absorb",
        "both lead to the same answers to queries, and gradients",
        stepping_equals_absorb,
        on=_QUERIED,
        compared=AGREED,
    ),
    Check("trainable", "every parameter gets a finite gradient from the training loss", trainable),
    Check("save and load", "a checkpoint restores the same answers", save_and_load, compared=EXACTLY),
    Check(
        "null feedback",
        "answers stay finite when nothing is revealed",
        null_feedback,
        on=tuple(kind for kind in _WITH_LABELS if kind != "n_way_k_shot"),  # every support pair has its label
    ),
    Check(
        "null is no class",
        "null feedback before the first label is not taken for a class",
        null_is_no_class,
        _UNDISTURBED,
        on=tuple(kind for kind in _WITH_LABELS if kind != "n_way_k_shot"),
        compared=EXACTLY,
    ),
    Check(
        "relabelling",
        "whether class numbers are interchangeable (reported, not required)",
        relabelling,
        on=_WITH_CLASSES,
        compared=AGREED,
    ),
)
