"""The exponential moving average (EMA) of a method's weights over the updates of a stage."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor, nn

Tensors = dict[str, Tensor]


@dataclass
class WeightAverage:
    """The average of a method's weights after each update of a stage, and of its running statistics.

    After update n (from 1) the average moves towards the weights by max(1 / n, 1 - decay) of the way: it is their plain
    mean at first, and later an exponential moving average, so that the weights before the stage have no part in it.
    `trained` holds the weights that training goes on with while the average is in their place.
    """

    method: nn.Module
    decay: float
    mean: Tensors
    trained: Tensors | None = None

    @classmethod
    def begin(cls, method: nn.Module, decay: float, saved: Tensors) -> WeightAverage:
        """As it was when `saved` was, or before any update where that is empty."""
        mean = _copied(method.state_dict())
        for name, tensor in saved.items():
            mean[name].copy_(tensor)
        return cls(method, decay, mean)

    def add(self, update: int) -> None:
        """Counts the weights after the numbered update (from 1) of the stage."""
        share = max(1 / update, 1 - self.decay)
        for name, tensor in self.method.state_dict().items():
            if tensor.is_floating_point():
                self.mean[name].lerp_(tensor, share)
            else:  # a counter
                self.mean[name].copy_(tensor)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within, the method has the average for its weights."""
        self.trained = _copied(self.method.state_dict())
        try:
            self.settle()
            yield
        finally:
            self.method.load_state_dict(self.trained)
            self.trained = None

    def settle(self) -> None:
        """Puts the average in the place of the weights."""
        self.method.load_state_dict(self.mean)


def _copied(tensors: Tensors) -> Tensors:
    return {name: each.detach().clone() for name, each in tensors.items()}
