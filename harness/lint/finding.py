"""One thing that a lint has to say."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "note"]
ERROR, WARNING, NOTE = SEVERITIES = ("error", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """`subject` says what was looked at: learners, shots, splits, images, published, data."""

    severity: str
    subject: str
    message: str

    def __str__(self) -> str:
        return f"{self.severity}: {self.message}"


def gravest(findings: Iterable[Finding]) -> str | None:
    """The gravest severity among findings, None for none."""
    return min((each.severity for each in findings), key=SEVERITIES.index, default=None)
