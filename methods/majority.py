"""Majority: the class revealed most often."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.method.interface import Feedback, State, one_hot
from methods.nn.untrained import LABELLED, Untrained


class Majority(Untrained):
    """Logits are the counts of revealed labels, which are also its state: float [B, ways]."""

    kinds = LABELLED

    def start(self, episodes: int) -> State:
        return torch.zeros(episodes, self.task.ways, device=self.device)

    def observe(self, state: State, feedback: Feedback) -> State:
        return state + one_hot(feedback.target, self.task.ways)

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        return state.clone(), state
