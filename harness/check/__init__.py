"""Conformance: what a method must keep to be scored, checked on small random tasks without any data.

Each check is a function of one `Subject` (the method in one setting: a kind of protocol, at one label delay) that
returns a `Finding`; `catalogue.CHECKS` lists them with what they prove. `check_method` runs all of them in several
settings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from harness.check.catalogue import CHECKS, Check
from harness.check.conditions import poisoned
from harness.check.pictures import Pictures, generated
from harness.check.report import GRAVITY, CheckResult, Finding, Memory, Report
from harness.check.settings import STREAMS, Setting, described, settings_for
from harness.check.skips import declared_skips
from harness.check.state import memory, memory_result
from harness.check.subject import Subject
from harness.method.interface import Method
from harness.protocol.models import KINDS, AnyProtocol
from harness.util.errors import HarnessError
from harness.util.exits import exits_raised
from harness.util.faults import in_a_line
from harness.util.progress import tracked
from harness.util.threads import torch_threads

__all__ = ["CHECKS", "Check", "CheckResult", "Finding", "Memory", "Report", "check_method", "torch_threads"]


def check_method(
    cls: type[Method],
    protocol: AnyProtocol | None = None,
    options: dict[str, Any] | None = None,
    *,
    name: str | None = None,
    seed: int = 0,
    kinds: Sequence[str] | None = None,
    delays: Sequence[int] | None = None,
    pictures: Pictures | None = None,
) -> Report:
    """Runs every check on a method class; it is built with `options` and random weights from `seed`.

    The tasks are a dozen steps of random images, of each kind that the method declares (of `kinds` only, if they are
    given): 3 ways of 1x28x28, or masks of 3x32x32. With a protocol they are of its kind, ways (at least 2) and image
    shape. Streams are run at label delays 1, 3 and the protocol's own; `delays` names others. The check "as scored"
    shows images of a stand-in, or `pictures` of the protocol's data. Runs on the CPU, in one thread, in float32 and
    where it sharpens a comparison in float64. A check that raises has failed.

    Raises UserError for an option the class does not have, for a protocol of a kind that it does not declare, and for
    kinds that do not exist. A check that the method declares to skip (`Method.skips`) is skipped with its reason; to
    declare one that does not exist or cannot be skipped is a UserError too.

    The method runs in this process, so one that finds out that it is being checked, and behaves, is not caught: the
    checks are against what is done by mistake or taken from wherever targets lie, not against a method that lies.
    """
    options = options or {}
    settings = settings_for(cls, protocol, kinds, delays)
    found: Memory | None = None
    # One thread: rounding, and so every comparison of bits, is then the same on every machine's core count.
    with torch_threads(1), exits_raised():
        try:
            subjects = [Subject(_builder(cls, options, seed, setting), setting, pictures) for setting in settings]
            skips = {subject.setting: declared_skips(subject.fresh()) for subject in subjects}
        except HarnessError:
            raise
        except (Exception, SystemExit) as error:
            results = [CheckResult("builds", "the class can be built", "failed", _raised(error))]
        else:
            results = _checked(subjects, skips)
            if not any(each.outcome == "failed" and each.name in {"answers", "state"} for each in results):
                found = memory(subjects)
                results += [memory_result(found)] if found else []
    untested = tuple(kind for kind in KINDS if kind not in cls.kinds) if protocol is None else ()
    shown = [pictures] if pictures else [generated(each.image_shape, each.masks) for each in settings]
    tried_on = described(settings, [each.name for each in shown])
    return Report(name or cls.__name__, options, tried_on, tuple(results), found, untested)


def _builder(cls: type[Method], options: dict[str, Any], seed: int, setting: Setting) -> Callable[[int], Method]:
    """Builds the method for a setting from `seed` plus an offset, whatever randomness it initialises from."""
    from harness.method.registry import build_method

    task = setting.task(cls.needs_label_delay)

    def build(offset: int) -> Method:
        with poisoned(seed + offset):
            return build_method(cls, task, options, seed + offset, "cpu")

    return build


def _checked(subjects: list[Subject], skips: dict[Setting, Mapping[str, str]]) -> list[CheckResult]:
    """The result of every check over all subjects (one a setting), but for those that the method declares to skip."""
    results = []
    unsound: dict[Setting, set[str]] = {subject.setting: set() for subject in subjects}
    for check in tracked(CHECKS, "checking", "checks"):
        findings = []
        for subject in subjects:
            if subject.setting.kind not in check.on:
                continue
            if check.name in skips[subject.setting]:
                reason = f"the method declares: {skips[subject.setting][check.name]}"
                findings.append((subject.setting, Finding("skipped", reason)))
                continue
            names = unsound[subject.setting]
            reasons = [name for name in check.after if name in names]
            finding = _run(check, subject) if not reasons else _skipped(reasons[0])
            if reasons or finding.outcome == "failed":
                names.add(check.name)
            findings.append((subject.setting, finding))
        kinds = dict.fromkeys(subject.setting.kind for subject in subjects)
        reason = f"there is nothing to check on {' and '.join(kinds)}"
        nothing = CheckResult(check.name, check.proves, "skipped", reason, compared=check.compared)
        results.append(_result(check, findings) if findings else nothing)
    return results


def _skipped(failed: str) -> Finding:
    return Finding("skipped", f"nothing can be said while '{failed}' fails")


def _run(check: Check, subject: Subject) -> Finding:
    try:
        return check.run(subject)
    except (Exception, SystemExit) as error:  # whatever an author's code raises is a finding about it
        return Finding("failed", _raised(error))


def _raised(error: BaseException) -> str:
    """What was raised and where; errors of the harness say themselves what is wrong with the method."""
    return str(error) if isinstance(error, HarnessError) else in_a_line(error)


def _result(check: Check, findings: list[tuple[Setting, Finding]]) -> CheckResult:
    """The gravest finding: a failure in the first setting that has it, anything else at the longest label delay.

    Settings that are no streams speak only where no stream has a finding as grave.
    """
    gravest = max((each.outcome for _, each in findings), key=GRAVITY.index)
    having = [each for each in findings if each[1].outcome == gravest]
    streams = [each for each in having if each[0].kind in STREAMS]
    setting, worst = having[0] if gravest == "failed" else streams[-1] if streams else having[0]
    everywhere = all(each.reason == worst.reason for _, each in findings)
    return CheckResult(
        check.name,
        check.proves,
        **asdict(worst),
        kind=None if everywhere else setting.kind,
        delay=setting.delay if setting.kind in STREAMS and not everywhere else None,
        compared=check.compared,
    )
