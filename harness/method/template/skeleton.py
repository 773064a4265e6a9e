"""Running class means in the features of a small conv net: a place to begin.

Replace what it learns and remembers by your own idea. The rules are short: all that is
learned within an episode is in the state, whose tensors begin with the dimension of
episodes B; nothing is changed in place; nothing looks at another episode. This says
which rule is broken, and where:

    harness check skeleton.py:Skeleton

It is trained by the cross-entropy of its answers; `harness.Trainable` has the hooks of
a method that is trained in another way.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor, nn

# isort: split
from harness import Feedback, Method, Task


class Skeleton(Method):
    """Answers with the class whose revealed images have the nearest mean.

    Options: `channels` of each layer of the conv net.
    """

    # It must know which image a label belongs to; rows are marked with it.
    needs_label_delay = True
    kinds = ("online_few_shot", "delayed_label", "continual")

    def __init__(self, task: Task, channels: int = 32) -> None:
        super().__init__(task)
        depth = (task.image_shape[0], channels, channels, channels)
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(depth):
            layers.append(nn.Conv2d(before, after, 3, stride=2, padding=1))
            layers += [nn.GroupNorm(4, after), nn.ReLU()]
        self.features = 2 * channels
        self.net = nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(self.features))
        self.net(torch.zeros(1, *task.image_shape))  # sets the size of the last layer

    def start(self, episodes: int) -> dict[str, Tensor]:
        """No image of any class was seen: sums [B, ways, D], counts [B, ways]; and the
        d inputs that wait for a label [B, d, D]."""
        zeros = next(self.parameters()).new_zeros
        return {
            "sums": zeros(episodes, self.task.ways, self.features),
            "counts": zeros(episodes, self.task.ways),
            "waiting": zeros(episodes, self.task.label_delay or 1, self.features),
        }

    def observe(self, state: dict[str, Any], feedback: Feedback) -> dict[str, Any]:
        """Adds the input of d steps ago to the class that is revealed; -1 (null) is no
        class and adds nothing."""
        classes = torch.arange(self.task.ways, device=feedback.target.device)
        hit = (feedback.target[:, None] == classes).to(state["sums"].dtype)
        added = hit[:, :, None] * state["waiting"][:, :1]
        sums, counts = state["sums"] + added, state["counts"] + hit
        return {**state, "sums": sums, "counts": counts}

    def predict(
        self,
        state: dict[str, Any],
        x: Tensor,
    ) -> tuple[Tensor, dict[str, Any]]:
        """Logits [B, ways] for x [B, C, H, W]: minus the squared distance to each mean
        (0 in place of the mean of a class without images)."""
        found = self.net(x)
        means = state["sums"] / state["counts"].clamp(min=1)[:, :, None]
        logits = -(found[:, None] - means).square().mean(2)
        waiting = torch.cat([state["waiting"][:, 1:], found[:, None]], 1)
        return logits, {**state, "waiting": waiting}
