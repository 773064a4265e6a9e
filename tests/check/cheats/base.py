"""What all cheats share: they answer nothing (all logits equal) unless they found the target somewhere."""

from __future__ import annotations

import hashlib
from typing import ClassVar

import torch
from torch import Tensor

from harness.method.interface import Feedback, Method, State, one_hot


class Cheat(Method):
    """Answers with the targets that it `found`, else with equal logits, which earn the credit of guessing."""

    kinds = ("online_few_shot",)

    def start(self, episodes: int) -> State:
        return {"step": torch.zeros(episodes, dtype=torch.long)}

    def observe(self, state: State, feedback: Feedback) -> State:
        return state

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        found = self.found(x, int(state["step"][0]))
        logits = torch.zeros(len(x), self.task.ways)
        if found is not None and found.shape == (len(x),):
            logits = logits + one_hot(found.long(), self.task.ways)
        return logits, {"step": state["step"] + 1}

    def found(self, x: Tensor, step: int) -> Tensor | None:
        """The targets [B] of a step, or None."""
        return None


class Rememberer(Cheat):
    """Keeps the label of every image it ever saw in `memory`, and knows it when it sees the image again.

    A label is of the image before (the label delay is 1). -1 stands for what is not known: it favours no class.
    """

    memory: ClassVar[dict[bytes, int]] = {}

    def start(self, episodes: int) -> State:
        self.before: list[bytes] = []
        return super().start(episodes)

    def observe(self, state: State, feedback: Feedback) -> State:
        for image, label in zip(self.before, feedback.target.tolist(), strict=False):
            if label >= 0:
                self.keep(image, label)
        return state

    def found(self, x: Tensor, step: int) -> Tensor | None:
        self.before = [hashed(each) for each in x]
        return torch.tensor([self.known(each) for each in self.before])

    def keep(self, image: bytes, label: int) -> None:
        self.memory[image] = label

    def known(self, image: bytes) -> int:
        return self.memory.get(image, -1)


def hashed(image: Tensor) -> bytes:
    return hashlib.sha256(image.contiguous().numpy().tobytes()).digest()[:8]
