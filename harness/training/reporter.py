"""What a running job tells: a bar with speed, loss and time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from harness.training.state import Progress, Training

_SECONDS_BETWEEN_LINES = 15.0


class Reporter:
    """Reports on training and scoring to people, and keeps a log of one JSON object a line."""

    def __init__(self, log: Path, out: TextIO | None = None, quiet: bool = False) -> None:
        self._log = log
        self._out = out or sys.stderr
        self._quiet = quiet
        self._terminal = self._out.isatty()
        self._bar: Any = None
        self._last = 0.0
        self._began: tuple[float, int] | None = None

    def training(self, progress: Progress, training: Training, event: str) -> None:
        """Called by `train` after each event."""
        if event == "saved":
            return
        if self._began is None:
            self._began = (time.monotonic(), progress.episodes)
        if self._terminal and not self._quiet:
            self._show_bar(progress, training)
        due = time.monotonic() - self._last >= _SECONDS_BETWEEN_LINES
        if event == "update" and not due:
            return
        self._last = time.monotonic()
        stage = training.budget.stages[progress.stage]
        entry = {
            "event": event,
            "stage": stage.name,
            "episodes": progress.episodes,
            "updates": progress.updates,
            "loss": progress.loss,
            "seconds": round(progress.seconds, 1),
        }
        if event == "validation":
            entry["validation"] = progress.history[-1]["score"]
        self._write(entry)
        if event == "validation":
            self.say(
                f"{progress.episodes} episodes: validation {training.protocol.ranking} "
                f"{progress.history[-1]['score']:.2f} % (best {progress.best:.2f} % at {progress.best_episodes})"
            )
        elif event == "stage":
            self.say(
                f"{progress.episodes} episodes: " + ("training ends" if progress.done else f"stage '{stage.name}'")
            )
        elif not self._terminal:
            self.say(self._line(progress, training, stage.name))

    def scoring(self, done: int, total: int) -> None:
        """Called while the test episodes are scored."""
        if not self._terminal and (time.monotonic() - self._last >= _SECONDS_BETWEEN_LINES or done == total):
            self._last = time.monotonic()
            self.say(f"scored {done} of {total} test episodes")

    def curves(self, drawn: Mapping[str, Sequence[float]]) -> None:
        """Curves of a record, in per cent, a line each."""
        width = max(map(len, drawn))
        for name, values in drawn.items():
            self.say(f"{name:<{width}} " + " ".join(f"{value:5.1f}" for value in values))

    def say(self, line: str) -> None:
        """One line for people."""
        if self._quiet:
            return
        if self._bar is not None:
            self._bar.write(line, file=self._out)
        else:
            print(line, file=self._out, flush=True)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _line(self, progress: Progress, training: Training, stage: str) -> str:
        assert self._began is not None
        elapsed = time.monotonic() - self._began[0]
        speed = (progress.episodes - self._began[1]) / elapsed if elapsed > 0 else 0.0
        left = (training.total - progress.episodes) / speed if speed else float("inf")
        if training.limits.seconds is not None:
            left = min(left, training.limits.seconds - progress.seconds)
        return (
            f"{progress.episodes}/{training.total} episodes, stage '{stage}', loss {_loss(progress)}, "
            f"{speed:.1f} episodes/s, at most {_clock(left)} left"
        )

    def _show_bar(self, progress: Progress, training: Training) -> None:
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(
                total=training.total, initial=progress.episodes, unit="episode", file=self._out, smoothing=0.05
            )
        self._bar.update(progress.episodes - self._bar.n)
        self._bar.set_postfix(loss=_loss(progress), stage=training.budget.stages[progress.stage].name, refresh=False)

    def _write(self, entry: dict[str, Any]) -> None:
        with self._log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry, allow_nan=False) + "\n")


def _loss(progress: Progress) -> str:
    return "–" if progress.loss is None else f"{progress.loss:.3f}"


def _clock(seconds: float) -> str:
    if seconds == float("inf"):
        return "an unknown time"
    minutes, rest = divmod(max(0, round(seconds)), 60)
    return f"{minutes}:{rest:02d} min"
