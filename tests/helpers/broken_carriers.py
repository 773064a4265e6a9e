"""Methods that carry something from call to call, or between episodes, outside their state."""

from __future__ import annotations

import os
import random
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from harness import Feedback, State, Task
from harness.method.interface import one_hot
from tests.helpers.broken_methods import Honest

_SEEN: list[float] = []


class _Steps(Honest):
    """Honest, without a fast path."""

    def rollout(self, x: Tensor, feedback: Feedback) -> Tensor | None:
        return None


class CountsInABuffer(_Steps):
    """Counts its answers in a buffer, as a running mean would."""

    calls: Tensor

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.register_buffer("calls", torch.zeros(()))

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        logits, after = super().predict(state, x)
        self.calls = self.calls + 1
        return logits + self.calls, after


class CountsItsCalls(_Steps):
    """Learns more slowly the longer it lives."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.calls = 0

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        self.calls += 1
        logits, after = super().predict(state, x)
        return logits / self.calls, after


class KeepsWhatItSawFirst(Honest):
    """Makes a table on first use in its fast path, from the images of that batch."""

    def answers(self, features: Tensor, label: Tensor) -> Tensor:
        if not hasattr(self, "_mean"):
            self._mean = features.detach().mean((0, 1))
        return super().answers(features - self._mean, label)


class RemembersInAGlobal(_Steps):
    """Keeps what it saw in a list of its file."""

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        _SEEN.append(float(x.mean()))
        logits, after = super().predict(state, x)
        return logits + sum(_SEEN), after


class RemembersInADefault(_Steps):
    """Means a fresh list for every call, and has one for all."""

    def predict(self, state: State, x: Tensor, seen: list[Tensor] = []) -> tuple[Tensor, State]:  # noqa: B006
        seen.append(x.mean())
        logits, after = super().predict(state, x)
        return logits + torch.stack(seen).sum(), after


class RemembersInAFile(_Steps):
    """Keeps how often it was asked on disk."""

    file = Path(tempfile.gettempdir()) / f"asked-{os.getpid()}"

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        with self.file.open("a") as file:
            file.write("x")
        logits, after = super().predict(state, x)
        return logits + self.file.stat().st_size, after


class DrawsFromTheSystem(_Steps):
    """Breaks ties with a generator of its own, which it seeds from the system."""

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        own = torch.Generator().manual_seed(int.from_bytes(os.urandom(4), "big"))
        logits, after = super().predict(state, x)
        return logits + 1e-3 * torch.rand(logits.shape, generator=own).to(logits.dtype), after


class HidesInTheRandomState(_Steps):
    """Carries what it saw from step to step, and from episode to episode, in torch's random state."""

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        carried = torch.rand(())
        torch.manual_seed(int(1000 * (carried + x.mean().abs())))
        logits, after = super().predict(state, x)
        return logits + carried.to(logits.dtype), after


class DrawsFromPython(_Steps):
    """Drops a class at random, with Python's generator."""

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        logits, after = super().predict(state, x)
        return logits - one_hot(torch.tensor(random.randrange(self.task.ways)), self.task.ways).to(logits.dtype), after


class EditsItsFeedback(_Steps):
    """Takes null for class 0, weighted with nothing, in the labels that it was given."""

    def observe(self, state: State, feedback: Feedback) -> State:
        known = (feedback.target >= 0).to(self.scale.dtype)
        hit = one_hot(feedback.target.clamp_(min=0), self.task.ways).to(self.scale.dtype) * known.unsqueeze(-1)
        sums = state["sums"] + hit.unsqueeze(-1) * state["pending"][:, :1]
        return {**state, "sums": sums, "counts": state["counts"] + hit}


class TurnsTheBatch(_Steps):
    """Rolls the wrong dimension of its queue: each episode goes on with the images of its neighbour."""

    def observe(self, state: State, feedback: Feedback) -> State:
        return super().observe({**state, "pending": state["pending"].roll(1, 0)}, feedback)


class RemembersTheLastEpisode(Honest):
    """Keeps the last state it saw on the module, and starts the next episode from its counts."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.last: Tensor | None = None

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        logits, after = super().predict(state, x)
        before, self.last = self.last, state["counts"]
        return logits if before is None else logits - before.mean(), after

    def rollout(self, x: Tensor, feedback: Feedback) -> Tensor | None:
        return None


class RemembersOnTheClass(Honest):
    """Does the same on the class, where a fresh instance finds it."""

    seen: list[float] = []  # noqa: RUF012

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        self.seen.append(float(x.mean()))
        logits, after = super().predict(state, x)
        return logits * (1 + len(self.seen)), after

    def rollout(self, x: Tensor, feedback: Feedback) -> Tensor | None:
        return None


class KeepsItsStateOnTheModule(Honest):
    """Clears its memory in start(), so that one episode after another works; but no state can be forked."""

    def start(self, episodes: int) -> State:
        self.memory = super().start(episodes)
        return torch.zeros(episodes, 1)

    def observe(self, state: State, feedback: Feedback) -> State:
        self.memory = super().observe(self.memory, feedback)
        return state

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        logits, self.memory = super().predict(self.memory, x)
        return logits, state


class DrawsRandomNumbers(Honest):
    """Breaks ties at random."""

    def logits(self, features: Tensor, sums: Tensor, counts: Tensor) -> Tensor:
        logits = super().logits(features, sums, counts)
        return logits + 1e-3 * torch.rand_like(logits)

    def rollout(self, x: Tensor, feedback: Feedback) -> Tensor | None:
        return None


class AdvancesTheRandomState(Honest):
    """Draws a number that it does not use."""

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        torch.rand(1)
        return super().predict(state, x)


class SharesABuffer(Honest):
    """One count of labels for all episodes of the batch."""

    def start(self, episodes: int) -> State:
        return {**super().start(episodes), "all": torch.zeros(self.task.ways)}

    def observe(self, state: State, feedback: Feedback) -> State:
        everyone = state["all"] + one_hot(feedback.target, self.task.ways).sum(0)
        return {**super().observe(state, feedback), "all": everyone}

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        logits, after = super().predict(state, x)
        return logits + state["all"], after

    def rollout(self, x: Tensor, feedback: Feedback) -> Tensor | None:
        return None


class CountsInAnInteger(Honest):
    """Keeps the number of steps as a plain number."""

    def start(self, episodes: int) -> State:
        return {**super().start(episodes), "steps": 0}
