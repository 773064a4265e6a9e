"""Conditions under which a method is run in a check: global randomness, autograd, parameters off their first values."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from harness.check.tasks import uniform
from harness.method.interface import Method

POISON = 20211


@contextmanager
def poisoned(seed: int = POISON) -> Iterator[None]:
    """Python's, NumPy's and torch's global random states set from `seed`, and put back afterwards.

    Every run of a check starts from the same poison: a method that draws from global randomness then fails
    the check of that name, and not every other one.
    """
    before = random.getstate(), np.random.get_state(), torch.default_generator.get_state()
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.default_generator.set_state(before[2])


def random_states() -> dict[str, object]:
    """The global random states, by the name of their owner, in a form that compares with ==."""
    name, keys, *rest = np.random.get_state()
    return {
        "torch": torch.default_generator.get_state().numpy().tobytes(),
        "numpy": (name, np.asarray(keys).tobytes(), *rest),
        "random": random.getstate(),
    }


@contextmanager
def scoring(method: Method, poison: int = POISON) -> Iterator[None]:
    """The conditions of scoring: poisoned randomness, and autograd only for methods that declare it."""
    with poisoned(poison), torch.set_grad_enabled(method.learns_by_gradient):
        yield


def jitter(method: Method) -> None:
    """Moves every parameter by up to a tenth of its root mean square (by up to 0.02 where that is zero)."""
    block = uniform((1 << 14,), "jitter").numpy()
    with torch.no_grad():
        for parameter in method.parameters():
            if parameter.is_floating_point() and parameter.numel():
                size = float(parameter.square().mean().sqrt())
                noise = torch.from_numpy(np.resize(block, tuple(parameter.shape))).to(parameter)
                parameter.add_(noise * (0.1 * size if size else 0.02))
