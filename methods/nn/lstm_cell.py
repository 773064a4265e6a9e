"""The LSTM with layer normalisation on its gates, and the choice between it and the plain one."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LayerNormLSTMCell(nn.Module):
    """One layer: i, f, o, g = LN(Wx x + Wh h), then c' = sig(f) c + sig(i) tanh(g) and h' = sig(o) tanh(c').

    The four gates are normalised together, over all 4 x units pre-activations, as in the released code of Ren
    et al. 2021. The normalisation's shift is the only bias; it starts at 1 for the forget gate and at 0
    elsewhere (their code adds the 1 before normalising, where its effect depends on the size of the weights).
    """

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__()
        self.units = units
        self.inputs = nn.Linear(inputs, 4 * units, bias=False)
        self.hidden = nn.Linear(units, 4 * units, bias=False)
        self.norm = nn.LayerNorm(4 * units)
        # One bound for both, as if x and h were one vector: normalising keeps their ratio, not their size.
        bound = (inputs + units) ** -0.5
        with torch.no_grad():
            self.inputs.weight.uniform_(-bound, bound)
            self.hidden.weight.uniform_(-bound, bound)
            self.norm.bias[units : 2 * units] = 1.0

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Outputs [T, B, units] for x [T, B, inputs], and h and c [B, units] after the last step."""
        outputs = []
        # All steps' input products are one call; only the hidden ones must wait for each other.
        for drive in self.inputs(x).unbind(0):
            gates, candidate = self.norm(drive + self.hidden(h)).split([3 * self.units, self.units], -1)
            i, f, o = gates.sigmoid().chunk(3, -1)
            c = f * c + i * candidate.tanh()
            h = o * c.tanh()
            outputs.append(h)
        return torch.stack(outputs), h, c


class LayerNormLSTM(nn.Module):
    """A stack of such layers, called like `torch.nn.LSTM` (time first)."""

    def __init__(self, inputs: int, units: int, layers: int = 1) -> None:
        super().__init__()
        sizes = [inputs] + [units] * (layers - 1)
        self.cells = nn.ModuleList(LayerNormLSTMCell(size, units) for size in sizes)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Outputs [T, B, units] of the last layer for x [T, B, inputs]; h and c are [layers, B, units]."""
        last_h, last_c = [], []
        for cell, h, c in zip(self.cells, *state, strict=True):
            x, h, c = cell(x, h, c)
            last_h.append(h)
            last_c.append(c)
        return x, (torch.stack(last_h), torch.stack(last_c))


def recurrent(inputs: int, units: int, layers: int, layer_norm: bool) -> nn.Module:
    """The layer-normalised stack, or torch's own LSTM with its fused kernels; both are called alike.

    The forget gate's bias starts at 1 in both.
    """
    if layer_norm:
        return LayerNormLSTM(inputs, units, layers)
    plain = nn.LSTM(inputs, units, layers)
    with torch.no_grad():
        for layer in range(layers):
            getattr(plain, f"bias_ih_l{layer}")[units : 2 * units] += 1.0
    return plain
