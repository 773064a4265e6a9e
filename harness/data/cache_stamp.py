"""A note that the files of a decoded data set were checked, so that they need not be read whole at every start.

It holds size, times and inode of each file as they were when the checksums were right. Whoever changes a file changes
one of these, so that the checksums are computed again. What changed so shortly before the check that its time might
not tell a later change is not noted.
"""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path

from harness.util.atomic_files import replacing
from harness.util.errors import HarnessError

STAMP = "checked.json"
_MARGIN = 2.0
"""Seconds: the coarsest time stamps of a file system in use."""

States = dict[str, list[int]]
"""Of each file: size, time of its content, time of its inode (both ns), and inode."""


def states(folder: Path) -> States:
    """The states of all files of a folder but the note itself."""
    found = {each.name: each.stat() for each in folder.iterdir() if each.name != STAMP}
    return {name: [at.st_size, at.st_mtime_ns, at.st_ctime_ns, at.st_ino] for name, at in sorted(found.items())}


def is_unchanged(folder: Path, fingerprint: str) -> bool:
    """Whether a note says that the files, as they are, have this fingerprint."""
    with contextlib.suppress(OSError, ValueError):
        return bool(json.loads((folder / STAMP).read_bytes()) == {"fingerprint": fingerprint, "files": states(folder)})
    return False


def note_checked(folder: Path, fingerprint: str, before: States) -> None:
    """Notes that files which had these states before their checksums were computed, and have them still, were right.

    A folder that cannot be written has no note.
    """
    newest = max(max(state[1], state[2]) for state in before.values())
    if newest > time.time_ns() - _MARGIN * 1e9 or states(folder) != before:
        return
    with contextlib.suppress(HarnessError, OSError), replacing(folder / STAMP) as temporary:
        temporary.write_text(json.dumps({"fingerprint": fingerprint, "files": before}), encoding="utf-8")
