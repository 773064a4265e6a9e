"""Clipping of gradients: entry by entry, a parameter at a time, or all together."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harness.training.recipe import Budget, Stage


@dataclass(frozen=True)
class Clipping:
    """Bounds of what an update may see of its gradient; those that are None bound nothing, the others follow in turn.

    `value` bounds the size of each entry; `tensor_norm` the norm of each parameter's gradient by itself, which
    is multiplied by c / max(norm, c); `norm` that of all gradients together.
    """

    value: float | None = None
    tensor_norm: float | None = None
    norm: float | None = None

    @classmethod
    def of(cls, stage: Stage, budget: Budget) -> Clipping:
        """That of a stage: what it does not say itself is the budget's."""
        return cls(
            stage.clip_value or budget.clip_value,
            stage.clip_tensor_norm or budget.clip_tensor_norm,
            stage.clip_norm or budget.clip_norm,
        )

    def apply(self, module: nn.Module) -> None:
        """Clips the gradients of a module's parameters in place, without reading anything from the device."""
        gradients = [each.grad for each in module.parameters() if each.grad is not None]
        if not gradients:
            return
        if self.value is not None:
            nn.utils.clip_grad_value_(module.parameters(), self.value)
        if self.tensor_norm is not None:
            _clip_each(gradients, self.tensor_norm)
        if self.norm is not None:
            nn.utils.clip_grad_norm_(module.parameters(), self.norm)


@torch.no_grad()
def _clip_each(gradients: list[Tensor], bound: float) -> None:
    norms = torch._foreach_norm(gradients)
    torch._foreach_mul_(gradients, [bound / norm.clamp(min=bound) for norm in norms])
