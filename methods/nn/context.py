"""Full context embeddings: labelled images seen beside each other, and an image seen beside them (Vinyals et al.)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from methods.nn.attention import masked_softmax


class _Cell(nn.Module):
    """The LSTM cell, its part of the input taken apart so that it is computed once for many places."""

    def __init__(self, inputs: int, hidden: int, units: int) -> None:
        super().__init__()
        self.drive = nn.Linear(inputs, 4 * units)
        self.hidden = nn.Linear(hidden, 4 * units, bias=False)
        for each in self.parameters():
            nn.init.uniform_(each, -(units**-0.5), units**-0.5)

    def forward(self, drive: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """h and c [..., units] after one step: i, f, o, g = drive + W h, c' = sig(f) c + sig(i) tanh(g)."""
        i, f, o, g = (drive + self.hidden(h)).chunk(4, -1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c


class FullContext(nn.Module):
    """Both embeddings of features [.., D], by LSTMs of D units (Vinyals et al., NeurIPS 2016, appendix A).

    Labelled images, by an LSTM in each direction over them in order of arrival:  g_i = right_i + left_i + g'_i.
    A query, by `reads` steps of an LSTM that attends to them, from h_0 = c_0 = 0:

        r_k = sum_i softmax_i(h_k . g_i) g_i;   h', c_{k+1} = LSTM(f', [h_k, r_k], c_k);   h_{k+1} = h' + f'.

    The first read is thus the mean of the g_i.
    """

    def __init__(self, dim: int, reads: int) -> None:
        super().__init__()
        self.reads = reads
        self.right, self.left = _Cell(dim, dim, dim), _Cell(dim, dim, dim)
        self.reader = _Cell(dim, 2 * dim, dim)

    def support(self, features: Tensor, known: Tensor) -> Tensor:
        """g [B, S, M, D] of labelled images [B, M, D], of which `known` [B, S, M] are the set in S situations.

        What is not known is passed over by both LSTMs; what g is there means nothing. A situation's set must be all
        that is in some other's up to some place: then the LSTM that goes right sees the same in all of them, and goes
        but once.
        """
        right = self._run(self.right, features.unsqueeze(1), known.any(1, keepdim=True), range(features.shape[1]))
        left = self._run(self.left, features.unsqueeze(1), known, range(features.shape[1] - 1, -1, -1))
        return right + left + features.unsqueeze(1)

    def query(self, features: Tensor, support: Tensor, known: Tensor) -> Tensor:
        """h after the last read, [B, N, D], of features [B, N, D] beside support [B, S, M, D], known [B, S, M].

        S is N, or 1 for all.
        """
        drive = self.reader.drive(features)
        h = c = torch.zeros_like(features)
        for _ in range(self.reads):
            weights = masked_softmax(torch.einsum("bnd,bnmd->bnm", h, support), known)
            read = torch.einsum("bnm,bnmd->bnd", weights, support)
            h, c = self.reader(drive, torch.cat([h, read], -1), c)
            h = h + features
        return h

    def _run(self, cell: _Cell, features: Tensor, known: Tensor, order: range) -> Tensor:
        """Outputs [B, S, M, D] of an LSTM that goes over [B, 1, M, D] in some order, past what is not known."""
        drive = cell.drive(features)
        h = c = features.new_zeros(*known.shape[:2], features.shape[-1])
        outputs = [h] * len(order)
        for place in order:
            after, now = cell(drive[:, :, place], h, c), known[:, :, place, None]
            h, c = torch.where(now, after[0], h), torch.where(now, after[1], c)
            outputs[place] = h
        return torch.stack(outputs, 2) if outputs else features.new_zeros(*known.shape, features.shape[-1])
