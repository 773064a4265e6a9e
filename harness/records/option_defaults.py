"""Options that a row does not hold, since its method got them later, and which of its options are its defaults."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path
from typing import Any

_FILE = Path(__file__).with_suffix(".json")
"""Option name to default of the built-in methods ('module:Class'), each as on the day from which rows hold the names of
their defaults (`Record.defaults`), or on which the method got the option. Options are added; what is there stays."""


def default_options(target: str) -> dict[str, Any]:
    """Option name to its first default of a built-in method ('module:Class'); else {}."""
    return _known().get(target, {})


def changed_options(target: str, options: Mapping[str, Any], defaults: Collection[str] | None) -> dict[str, Any]:
    """The options of a row that are not its method's defaults, in order of their names; `defaults` are the names of
    those that are, None in rows that do not say."""
    if defaults is None:
        return dict(sorted(beside_defaults(target, options).items()))
    return {name: value for name, value in sorted(options.items()) if name not in defaults}


def beside_defaults(target: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that are not the first defaults of a method. They are the same for rows from before the method got an
    option and for later ones that have that option's default."""
    defaults = default_options(target)
    return {
        name: value
        for name, value in options.items()
        if name not in defaults or defaults[name] != value or type(defaults[name]) is not type(value)
    }


def all_options(target: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a row, and the defaults of those that its method did not have yet when it was written: before a
    method had an option, every run was one with that option's default."""
    return {**default_options(target), **options}


@cache
def _known() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = json.loads(_FILE.read_text(encoding="utf-8"))
    return found
