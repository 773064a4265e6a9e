"""The images of a user's own data set before they are decoded, by split and class."""

from __future__ import annotations

import hashlib
import json
import logging
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.data.image_decoding import NAMED, listed
from harness.data.user.model import OwnData
from harness.util.errors import MissingData, UserError, first_few, nearest
from harness.util.option_names import option

LOG = logging.getLogger(__name__)

Encoded = bytes | Path | None
"""An encoded image, the file it is in, or None where there is none."""


@dataclass(frozen=True)
class Item:
    """One image: its `id` in the data set, what messages call it and its mask, and how both are got."""

    id: str
    called: str
    mask_called: str
    content: Callable[[], tuple[Encoded, Encoded]]


Found = dict[str, dict[str, list[Item]]]
"""The source's own split ('' where it has none) to class to images."""

Grouped = dict[str, dict[str, list[Item]]]
"""Split of the protocol to class to images, both sorted."""


def grouped(data: OwnData, found: Found, where: str, why: Mapping[str, str] | None = None) -> Grouped:
    """The images of each split by the model's class lists or splits; UserError with all that does not fit.

    `why` completes the sentence that a class has no images, where more is known of it.
    """
    groups, problems = _by_parts(data, found) if data.parts else _by_lists(data, found)
    empty = [(split, name) for split, group in groups.items() for name, items in group.items() if not items]
    problems += [f"class '{name}' ({split}) has no images{(why or {}).get(name, '')}" for split, name in empty]
    refuse(data, where, problems)
    return groups


def refuse(data: OwnData, where: str, problems: Sequence[str]) -> None:
    """Raises UserError with the problems, if there are any: the first ten in words, the rest counted."""
    if problems:
        raise UserError(f"the data set '{data.name}' ({where}) cannot be used:\n{listed(problems)}")


def skipped(data: OwnData, what: str, names: Sequence[str]) -> None:
    """Says on stderr what was left aside, if anything."""
    if names:
        LOG.warning(f"{data.name}: skipped {what}: {len(names)} ({first_few(names, NAMED)})")


def unlisted(data: OwnData, found: Found) -> list[str]:
    """Classes of the source that are in no list."""
    wanted = {composed(name) for names in data.lists.values() for name in names}
    names = {name for classes in found.values() for name in classes}
    return [] if data.parts else sorted(name for name in names if composed(name) not in wanted)


def composed(name: str) -> str:
    """A name with its accents in one form: some file systems store 'é' as one character, others as two."""
    return unicodedata.normalize("NFC", name)


def digest(data: OwnData, content: str) -> str:
    """SHA-256 (hex) over the content of a source and what the model says of it."""
    return hashlib.sha256(json.dumps([content, data.meaning], sort_keys=True).encode()).hexdigest()


def places(path: str, base: Path | None, root: Path | None) -> list[Path]:
    """Where a path is looked for, in order."""
    try:
        given = Path(path).expanduser()
    except RuntimeError:  # '~somebody' who is not known here: a folder may be called that
        given = Path(path)
    return [given] if given.is_absolute() else [each.absolute() / given for each in (base or Path(), root) if each]


def missing(data: OwnData, what: str, looked: Iterable[Path]) -> MissingData:
    """The error for files that are nowhere."""
    lines = [f"the data set '{data.name}' is missing: there is no {what}. Looked for:"]
    lines += [f"  {place}" for place in looked]
    root = option("data-root", "DIR")
    lines.append(f"A relative path is taken from the folder of the protocol file, then from {root}")
    return MissingData("\n".join(lines))


def _by_lists(data: OwnData, found: Found) -> tuple[Grouped, list[str]]:
    pooled: dict[str, list[Item]] = {}
    for classes in found.values():
        for name, items in classes.items():
            pooled.setdefault(name, []).extend(items)
    spelt: dict[str, str] = {}
    problems: list[str] = []
    listed_names = {composed(name) for names in data.lists.values() for name in names}
    for name in pooled:
        if composed(name) in spelt and composed(name) in listed_names:
            problems.append(f"class '{name}' is there twice, with its accents written in two ways: rename one of them")
        spelt.setdefault(composed(name), name)
    groups: Grouped = {}
    for split, names in data.lists.items():
        group = groups[split] = {}
        for name in names:
            there = name if name in pooled else spelt.get(composed(name))
            if there is not None:
                group[name] = pooled[there]
            else:
                # Only the first problems are shown; a guess takes as long as there are classes.
                guess = meant(name, pooled) if len(problems) < NAMED else ""
                problems.append(f"class '{name}' of classes.{split} is not there{guess}")
    return groups, problems


def _by_parts(data: OwnData, found: Found) -> tuple[Grouped, list[str]]:
    problems = [
        f"splits.{split}: there is no split '{part}'{meant(part, found)}"
        for split, part in data.parts.items()
        if part not in found
    ]
    taken = {split: found[part] for split, part in data.parts.items() if part in found}
    if data.disjoint:
        groups = {split: dict(sorted(group.items())) for split, group in taken.items()}
        return groups, [*problems, *_shared(groups), *_without_classes(data, groups)]
    classes = sorted({name for group in taken.values() for name in group})
    # A class that one split lacks has no images there, which is refused.
    return {split: {name: group.get(name, []) for name in classes} for split, group in taken.items()}, problems


def _shared(groups: Grouped) -> Iterator[str]:
    """Classes that two splits have, though each should have classes of its own."""
    first: dict[str, str] = {}
    for split, group in groups.items():
        for name in group:
            if first.setdefault(name, split) != split:
                yield f"class '{name}' is in {first[name]} and in {split}, and with 'disjoint' splits share no class"


def _without_classes(data: OwnData, groups: Grouped) -> Iterator[str]:
    return (f"splits.{split}: '{data.parts[split]}' has no classes" for split, group in groups.items() if not group)


def meant(name: str, known: Iterable[str]) -> str:
    """Which known name was most likely meant, or else the first of them."""
    names = sorted(known)
    guess = nearest(name, names)
    if guess:
        return f"; did you mean '{guess}'?"
    return f" (there are: {', '.join(names[:NAMED])}{', ...' if len(names) > NAMED else ''})" if names else ""
