"""What a protocol of any kind has: its fields, and what the rest of the harness may ask of it.

What differs between kinds is a property here, with the value that most kinds have; the others override it in their own
modules (`harness/protocol/kinds/`).
"""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, ClassVar, NamedTuple, Self

from pydantic import Field, field_validator, model_validator

from harness.data.cards import CARDS, Card
from harness.data.user.model import OwnData, unfit
from harness.protocol.course import Course, Part
from harness.protocol.episode_file import EpisodeFile
from harness.protocol.episode_models import Published
from harness.protocol.words import Words
from harness.util.errors import unknown
from harness.util.pydantic_base import Strict
from harness.util.quantities import counted

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
    episode: Strict
    scoring: Strict

    masks: ClassVar[bool] = False
    """Whether answers are masks; class number 0 is then the target class and 1 the distractor."""

    stream: ClassVar[bool] = False
    """Whether an episode is a stream and nothing else, each step of which is scored by its shot, and whose label delay
    a stage of training may change."""

    supervised: ClassVar[bool] = False
    """Whether an episode is one image, of the same classes in training and test."""

    @field_validator("title")
    @classmethod
    def _says_something(cls, title: str) -> str:
        if not title.strip():
            raise ValueError("is empty; say in one line what the protocol is")
        return title

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
    def _fits_data(self) -> Self:
        if isinstance(self.dataset, OwnData):
            refuse(list(unfit(self.dataset, self.kind, supervised=self.supervised, masks=self.masks)))
        else:
            refuse(list(_unfit(self)))
        return self

    @model_validator(mode="after")
    def _fits_file(self) -> Self:
        if self.episode_file is not None:
            from harness.protocol.episode_fit import unfit_episodes

            refuse([f"scoring.episodes: {each}" for each in unfit_episodes(self.course, self.episode_file)])
        return self

    @property
    def data_name(self) -> str:
        """The name of the data set, one of the harness's or the user's own."""
        return self.dataset if isinstance(self.dataset, str) else self.dataset.name

    @property
    def card(self) -> Card:
        """What is known of the data set; of the user's own, what is known before it is decoded."""
        return CARDS[self.dataset] if isinstance(self.dataset, str) else self.dataset.card

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) over the fields that change what is measured: kind, data set, episode shape, scoring."""
        return _digest(self)

    @property
    def task_kind(self) -> str:
        """The kind that a method is told, and must declare to run on the protocol: its own, or the shipped kind with
        the same course of events (label timing, queries, form of the answers)."""
        return self.kind

    @property
    def needs(self) -> Needs:
        """What an episode asks of every split."""
        return Needs(1, 1, "episode", "episode")

    @property
    def ways(self) -> int | None:
        """Classes that a method tells apart; 1 where answers are masks; None for all those of the data set."""
        return None

    @property
    def label_delay(self) -> int | None:
        """d: the label of step t of the stream is revealed before step t + d. None without a stream that has labels."""
        return None

    @property
    def test_episodes(self) -> int | None:
        """Episodes of the test split that are scored; None for one an image of it."""
        return None

    @property
    def episode_file(self) -> EpisodeFile | None:
        """The test episodes that a file fixes; None where they are drawn."""
        found: EpisodeFile | None = getattr(self.scoring, "episodes", None)
        return found

    @property
    def without_episode_file(self) -> Self:
        """The protocol with as many test episodes that are drawn, if a file fixes them; a protocol of its own."""
        if self.episode_file is None:
            return self
        return self.model_copy(update={"scoring": self.scoring.model_copy(update={"episodes": None})})

    @property
    def test_words(self) -> str:
        """Which test episodes are scored, in words."""
        file = self.episode_file
        if file is not None:
            return f"the {counted(file.count, 'episode')} of {file.path.name}"
        return counted(self.test_episodes or 0, "episode")  # a kind without such a number has words of its own

    @property
    def parts(self) -> tuple[Part, ...]:
        """What an episode is made of, phase by phase; () for kinds whose test episodes no file can fix."""
        return ()

    @property
    def course(self) -> Course:
        """What a file of test episodes is compared with."""
        return Course(self.kind, self.parts, self.label_delay or 1, self.masks)

    @property
    def shots(self) -> tuple[int, ...]:
        """The numbers of earlier presentations at which results are reported; () where they do not matter."""
        return ()

    @property
    def ranking(self) -> str:
        """The metric that the board is ranked by."""
        return "accuracy"

    @property
    def reported(self) -> tuple[str, ...]:
        """The metrics that the board shows beside the one it is ranked by, in order."""
        return tuple(f"accuracy@shot={k}" for k in self.shots)

    @property
    def ranking_is_mean(self) -> bool:
        """Whether the metric that the board is ranked by is the mean of the reported ones."""
        return bool(self.shots)

    @property
    @abstractmethod
    def words(self) -> Words:
        """The protocol in words, which every kind has of its own."""

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        copied = super().model_copy(update=update, deep=deep)
        copied.__dict__.pop("digest", None)  # it may be another protocol's now
        return copied


def too_many(protocol: Protocol) -> Iterator[str]:
    """Reasons why an episode cannot be drawn from a split, as far as the card of the data set tells: from all but the
    test split where a file fixes the test episodes.

    A validation split may have fewer classes: models are then selected in fewer ways (`harness.training.selection`).
    """
    needs = protocol.needs
    drawn = [split for split in protocol.card.classes if split != "test" or protocol.episode_file is None]
    for split in drawn:
        available = protocol.card.classes[split]
        if needs.classes > available and split != "validation":
            yield (
                f"{needs.classes_key}: {needs.classes} classes in an episode, but the {split} split of "
                f"{protocol.data_name} has {available}"
            )
    for split in drawn:
        available = protocol.card.images_per_class.get(split, needs.images)
        if needs.images > available:
            yield (
                f"{needs.images_key}: {needs.images} images of a class in an episode, but the {split} split of "
                f"{protocol.data_name} has classes with {available}"
            )


def refuse(problems: list[str]) -> None:
    """Raises ValueError (which pydantic reports) if there are problems."""
    if problems:
        raise ValueError("; ".join(problems))


def _digest(protocol: Protocol) -> str:
    dataset = protocol.dataset
    file = protocol.episode_file
    meaning = {
        "semantics": SEMANTICS,
        **protocol.model_dump(mode="json", include={"kind", "episode", "scoring"}, exclude={"scoring": {"episodes"}}),
        "dataset": dataset.meaning if isinstance(dataset, OwnData) else dataset,
        # Only where there is one, so that protocols without keep their digests.
        **({"episodes": file.digest} if file is not None else {}),
    }
    return hashlib.sha256(json.dumps(meaning, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _known(name: str, cards: Mapping[str, Card]) -> str:
    if name not in cards:
        raise ValueError(str(unknown("data set", name, cards)))
    return name


def _unfit(protocol: Protocol) -> Iterator[str]:
    """Why a protocol of this kind cannot be on one of the harness's data sets."""
    card, masks, supervised = protocol.card, protocol.masks, protocol.supervised
    if masks and not card.masks:
        reason = "masks, which it does not have"
    elif supervised and card.disjoint:
        reason = "the same classes in train and test, and its test classes are others"
    elif not supervised and not card.disjoint:
        reason = "test classes that were not trained on, and its classes are the same in train and test"
    else:
        return
    fit = [each.name for each in CARDS.values() if each.masks >= masks and each.disjoint != supervised]
    yield f"dataset: kind {protocol.kind} on {card.name} needs {reason}; it can be on {', '.join(sorted(fit))}"
