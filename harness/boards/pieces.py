"""Lines of a board as the harness writes them, read in pieces: what rows share is validated once.

The keys of a line are sorted, so that what a run has of its own (scores, seed, times, ...) lies between the same keys
in every line. A line is cut there, at commas, into pieces that each are a JSON object but for its braces. Those between
are the same in many rows (method, options, cost, data, machine, versions, ...), and equal bytes hold equal values.
"""

from __future__ import annotations

from functools import cache
from itertools import chain, pairwise
from operator import itemgetter
from types import NoneType
from typing import Annotated, Any

from pydantic import BaseModel, TypeAdapter
from pydantic_core import CoreConfig, SchemaValidator, core_schema

from harness.records.parts import Metric
from harness.records.record import SCHEMA_VERSION, Record, utc_now

OWN = ("checkpoint", "command", "curves", "finished", "metrics", "run", "train_episodes")
"""The first key of each piece that a run has of its own."""

SHARED = ("budget", "code", "cost", "data", "hardware", "options", "protocol", "status", "versions")
"""The first key of each piece that rows may share. Every line has all of these keys."""

_FIRST = sorted((*OWN, *SHARED))
_TOKENS = [f',"{key}":'.encode() for key in _FIRST[1:]]
_own_of, _shared_of = (itemgetter(*[_FIRST.index(key) for key in keys]) for keys in (OWN, SHARED))
_CURVES, _METRICS, _RUN = (OWN.index(key) for key in ("curves", "metrics", "run"))

_VERSION = b'"schema_version":%d,' % SCHEMA_VERSION  # validation takes `true` for 1

_OF_METRIC = 1 + len(Metric.model_fields)
"""Keys of a metric, its name among them: it has to have them all."""

_DEFAULTS: dict[str, Any] = {
    name: each.get_default(call_default_factory=True) for name, each in Record.model_fields.items()
}
_EVERY = set(_DEFAULTS)

_NO_TEXT = frozenset({int, float, bool, NoneType})

_MOST = 10_000
"""Pieces from one key on that are remembered at once."""


class Pieces:
    """Reads the lines of one board, and remembers what rows share.

    Rows have the values of equal pieces in common: they are frozen, or lists and dictionaries that nobody may change.
    """

    def __init__(self) -> None:
        self.today = utc_now()[:10]
        validators = _validators()
        self._own = validators["own"]
        self._shared: list[tuple[dict[bytes, dict[str, Any]], SchemaValidator]] = [
            ({}, validators[key]) for key in SHARED
        ]

    def record_in(self, content: bytes) -> Record:
        """The record of a line without its hash, in which there is no backslash.

        Raises ValueError where keys are in another order or given twice, and where a value is not valid.
        """
        if content[:1] != b"{" or content[-1:] != b"}":
            raise ValueError("not a JSON object")
        place = 0
        places = [0, *[place := content.index(token, place) for token in _TOKENS], len(content) - 1]
        pieces = [content[start + 1 : end] for start, end in pairwise(places)]
        found = [
            *self._read(_own_of(pieces)),
            *[
                known.get(piece) or _remembered(piece, known, validator)
                for piece, (known, validator) in zip(_shared_of(pieces), self._shared, strict=True)
            ],
        ]
        values = _DEFAULTS.copy()
        for each in found:
            values.update(each)
        every = sum(map(len, found)) == len(_EVERY)
        return Record.of_valid(values, _EVERY if every else {*chain(*found)})

    def _read(self, pieces: tuple[bytes, ...]) -> tuple[dict[str, Any], ...]:
        """What a row has of its own.

        All pieces are validated in one call, as objects of an array. Where a piece held less or more than the values of
        its own keys, so that the cut was none between two keys of the line, there would be more objects, an unknown
        key, or no JSON: what is left open in one piece is closed in none, since no value here is an array of objects.
        """
        if _VERSION not in pieces[_RUN]:
            raise ValueError("another version")
        text = b"[{" + b"},{".join(pieces) + b"}]"
        found: tuple[dict[str, Any], ...] = self._own.validate_json(text)
        values = [value for each in found for value in each.values()]
        texts = len(values) + [type(value) for value in values].count(str)
        _each_once(text, texts + _OF_METRIC * len(found[_METRICS]["metrics"]) + len(found[_CURVES]["curves"]))
        return found


def _remembered(piece: bytes, known: dict[bytes, dict[str, Any]], validator: SchemaValidator) -> dict[str, Any]:
    """What a piece holds that was not read before."""
    found: dict[str, Any] = validator.validate_json(b"{" + piece + b"}")
    _each_once(piece, _texts(found))
    if len(known) >= _MOST:
        known.clear()
    known[piece] = found
    return found


def _each_once(text: bytes, texts: int) -> None:
    """ValueError unless valid JSON has so many keys and texts: it has more where a key is given twice, of which
    validation takes the last. Without backslashes, every quote begins or ends one of them."""
    if text.count(b'"') != 2 * texts:
        raise ValueError("a key is given twice")


def _texts(value: Any) -> int:
    """How many keys and texts a value has, be it a model or plain data."""
    if isinstance(value, str):
        return 1
    found = 0
    if isinstance(value, BaseModel):
        value = {name: value.__dict__[name] for name in value.model_fields_set}
    if isinstance(value, dict):
        found, value = len(value), value.values()
    for each in value:
        if type(each) not in _NO_TEXT:  # as most are
            found += _texts(each)
    return found


@cache
def _validators() -> dict[str, SchemaValidator]:
    """Validators of shared pieces by their first key, and of a row's own together; they give dictionaries."""
    names = sorted(Record.model_fields)
    places = [*map(names.index, _FIRST), len(names)]
    schemas = {names[start]: _schema(names[start:end]) for start, end in pairwise(places)}
    own = core_schema.tuple_schema([schemas[key] for key in OWN])
    return {
        key: SchemaValidator(schema) for key, schema in {**{key: schemas[key] for key in SHARED}, "own": own}.items()
    }


def _schema(names: list[str]) -> core_schema.CoreSchema:
    """The schema of an object with some keys of a record."""
    fields = {}
    for name in names:
        field = Record.model_fields[name]
        kind: Any = Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
        fields[name] = core_schema.typed_dict_field(TypeAdapter(kind).core_schema, required=field.is_required())
    config = CoreConfig(strict=True, extra_fields_behavior="forbid", allow_inf_nan=False)
    return core_schema.typed_dict_schema(fields, config=config)
