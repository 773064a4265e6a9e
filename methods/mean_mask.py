"""Mean mask: where most revealed objects were."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.method.interface import MASKS, Feedback, State
from methods.nn.untrained import Untrained


class MeanMask(Untrained):
    """Marks the pixels that were object in more than half of the revealed masks that show one.

    Empty masks are left out of the mean: they say that a distractor was shown, not where the next target will be,
    and half of all masks being empty, the mean over all would mark next to nothing. Logits are the mean minus 1/2;
    before the first object everything is background. The state holds the `sum` of masks (float [B, 1, H, W]) and
    their `count` (float [B, 1, 1, 1]).
    """

    kinds = MASKS

    def start(self, episodes: int) -> State:
        return {
            "sum": torch.zeros(episodes, 1, *self.task.image_shape[1:], device=self.device),
            "count": torch.zeros(episodes, 1, 1, 1, device=self.device),
        }

    def observe(self, state: State, feedback: Feedback) -> State:
        shown = feedback.target.clamp(min=0)
        return {"sum": state["sum"] + shown, "count": state["count"] + shown.amax((1, 2, 3), keepdim=True)}

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        return state["sum"] / state["count"].clamp(min=1) - 0.5, state
