"""What a stage minimises: a class for each objective, with what it trains, its loss of numbered episodes, its state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from torch import Tensor, nn

from harness.episodes.source import Episodes, EpisodeSource
from harness.method.interface import Method
from harness.protocol.models import AnyProtocol
from harness.training.episode_loss import class_loss, episode_loss
from harness.training.frozen_features import FrozenFeatures
from harness.training.interface import Features
from harness.training.processes import ALONE, Processes
from harness.util.tensor_files import with_prefix, without_prefix


@dataclass(frozen=True)
class Loss:
    """What an update minimises, and what is said of it: `reported`, a sum over `steps` scored steps (or images).

    Both are scalars on the device. Where processes share the batch, both are this one's part of a sum over processes.
    """

    minimised: Tensor
    reported: Tensor
    steps: int = 1


@dataclass(frozen=True)
class Drawn:
    """What an update is computed of: episodes, single images [N, C, H, W] with their classes [N], or both.

    `count` is how many episodes the loss is a mean over (without episodes, images), of which processes have shares.
    """

    episodes: Episodes | None = None
    images: Tensor | None = None
    rows: Tensor | None = None
    count: int = 0

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All that is on the device, by name."""
        single = {"images": self.images, "rows": self.rows}
        found = {name: each for name, each in single.items() if each is not None}
        return found | with_prefix("episodes", self.episodes.tensors if self.episodes else {})

    def with_tensors(self, tensors: dict[str, Tensor]) -> Drawn:
        """The same over other memory."""
        episodes = self.episodes and self.episodes.with_tensors(without_prefix("episodes", tensors))
        return Drawn(episodes, tensors.get("images"), tensors.get("rows"), self.count)

    @property
    def shape(self) -> tuple[Any, ...]:
        """All by which code may decide what to compute: shapes and types, and when labels are due."""
        plan = self.episodes and self.episodes.plan
        timing = plan and (plan.phase.tobytes(), plan.feedback_step.tobytes(), plan.scored.tobytes())
        return self.count, timing, *((name, each.shape, each.dtype) for name, each in sorted(self.tensors.items()))


class Objective(Protocol):
    """What a stage minimises."""

    @property
    def trained(self) -> list[nn.Module]:
        """The modules whose parameters the optimiser moves."""
        ...

    @property
    def clipped(self) -> nn.Module:
        """The module whose gradient is clipped."""
        ...

    @property
    def temporary(self) -> nn.Module | None:
        """What is trained along with the method and thrown away at the end; a checkpoint holds it."""
        ...

    def drawn(self, numbers: np.ndarray) -> Drawn:
        """The numbered episodes of the stage (or images): planned on the host, gathered on the device."""
        ...

    def loss(self, drawn: Drawn) -> Loss:
        """Their loss, computed on the device alone as far as the method does so."""
        ...


@dataclass(frozen=True)
class Draws:
    """The training episodes and single images of a stage, each a pure function of its number.

    Of those that are asked for by number this process gets its share.
    """

    source: EpisodeSource
    protocol: AnyProtocol
    seed: int
    augment: Sequence[str]
    processes: Processes = ALONE

    def episodes(self, numbers: np.ndarray) -> Episodes:
        part = self.processes.part(len(numbers))
        return self.source.episodes(self.protocol, "train", self.seed, numbers, self.augment, part)

    def frozen(self, features: FrozenFeatures, numbers: np.ndarray) -> Episodes:
        """The same episodes with features in place of images."""
        return features.episodes(self.protocol, self.seed, numbers, self.processes.part(len(numbers)))

    def images(self, numbers: np.ndarray, any_protocol: bool = False) -> tuple[Tensor, Tensor]:
        """Images [N, C, H, W] and their classes [N]; with `any_protocol` the same whatever protocol is trained for."""
        own, protocol = numbers[self.processes.part(len(numbers))], None if any_protocol else self.protocol
        return self.source.images(protocol, "train", self.seed, own, self.augment)

    def mean(self, loss: Tensor, count: int) -> Tensor:
        """This process's part of the mean loss of `count` episodes or images, from that of its share."""
        return self.processes.weighted(loss, count)


@dataclass(frozen=True)
class EpisodesObjective:
    """The method's own loss on episodes; with `classes`, `weight` times the loss on single images beside it.

    With `memoryless`, features come of each image alone: what their net remembers of earlier images is left out, which
    makes an update of CL+LSTM twice as fast (docs/experiments.md).
    """

    method: Method
    draws: Draws
    classes: ClassesObjective | None = None
    weight: float = 0.0
    images: int = 0
    memoryless: Features | None = None

    @property
    def trained(self) -> list[nn.Module]:
        return [self.method, *([self.temporary] if self.temporary else [])]

    @property
    def clipped(self) -> nn.Module:
        return self.method

    @property
    def temporary(self) -> nn.Module | None:
        return self.classes.temporary if self.classes else None

    def drawn(self, numbers: np.ndarray) -> Drawn:
        episodes = self.draws.episodes(numbers)
        if not self.classes:
            return Drawn(episodes, count=len(numbers))
        first = int(numbers[0]) // len(numbers) * self.images
        return replace(self.classes.drawn(np.arange(first, first + self.images)), episodes=episodes, count=len(numbers))

    def loss(self, drawn: Drawn) -> Loss:
        assert drawn.episodes is not None
        own = loss = self.draws.mean(self._loss_on(drawn.episodes), drawn.count)
        if self.classes:
            beside = self.classes.loss(replace(drawn, count=self.images))
            loss = loss + self.weight * beside.minimised
        return Loss(loss, own.detach(), int(drawn.episodes.plan.scored.sum()))

    def _loss_on(self, episodes: Episodes) -> Tensor:
        if self.memoryless is None:
            return episode_loss(self.method, episodes)
        assert self.memoryless.rest is not None
        found = self.memoryless.net(episodes.x.flatten(0, 1)).unflatten(0, episodes.x.shape[:2])
        return episode_loss(self.memoryless.rest, replace(episodes, x=found))


@dataclass(frozen=True)
class ClassesObjective:
    """Telling the training classes apart on single images, by a layer over the method's features.

    Where other methods have the same features, these and their layer are trained and nothing else, on images that are
    the same for every protocol. `temporary` is the layer, unless the method has one.
    """

    method: Method
    draws: Draws
    features: Features
    head: nn.Module
    temporary: nn.Module | None

    @property
    def trained(self) -> list[nn.Module]:
        return [self.features.shared or self.method, self.head]

    @property
    def clipped(self) -> nn.Module:
        return self.features.shared or self.method

    def drawn(self, numbers: np.ndarray) -> Drawn:
        x, rows = self.draws.images(numbers, any_protocol=self.features.shared is not None)
        return Drawn(images=x, rows=rows, count=len(numbers))

    def loss(self, drawn: Drawn) -> Loss:
        assert drawn.images is not None
        assert drawn.rows is not None
        loss = self.draws.mean(class_loss(self.features, self.head, drawn.images, drawn.rows), drawn.count)
        return Loss(loss, loss.detach())


@dataclass(frozen=True)
class HeadObjective:
    """The method's own loss on episodes, over features that stay as they are and are computed once.

    `rest` is the method with features in the place of images.
    """

    method: Method
    rest: Method
    draws: Draws
    frozen: FrozenFeatures
    temporary: None = None

    @property
    def trained(self) -> list[nn.Module]:
        return [self.method]

    @property
    def clipped(self) -> nn.Module:
        return self.method

    def drawn(self, numbers: np.ndarray) -> Drawn:
        return Drawn(self.draws.frozen(self.frozen, numbers), count=len(numbers))

    def loss(self, drawn: Drawn) -> Loss:
        assert drawn.episodes is not None
        loss = self.draws.mean(episode_loss(self.rest, drawn.episodes), drawn.count)
        return Loss(loss, loss.detach(), int(drawn.episodes.plan.scored.sum()))


@dataclass(frozen=True)
class PretrainingObjective:
    """The loss on episodes of another method that shares parts of this one, and is thrown away at the end."""

    method: Method
    draws: Draws
    temporary: Method

    @property
    def trained(self) -> list[nn.Module]:
        return [self.method, self.temporary]

    @property
    def clipped(self) -> nn.Module:
        return self.temporary

    def drawn(self, numbers: np.ndarray) -> Drawn:
        return self._objective.drawn(numbers)

    def loss(self, drawn: Drawn) -> Loss:
        return self._objective.loss(drawn)

    @property
    def _objective(self) -> EpisodesObjective:
        return EpisodesObjective(self.temporary, self.draws)
