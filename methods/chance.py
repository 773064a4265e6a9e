"""Chance: the learner that knows nothing."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.method.interface import Feedback, State
from methods.nn.untrained import Untrained


class Chance(Untrained):
    """Equal logits for every class. Ties share credit, so it scores exactly 1/ways at every step.

    The state is empty: [B, 0].
    """

    def start(self, episodes: int) -> State:
        return torch.zeros(episodes, 0, device=self.device)

    def observe(self, state: State, feedback: Feedback) -> State:
        return state

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        return torch.zeros(len(x), self.task.ways, device=x.device), state
