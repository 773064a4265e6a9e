"""Errors that people read: what was wrong, where, what is allowed, what to do."""

from __future__ import annotations

import difflib
import heapq
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import takewhile


class HarnessError(Exception):
    """An error shown to the user as text, without a traceback; `exit_code` is the process's."""

    exit_code = 1


class UserError(HarnessError):
    """Wrong use: an unknown name, a broken file, an impossible protocol, missing data. Exit code 2."""

    exit_code = 2


class MissingData(UserError):
    """A data set that is not at hand; commands that can do something without it catch this."""


class AnswerError(UserError):
    """A method that does not answer as the interface has it."""


class RunError(HarnessError):
    """A run failed after it had begun: a loss that is not a number, a full disk. Exit code 1."""

    exit_code = 1


class VerificationError(HarnessError):
    """Something that was claimed does not hold: a failed conformance check. Exit code 3."""

    exit_code = 3


NAMED = 8
"""Alternatives that an error names at most."""

_COMPARED = 500  # names that are compared letter by letter; that takes about 0.1 ms a name


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that `name` was most likely meant to be, or None; capitals and composed accents do not matter.

    Among very many names only those with the longest common beginning and end are compared letter by letter.
    """
    plain = _folded(name)
    names: dict[str, str] = {}
    for each in known:
        names.setdefault(_folded(each), each)
    if plain in names:
        return names[plain]
    shortlist: Iterable[str] = names
    if len(names) > _COMPARED:
        shortlist = heapq.nlargest(_COMPARED, names, key=lambda each: _ends_in_common(plain, each))
    found = difflib.get_close_matches(plain, list(shortlist), n=1, cutoff=0.55)
    return names[found[0]] if found else None


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _ends_in_common(one: str, other: str) -> int:
    return _beginning_in_common(one, other) + _beginning_in_common(one[::-1], other[::-1])


def _beginning_in_common(one: str, other: str) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def known_name(name: str, known: Iterable[str]) -> str | None:
    """The known name that is this one but for capitals and composed accents; None if there is none, or several."""
    names = list(known)
    if name in names:
        return name
    found = [each for each in names if _folded(each) == _folded(name)]
    return found[0] if len(found) == 1 else None


def unknown(what: str, name: str, known: Iterable[str]) -> UserError:
    """The error for a name that is not known: the nearest valid name, and `NAMED` of the valid ones at most."""
    options = sorted(known)
    guess = nearest(name, options)
    hint = f" Did you mean '{guess}'?" if guess else ""
    return UserError(f"unknown {what} '{name}'.{hint} Known: {some_of(options, name)}.")


def all_of(names: Sequence[str]) -> str:
    """Names in words: 'a, b and c'."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def first_few(names: Sequence[str], most: int = NAMED, between: str = ", ") -> str:
    """The first of many names in words, and how many there are besides: 'a, b and 3 more', 'a; b; and 3 more'."""
    if len(names) <= most:
        return between.join(names)
    return f"{between.join(names[:most])}{between.strip(' ,')} and {len(names) - most} more"


def some_of(options: Sequence[str], name: str) -> str:
    """The options in words: `NAMED` at most, those nearest to `name`, and how many there are besides."""
    if len(options) <= NAMED:
        return ", ".join(options) or "none"
    alike = difflib.get_close_matches(name, options, n=NAMED, cutoff=0.0) if len(options) <= _COMPARED else []
    return f"{', '.join(alike or options[:NAMED])} and {len(options) - NAMED} more"
