"""The record of one run: what a line of a board says, checked when it is made and again when it is read."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, JsonValue, model_validator

from harness.records.marks import (
    CUSTOM_RECIPE,
    FAILED_CHECK,
    GRADIENT_AT_TEST,
    LABEL_DELAY_TOLD,
    NOT_CHECKED,
    PARTIAL_TEST,
    RECIPE_CHANGED,
    SEARCHED,
    SKIPS_CHECK,
    STAND_IN,
    TRAINED_BY,
    TRAINED_ON,
    TRANSDUCTIVE,
)
from harness.records.parts import (
    MOST,
    Code,
    Cost,
    DataInfo,
    FileStem,
    Hardware,
    Isolated,
    Line,
    Metric,
    NonNegative,
    Part,
    Percent,
    Positive,
    Pretrained,
    Sha256,
    Whole,
)
from harness.records.row_key import Setting, key_of
from harness.util.precision import Precision

SCHEMA_VERSION = 1
"""Raised when a field without a default is added, or one is removed or comes to mean something else."""

BESIDE, HUB = "checkpoints", "hf://"
KEPT = r"^(checkpoints|hf://[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)$"
"""Where weights are kept: in this folder beside the boards, or in a repository on the Hugging Face hub."""


def _finite(values: dict[str, JsonValue]) -> dict[str, JsonValue]:
    _refuse_numbers(values)
    return values


def _each_once(marks: list[str]) -> list[str]:
    if len(set(marks)) != len(marks):
        raise ValueError("a mark is given twice")
    return marks


def _somewhere(text: str) -> str:
    if text and not re.fullmatch(KEPT, text):
        raise ValueError("neither 'checkpoints' nor 'hf://owner/name'")
    return text


def _utc(text: str) -> str:
    if datetime.fromisoformat(text).utcoffset() != timedelta(0):
        raise ValueError("not a time in UTC, as '2026-01-31T23:59:59Z'")
    return text


def _refuse_numbers(value: JsonValue) -> None:
    """ValueError where plain data hold a number that no record may hold."""
    if isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            _refuse_numbers(each)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError("a value is NaN or infinite")
    elif isinstance(value, int) and abs(value) > MOST:
        raise ValueError("it holds a whole number of more than 63 bits")


PlainData = Annotated[dict[str, JsonValue], AfterValidator(_finite)]
Marks = Annotated[list[Line], AfterValidator(_each_once)]
Store = Annotated[str, AfterValidator(_somewhere)]
Time = Annotated[str, AfterValidator(_utc)]


class Record(Part):
    """One finished run: one training and one scoring. One line of a board."""

    schema_version: Literal[1] = Field(description="version of this schema")
    run: Line = Field(description="id of the run: the name of its folder")
    status: Literal["done"] = Field(description="only finished runs have a record on a board")
    protocol: FileStem = Field(description="name of the protocol: its file's name without .yaml")
    digest: Sha256 = Field(description="digest of the protocol, on the data set that was used")
    data: DataInfo = Field(description="the data set")
    method: Line = Field(description="name of the method as it was asked for")
    target: Line = Field(description="where the method's class is: 'module:ClassName' or 'file.py:ClassName'")
    options: PlainData = Field(description="options that the method was built with")
    defaults: list[str] | None = Field(
        None,
        description="those options whose value was the method's own default; null in records from before that",
    )
    recipe: str = Field(description="name of the recipe; empty if the method is not trained")
    recipe_hash: Annotated[str, Field(pattern=r"^[0-9a-f]*$")] = Field(
        description="SHA-256 over what the recipe says for this budget; empty if the method is not trained"
    )
    recipe_changes: PlainData = Field(
        {}, description="what the command line changed of the recipe, as 'lr' or 'STAGE.lr' to the value; empty without"
    )
    budget: str = Field(description="smoke, quick, day or full; empty if the method is not trained")
    budget_cut: str = Field(
        "", description="what cut the budget short, as 'episodes=500' or 'time=10m'; empty if nothing did"
    )
    seed: Whole = Field(description="seed of initialisation and training; test episodes do not depend on it")
    init: Sha256 | None = Field(
        None,
        description="SHA-256 of the checkpoint whose weights training began from; null for fresh weights",
    )
    init_episodes: Whole = Field(0, description="episodes that those weights had been trained on")
    train_episodes: Whole = Field(description="episodes trained on in this run, over all stages")
    train_updates: Whole = Field(description="optimiser steps in this run, over all stages")
    test_episodes: Positive = Field(description="episodes of the test split that were scored")
    metrics: Annotated[dict[Line, Metric], Field(min_length=1)] = Field(
        description="the metric that the board is ranked by ('accuracy', 'query_accuracy', 'joint' or 'iou'), "
        "and others: 'accuracy@shot=1', 'query_accuracy@last', 'masking@shot=6', ..."
    )
    curves: dict[Line, list[Percent]] = Field(
        description="means in per cent for plots: accuracy by step ('by_step') and shot ('by_shot'), query accuracy "
        "by subtask ('by_subtask'), masks by shot ('iou_by_shot', 'masking_by_shot'; with ', null feedback' behind the "
        "name where nothing is ever revealed)"
    )
    cost: Cost = Field(description="parameters, computation and memory")
    marks: Marks = Field(
        description=f"'{LABEL_DELAY_TOLD}', '{GRADIENT_AT_TEST}', '{TRANSDUCTIVE}', '{STAND_IN}', "
        f"'{PARTIAL_TEST}', '{CUSTOM_RECIPE}', '{RECIPE_CHANGED}: ...', '{SEARCHED}: ...', '{TRAINED_BY}N processes', "
        f"'{TRAINED_ON}...', '{SKIPS_CHECK}: ...' (one each), '{FAILED_CHECK}: ...', '{NOT_CHECKED}', or other words "
        "that a reader should see"
    )
    pretrained: list[Pretrained] = Field(
        [], description="stages of shared features; empty without, and in records from before there were such"
    )
    precision: Precision = Field(
        "fp32",
        description="what training might round to: tf32 (convolutions and matrix products) or bf16 (convolutions); "
        "scoring is in fp32",
    )
    train_seconds: NonNegative = Field(
        description="wall time of training, over all sessions; what reused features cost stands in `pretrained`"
    )
    score_seconds: NonNegative = Field(description="wall time of scoring")
    hardware: Hardware = Field(description="the machine")
    versions: dict[str, str] = Field(description="versions of Python, this package and its main libraries")
    code: Code = Field(description="revision of the code")
    checkpoint: Sha256 | None = Field(description="SHA-256 of the scored weights' file; null without weights")
    scores: Sha256 | None = Field(
        None, description="SHA-256 of the file with the scores of every test episode; null in records from before that"
    )
    isolated: Isolated | None = Field(
        None,
        description="how the method was isolated while it was scored (`run --isolated`), or scored again when the run "
        "was submitted; null: it was scored in the harness's own process alone",
    )
    kept: Store = Field(
        "",
        description="where the scored weights are kept, under their hash: 'checkpoints' (the folder beside the boards) "
        "or 'hf://owner/name' (a repository on the Hugging Face hub); empty: nowhere, the command makes them again",
    )
    method_file: Sha256 | None = Field(
        None, description="SHA-256 of the file that defines the method's class; null in records from before that"
    )
    method_version: Positive = Field(
        1, description="version of the method, raised when what it computes changes; 1 in records from before that"
    )
    method_source: Sha256 | None = Field(
        None,
        description="SHA-256 over that file and the files of the same package or folder that it imports; null in "
        "records from before that",
    )
    command: str = Field(description="command line that made the run")
    finished: Time = Field(description="when it was done: ISO 8601, UTC, as '2026-01-31T23:59:59Z'")

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        _refuse_contradictions(self)
        return self

    @classmethod
    def of_valid(cls, values: dict[str, Any], given: set[str]) -> Self:
        """A record of values of all fields, which it keeps, that are known to be valid each for itself; ValueError
        where they do not agree. `given` are those that are no defaults."""
        record = cls.__new__(cls)  # as pydantic's model_construct, which takes five times as long
        object.__setattr__(record, "__dict__", values)
        object.__setattr__(record, "__pydantic_fields_set__", given)
        object.__setattr__(record, "__pydantic_extra__", None)
        object.__setattr__(record, "__pydantic_private__", None)
        _refuse_contradictions(record)
        return record

    @property
    def row_key(self) -> str:
        """SHA-256 over what two runs must share to be seeds of one entry.

        That is the protocol's digest, the data's fingerprint, the method's target, version and options, the
        recipe's hash, the budget and what cut it short, how long the weights it began from had been trained, and
        the number of test episodes. Of the options of a built-in method those count that are not its first
        defaults, so that the key stays the same when the method gets another option. Weights of which
        nobody knows how they were trained, such as those of an instance given to `harness.run`, count themselves.
        The number of training episodes is not part of it: it follows from these, except where time was what cut a
        run short.
        """
        return key_of(self.options, self._setting)

    @property
    def _setting(self) -> Setting:
        return (
            self.digest,
            self.data.fingerprint,
            self.target,
            self.recipe_hash,
            self.budget,
            self.budget_cut,
            self.init_episodes or self.init,
            self.test_episodes,
            self.method_version,
        )

    @property
    def when(self) -> datetime:
        """`finished` as a time."""
        return datetime.fromisoformat(self.finished)


def _refuse_contradictions(record: Record) -> None:
    """ValueError where values of a record do not agree."""
    if record.init is None and record.init_episodes:
        raise ValueError(f"init_episodes is {record.init_episodes}, but init is null")
    if (STAND_IN in record.marks) != record.data.stand_in:
        raise ValueError(f"data.stand_in is {record.data.stand_in}, but marks are {record.marks}")
    for name, metric in record.metrics.items():
        if metric.episodes > record.test_episodes:
            raise ValueError(
                f"metric '{name}' is over {metric.episodes} episodes, but only {record.test_episodes} were scored"
            )


def row_keys(records: Sequence[Record]) -> list[str]:
    """`Record.row_key` of each, computed once for those that have their options in common, as rows of a board have."""
    known: dict[tuple[int, object], str] = {}
    found = []
    for record in records:
        options, setting = record.options, record._setting
        key = known.get((id(options), setting))
        if key is None:
            key = known[id(options), setting] = key_of(options, setting)
        found.append(key)
    return found


def utc_now() -> str:
    """The present time as `Record.finished` wants it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def json_schema() -> dict[str, Any]:
    """JSON Schema of a record."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Record.model_json_schema(),
        "title": "record of one run",
    }
