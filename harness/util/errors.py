"""Errors that people read: what was wrong, where, what is allowed, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class HarnessError(Exception):
    """An error shown to the user as text, without a traceback; `exit_code` is the process's."""

    exit_code = 1


class UserError(HarnessError):
    """Wrong use: an unknown name, a broken file, an impossible protocol, missing data. Exit code 2."""

    exit_code = 2


class MissingData(UserError):
    """A data set that is not at hand; commands that can do something without it catch this."""


class RunError(HarnessError):
    """A run failed after it had begun: a loss that is not a number, a full disk. Exit code 1."""

    exit_code = 1


class VerificationError(HarnessError):
    """Something that was claimed does not hold: a failed conformance check. Exit code 3."""

    exit_code = 3


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that `name` was most likely meant to be, or None."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.55)
    return found[0] if found else None


def unknown(what: str, name: str, known: Iterable[str]) -> UserError:
    """The error for a name that is not known: the nearest valid name, and all valid ones."""
    options = sorted(known)
    guess = nearest(name, options)
    hint = f" Did you mean '{guess}'?" if guess else ""
    return UserError(f"unknown {what} '{name}'.{hint} Known: {', '.join(options) or 'none'}.")
