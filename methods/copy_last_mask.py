"""Copy last mask: the newest revealed mask."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.method.interface import MASKS, Feedback, State
from methods.nn.untrained import Untrained


class CopyLastMask(Untrained):
    """Answers with the newest revealed mask, a distractor's empty one too; before the first, with background.

    The state is that mask (float [B, 1, H, W]), a plane of -1 before the first. Logits are 1 and -1.
    """

    kinds = MASKS

    def start(self, episodes: int) -> State:
        return torch.full((episodes, 1, *self.task.image_shape[1:]), -1.0, device=self.device)

    def observe(self, state: State, feedback: Feedback) -> State:
        return torch.where(feedback.target >= 0, feedback.target, state)

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        return torch.where(state > 0.5, 1.0, -1.0), state
