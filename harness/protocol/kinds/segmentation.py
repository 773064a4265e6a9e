"""Segmentation with distractors: masks of a target class, empty ones of a distractor."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import model_validator

from harness.protocol.base import Needs, Protocol, refuse, too_many
from harness.protocol.course import Part
from harness.protocol.episode_models import SegmentationEpisode, StreamScoring
from harness.protocol.words import Words, at_shots, stream_legend
from harness.util.quantities import counted

_IOU = """\
`iou@shot=k` is the intersection over union of the target's mask at its (k+1)-th presentation, """

_DISTRACTOR = f"""{_IOU}`masking@shot=k` the
share of the distractor's object pixels that are called background at its own (k+1)-th presentation, and `joint` the
mean of both over these shots: calling everything object earns the first and loses the second."""

_PLAIN = f"""{_IOU}`iou` the mean over
these shots."""


class SegmentationDistractors(Protocol):
    """Segment the target class, leave the distractor out; which is which is learned from feedback."""

    kind: Literal["segmentation_distractors"]
    episode: SegmentationEpisode
    scoring: StreamScoring

    masks: ClassVar[bool] = True

    @property
    def label_delay(self) -> int:
        return 1

    @property
    def ways(self) -> int:
        return 1

    @property
    def test_episodes(self) -> int:
        return self.scoring.test_episodes

    @property
    def shots(self) -> tuple[int, ...]:
        return tuple(self.scoring.shots)

    @property
    def ranking(self) -> str:
        return "joint" if self.episode.distractor else "iou"

    @property
    def reported(self) -> tuple[str, ...]:
        names = ("iou", "masking") if self.episode.distractor else ("iou",)
        return tuple(f"{name}@shot={k}" for name in names for k in self.shots)

    @property
    def needs(self) -> Needs:
        where = "episode.presentations"
        return Needs(1 + self.episode.distractor, self.episode.presentations, where, where)

    @property
    def parts(self) -> tuple[Part, ...]:
        return (Part("stream", self.needs.classes, self.episode.presentations),)

    @property
    def words(self) -> Words:
        shape = self.episode
        distractor = f" and {shape.presentations} of a distractor class in random order" if shape.distractor else ""
        known = ("The mask of step t is revealed before step t + 1; before step 0 the feedback is a plane of -1.",)
        which = (
            "The mask of the distractor is all background. Which class is the target can be learned from revealed "
            "masks alone.",
        )
        what = "IoU of the target and masking of the distractor" if shape.distractor else "IoU"
        return Words(
            shape=f"{counted(shape.presentations, 'image')} of a target class{distractor}",
            course=known + which if shape.distractor else known,
            scoring=f"scored by {what} at {at_shots(self.shots)} over {self.test_words}",
            legend=stream_legend("an image, and must mark the object of the target class", "mask"),
            board=_DISTRACTOR if shape.distractor else _PLAIN,
        )

    @model_validator(mode="after")
    def _possible(self) -> Self:
        shape = self.episode
        problems = list(too_many(self))
        if self.scoring.shots[-1] > shape.presentations - 1:
            problems.append(
                f"scoring.shots: {self.scoring.shots[-1]}-shot needs {self.scoring.shots[-1] + 1} presentations, "
                f"but episode.presentations is {shape.presentations}"
            )
        refuse(problems)
        return self
