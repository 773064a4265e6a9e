"""Copy last: the newest revealed label."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.method.interface import Feedback, State, one_hot
from methods.nn.untrained import LABELLED, Untrained


class CopyLast(Untrained):
    """Answers with the newest revealed label, which is its state (int64 [B]). Before it: equal logits."""

    kinds = LABELLED

    def start(self, episodes: int) -> State:
        return torch.full((episodes,), -1, device=self.device)

    def observe(self, state: State, feedback: Feedback) -> State:
        return torch.where(feedback.target >= 0, feedback.target, state)

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        return one_hot(state, self.task.ways), state
