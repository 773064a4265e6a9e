"""Which small tasks a method is checked on: one setting a label delay, and one for each other kind it declares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from harness.check.compare import Change
from harness.episodes.plan import NULL, QUERY, STREAM, SUPPORT
from harness.method.interface import MASKS, Method, Task
from harness.method.registry import task_for
from harness.protocol.models import KINDS, AnyProtocol
from harness.util.errors import UserError, all_of, unknown

STREAMS = ("online_few_shot", "delayed_label")
WAYS, IMAGE_SHAPE, MASK_SHAPE, DELAYS = 3, (1, 28, 28), (3, 32, 32), (1, 3)
"""The tasks when no protocol is given; `MASK_SHAPE` is that of images to be segmented."""

CLASSES = 64
"""Training classes that methods are told of without a protocol: as many as mini-ImageNet and CIFAR-FS have, so that
nobody can tell a check by it."""

QUERIES = 6
"""Queries that follow, in kinds that have them. Even, so that none stays in its place when they are reversed, and not
the number of episodes, so that the two dimensions cannot be taken for each other."""


@dataclass(frozen=True)
class Timing:
    """What is revealed before each step, and each step's phase, as in a plan: `feedback_step` int64 [T] and
    `phase` int8 [T]."""

    feedback_step: np.ndarray
    phase: np.ndarray


def streamed(steps: int, delay: int, queries: int = 0) -> Timing:
    """A stream at label delay `delay` >= 0; queries, where there are some, each follow its last step."""
    due = steps - delay if 0 < delay <= steps else NULL
    feedback_step = np.concatenate([np.maximum(np.arange(steps) - delay, NULL), np.full(queries, due)])
    return Timing(feedback_step, np.repeat([STREAM, QUERY], [steps, queries]).astype(np.int8))


def paired(pairs: int, queries: int) -> Timing:
    """Support pairs, then queries."""
    feedback_step = np.concatenate([np.arange(pairs), np.full(queries, NULL)])
    return Timing(feedback_step, np.repeat([SUPPORT, QUERY], [pairs, queries]).astype(np.int8))


@dataclass(frozen=True)
class Setting:
    """What the random tasks look like.

    `ways` is the number of classes that are shown, `image_shape` is (C, H, W), `delay` the label delay d of kinds with
    a stream, `classes` the number of training classes that methods are told of.
    """

    ways: int
    image_shape: tuple[int, int, int]
    kind: str
    delay: int | None = None
    classes: int = CLASSES

    @property
    def masks(self) -> bool:
        """Whether answers are masks; the classes shown are then the target's and the distractor's."""
        return self.kind in MASKS

    @property
    def pairs(self) -> bool:
        """Whether what precedes the queries are support pairs."""
        return self.kind == "n_way_k_shot"

    @property
    def silent(self) -> bool:
        """Whether no label is ever revealed."""
        return self.kind == "supervised"

    @property
    def timing(self) -> Timing:
        """A stream has some steps before its first label and at least nine after it; other kinds are shorter."""
        if self.kind == "supervised":
            return streamed(1, 1)
        shown = self.ways * max(1, 7 // self.ways)
        if self.kind == "continual":
            return streamed(shown, 1, QUERIES)
        if self.kind == "n_way_k_shot":
            return paired(shown, QUERIES)
        delay = self.delay or 1
        return streamed(9 + max(3, delay), delay)

    @property
    def steps(self) -> int:
        """T: all steps, queries among them."""
        return len(self.timing.phase)

    @property
    def first_query(self) -> int:
        """The first query's step; T where there are no queries."""
        return self.steps - self.queries

    @property
    def queries(self) -> int:
        """Q: how many queries follow."""
        return int((self.timing.phase == QUERY).sum())

    @property
    def name(self) -> str:
        """What the setting is called in the report."""
        return f"label delay {self.delay}" if self.kind in STREAMS else self.kind

    def step(self, t: int) -> str:
        """What step t is called in messages."""
        if t >= self.first_query:
            return f"query {t - self.first_query}"
        return f"support pair {t}" if self.pairs else f"step {t}"

    def answer(self, change: Change) -> str:
        """Which answer changed."""
        to = "to" if change.step >= self.first_query else "at"
        return f"answer {to} {self.step(change.step)} of episode {change.episode}"

    def task(self, with_delay: bool) -> Task:
        """What a method is told; the label delay only if it needs it."""
        ways = 1 if self.masks else self.ways
        return Task(ways, self.image_shape, self.kind, self.delay if with_delay else None, max(self.classes, ways))


def settings_for(
    cls: type[Method], protocol: AnyProtocol | None, kinds: Sequence[str] | None, delays: Sequence[int] | None
) -> list[Setting]:
    """The settings of a method's kinds (of `kinds` among them): streams by label delay first.

    With a protocol only its kind, ways and image shape; of both kinds of stream if it is a stream. Raises UserError for
    a kind that is unknown or not the method's, and where nothing is left to check.
    """
    early = [each for each in delays or () if each < 1]
    if early:
        raise UserError(f"a label delay is {early[0]}; the label of step t comes before step t + 1 at the earliest (1)")
    for kind in (*cls.kinds, *(kinds or ())):
        if kind not in KINDS:
            raise unknown("kind of protocol", kind, KINDS)
    wanted = [kind for kind in KINDS if kind in cls.kinds and (kinds is None or kind in kinds)]
    ways, shape, own, classes = WAYS, IMAGE_SHAPE, None, CLASSES
    if protocol is not None:
        card = protocol.card
        # The user's own data may not say before it is decoded how many classes there are.
        task = task_for(cls, protocol, card.image_shape, card.classes.get("train", WAYS))
        # With one way there is no other label to change to.
        ways, shape, own = max(2, task.ways), card.image_shape, protocol.label_delay if protocol.stream else None
        classes = card.classes.get("train", CLASSES)
        family = STREAMS if protocol.stream else (protocol.task_kind,)
        wanted = [kind for kind in wanted if kind in family]
    late = sorted({*(delays or DELAYS), *([own] if own and not delays else [])})
    found = [Setting(ways, shape, kind, delay) for delay in late if (kind := STREAMS[delay > 1]) in wanted]
    for kind in wanted:
        if kind in MASKS:
            found.append(Setting(2, MASK_SHAPE if protocol is None else shape, kind, 1))
        elif kind not in STREAMS:
            found.append(Setting(ways, shape, kind, 1 if kind == "continual" else None))
    if not found:
        raise UserError(f"nothing to check: {cls.__name__} runs on {', '.join(cls.kinds) or 'no kind of protocol'}")
    return [replace(each, classes=classes) for each in found]


def described(settings: list[Setting], pictures: Sequence[str]) -> str:
    """What a method was tried on, in words; `pictures` are the data sets that images were taken of."""
    parts = []
    for masks in (False, True):
        having = [each for each in settings if each.masks == masks]
        if having:
            shape = "x".join(map(str, having[0].image_shape))
            form = f"masks of {shape} images" if masks else f"{having[0].ways} ways, {shape} images"
            delays = [str(each.delay) for each in having if each.kind in STREAMS]
            late = f"label delay{'s' if len(delays) > 1 else ''} {all_of(delays)}" if delays else ""
            others = all_of([each.kind for each in having if each.kind not in STREAMS and not masks])
            parts.append(", ".join(filter(None, [form, late, others])))
    return f"random tasks: {'; '.join(parts)}; and on images of {all_of(list(dict.fromkeys(pictures)))}"
