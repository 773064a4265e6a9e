"""Names or objects: what a call of the public API is given, as what the rest of the harness works with."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from pydantic import ValidationError

from harness.api.checked import checked
from harness.data.cards import CARDS
from harness.data.dataset import Dataset
from harness.data.open_dataset import default_cache
from harness.data.registered import register_dataset
from harness.data.user.model import OwnData
from harness.method.from_class import load_class
from harness.method.interface import Method
from harness.method.registry import LoadedMethod
from harness.method.registry import load_method as read_method
from harness.protocol.load import Loaded, for_data
from harness.protocol.load import load_protocol as read_protocol
from harness.protocol.models import PROTOCOL, AnyProtocol
from harness.util.errors import UserError, unknown
from harness.yaml_files.messages import findings
from harness.yaml_files.source_location import path_text

ProtocolLike: TypeAlias = str | Path | Mapping[str, Any] | AnyProtocol | Loaded
"""A shipped protocol's name, a YAML file, the mapping that such a file would hold, a model, or a loaded protocol."""

MethodLike: TypeAlias = str | type[Method] | Method | LoadedMethod
"""A method's name or 'file.py:Class', a class, an instance (see each call for what its weights are used for)."""

DataLike: TypeAlias = str | Mapping[str, Any] | OwnData | Dataset
"""'real' (the protocol's own), 'stand-in', the name of a data set, what a protocol file may say under `dataset`, or a
data set in memory."""


@checked
def load_protocol(protocol: ProtocolLike, *, name: str | None = None) -> Loaded:
    """A protocol with its name, from a shipped protocol's name, a file, a mapping or a model.

    `name` is what boards and run folders call it; by default that of the file, and of a mapping or model
    'protocol-' and the beginning of its digest. Raises UserError for an unknown name (with the nearest) and for a
    mapping that is no possible protocol, and YamlError (every problem at its line) for such a file.
    """
    if isinstance(protocol, Loaded):
        found = protocol
    elif isinstance(protocol, str | Path):
        found = read_protocol(protocol)
    else:
        model = protocol if isinstance(protocol, AnyProtocol) else _validated(dict(protocol))
        own = name or f"protocol-{model.digest[:8]}"
        found = Loaded(own, Path(f"{own}.yaml"), model)
    if name is not None and not re.fullmatch(r"[^./\\\x00-\x1f][^/\\\x00-\x1f]*", name):
        raise UserError(f"'{name}' cannot be a protocol's name: it is also the name of a file")
    return found if name is None else dataclasses.replace(found, name=name)


def on_data(loaded: Loaded, data: DataLike) -> Loaded:
    """The protocol on these data; a data set in memory is registered under its name.

    On other data than its own or its stand-in it is another protocol, with a board of its own: its name is followed by
    that of the data set. Raises UserError where the protocol cannot be on them.
    """
    if isinstance(data, str) and data in ("real", "stand-in"):
        return dataclasses.replace(loaded, protocol=for_data(loaded, data))
    if isinstance(data, str) and data not in CARDS:
        raise unknown("data", data, ("real", "stand-in", *CARDS))
    if isinstance(data, Dataset):
        data = register_dataset(data).name
    dataset = data if isinstance(data, str) else dict(data) if isinstance(data, Mapping) else data.model_dump()
    protocol = _validated({**loaded.protocol.model_dump(), "dataset": dataset})
    name = loaded.name if protocol.digest == loaded.protocol.digest else f"{loaded.name}-{protocol.data_name}"
    # Where the data of the file's own would lie says nothing of these.
    return dataclasses.replace(loaded, name=name, protocol=protocol, base=None)


@checked
def load_method(method: MethodLike, cache: Path | None = None) -> LoadedMethod:
    """A method by name, class or instance (its class); UserError for what is none."""
    if isinstance(method, LoadedMethod):
        return method
    if isinstance(method, str):
        return read_method(method)
    return load_class(type(method) if isinstance(method, Method) else method, cache or default_cache())


def _validated(text: dict[str, Any]) -> AnyProtocol:
    try:
        return PROTOCOL.validate_python(text)
    except ValidationError as error:
        problems = [f"  {path_text(each.loc)}: {each.message}" for each in findings(PROTOCOL, text, error)]
        raise UserError("\n".join(["this is not a possible protocol:", *problems])) from None


def path_of(given: str | Path | None) -> Path | None:
    """A path as a user gives it, '~' being the home folder; None for none."""
    return None if given is None else Path(given).expanduser()
