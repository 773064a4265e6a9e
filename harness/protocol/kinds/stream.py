"""Streams of labelled images: `online_few_shot`, and `delayed_label` with labels more than one step late."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import model_validator

from harness.protocol.base import Needs, Protocol, refuse, too_many
from harness.protocol.course import Part
from harness.protocol.episode_models import DelayedEpisode, StreamEpisode, StreamScoring
from harness.protocol.words import Words, at_shots, stream_legend, timing
from harness.util.quantities import counted

_IID = """\
Classes are drawn independently from step to step, so an episode may lack a shot: `accuracy` is the mean over all
steps, first presentations among them, and `accuracy@shot=k` is over the episodes that have such a step."""

_AND_ALL = " and, for `accuracy`, at all steps"


class StreamBase(Protocol):
    """What both kinds of stream have; T is ways x presentations steps."""

    episode: StreamEpisode
    scoring: StreamScoring

    stream: ClassVar[bool] = True

    @property
    def steps(self) -> int:
        """T: steps of one episode."""
        return self.episode.ways * self.episode.presentations

    @property
    def label_delay(self) -> int:
        return 1

    @property
    def ways(self) -> int:
        return self.episode.ways

    @property
    def test_episodes(self) -> int:
        return self.scoring.test_episodes

    @property
    def shots(self) -> tuple[int, ...]:
        return tuple(self.scoring.shots)

    @property
    def ranking_is_mean(self) -> bool:
        return self.episode.order != "iid"

    @property
    def needs(self) -> Needs:
        return Needs(self.episode.ways, self.episode.presentations, "episode.ways", "episode.presentations")

    @property
    def parts(self) -> tuple[Part, ...]:
        return (Part("stream", self.episode.ways, self.episode.presentations, self.episode.order),)

    @property
    def words(self) -> Words:
        late = "one step" if self.label_delay == 1 else f"{self.label_delay} steps"
        drawn = self.episode.order == "iid"
        return Words(
            shape=f"{_order(self.episode, self.steps)}, labels {late} late",
            course=(timing(self.label_delay, self.steps),),
            scoring=f"scored at {at_shots(self.shots)}{_AND_ALL if drawn else ''} over {self.test_words}",
            legend=stream_legend("an image of a class, and must answer its number", "label"),
            board=_IID if drawn else "",
        )

    @model_validator(mode="after")
    def _possible(self) -> Self:
        shape = self.episode
        problems = list(too_many(self))
        last = self.steps - 1 if shape.order == "iid" else shape.presentations - 1
        if self.scoring.shots[-1] > last:
            problems.append(
                f"scoring.shots: {self.scoring.shots[-1]}-shot is scored at presentation "
                f"{self.scoring.shots[-1] + 1} of a class, but the most there can be is {last + 1}"
            )
        refuse(problems)
        return self


class OnlineFewShot(StreamBase):
    """`ways` classes in random order; every step's label is revealed before the next step."""

    kind: Literal["online_few_shot"]
    episode: StreamEpisode
    scoring: StreamScoring


class DelayedLabel(StreamBase):
    """The online stream with labels `label_delay` steps late."""

    kind: Literal["delayed_label"]
    episode: DelayedEpisode
    scoring: StreamScoring

    @property
    def label_delay(self) -> int:
        return self.episode.label_delay


def _order(shape: StreamEpisode, steps: int) -> str:
    if shape.order == "iid":
        return f"{steps} steps, each of a class drawn anew from {shape.ways}"
    order = "taking turns in one random order" if shape.order == "cyclic" else "in random order"
    classes = counted(shape.ways, "class", "classes")
    presentations = counted(shape.presentations, "presentation")
    return f"{classes} x {presentations} {order} = {steps} steps"
