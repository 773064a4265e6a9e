"""Which options of a row are its method's own defaults: as the row says, or for older rows as they were then."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from harness.records.record import Record

_FROZEN = Path(__file__).with_name("defaults.json")
"""Defaults of the built-in methods on the day from which rows hold their own (`Record.defaults`); never changed."""


def default_options(target: str) -> dict[str, Any]:
    """Option name to default of a built-in method ('module:Class') as they were before rows held them; else {}."""
    return _frozen().get(target, {})


def changed_options(record: Record) -> dict[str, Any]:
    """The options of a row that are not its method's defaults, in order of their names."""
    own = sorted(record.options.items())
    if record.defaults is not None:
        return {name: value for name, value in own if name not in record.defaults}
    defaults = default_options(record.target)
    return {
        name: value
        for name, value in own
        if name not in defaults or defaults[name] != value or type(defaults[name]) is not type(value)
    }


def all_options(record: Record) -> dict[str, Any]:
    """The options of a row, with the defaults of those that its method did not have yet when it was written."""
    return record.options if record.defaults is not None else {**default_options(record.target), **record.options}


@cache
def _frozen() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = json.loads(_FROZEN.read_text(encoding="utf-8"))
    return found
