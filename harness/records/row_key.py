"""What two runs must share to be seeds of one entry, as one hash."""

from __future__ import annotations

import hashlib
from functools import lru_cache

from pydantic import JsonValue

from harness.records.canonical import canonical_json
from harness.records.option_defaults import beside_defaults

Setting = tuple[str, str, str, str, str, str, int | str | None, int, int]
"""What seeds of one entry share but for their options, in order of `_around_options`."""


def key_of(options: dict[str, JsonValue], setting: Setting) -> str:
    """SHA-256 (hex) over the options that are not the method's first defaults, and the setting."""
    before, after = _around_options(setting)
    own = beside_defaults(setting[2], options)
    return hashlib.sha256(f"{before}{canonical_json(own)}{after}".encode()).hexdigest()


@lru_cache(1024)
def _around_options(setting: Setting) -> tuple[str, str]:
    """The canonical JSON that a key is the hash of, before and after the options."""
    names = ("digest", "fingerprint", "target", "recipe_hash", "budget", "budget_cut", "init_episodes", "test_episodes")
    shared = {"options": None, **dict(zip(names, setting, strict=False))}
    if setting[-1] > 1:  # a first version is left out, so that rows from before there were versions keep their key
        shared["method_version"] = setting[-1]
    before, _, after = canonical_json(shared).partition('"options":null')
    return f'{before}"options":', after
