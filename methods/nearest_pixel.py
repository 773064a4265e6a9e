"""Nearest pixel: the class of the nearest revealed image."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from harness.method.interface import Feedback, State, Task
from methods.nn import label_pairing
from methods.nn.untrained import LABELLED, Untrained


class NearestPixel(Untrained):
    """Logits are minus the squared distance to each class's nearest labelled image, over pixels as normalised by the
    harness. Classes without one get a value below all others; before the first label all are equal.

    The state holds `images` [B, n, pixels] with their `labels` [B, n] and the images whose label is still to be
    revealed, `pending` [B, m, pixels], m <= d. It grows by one image a step: nothing is forgotten.
    """

    kinds = LABELLED
    needs_label_delay = True

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.delay = task.label_delay or 1

    def start(self, episodes: int) -> State:
        none = torch.zeros(episodes, 0, math.prod(self.task.image_shape), device=self.device)
        labels = torch.zeros(episodes, 0, dtype=torch.int64, device=self.device)
        return {"images": none, "labels": labels, "pending": none.clone()}

    def observe(self, state: State, feedback: Feedback) -> State:
        """Pairs the label with the image of `label_delay` steps ago, or with `feedback.x` where it is given.

        An image whose label is null has the label -1, which belongs to no class.
        """
        labels, pending = feedback.target.unsqueeze(1), state["pending"]
        if feedback.x is not None:
            images = feedback.x.flatten(1).unsqueeze(1)
        else:
            images, labels, pending = label_pairing.pair_labels(pending, pending[:, :0], labels, self.delay)
        return {
            "images": torch.cat([state["images"], images], 1),
            "labels": torch.cat([state["labels"], labels], 1),
            "pending": pending,
        }

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        pending = torch.cat([state["pending"], x.flatten(1).unsqueeze(1)], 1)
        return self._scores(state, x), {**state, "pending": pending}

    def query(self, state: State, x: Tensor) -> Tensor:
        """As a further step from the state, without copying its images for every query."""
        return torch.stack([self._scores(state, each) for each in x.unbind(1)], 1)

    def _scores(self, state: State, x: Tensor) -> Tensor:
        """Logits [B, ways] for x [B, C, H, W]."""
        images, labels = state["images"], state["labels"]
        # Differences rather than the expanded square: exact zeros for equal images, and no rounding that
        # depends on how many episodes are in the batch.
        distance = (images - x.flatten(1).unsqueeze(1)).square().sum(-1)
        classes = torch.arange(self.task.ways, device=x.device)
        by_class = torch.where(labels.unsqueeze(-1) == classes, distance.unsqueeze(-1), torch.inf)
        none = torch.full((len(x), 1, self.task.ways), torch.inf, device=x.device, dtype=x.dtype)
        nearest = torch.cat([by_class, none], 1).amin(1)  # infinite for classes without an image
        lowest = torch.where(nearest.isfinite(), -nearest, 0.0).amin(1, keepdim=True)
        return torch.where(nearest.isfinite(), -nearest, 2 * lowest - 1)
