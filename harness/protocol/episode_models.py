"""The parts of a protocol: the shape of an episode and the scoring of each kind, and published results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeAlias

from pydantic import (
    Field,
    PlainSerializer,
    PlainValidator,
    SerializerFunctionWrapHandler,
    WithJsonSchema,
    field_validator,
    model_serializer,
    model_validator,
)

from harness.protocol.episode_file import EpisodeFile
from harness.util.pydantic_base import Count, Strict

Shot = Annotated[int, Field(strict=True, ge=0)]
Number = Annotated[float, Field(strict=True)]
TestEpisodes = Annotated[int, Field(strict=True, ge=1, le=10**7)]
"""Scores of every episode are kept, and with ten million a mean has no error left worth the time."""


def _read(value: Any) -> EpisodeFile | None:
    """What a protocol says under `scoring.episodes` as the file's episodes; those that are read already as they are."""
    from harness.protocol.episode_reading import read_episode_file

    if value is None or isinstance(value, EpisodeFile):
        return value
    if not isinstance(value, str | Path) or not str(value):
        raise ValueError(f"found {json.dumps(value, default=str)}; expected the name of a .jsonl or .parquet file")
    return read_episode_file(Path(value).expanduser().absolute())


if TYPE_CHECKING:
    _Held: TypeAlias = EpisodeFile | None
else:
    _Held = Any  # the arrays in it are nothing for pydantic to look into

EpisodesFromFile = Annotated[
    _Held,
    PlainValidator(_read),
    PlainSerializer(lambda file: file and str(file.path)),
    WithJsonSchema({"type": "string", "minLength": 1}),
    Field(
        description="a .jsonl or .parquet file (relative to this one) with the test episodes, a row a step as "
        "`harness export` writes them"
    ),
]
"""A file of test episodes in a model, named relative to the protocol file (or the working directory)."""


def _as_many_as_there_are(scoring: StreamScoring | QueryScoring) -> None:
    """Makes `test_episodes` the number of episodes in the file, if there is one; ValueError if it says another."""
    if scoring.episodes is None:
        return
    count = scoring.episodes.count
    if "test_episodes" in scoring.model_fields_set and scoring.test_episodes != count:
        raise ValueError(
            f"test_episodes: found {scoring.test_episodes}, and {scoring.episodes.path.name} has {count} episodes, "
            "which are all scored. Leave it out"
        )
    scoring.__dict__["test_episodes"] = count  # the model is frozen for others


def _without_null_episodes(dumped: dict[str, Any]) -> dict[str, Any]:
    """What a model says, without a word of a file where there is none: most protocols have none."""
    return {key: value for key, value in dumped.items() if key != "episodes" or value is not None}


class Published(Strict):
    """A result that others printed; shown beside measured rows, never ranked with them."""

    method: str = Field(description="name of the method, as in `harness list methods` where it is there")
    variant: str = Field("", description="which variant of it")
    source: str = Field(description="where it was printed: paper and table")
    metrics: dict[str, Number | Annotated[list[Number], Field(min_length=2, max_length=2)]] = Field(
        description="metric name to value in per cent, or to [value, spread]"
    )
    note: str = Field("", description="what to know when comparing it")


class StreamEpisode(Strict):
    """`ways` classes shown `presentations` times each; the label of a step is revealed before the next."""

    ways: Count = Field(description="classes in an episode")
    presentations: Count = Field(description="how often each class is shown; an episode has ways x presentations steps")
    order: Literal["balanced", "iid", "cyclic"] = Field(
        "balanced",
        description="balanced: each class exactly `presentations` times, shuffled; "
        "iid: the class of each step drawn independently; "
        "cyclic: the classes take turns, in one random order",
    )


class DelayedEpisode(StreamEpisode):
    """A stream whose labels are revealed `label_delay` steps late."""

    label_delay: Annotated[int, Field(strict=True, ge=2)] = Field(
        description="d: the label of step t is revealed before step t + d (d = 1 is kind online_few_shot)"
    )


class ContinualEpisode(Strict):
    """`subtasks` classes one after another, then queries from all of them."""

    subtasks: Count = Field(description="classes, shown one after another and never revisited")
    shots: Count = Field(description="samples of each class in the stream")
    queries: Count = Field(description="queries per class after the stream")


class SegmentationEpisode(Strict):
    """One target class and, unless `distractor` is false, one distractor class."""

    presentations: Count = Field(description="how often the target is shown, and the distractor")
    distractor: bool = Field(True, description="whether a second class is shown whose mask is all zero")


class KShotEpisode(Strict):
    """A support set of `ways` x `shots` pairs, then `queries` per class."""

    ways: Count = Field(description="classes in an episode")
    shots: Count = Field(description="labelled samples of each class in the support set")
    queries: Count = Field(description="queries per class")


class SupervisedEpisode(Strict):
    """Ordinary classification: one step per episode."""


class StreamScoring(Strict):
    """Accuracy at the (k+1)-th presentation of a class, for each k in `shots`."""

    shots: Annotated[list[Shot], Field(min_length=1)] = Field(
        description="numbers of earlier presentations at which accuracy is reported"
    )
    test_episodes: TestEpisodes = Field(2000, description="episodes of the test split that are scored")
    episodes: EpisodesFromFile = None

    @field_validator("shots")
    @classmethod
    def _rising(cls, shots: list[int]) -> list[int]:
        if sorted(set(shots)) != shots:
            raise ValueError(f"shots must rise without repeats, as in {sorted(set(shots))}")
        return shots

    @model_validator(mode="after")
    def _counted(self) -> Self:
        _as_many_as_there_are(self)
        return self

    @model_serializer(mode="wrap")
    def _dumped(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without_null_episodes(dump(self))


class QueryScoring(Strict):
    """Accuracy over the queries of an episode."""

    test_episodes: TestEpisodes = Field(2000, description="episodes of the test split that are scored")
    episodes: EpisodesFromFile = None

    @model_validator(mode="after")
    def _counted(self) -> Self:
        _as_many_as_there_are(self)
        return self

    @model_serializer(mode="wrap")
    def _dumped(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without_null_episodes(dump(self))


class SupervisedScoring(Strict):
    """Accuracy over the whole test split."""

    @model_validator(mode="before")
    @classmethod
    def _without_file(cls, given: Any) -> Any:
        if isinstance(given, dict) and "episodes" in given:
            raise ValueError(
                "episodes: kind supervised takes no episodes from a file, since it scores every image of the test "
                "split once. Which these are is said under 'dataset' (with 'splits')"
            )
        return given
