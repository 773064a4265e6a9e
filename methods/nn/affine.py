"""Linear maps by weights that are each episode's own, or one view for all episodes, as where they begin.

Such a view (`Tensor.expand`) takes one product with the vectors of all episodes, and its gradient goes straight to the
tensor that is viewed: no episode's own gradient is formed, which no caller asks for.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def apply_weight(weight: Tensor, x: Tensor, bias: Tensor | None = None) -> Tensor:
    """W x + b, [B, N, out], for weights [B, out, in], biases [B, out] and vectors x [B, N, in]."""
    if is_shared(weight):
        return F.linear(x, _viewed(weight), None if bias is None else _viewed(bias))
    return x @ weight.mT if bias is None else torch.baddbmm(bias.unsqueeze(1), x, weight.mT)


def apply_transposed(weight: Tensor, gradient: Tensor) -> Tensor:
    """W^T g, [B, N, in], for weights [B, out, in] and gradients [B, N, out]."""
    return gradient @ (_viewed(weight) if is_shared(weight) else weight)


def is_shared(weight: Tensor) -> bool:
    """Whether all episodes' weights are one view."""
    return weight.stride(0) == 0


def _viewed(weight: Tensor) -> Tensor:
    """What [B, ...] is a view of. The first episode's part would do, but for its gradient: zeros for all others."""
    base, own = weight._base, (weight.shape[1:], weight.stride()[1:], weight.storage_offset())
    if base is not None and (base.shape, base.stride(), base.storage_offset()) == own:
        return base
    return weight[0]
