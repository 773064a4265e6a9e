"""Protocols with the type of their kind, where `load_protocol` knows only that they are protocols."""

from pathlib import Path
from typing import Any, TypeVar

from harness.protocol.load import load_protocol
from harness.protocol.models import PROTOCOL, Protocol

P = TypeVar("P", bound=Protocol)


def protocol_as(kind: type[P], name_or_path: str | Path) -> P:
    """A protocol that must be of this kind."""
    protocol = load_protocol(name_or_path).protocol
    assert isinstance(protocol, kind)
    return protocol


def validated_as(kind: type[P], content: dict[str, Any]) -> P:
    """A protocol from what its YAML file would hold, of this kind."""
    protocol = PROTOCOL.validate_python(content)
    assert isinstance(protocol, kind)
    return protocol
