"""N-way K-shot: a support set, then queries."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from harness.protocol.base import Needs, Protocol, refuse, too_many
from harness.protocol.course import Part
from harness.protocol.episode_models import KShotEpisode, QueryScoring
from harness.protocol.words import Words, queries_come
from harness.util.quantities import counted

_BOARD = """\
`query_accuracy` is over the queries, asked after the whole support set. Its shots are labelled samples of a class,
not positions in a stream: it cannot be compared with `accuracy@shot=k`."""


class NWayKShot(Protocol):
    """A support set, then queries from frozen state."""

    kind: Literal["n_way_k_shot"]
    episode: KShotEpisode
    scoring: QueryScoring = QueryScoring(test_episodes=2000)

    @property
    def ways(self) -> int:
        return self.episode.ways

    @property
    def test_episodes(self) -> int:
        return self.scoring.test_episodes

    @property
    def ranking(self) -> str:
        return "query_accuracy"

    @property
    def needs(self) -> Needs:
        shape = self.episode
        return Needs(shape.ways, shape.shots + shape.queries, "episode.ways", "episode")

    @property
    def parts(self) -> tuple[Part, ...]:
        shape = self.episode
        return Part("support", shape.ways, shape.shots), Part("query", shape.ways, shape.queries)

    @property
    def words(self) -> Words:
        shape = self.episode
        pairs, queries = shape.ways * shape.shots, shape.ways * shape.queries
        return Words(
            shape=f"{counted(shape.ways, 'class', 'classes')}, {shape.shots} labelled and "
            f"{counted(shape.queries, 'query sample')} of each",
            course=(
                f"The learner is given {counted(pairs, 'pair')} of an image and its label, one after another in random "
                "order.",
                f"Then {queries_come(queries)}, each asked from the same state, which no query changes.",
            ),
            scoring=f"scored by query accuracy over {self.test_words}",
            legend="The learner is given the support pairs; of each query it must answer the number of the class.",
            board=_BOARD,
        )

    @model_validator(mode="after")
    def _possible(self) -> Self:
        refuse(list(too_many(self)))
        return self
