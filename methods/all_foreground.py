"""All foreground: everything is the object."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.method.interface import MASKS, Feedback, State
from methods.nn.untrained import Untrained


class AllForeground(Untrained):
    """Logits of 1 at every pixel. The state is empty: [B, 0].

    Its IoU is the share of the image that the object covers, its masking is 0: what segmenting earns blindly.
    """

    kinds = MASKS

    def start(self, episodes: int) -> State:
        return torch.zeros(episodes, 0, device=self.device)

    def observe(self, state: State, feedback: Feedback) -> State:
        return state

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        return torch.ones_like(x[:, :1]), state
