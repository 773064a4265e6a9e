"""What a training shows to people: progress with speed, loss and time left, validations and stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.training.state import Progress, Training
from harness.util import progress as screen


class Reporter:
    """Reports on a training to people."""

    def __init__(self) -> None:
        self._task: screen.Task | None = None

    def training(self, progress: Progress, training: Training, event: str) -> None:
        """Called by `train` after each event."""
        if event == "saved":
            return
        stage = training.budget.stages[progress.stage]
        self._show(progress, training, stage.name)
        if event == "validation":
            screen.say(
                f"{progress.episodes} episodes: validation {training.protocol.ranking} "
                f"{progress.history[-1]['score']:.2f} % (best {progress.best:.2f} % at {progress.best_episodes})"
            )
        elif event == "stage":
            screen.say(
                f"{progress.episodes} episodes: " + ("training ends" if progress.done else f"stage '{stage.name}'")
            )

    def curves(self, drawn: Mapping[str, Sequence[float]]) -> None:
        """Curves of a record, in per cent, a line each."""
        width = max(map(len, drawn))
        for name, values in drawn.items():
            screen.say(f"{name:<{width}} " + " ".join(f"{value:5.1f}" for value in values))

    def close(self) -> None:
        """Training is over: its progress is shown no longer."""
        if self._task is not None:
            screen.end(self._task)
            self._task = None

    def _show(self, progress: Progress, training: Training, stage: str) -> None:
        if self._task is None:
            limit = training.limits.seconds
            left = None if limit is None else limit - progress.seconds
            self._task = screen.begin("training", training.total, "episodes", progress.episodes, left)
        loss = "–" if progress.loss is None else f"{progress.loss:.3f}"
        self._task.reach(progress.episodes, f"stage '{stage}', loss {loss}")
