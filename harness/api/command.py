"""The call of `harness.run` that does a run again, as its record has it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from harness.api.named import DataLike, ProtocolLike
from harness.data.dataset import Dataset
from harness.method.from_class import INTERACTIVE
from harness.method.registry import LoadedMethod
from harness.protocol.load import Loaded
from harness.protocol.load import load_protocol as read_protocol
from harness.util.errors import UserError
from harness.util.shipped_files import protocol_files

NO_KEYWORDS = ("protocol", "method", "callbacks", "quiet", "resume", "fresh")
"""Arguments that come first, or that say nothing of what a run is."""


def call_text(
    function: Callable[..., Any],
    protocol: ProtocolLike,
    method: LoadedMethod,
    data: DataLike,
    arguments: Mapping[str, Any],
) -> str:
    """The call in one line: every one of `arguments` that differs from the function's default.

    A protocol or data set that is no name and no file is written out as a mapping. What cannot be written is named as
    it was in the session, with a comment on where it came from: a method of a notebook, and arrays.
    """
    comments = []
    if method.target.startswith(f"{INTERACTIVE}:"):
        named = method.target.removeprefix(f"{INTERACTIVE}:")
        comments.append(f"{named} was defined in a session; its source is in {method.own_file}")
    else:
        named = repr(method.name if method.file is None else method.target)
    if isinstance(data, Dataset):
        comments.append(f"{data.name!r} is a data set in memory, given to harness.register_dataset")
        data = data.name
    defaults = {name: each.default for name, each in inspect.signature(function).parameters.items()}
    wanted = {**arguments, "data": data}
    words = [
        f"{name}={_literal(wanted[name])}"
        for name, default in defaults.items()
        if name in wanted and name not in NO_KEYWORDS and wanted[name] != default
    ]
    call = f"harness.run({', '.join([_protocol(protocol), named, *words])})"
    return "  # ".join([call, *filter(None, ["; ".join(comments)])])


def _protocol(protocol: ProtocolLike) -> str:
    if isinstance(protocol, Loaded):
        text, name = _loaded(protocol)
        return text if name == protocol.name else f"harness.load_protocol({text}, name={protocol.name!r})"
    return _literal(protocol)


def _loaded(loaded: Loaded) -> tuple[str, str]:
    """A loaded protocol as its name or file if that still reads as the same, or else written out; and its own name."""
    shipped = {path: name for name, path in protocol_files().items()}
    given = shipped.get(loaded.path, str(loaded.path))
    try:
        if read_protocol(given).protocol.digest == loaded.protocol.digest:
            return repr(given), loaded.path.stem
    except UserError:  # it was no file, or is none any more
        pass
    return _literal(loaded.protocol), f"protocol-{loaded.protocol.digest[:8]}"


def _literal(value: Any) -> str:
    """A value as Python reads it back: paths as text, models as mappings of what was set."""
    return repr(_plain(value))


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        kind = {"kind": value.kind} if hasattr(value, "kind") else {}
        rest = value.model_dump(mode="json", exclude_unset=True, exclude={"published", "notes"})
        return {**kind, **rest}
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, str) or not isinstance(value, Iterable):
        return value
    try:
        return [_plain(each) for each in value]
    except TypeError:  # a tensor without dimensions, say; it is refused where it is used
        return value
