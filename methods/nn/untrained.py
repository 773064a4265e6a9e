"""The base of learners without parameters."""

from __future__ import annotations

import torch

from harness.method.interface import CLASSES, Method, Task

LABELLED = tuple(kind for kind in CLASSES if kind != "supervised")
"""Kinds of protocols that reveal labels within an episode. Elsewhere learners that have nothing else only guess."""


class Untrained(Method):
    """A method without parameters, whose states must still be on its device.

    An empty buffer moves with `.to(device)` in place of parameters; it is not saved.
    """

    _place: torch.Tensor

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.register_buffer("_place", torch.empty(0), persistent=False)

    @property
    def device(self) -> torch.device:
        """The device of fresh states."""
        return self._place.device
