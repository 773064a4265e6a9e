"""All background: nothing is an object."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.method.interface import MASKS, Feedback, State
from methods.nn.untrained import Untrained


class AllBackground(Untrained):
    """Logits of -1 at every pixel. The state is empty: [B, 0].

    Its IoU is 0 and its masking 100 %, so that its joint score is 50 % whatever the images are.
    """

    kinds = MASKS

    def start(self, episodes: int) -> State:
        return torch.zeros(episodes, 0, device=self.device)

    def observe(self, state: State, feedback: Feedback) -> State:
        return state

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        return -torch.ones_like(x[:, :1]), state
