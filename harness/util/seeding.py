"""Things drawn by torch from random bits of their own: a function of a name, whatever was drawn before."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from harness.util import philox

T = TypeVar("T")


def seeded(make: Callable[[], T], *name: object) -> T:
    """What `make` gives with torch's random state seeded by `name` alone; the global state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        # That of the CPU alone: what a GPU draws goes on as it was.
        torch.default_generator.manual_seed(philox.key_of(*name)[0])
        return make()


def class_layer(width: int, classes: int, seed: int, stage: int = 0) -> torch.nn.Linear:
    """The linear layer from features to the training classes with which a stage of a training under a seed begins.

    A method that keeps its own makes it by this, under `torch.initial_seed()` while it is built: then it begins as the
    layer does that other methods throw away, and the features of one are those of the other.
    """
    return seeded(lambda: torch.nn.Linear(width, classes), "head", seed, stage)
