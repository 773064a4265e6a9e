"""Conformance: what a method must keep to be scored, checked on small random tasks without any data.

Each check is a function of one `Subject` (the method in one setting, at one label delay) that returns a
`Finding`; `CHECKS` lists them with what they prove. `check_method` runs all of them at several label delays.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from harness.check.agreement import stepping_equals_rollout
from harness.check.answers import answers, null_feedback, relabelling
from harness.check.causality import label_timing, no_anticipation, pairing
from harness.check.isolation import no_cross_talk, no_global_randomness, no_hidden_state, repeatable
from harness.check.learning import save_and_load, trainable
from harness.check.report import GRAVITY, CheckResult, Finding, Memory, Report
from harness.check.state import memory, memory_result, nothing_in_place, state_is_all, state_is_batched
from harness.check.subject import Subject, poisoned
from harness.check.tasks import Setting
from harness.errors import HarnessError, UserError
from harness.method import Method, Task
from harness.spec import AnyProtocol, DelayedLabel, OnlineFewShot, StreamProtocol

__all__ = ["CHECKS", "Check", "CheckResult", "Finding", "Memory", "Report", "check_method"]

WAYS, IMAGE_SHAPE, DELAYS = 3, (1, 28, 28), (1, 3)
"""The tasks when no protocol is given."""


_SOUND = ("answers", "repeatable")


@dataclass(frozen=True)
class Check:
    """One check: its name, the sentence it proves when it passes, and the function that runs it.

    Where a check named in `after` did not pass, this one is skipped: it would fail for the other's reason, and
    say something untrue of the method.
    """

    name: str
    proves: str
    run: Callable[[Subject], Finding]
    after: tuple[str, ...] = _SOUND


CHECKS = (
    Check("answers", "logits are finite floats [B, ways] at every step", answers, after=()),
    Check("repeatable", "the same weights asked the same give the same answers", repeatable, after=("answers",)),
    Check("no global randomness", "answers neither use nor advance global random states", no_global_randomness),
    Check("no anticipation", "no answer depends on later inputs or on labels not yet revealed", no_anticipation),
    Check("label timing", "labels move answers from their reveal on, and never before", label_timing),
    Check("pairing", "a label is paired with the input it belongs to", pairing),
    Check(
        "no cross-talk",
        "an episode's answers do not depend on the other episodes of its batch",
        no_cross_talk,
        (*_SOUND, "no global randomness"),  # a batch of another size draws other numbers
    ),
    Check("no hidden state", "answers do not depend on what ran before, and scoring changes nothing", no_hidden_state),
    Check("state", "every state is a pytree of tensors with leading dimension B", state_is_batched),
    Check("nothing in place", "no call edits a state, input or answer in place", nothing_in_place),
    Check(
        "forking",
        "a state can be forked and cut: it is all that is carried",
        state_is_all,
        (*_SOUND, "no global randomness", "state", "nothing in place"),
    ),
    Check("stepping equals rollout", "both give the same answers and gradients", stepping_equals_rollout),
    Check("trainable", "every parameter gets a finite gradient from the training loss", trainable),
    Check("save and load", "a checkpoint restores the same answers", save_and_load),
    Check("null feedback", "answers stay finite when nothing is revealed", null_feedback),
    Check("relabelling", "whether class numbers are interchangeable (reported, not required)", relabelling),
)


def check_method(
    cls: type[Method],
    protocol: AnyProtocol | None = None,
    options: dict[str, Any] | None = None,
    *,
    name: str | None = None,
    seed: int = 0,
    delays: Sequence[int] | None = None,
) -> Report:
    """Runs every check on a method class; it is built with `options` and random weights from `seed`.

    The tasks are random images of `protocol`'s shape and ways (at least 2 ways; without one: 3 ways of 1x28x28), a
    dozen steps long, at label delays 1, 3 and the protocol's own; `delays` names others. Runs on the CPU, in one
    thread, in float32 and where it sharpens a comparison in float64. A check that raises has failed.

    Raises UserError for an option the class does not have, and for a protocol whose kind has no stream.
    """
    options = options or {}
    stream = _stream(protocol)
    usual = (*DELAYS, stream.label_delay) if stream else DELAYS
    settings = [_setting(stream, delay) for delay in sorted(set(delays or usual))]
    found: Memory | None = None
    with _one_thread():
        try:
            subjects = [Subject(_builder(cls, options, seed, setting), setting) for setting in settings]
        except HarnessError:
            raise
        except Exception as error:
            results = [CheckResult("builds", "the class can be built", "failed", _raised(error))]
        else:
            results = _checked(subjects)
            if not any(each.outcome == "failed" and each.name in {"answers", "state"} for each in results):
                found = memory(subjects)
                results.append(memory_result(found))
    return Report(name or cls.__name__, options, _described(settings), tuple(results), found)


def _stream(protocol: AnyProtocol | None) -> StreamProtocol | None:
    if protocol is None or isinstance(protocol, OnlineFewShot | DelayedLabel):
        return protocol
    raise UserError(
        f"methods cannot be checked on a protocol of kind '{protocol.kind}' yet; "
        "leave --protocol out, or give one of kind online_few_shot or delayed_label"
    )


def _setting(protocol: StreamProtocol | None, delay: int) -> Setting:
    kind = "online_few_shot" if delay == 1 else "delayed_label"
    if protocol is None:
        return Setting(WAYS, IMAGE_SHAPE, kind, delay)
    # With one way there is no other label to change to.
    return Setting(max(2, protocol.episode.ways), protocol.card.image_shape, kind, delay)


def _described(settings: list[Setting]) -> str:
    first = settings[0]
    delays = [str(each.delay) for each in settings]
    listed = " and ".join(filter(None, [", ".join(delays[:-1]), delays[-1]]))
    shape = "x".join(map(str, first.image_shape))
    return f"random tasks: {first.ways} ways, {shape} images, label delay{'s' if len(delays) > 1 else ''} {listed}"


def _builder(cls: type[Method], options: dict[str, Any], seed: int, setting: Setting) -> Callable[[int], Method]:
    """Builds the method for a setting from `seed` plus an offset, whatever randomness it initialises from."""
    from harness.registry import build_method

    told = setting.delay if cls.needs_label_delay else None
    task = Task(setting.ways, setting.image_shape, setting.kind, told)

    def build(offset: int) -> Method:
        with poisoned(seed + offset):
            return build_method(cls, task, options, seed + offset, "cpu")

    return build


def _checked(subjects: list[Subject]) -> list[CheckResult]:
    """The result of every check over all subjects (one a label delay)."""
    results = []
    unsound: dict[int, set[str]] = {subject.setting.delay: set() for subject in subjects}
    for check in CHECKS:
        findings = []
        for subject in subjects:
            names = unsound[subject.setting.delay]
            reasons = [name for name in check.after if name in names]
            finding = _run(check, subject) if not reasons else _skipped(reasons[0])
            if reasons or finding.outcome == "failed":
                names.add(check.name)
            findings.append((subject.setting.delay, finding))
        results.append(_result(check, findings))
    return results


def _skipped(failed: str) -> Finding:
    return Finding("skipped", f"nothing can be said while '{failed}' fails")


def _run(check: Check, subject: Subject) -> Finding:
    try:
        return check.run(subject)
    except Exception as error:  # whatever an author's code raises is a finding about it
        return Finding("failed", _raised(error))


def _raised(error: Exception) -> str:
    """What was raised and where: the innermost line that is neither torch's nor the harness's own."""
    ours = Path(__file__).parent.parent
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [each for each in frames if not Path(each.filename).is_relative_to(ours) and not _is_torch(each.filename)]
    place = f" ({Path(theirs[-1].filename).name}, line {theirs[-1].lineno}, in {theirs[-1].name})" if theirs else ""
    lines = str(error).strip().splitlines()
    return f"raised {type(error).__name__}: {lines[0] if lines else 'no message'}{place}"


def _is_torch(filename: str) -> bool:
    return Path(filename).is_relative_to(Path(torch.__file__).parent)


def _result(check: Check, findings: list[tuple[int, Finding]]) -> CheckResult:
    """The gravest finding: a failure at the shortest delay that has it, anything else at the longest."""
    gravest = max((each.outcome for _, each in findings), key=GRAVITY.index)
    having = [each for each in findings if each[1].outcome == gravest]
    delay, worst = having[0 if gravest == "failed" else -1]
    everywhere = all(each.reason == worst.reason for _, each in findings)
    return CheckResult(check.name, check.proves, **asdict(worst), delay=None if everywhere else delay)


@contextmanager
def _one_thread() -> Iterator[None]:
    """One thread: rounding, and so every comparison of bits, is then the same on every machine's core count."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
