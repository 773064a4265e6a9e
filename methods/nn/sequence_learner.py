"""What learners have in common that take an episode as one sequence of images and labels."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.method.interface import Feedback, Method, State


class SequenceLearner(Method):
    """A method whose memory is driven by images, each with the label that was revealed before it.

    The state is the memory, and "label" [B]: the label that enters with the next image (null: -1). A subclass defines
    `initial`, its memory at first, and `run`, which takes any number of steps at once. Stepping, whole episodes and
    support sets follow.
    """

    def initial(self, episodes: int) -> State:
        """The entries of the state that are memory, at the beginning of `episodes` episodes: a dict."""
        raise TypeError(f"{type(self).__name__} does not define initial()")

    def run(self, x: Tensor, labels: Tensor, state: State) -> tuple[Tensor, State]:
        """Logits [T, B, ways] and the memory after the steps x [T, B, C, H, W] with labels [T, B]."""
        raise TypeError(f"{type(self).__name__} does not define run()")

    def start(self, episodes: int) -> State:
        """The memory at first, and a null label."""
        device = next(self.parameters()).device
        return {"label": torch.full((episodes,), -1, device=device), **self.initial(episodes)}

    def observe(self, state: State, feedback: Feedback) -> State:
        """Keeps the label; it enters with the next image. A support pair's image is seen first."""
        if feedback.x is not None:
            _, state = self.predict(state, feedback.x)
        return {**state, "label": feedback.target}

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        """One step."""
        label = state["label"]
        logits, memory = self.run(x.unsqueeze(0), label.unsqueeze(0), state)
        return logits.squeeze(0), {"label": torch.full_like(label, -1), **memory}

    def rollout(self, x: Tensor, feedback: Feedback) -> Tensor:
        """All steps in one call."""
        return self.run(x, feedback.target, self.start(x.shape[1]))[0]

    def absorb(self, state: State, x: Tensor, feedback: Feedback) -> State:
        """All steps before the queries in one call."""
        labels, last = labels_with_images(feedback, state["label"])
        return {"label": last, **self.run(x, labels, state)[1]}


def labels_with_images(feedback: Feedback, pending: Tensor) -> tuple[Tensor, Tensor]:
    """The label that enters with each image [T, B], and the one that is still to enter after the last [B].

    In a stream a label enters with the image before which it is revealed, and none is left over. Support pairs are
    taken as the stream that shows their images one after another: a pair's label enters with the next image, so that
    an input means the same on every kind of protocol, and weights carry over from one to the other. With the first
    image enters what was `pending` [B] (null at the start of an episode).
    """
    target = feedback.target
    if feedback.x is None:
        return target, torch.full_like(pending, -1)
    return torch.cat([pending.unsqueeze(0), target[:-1]]), target[-1]
