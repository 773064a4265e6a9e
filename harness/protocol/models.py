"""All kinds of protocol: one pydantic model per kind, told apart by `kind`, unknown keys refused."""

from __future__ import annotations

import inspect
from typing import Annotated, Any, Union, get_args

from pydantic import Field, GetCoreSchemaHandler, TypeAdapter
from pydantic_core import CoreSchema

from harness.protocol.base import SEMANTICS, Needs, Protocol
from harness.protocol.kinds.continual import Continual
from harness.protocol.kinds.k_shot import NWayKShot
from harness.protocol.kinds.segmentation import SegmentationDistractors
from harness.protocol.kinds.stream import DelayedLabel, OnlineFewShot
from harness.protocol.kinds.supervised import Supervised

__all__ = [
    "KINDS",
    "PROTOCOL",
    "SEMANTICS",
    "AnyProtocol",
    "Continual",
    "DelayedLabel",
    "NWayKShot",
    "Needs",
    "OnlineFewShot",
    "Protocol",
    "SegmentationDistractors",
    "StreamProtocol",
    "Supervised",
    "add_kind",
    "json_schema",
    "on_dataset",
    "remove_kind",
]

AnyProtocol = Protocol
StreamProtocol = OnlineFewShot | DelayedLabel
KINDS: dict[str, type[Protocol]] = {
    "online_few_shot": OnlineFewShot,
    "delayed_label": DelayedLabel,
    "continual": Continual,
    "segmentation_distractors": SegmentationDistractors,
    "n_way_k_shot": NWayKShot,
    "supervised": Supervised,
}


class _OneOfTheKinds:
    """Makes pydantic take the kinds there are when a schema is built."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return handler.generate_schema(Annotated[Union[tuple(KINDS.values())], Field(discriminator="kind")])  # noqa: UP007


PROTOCOL: TypeAdapter[AnyProtocol] = TypeAdapter(Annotated[Protocol, _OneOfTheKinds()])
"""Validates plain data (as read from YAML) into the model of its kind."""


def add_kind(model: type[Protocol]) -> None:
    """Makes protocols of one more kind valid; `harness.evaluation.kinds.register` adds its plan and scorer too.

    Raises ValueError if there is such a kind, and TypeError if the model lacks what every kind must have.
    """
    name = kind_of(model)
    if inspect.isabstract(model):
        raise TypeError(f"{model.__name__} does not define {', '.join(sorted(model.__abstractmethods__))}")
    if name in KINDS:
        raise ValueError(f"there is a kind '{name}' already ({KINDS[name].__name__})")
    KINDS[name] = model
    PROTOCOL.rebuild(force=True)


def remove_kind(name: str) -> None:
    """Takes a kind back that was added."""
    del KINDS[name]
    PROTOCOL.rebuild(force=True)


def kind_of(model: type[Protocol]) -> str:
    """The word that a model's field `kind` (a Literal) takes."""
    (name,) = get_args(model.model_fields["kind"].annotation)
    return str(name)


def json_schema() -> dict[str, Any]:
    """JSON Schema of a protocol file, for editors."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "episode protocol",
        **PROTOCOL.json_schema(),
    }


def on_dataset(protocol: AnyProtocol, name: str) -> AnyProtocol:
    """The same protocol on another data set (a stand-in), checked again for possibility.

    Test episodes that a file fixes are of the data set that they were made for: here as many are drawn.
    """
    return PROTOCOL.validate_python({**protocol.without_episode_file.model_dump(), "dataset": name})
