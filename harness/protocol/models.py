"""What a protocol file may say: one pydantic model per kind, told apart by `kind`, unknown keys refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, TypeAdapter, field_validator, model_validator

from harness.data.cards import CARDS, Card
from harness.data.user.model import OwnData, unfit
from harness.protocol.episode_models import (
    ContinualEpisode,
    DelayedEpisode,
    KShotEpisode,
    Published,
    QueryScoring,
    SegmentationEpisode,
    StreamEpisode,
    StreamScoring,
    SupervisedEpisode,
    SupervisedScoring,
)
from harness.util.errors import nearest
from harness.util.pydantic_base import Strict

SEMANTICS = 1
"""Raised when the same protocol text comes to mean other episodes; part of every digest."""


class Needs(NamedTuple):
    """Classes that each split must have for an episode, images that each class must have, and the keys that say so."""

    classes: int
    images: int
    classes_key: str
    images_key: str


class Protocol(Strict):
    """What every kind has. `title`, `notes`, `published` and `stand_in` do not change the digest."""

    kind: str
    title: str = Field(description="one line for people")
    dataset: str | OwnData = Field(description="a name from `harness list datasets`, or a data set of your own")
    stand_in: str | None = Field(None, description="the generated data set used with --data stand-in")
    notes: str = Field("", description="anything readers should know")
    published: list[Published] = Field([], description="what others printed for this protocol")

    @field_validator("dataset")
    @classmethod
    def _known_dataset(cls, dataset: str | OwnData) -> str | OwnData:
        return _known(dataset, CARDS) if isinstance(dataset, str) else dataset

    @field_validator("stand_in")
    @classmethod
    def _known_stand_in(cls, name: str | None) -> str | None:
        if name is not None:
            _known(name, {key: card for key, card in CARDS.items() if card.stand_in})
        return name

    @model_validator(mode="after")
    def _fits_data(self) -> Protocol:
        _refuse(list(unfit(self.dataset, self.kind) if isinstance(self.dataset, OwnData) else _unfit(self)))
        return self

    @property
    def data_name(self) -> str:
        """The name of the data set, one of the harness's or the user's own."""
        return self.dataset if isinstance(self.dataset, str) else self.dataset.name

    @property
    def card(self) -> Card:
        """What is known of the data set; of the user's own, what is known before it is decoded."""
        return CARDS[self.dataset] if isinstance(self.dataset, str) else self.dataset.card

    @property
    def needs(self) -> Needs:
        """What an episode asks of every split."""
        return Needs(1, 1, "episode", "episode")


class _Stream(Protocol):
    @property
    def label_delay(self) -> int:
        """d: the label of step t is revealed before step t + d."""
        return getattr(self.episode, "label_delay", 1)

    @property
    def steps(self) -> int:
        """T: steps of one episode."""
        return self.episode.ways * self.episode.presentations

    @property
    def needs(self) -> Needs:
        return Needs(self.episode.ways, self.episode.presentations, "episode.ways", "episode.presentations")

    episode: StreamEpisode
    scoring: StreamScoring

    @model_validator(mode="after")
    def _possible(self) -> _Stream:
        shape = self.episode
        problems = list(_too_many(self))
        last = self.steps - 1 if shape.order == "iid" else shape.presentations - 1
        if self.scoring.shots[-1] > last:
            problems.append(
                f"scoring.shots: {self.scoring.shots[-1]}-shot is scored at presentation "
                f"{self.scoring.shots[-1] + 1} of a class, but the most there can be is {last + 1}"
            )
        _refuse(problems)
        return self


class OnlineFewShot(_Stream):
    """`ways` classes in random order; every step's label is revealed before the next step."""

    kind: Literal["online_few_shot"]
    episode: StreamEpisode
    scoring: StreamScoring


class DelayedLabel(_Stream):
    """The online stream with labels `label_delay` steps late."""

    kind: Literal["delayed_label"]
    episode: DelayedEpisode
    scoring: StreamScoring


class Continual(Protocol):
    """Classes one after another, then queries from all of them."""

    kind: Literal["continual"]
    episode: ContinualEpisode
    scoring: QueryScoring = QueryScoring(test_episodes=2000)

    @property
    def needs(self) -> Needs:
        shape = self.episode
        return Needs(shape.subtasks, shape.shots + shape.queries, "episode.subtasks", "episode")

    @model_validator(mode="after")
    def _possible(self) -> Continual:
        _refuse(list(_too_many(self)))
        return self


class SegmentationDistractors(Protocol):
    """Segment the target class, leave the distractor out; which is which is learned from feedback."""

    kind: Literal["segmentation_distractors"]
    episode: SegmentationEpisode
    scoring: StreamScoring

    @property
    def needs(self) -> Needs:
        where = "episode.presentations"
        return Needs(1 + self.episode.distractor, self.episode.presentations, where, where)

    @model_validator(mode="after")
    def _possible(self) -> SegmentationDistractors:
        shape = self.episode
        problems = list(_too_many(self))
        if self.scoring.shots[-1] > shape.presentations - 1:
            problems.append(
                f"scoring.shots: {self.scoring.shots[-1]}-shot needs {self.scoring.shots[-1] + 1} presentations, "
                f"but episode.presentations is {shape.presentations}"
            )
        _refuse(problems)
        return self


class NWayKShot(Protocol):
    """A support set, then queries from frozen state."""

    kind: Literal["n_way_k_shot"]
    episode: KShotEpisode
    scoring: QueryScoring = QueryScoring(test_episodes=2000)

    @property
    def needs(self) -> Needs:
        shape = self.episode
        return Needs(shape.ways, shape.shots + shape.queries, "episode.ways", "episode")

    @model_validator(mode="after")
    def _possible(self) -> NWayKShot:
        _refuse(list(_too_many(self)))
        return self


class Supervised(Protocol):
    """Train split with its labels, test split without."""

    kind: Literal["supervised"]
    episode: SupervisedEpisode = SupervisedEpisode()
    scoring: SupervisedScoring = SupervisedScoring()


AnyProtocol = OnlineFewShot | DelayedLabel | Continual | SegmentationDistractors | NWayKShot | Supervised
StreamProtocol = OnlineFewShot | DelayedLabel
KINDS: dict[str, type[Protocol]] = {
    "online_few_shot": OnlineFewShot,
    "delayed_label": DelayedLabel,
    "continual": Continual,
    "segmentation_distractors": SegmentationDistractors,
    "n_way_k_shot": NWayKShot,
    "supervised": Supervised,
}
PROTOCOL: TypeAdapter[AnyProtocol] = TypeAdapter(Annotated[AnyProtocol, Field(discriminator="kind")])
"""Validates plain data (as read from YAML) into the model of its kind."""


def digest(protocol: AnyProtocol) -> str:
    """SHA-256 (hex) over the fields that change what is measured: kind, data set, episode shape, scoring."""
    dataset = protocol.dataset
    meaning = {
        "semantics": SEMANTICS,
        **protocol.model_dump(mode="json", include={"kind", "episode", "scoring"}),
        "dataset": dataset.meaning if isinstance(dataset, OwnData) else dataset,
    }
    return hashlib.sha256(json.dumps(meaning, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def ranking(protocol: AnyProtocol) -> str:
    """The metric that a protocol's board is ranked by."""
    if isinstance(protocol, Continual | NWayKShot):
        return "query_accuracy"
    if isinstance(protocol, SegmentationDistractors):
        return "joint" if protocol.episode.distractor else "iou"
    return "accuracy"


def reported(protocol: AnyProtocol) -> tuple[str, ...]:
    """The metrics that a protocol's board shows beside the one it is ranked by, in order."""
    if isinstance(protocol, Continual):
        return ("query_accuracy@earlier", "query_accuracy@last")
    if isinstance(protocol, SegmentationDistractors):
        names = ("iou", "masking") if protocol.episode.distractor else ("iou",)
        return tuple(f"{name}@shot={k}" for name in names for k in protocol.scoring.shots)
    return tuple(f"accuracy@shot={k}" for k in getattr(protocol.scoring, "shots", ()))


def json_schema() -> dict[str, Any]:
    """JSON Schema of a protocol file, for editors."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "episode protocol",
        **PROTOCOL.json_schema(),
    }


def on_dataset(protocol: AnyProtocol, name: str) -> AnyProtocol:
    """The same protocol on another data set (a stand-in), checked again for possibility."""
    return PROTOCOL.validate_python({**protocol.model_dump(), "dataset": name})


def _known(name: str, cards: dict[str, Card]) -> str:
    if name not in cards:
        guess = nearest(name, cards)
        hint = f"; did you mean '{guess}'?" if guess else ""
        raise ValueError(f"unknown data set '{name}'{hint} Known: {', '.join(sorted(cards))}")
    return name


def _unfit(protocol: Protocol) -> Iterator[str]:
    """Why a protocol of this kind cannot be on one of the harness's data sets."""
    kind, card = protocol.kind, protocol.card
    masks, supervised = kind == "segmentation_distractors", kind == "supervised"
    if masks and not card.masks:
        reason = "masks, which it does not have"
    elif supervised and card.disjoint:
        reason = "the same classes in train and test, and its test classes are others"
    elif not supervised and not card.disjoint:
        reason = "test classes that were not trained on, and its classes are the same in train and test"
    else:
        return
    fit = [each.name for each in CARDS.values() if each.masks >= masks and each.disjoint != supervised]
    yield f"dataset: kind {kind} on {card.name} needs {reason}; it can be on {', '.join(sorted(fit))}"


def _too_many(protocol: Protocol) -> Iterator[str]:
    """Reasons why an episode cannot be drawn from a split, as far as the card of the data set tells."""
    needs = protocol.needs
    for split, available in protocol.card.classes.items():
        if needs.classes > available:
            yield (
                f"{needs.classes_key}: {needs.classes} classes in an episode, but the {split} split of "
                f"{protocol.data_name} has {available}"
            )
    for split, available in protocol.card.images_per_class.items():
        if needs.images > available:
            yield (
                f"{needs.images_key}: {needs.images} images of a class in an episode, but the {split} split of "
                f"{protocol.data_name} has classes with {available}"
            )


def _refuse(problems: list[str]) -> None:
    if problems:
        raise ValueError("; ".join(problems))
