"""Continual learning: classes one after another, then queries from all of them."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from harness.protocol.base import Needs, Protocol, refuse, too_many
from harness.protocol.course import Part
from harness.protocol.episode_models import ContinualEpisode, QueryScoring
from harness.protocol.words import Words, labels, queries_come
from harness.util.quantities import counted

_BOARD = """\
`query_accuracy` is over the queries of all subtasks, asked after the last of them; `query_accuracy@earlier` is over
those of all subtasks but the last, `query_accuracy@last` over those of the last."""


class Continual(Protocol):
    """Classes one after another, then queries from all of them."""

    kind: Literal["continual"]
    episode: ContinualEpisode
    scoring: QueryScoring = QueryScoring(test_episodes=2000)

    @property
    def label_delay(self) -> int:
        return 1

    @property
    def ways(self) -> int:
        return self.episode.subtasks

    @property
    def test_episodes(self) -> int:
        return self.scoring.test_episodes

    @property
    def ranking(self) -> str:
        return "query_accuracy"

    @property
    def reported(self) -> tuple[str, ...]:
        return ("query_accuracy@earlier", "query_accuracy@last")

    @property
    def needs(self) -> Needs:
        shape = self.episode
        return Needs(shape.subtasks, shape.shots + shape.queries, "episode.subtasks", "episode")

    @property
    def parts(self) -> tuple[Part, ...]:
        shape = self.episode
        return (
            Part("stream", shape.subtasks, shape.shots, "blocks"),
            Part("query", shape.subtasks, shape.queries),
        )

    @property
    def words(self) -> Words:
        shape = self.episode
        steps, queries = shape.subtasks * shape.shots, shape.subtasks * shape.queries
        return Words(
            shape=f"{counted(shape.subtasks, 'class', 'classes')} one after another, "
            f"{counted(shape.shots, 'sample')} each, then {counted(shape.queries, 'query', 'queries')} of each",
            course=(
                "The label of step t of the stream is revealed before step t + 1; no class comes back.",
                f"Then {queries_come(queries)}. Each is asked as the step that would follow the stream, "
                f"when {labels(range(steps))} known: from the same state, which no query changes.",
            ),
            scoring=f"scored by query accuracy over {self.test_words}",
            legend="At each step of the stream the learner receives the feedback and is shown an image of a class; its "
            "answer is not scored.\nsubtask: place of the class in the stream, from 0.",
            board=_BOARD,
        )

    @model_validator(mode="after")
    def _possible(self) -> Self:
        refuse(list(too_many(self)))
        return self
