"""Count: the class revealed least often."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.method.interface import Feedback, State, one_hot
from methods.nn.untrained import LABELLED, Untrained


class Count(Untrained):
    """Logits are minus the counts of revealed labels; the counts are its state: float [B, ways].

    Where each class is shown equally often, the class revealed least often is the likeliest to come: no
    learner that sees labels alone is right more often over an episode. What it earns is the floor to beat.
    """

    kinds = LABELLED

    def start(self, episodes: int) -> State:
        return torch.zeros(episodes, self.task.ways, device=self.device)

    def observe(self, state: State, feedback: Feedback) -> State:
        return state + one_hot(feedback.target, self.task.ways)

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        return -state, state
