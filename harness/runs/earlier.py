"""Runs of earlier versions of a method: before it had an option, every run was one with that option's default."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.method.options import default_options
from harness.records.canonical import canonical_json
from harness.runs.status import CUT, NOTED
from harness.util.json_files import read_json

if TYPE_CHECKING:
    from harness.method.interface import Method

_OWN_NAME = re.compile(r"[0-9a-f]{10}")
"""How the name of a run folder ends; of one that was set aside more follows."""


def with_new_options(theirs: dict[str, Any], cls: type[Method]) -> dict[str, Any]:
    """The options of a run, and the defaults of those options that its method has got since then."""
    return {**default_options(cls), **theirs}


def earlier_folder(folder: Path, identity: dict[str, Any], cls: type[Method]) -> Path | None:
    """The folder beside `folder` of the run that `identity` names, begun before its method had all present options.

    Folders are named after all options, so that of such a run has another name. Of several, that of the latest version
    (of most options) is taken; None if there is none.
    """
    prefix, _, _ = folder.name.rpartition("-")
    found = []
    for noted in sorted(folder.parent.glob(f"{_literally(prefix)}-*/{NOTED}")):
        if not _OWN_NAME.fullmatch(noted.parent.name.removeprefix(f"{prefix}-")):
            continue
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            theirs = dict(read_json(noted)["identity"])
            filled = {**theirs, "options": with_new_options(theirs["options"], cls)}
            if _named(filled) == _named(identity):
                found.append((len(theirs["options"]), noted.parent))
    return max(found)[1] if found else None


def _named(identity: dict[str, Any]) -> str:
    """What a run is, as text; limits are no part of it."""
    return canonical_json({**identity, CUT: ""})


def _literally(name: str) -> str:
    """A pattern of glob that matches a name and nothing else: names of classes of one's own may hold any character."""
    return re.sub(r"([\[*?])", r"[\1]", name)
