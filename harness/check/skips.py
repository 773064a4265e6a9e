"""Checks that a method declares not to apply to it, each with the author's reason."""

from __future__ import annotations

from collections.abc import Mapping

from harness.method.interface import Method
from harness.util.errors import UserError, unknown

SKIPPABLE = (
    "label timing",
    "pairing",
    "stepping equals rollout",
    "stepping equals absorb",
    "trainable",
    "null feedback",
    "relabelling",
)
"""Checks that an honest method can have a reason not to keep: one that never learns within an episode, a rollout whose
gradient is cut short on purpose, a parameter that another program trains. None of them bears on what an answer is made
of. The others prove that scores can be compared and redone (no answer from the future, from another episode, from
another query, from what ran before, from chance; a state that is all), or are what such a proof rests on. With one of
those left out a row would say nothing, so they cannot be skipped at all: not even with a mark that keeps the row out of
the ranking, which would be a failed check by another name."""


def declared_skips(method: Method | type[Method]) -> Mapping[str, str]:
    """The checks that a method declares to skip, by name, with its reasons.

    Raises UserError for a name that is no check (with the nearest), for a check that cannot be skipped, and for one
    without a reason.
    """
    if not method.skips:
        return method.skips
    from harness.check.catalogue import CHECKS

    name = method.__name__ if isinstance(method, type) else type(method).__name__
    names = [check.name for check in CHECKS]
    for check, reason in method.skips.items():
        if check not in names:
            raise unknown(f"check in {name}.skips", check, names)
        if check not in SKIPPABLE:
            raise UserError(
                f"{name}.skips: '{check}' cannot be skipped, since what a row says of other rows rests on it; "
                f"only {', '.join(SKIPPABLE)} can"
            )
        if not isinstance(reason, str) or not reason.strip():
            raise UserError(f"{name}.skips: say in words why '{check}' does not apply")
    return method.skips
