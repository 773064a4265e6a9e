"""A seventh kind in one module: classes one after another, as in continual learning, which all come back once.

Whether a learner still knows a class when it comes back is what the scores of the return say. The model, the plan and
the scorer are here; `register(KIND)` makes the kind known.
"""

from __future__ import annotations

from typing import Literal, Self

import numpy as np
from pydantic import Field, model_validator

from harness.data.dataset import ClassTable
from harness.episodes.episode_plan import NULL, ORDER, STREAM, EpisodePlan
from harness.episodes.plans.drawing import drawn_classes, drawn_images, earlier_presentations
from harness.evaluation.kinds import Kind
from harness.evaluation.score import Each, Scorer, Scores
from harness.protocol.base import Needs, Protocol, refuse, too_many
from harness.protocol.episode_models import QueryScoring
from harness.protocol.words import Words, stream_legend, timing
from harness.util import philox
from harness.util.pydantic_base import Count, Strict

RETURN_ORDER = 7
"""Which of an episode's random words say in which order the classes come back."""


class RevisitEpisode(Strict):
    """`ways` classes, `shots` steps each, and one more step of each."""

    ways: Count = Field(description="classes in an episode")
    shots: Count = Field(description="steps of a class before the next one")


class Revisit(Protocol):
    """Classes one after another, which all come back once; every label is revealed one step later."""

    kind: Literal["revisit"]
    episode: RevisitEpisode
    scoring: QueryScoring = QueryScoring(test_episodes=2000)

    @property
    def task_kind(self) -> str:
        return "online_few_shot"

    @property
    def steps(self) -> int:
        """T: steps of one episode."""
        return self.episode.ways * (self.episode.shots + 1)

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
    def ranking(self) -> str:
        return "accuracy@return"

    @property
    def reported(self) -> tuple[str, ...]:
        return ("accuracy@first", "accuracy")

    @property
    def needs(self) -> Needs:
        return Needs(self.episode.ways, self.episode.shots + 1, "episode.ways", "episode.shots")

    @property
    def words(self) -> Words:
        return Words(
            shape=f"{self.ways} classes one after another, {self.episode.shots} steps each, and each once more",
            course=(timing(1, self.steps),),
            scoring=f"scored when classes come back over {self.test_episodes} episodes",
            legend=stream_legend("an image of a class, and must answer its number", "label"),
        )

    @model_validator(mode="after")
    def _possible(self) -> Self:
        refuse(list(too_many(self)))
        return self


def plan(protocol: Revisit, table: ClassTable, split: str, key: philox.Key, episodes: np.ndarray) -> EpisodePlan:
    """Both passes in a random order of classes each."""
    ways, shots, steps = protocol.ways, protocol.episode.shots, protocol.steps
    classes = drawn_classes(table, key, episodes, ways, shots + 1)
    order, again = (philox.shuffled(philox.words(key, episodes, each, ways)) for each in (ORDER, RETURN_ORDER))
    target = np.concatenate([np.repeat(order, shots, axis=1), again], axis=1)
    shot, _ = earlier_presentations(target, ways)
    return EpisodePlan(
        episode=episodes,
        classes=classes,
        image=drawn_images(table, key, episodes, classes, shots + 1, target, shot),
        target=target,
        shot=shot,
        revealed=shot.copy(),
        feedback_step=np.maximum(np.arange(steps) - 1, NULL),
        phase=np.full(steps, STREAM, np.int8),
        scored=np.ones(steps, bool),
    )


def score(earned: np.ndarray, plan: EpisodePlan) -> Scores:
    """`first` is the credit of each step of the first pass [B, ways * shots], `again` of the return [B, ways]."""
    ways = plan.classes.shape[1]
    return {"first": earned.T[:, :-ways], "again": earned.T[:, -ways:]}


def each(scores: Scores, protocol: Revisit) -> Each:
    """`accuracy@first` and `accuracy@return` are means over either pass, `accuracy` over all steps."""
    first, again = scores["first"], scores["again"]
    whole = np.concatenate([first, again], axis=1)
    return {"accuracy@return": again.mean(1), "accuracy@first": first.mean(1), "accuracy": whole.mean(1)}


def curves(scores: Scores) -> dict[str, list[float]]:
    """Accuracy by step, in per cent."""
    return {"by_step": [100 * float(value) for name in ("first", "again") for value in scores[name].mean(0)]}


KIND = Kind(Revisit, plan, Scorer(score, each, curves))
