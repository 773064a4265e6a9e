"""The meta-learner of NORML: LSTM cells that scale the inputs and the gradients of a learner's layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.nn.preprocess import log_sign

CellInputs = Literal["standard", "log_sign", "raw"]
Drives = list[tuple[Tensor, Tensor]]
"""Weight and bias of each cell's map of its inputs."""
Memory = dict[str, list[Tensor]]
"""The states that each cell carries from step to step, [B, R, units]: 'cell' and 'hidden', empty where zero."""

_ALIGNED = 16
"""Numbers to whose multiples rows are filled up: 64 bytes of float32."""


class NodalCells(nn.Module):
    """For layers with inputs h [n_in] and gradients g [n_out]: factors between 0 and 1 for each number of h and of g.

    One cell a layer, or one for all layers, whose vectors are then concatenated. With x = [loss, g, h], each vector
    normalised on its own, and the hidden state r (not the layer's input) of the step before (van Niekerk's equations
    14 to 19, plus r):

        f = sig(W_f x + R_f r + b_f),   i = sig(W_i x + R_i r + b_i),   u = tanh(W_c x + R_c r + b_c),
        c <- f c + i u,   r <- tanh(c),   factors sig(W_g c + b_g) of g and sig(W_h c + b_h) of h.

    With `zero_hidden` r is always zero, which is those equations to the letter; with `zero_cell` the c of the step
    before is. Weights that would only multiply zeros are then left out. `output_gate` makes r <- o tanh(c) with a gate
    o like the others, as usual LSTMs have it.
    """

    def __init__(
        self,
        sizes: Sequence[tuple[int, int]],
        *,
        joint: bool,
        units: int | None,
        zero_hidden: bool,
        zero_cell: bool,
        output_gate: bool,
        inputs: CellInputs,
        gate_bias: float,
    ) -> None:
        super().__init__()
        self.zero_hidden, self.zero_cell, self.inputs = zero_hidden, zero_cell, inputs
        self._numbers = 2 if inputs == "log_sign" else 1  # that a cell is fed for each of a vector
        self.output_gate = output_gate and not zero_hidden
        self.groups = [list(range(len(sizes)))] if joint else [[number] for number in range(len(sizes))]
        self.sizes = list(sizes)
        gates = 2 + (not zero_cell) + self.output_gate
        drives, recurrences, heads = [], [], []
        self.units: list[int] = []
        for group in self.groups:
            nodes = sum(sum(sizes[layer]) for layer in group)
            width = units or (128 if joint else sizes[group[0]][1])
            self.units.append(width)
            drive = nn.Linear((nodes + 1) * self._numbers, gates * width)
            head = nn.Linear(width, nodes)
            with torch.no_grad():
                head.bias.fill_(gate_bias)
                if not zero_cell:  # the forget gate begins open
                    drive.bias[2 * width : 3 * width] = 1.0
            drives.append(drive)
            heads.append(head)
            if not zero_hidden:
                recurrences.append(nn.Linear(width, gates * width, bias=False))
        self.drives: Sequence[nn.Linear] = nn.ModuleList(drives)  # type: ignore[assignment]
        self.heads = nn.ModuleList(heads)
        self.recurrences = nn.ModuleList(recurrences)

    def start(self, episodes: int, rows: int) -> Memory:
        """Zeros for `rows` items of each of `episodes` episodes."""
        like: Tensor = next(self.parameters())
        zeros = [like.new_zeros(episodes, rows, width) for width in self.units]
        return {"cell": [] if self.zero_cell else zeros, "hidden": [] if self.zero_hidden else list(zeros)}

    def shared_by_steps(self, x: Tensor) -> tuple[Drives, Tensor | None]:
        """What all steps of a trajectory share: the maps of the cells' inputs, and what samples x [B, S, n_in] add.

        In training the first layer's inputs, the samples to be learned from, are mapped for all steps in one product
        [B, S, gates x units], and the first cell's map lacks their columns. On a CPU the maps then have further columns
        of zeros up to a multiple of 16, as their inputs have: the products of the backward pass are nearly twice as
        fast on rows that begin where a vector register may. Without a graph the maps are whole, and there is no such
        product: scored numbers stay what they were.
        """
        pairs: Drives = [(each.weight, each.bias) for each in self.drives]
        if not torch.is_grad_enabled():
            return pairs, None
        first = self._numbers * (1 + sum(self.sizes[layer][1] for layer in self.groups[0]))
        samples = self._numbers * self.sizes[0][0]
        widths = [first, samples, self.drives[0].in_features - first - samples]
        before, own, after = pairs[0][0].split(widths, 1)
        pairs[0] = torch.cat([before, after], 1), pairs[0][1]
        if not x.is_cuda:
            pairs = [(F.pad(weight, (0, -weight.shape[1] % _ALIGNED)), bias) for weight, bias in pairs]
        return pairs, F.linear(self._normalised(x), own)

    def forward(
        self,
        memory: Memory,
        loss: Tensor,
        inputs: list[Tensor],
        gradients: list[Tensor],
        known: Tensor,
        drives: Drives,
        sample_drive: Tensor | None,
    ) -> tuple[Memory, list[Tensor], list[Tensor]]:
        """The memory after a step, and the factors of the inputs [B, R, n_in] and of the gradients [B, R, n_out].

        `loss` [B, R]; items that are not `known` [B, R] leave their memory as it was. `drives` is what
        `shared_by_steps` gives, and `sample_drive` that of these samples.
        """
        after: Memory = {"cell": [], "hidden": []}
        of_inputs: list[Tensor] = []
        of_gradients: list[Tensor] = []
        for number, group in enumerate(self.groups):
            vectors = [gradients[layer] for layer in group]
            vectors += [inputs[layer] for layer in group if layer or sample_drive is None]
            parts = [self._normalised(each) for each in (loss.unsqueeze(-1), *vectors)]
            weight, bias = drives[number]
            if missing := weight.shape[1] - sum(each.shape[-1] for each in parts):
                parts.append(loss.new_zeros(*loss.shape, missing))
            drive = F.linear(torch.cat(parts, -1), weight, bias)
            if sample_drive is not None and number == 0:
                drive = drive + sample_drive
            if not self.zero_hidden:
                drive = drive + self.recurrences[number](memory["hidden"][number])
            i, u, *more = drive.split(self.units[number], -1)
            c = i.sigmoid() * u.tanh()
            if not self.zero_cell:
                before = memory["cell"][number]
                c = c + more[0].sigmoid() * before
                after["cell"].append(torch.where(known.unsqueeze(-1), c, before))
            if not self.zero_hidden:
                out = c.tanh() * more[-1].sigmoid() if self.output_gate else c.tanh()
                after["hidden"].append(torch.where(known.unsqueeze(-1), out, memory["hidden"][number]))
            widths = [self.sizes[layer][1] for layer in group] + [self.sizes[layer][0] for layer in group]
            factors = self.heads[number](c).sigmoid().split(widths, -1)
            of_gradients += factors[: len(group)]
            of_inputs += factors[len(group) :]
        return after, of_inputs, of_gradients

    def _normalised(self, x: Tensor) -> Tensor:
        """A vector [..., n] as the input of a cell."""
        if self.inputs == "log_sign":
            return log_sign(x).flatten(-2)
        # A single number, the loss, has no deviation to be divided by.
        if self.inputs == "raw" or x.shape[-1] == 1:
            return x
        return F.layer_norm(x, x.shape[-1:], eps=1e-6)
