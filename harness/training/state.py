"""What a training is a function of, how far it got, and what cuts it short."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.episodes.source import EpisodeSource
from harness.method.interface import Method
from harness.protocol.models import AnyProtocol
from harness.training.feature_cache import FeatureCache
from harness.training.processes import ALONE, Processes
from harness.training.recipe import Budget
from harness.util.quantities import in_seconds

SMOOTHING = 0.98
"""Weight of the past in the smoothed loss."""


@dataclass
class Progress:
    """Counters of a training; all that a resume needs besides tensors.

    `smoothed` and `smoothed_weight` are of the present stage. `pretrained` tells of each stage that trained shared
    features under which key they are kept, whether they were reused, and the episodes, updates and seconds that they
    cost whoever trained them (0 episodes: not at its end). `selecting` tells that validation episodes are being scored:
    a training that was stopped then begins with them again. `last_loss` is that of the last update, on a
    GPU of the one before (its losses are read late). `processes` is the largest number that trained together, `devices`
    are those that made updates, by name (`devices.name_of`), in the order in which they came. `cut` names the limits
    (`Limits.text`) that ended the training (`done`), '' where the last of its stages did; `at_cut` is the validation
    score there, which counts only if the training does not go on (`score`), None if it was due anyway.
    """

    stage: int = 0
    stage_episodes: int = 0
    episodes: int = 0
    updates: int = 0
    smoothed: float = 0.0
    smoothed_weight: float = 0.0
    best: float | None = None
    best_episodes: int = 0
    seconds: float = 0.0
    done: bool = False
    cut: str = ""
    at_cut: float | None = None
    selecting: bool = False
    last_loss: float | None = None
    processes: int = 1
    devices: list[str] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)
    pretrained: list[dict[str, Any]] = field(default_factory=list)

    @property
    def loss(self) -> float | None:
        """Smoothed training loss per scored step, in nats; None before a stage's first update."""
        return self.smoothed / self.smoothed_weight if self.smoothed_weight else None

    @property
    def score(self) -> float | None:
        """The best validation score, in per cent, of a training that ends here; None without validation."""
        return max((each for each in (self.best, self.at_cut) if each is not None), default=None)

    def ends_at(self, episodes: int, seconds: float | None) -> bool:
        """Whether nothing is left to train of at most so many episodes and seconds."""
        out_of_time = seconds is not None and self.seconds >= seconds
        return (self.done and not self.cut) or self.episodes >= episodes or out_of_time

    def count(self, episodes: int) -> None:
        """Counts one update on so many episodes."""
        self.updates += 1
        self.episodes += episodes
        self.stage_episodes += episodes

    def count_loss(self, loss: float) -> None:
        """Counts the loss per scored step of one update."""
        self.last_loss = loss
        self.smoothed = SMOOTHING * self.smoothed + (1 - SMOOTHING) * loss
        self.smoothed_weight = SMOOTHING * self.smoothed_weight + (1 - SMOOTHING)

    def begin_stage(self, number: int) -> None:
        """Sets the counters of a stage back for the numbered one."""
        self.stage = number
        self.stage_episodes = 0
        self.smoothed = self.smoothed_weight = 0.0


@dataclass(frozen=True)
class Limits:
    """What cuts a training short, and how often it is saved."""

    episodes: int | None = None
    seconds: float | None = None
    checkpoint_seconds: float = 60.0

    @property
    def text(self) -> str:
        """What a record says of them, as in 'episodes=8 time=600s'; '' for none."""
        episodes = None if self.episodes is None else f"episodes={self.episodes}"
        seconds = None if self.seconds is None else f"time={in_seconds(self.seconds)}"
        return " ".join(filter(None, [episodes, seconds]))


@dataclass(frozen=True)
class Training:
    """Everything a training is a function of."""

    method: Method
    source: EpisodeSource
    protocol: AnyProtocol
    budget: Budget
    seed: int
    checkpoint: Path
    header: dict[str, Any]
    limits: Limits = Limits()
    cache: FeatureCache | None = None
    processes: Processes = ALONE

    @property
    def total(self) -> int:
        """Training episodes at which it ends: where its last stage does, or where a limit cuts it."""
        return min(self.budget.episodes, self.limits.episodes or self.budget.episodes)
