"""What a conformance check found: one result a check, printable for people and as JSON."""

from __future__ import annotations

import json
import math
import textwrap
from dataclasses import asdict, dataclass
from typing import Any, Literal

from harness.check.compare import TOLERANCES

Outcome = Literal["passed", "failed", "skipped", "note"]
GRAVITY: tuple[Outcome, ...] = ("skipped", "passed", "note", "failed")
"""From harmless to grave: of one check's findings in several settings, the gravest is the result."""


@dataclass(frozen=True)
class Finding:
    """What one check found in one setting. `size_of_change` is in units of the logits (or gradients).

    `step` counts all steps of an episode: support pairs and the stream first, then queries.
    """

    outcome: Outcome = "passed"
    reason: str = ""
    step: int | None = None
    episode: int | None = None
    size_of_change: float | None = None


@dataclass(frozen=True)
class CheckResult:
    """The verdict of one check over all settings: the gravest finding, and the kind and label delay it was made at.

    `kind` is None where the finding is the same everywhere, `delay` also where the kind is no stream. `compared` says
    how alike the values must be that the check compares; empty if it compares none.
    """

    name: str
    proves: str
    outcome: Outcome
    reason: str = ""
    step: int | None = None
    episode: int | None = None
    size_of_change: float | None = None
    kind: str | None = None
    delay: int | None = None
    compared: str = ""


@dataclass(frozen=True)
class Memory:
    """Bytes of one episode's state after each step before the queries, by setting, and how they grow.

    Settings are named 'label delay 3' or by their kind. `growth` is 'constant' or 'with' those of t, d and support
    pairs that it grows with; the rates are bytes per further step, step of label delay, and support pair.
    """

    bytes_after_step: dict[str, list[int]]
    growth: str
    bytes_per_step: float
    bytes_per_delay: float
    bytes_per_pair: float


@dataclass(frozen=True, repr=False)
class Report:
    """All results of one method, what it was checked on, and what its state costs.

    `untested` are the kinds of protocols that the method does not declare.
    """

    method: str
    options: dict[str, Any]
    tried_on: str
    results: tuple[CheckResult, ...]
    memory: Memory | None = None
    untested: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether no check failed (skips and notes do not fail a method)."""
        return not self.failures

    @property
    def failures(self) -> tuple[CheckResult, ...]:
        return tuple(result for result in self.results if result.outcome == "failed")

    def result(self, name: str) -> CheckResult:
        """The result of the check `name`; KeyError if it was not run."""
        return {result.name: result for result in self.results}[name]

    def __repr__(self) -> str:
        return self.text()

    def text(self, width: int = 100) -> str:
        """A table for people: outcome, check, and the reason (or, of a plain pass, what it proves)."""
        label = max((len(result.name) for result in self.results), default=0)
        margin = 2 + label + 2 + 7 + 2
        lines = [*textwrap.wrap(f"{self.method} on {self.tried_on}", max(60, width), break_on_hyphens=False), ""]
        for result in self.results:
            head = f"  {result.name:<{label}}  {result.outcome:<7}  "
            said = _placed(result) if result.outcome != "passed" else result.reason or result.proves
            wrapped = textwrap.wrap(said, max(40, width - margin), break_on_hyphens=False) or [""]
            lines += [head + wrapped[0], *(" " * margin + line for line in wrapped[1:])]
        outcomes = [result.outcome for result in self.results]
        counts = {outcome: outcomes.count(outcome) for outcome in reversed(GRAVITY)}
        named = {"note": "noted"}
        lines += ["", ", ".join(f"{n} {named.get(outcome, outcome)}" for outcome, n in counts.items() if n)]
        lines += textwrap.wrap(TOLERANCES, max(60, width), break_on_hyphens=False)
        if self.untested:
            said = f"Not tested, since the method does not declare them: {', '.join(self.untested)}."
            lines += textwrap.wrap(said, max(60, width), break_on_hyphens=False)
        return "\n".join(lines)

    def as_json(self) -> str:
        """The report as JSON text; a change that is not a finite number is written as null."""
        plain = {"schema_version": 3, "passed": self.passed, **asdict(self)}
        for result in plain["results"]:
            size = result["size_of_change"]
            result["size_of_change"] = size if size is not None and math.isfinite(size) else None
        return json.dumps(plain, indent=2, allow_nan=False, default=str)


def _placed(result: CheckResult) -> str:
    if result.delay:
        return f"at label delay {result.delay}: {result.reason}"
    return f"on {result.kind}: {result.reason}" if result.kind else result.reason
