"""Protocols by name or path, with what they inherit through `extends`."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.util.atomic_files import is_file, is_folder
from harness.util.errors import UserError, known_name, nearest, some_of
from harness.util.shipped_files import protocol_files
from harness.yaml_files import extends
from harness.yaml_files.document import Document, validated
from harness.yaml_files.source_location import shown

if TYPE_CHECKING:
    from harness.protocol.models import AnyProtocol


@dataclass(frozen=True, repr=False)
class Loaded:
    """A protocol with its name (the file's name without '.yaml') and the file it was read from.

    `base` is the folder that a data set of the user's own lies relative to: that of the file which says where it
    lies (this one, or one that it extends).
    """

    name: str
    path: Path
    protocol: AnyProtocol
    base: Path | None = None

    def __repr__(self) -> str:
        return f"{self.name} ({self.protocol.kind}): {self.protocol.title}; digest {self.protocol.digest[:12]}"

    @functools.cached_property
    def on_stand_in(self) -> AnyProtocol:
        """The protocol on its generated data set.

        Raises UserError where it names none, or that cannot hold such an episode.
        """
        from pydantic import ValidationError

        from harness.protocol.models import on_dataset

        if self.protocol.stand_in is None:
            raise UserError(f"{self.name} names no stand-in; write 'stand_in: NAME' into {shown(self.path)}")
        try:
            return on_dataset(self.protocol, self.protocol.stand_in)
        except ValidationError as error:
            reasons = "; ".join(each["msg"].removeprefix("Value error, ") for each in error.errors())
            raise UserError(f"{self.name} cannot be run on its stand-in: {reasons}") from None


def load_protocol(name_or_path: str | Path) -> Loaded:
    """A protocol by path, or by the name of a shipped one; a file of that name wins.

    Raises UserError for an unknown name (with the nearest), and YamlError (with every problem at its line)
    for a file that is not a possible protocol.
    """
    path = find_protocol(name_or_path)
    return _read_shipped(path) if path in protocol_files().values() else _read(path)


@functools.cache
def _read_shipped(path: Path) -> Loaded:
    """Shipped files are read once: they do not change while a command runs, whose boards name them again."""
    return _read(path)


def _read(path: Path) -> Loaded:
    from harness.data.user.model import PLACES
    from harness.protocol.class_lists import with_class_lists
    from harness.protocol.models import PROTOCOL

    document = _with_episode_file(with_class_lists(inherited(path)))
    protocol = validated(document, PROTOCOL, also=(extends.EXTENDS,))
    places = [document.keys[loc] for loc in (("dataset", key) for key in PLACES) if loc in document.keys]
    return Loaded(path.stem, path, protocol, places[0].path.parent if places else None)


def _with_episode_file(document: Document) -> Document:
    """The document with the name of its file of episodes made absolute: it is relative to the file that states it."""
    scoring = document.data.get("scoring")
    name = scoring.get("episodes") if isinstance(scoring, dict) else None
    if not isinstance(name, str) or not name:
        return document
    folder = document.place(("scoring", "episodes")).path.parent
    path = folder.absolute() / os.path.expanduser(name)
    return replace(document, data={**document.data, "scoring": {**scoring, "episodes": str(path)}})


def find_protocol(name_or_path: str | Path) -> Path:
    """The file of a protocol given by path or by shipped name; UserError if there is none."""
    shipped = protocol_files()
    for path in (Path(os.path.expanduser(name_or_path)), Path(name_or_path)):
        if is_file(path):
            return path
    name = known_name(str(name_or_path), shipped) or str(name_or_path)
    if name in shipped:
        return shipped[name]
    if is_folder(path):
        inside = [each.name for each in sorted(path.glob("*.yaml"))]
        raise UserError(f"'{name}' is a directory; name a protocol file. It has: {', '.join(inside) or 'none'}.")
    if path.stem in shipped and path.suffix in {".yaml", ".yml"}:
        raise UserError(f"there is no file '{name}'. The shipped protocol of that name is called '{path.stem}'.")
    siblings = [str(each) for each in path.parent.glob("*.yaml")] if is_folder(path.parent) else []
    guess = nearest(name, [*shipped, *siblings])
    hint = f" Did you mean '{guess}'?" if guess else ""
    raise UserError(f"there is no protocol '{name}'.{hint} Give a file, or one of: {some_of([*shipped], name)}.")


def inherited(path: Path) -> Document:
    """The document of a protocol file merged over those it extends, not yet checked against the model.

    Raises YamlError, also for a missing parent or a circle (`harness.yaml_files.extends`).
    """
    return extends.inherited(path, protocol_files(), "protocol")


def for_data(loaded: Loaded, data: str) -> AnyProtocol:
    """The protocol on the data asked for: 'real' is as written, 'stand-in' is on its generated data set.

    Raises UserError where there is no stand-in, or it cannot hold such an episode.
    """
    return loaded.protocol if data == "real" else loaded.on_stand_in
