"""Ordinary classification: an episode is one image."""

from __future__ import annotations

from typing import ClassVar, Literal

from harness.protocol.base import Protocol
from harness.protocol.episode_models import SupervisedEpisode, SupervisedScoring
from harness.protocol.words import Words

_BOARD = "`accuracy` is over the images of the test split, each of which is an episode of one step."


class Supervised(Protocol):
    """Train split with its labels, test split without."""

    kind: Literal["supervised"]
    episode: SupervisedEpisode = SupervisedEpisode()
    scoring: SupervisedScoring = SupervisedScoring()

    supervised: ClassVar[bool] = True

    @property
    def words(self) -> Words:
        return Words(
            shape="one image, classes as in training",
            course=("No label is revealed. Training shows every training image once in each pass, in a new order.",),
            scoring="scored by accuracy on the whole test split",
            legend="The learner is shown an image of a class and must answer its number.",
            board=_BOARD,
        )
