"""Methods that keep something of what they were asked where no answer shows it, or take null for a class."""

from __future__ import annotations

import torch
from torch import Tensor

from harness import Feedback, State, Task
from tests.helpers.broken_methods import Honest

SEEN: list[float] = []


class FillsACacheOfFeatures(Honest):
    """Looks the features of an image up that it has seen before: the same bits, and a memory of every image."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.known: dict[int, Tensor] = {}

    def features(self, x: Tensor) -> Tensor:
        found = super().features(x)
        self.known[len(self.known)] = found.detach()
        return found


class NotesWhatItSees(Honest):
    """Writes the brightness of every image into a list of its file, which it does not read."""

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        SEEN.append(float(x.mean()))
        return super().predict(state, x)


class TakesNullForTheLastClass(Honest):
    """Has -1 index its classes from behind; a fixed first feature makes the label of nothing count."""

    def observe(self, state: State, feedback: Feedback) -> State:
        target = feedback.target % self.task.ways
        return super().observe({**state, "pending": state["pending"] + 0.5}, Feedback(target, feedback.x))

    def rollout(self, x: Tensor, feedback: Feedback) -> Tensor | None:
        return None


class RemembersQueries(Honest):
    """Compares a query with all that this instance was ever asked, and favours what is new."""

    queries: Tensor

    def start(self, episodes: int) -> State:
        self.__dict__["queries"] = torch.zeros(0)
        return super().start(episodes)

    def query(self, state: State, x: Tensor) -> Tensor:
        new = x.flatten(2).mean(2)
        self.queries = torch.unique(torch.cat([self.queries, new.flatten().float()]))
        return super().query(state, x) - self.queries.mean()
