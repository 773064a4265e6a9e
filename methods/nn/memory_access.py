"""The steps of an LSTM controller with a memory as one differentiable operation, with the backward pass written out.

Automatic differentiation would record some sixty small operations a step, run twice as many backward, and add to the
gradients of all weights once a step. Here the backward pass walks the steps once, and the gradients of weights are one
product over all steps each. Letters are those of `methods.ntm.Access`; d before one is its gradient. From the last step
to the first, with M the rows that are read and L = 1 / |M(i)|, K = k / |k|, S = (K M^T) L:

    dw += dr M^T,  dM = w^T dr;  d(bS) by softmax;  db = sum_i d(bS) S,  dS = b d(bS);
    dK = (dS L) M,  dM += (dS L)^T K - M L^2 sum_n dS S;  dk = (dK - K (dK . K)) / |k|;
    dv = k dM^T,  dk += v dM,  dM' = dM where it was not cleared;  dg = sum_i dv (w' - l),  dw' = g dv;

and then those of the LSTM (`conv_lstm_gates`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from methods.nn import conv_lstm_gates

Slots = dict[str, Tensor]
"""`rows` [B, N, W], `weights` [B, H, N] of the last reads, `usage` [B, N] and the last `reads` [B, H, W]."""
STATE = ("rows", "weights", "usage", "reads")


@dataclass(frozen=True)
class Used:
    """What one access used on its way, for the backward pass.

    `after` says whether the rows `looked_at` are those after the write; `value` is None where keys are written;
    `keys` are k / |k|, `inverse` [B, H, 1] and `lengths` [B, N] 1 / |k| and 1 / |M(i)|, `similar` their cosines;
    `sharp` [B, H] is what b = 1 + softplus was taken of.
    """

    after: bool
    key: Tensor
    value: Tensor | None
    gate: Tensor
    least: Tensor
    written: Tensor
    looked_at: Tensor
    keys: Tensor
    inverse: Tensor
    lengths: Tensor
    similar: Tensor
    sharp: Tensor | None


Access = Callable[[Tensor, Slots], tuple[Slots, Used]]


def steps(
    access: Access,
    driven: Tensor,
    h: Tensor,
    c: Tensor,
    memory: Slots,
    recur: Tensor,
    heads: list[tuple[Tensor, Tensor]],
) -> tuple[Tensor, Tensor, Tensor, Slots]:
    """h and reads side by side [T, B, U + H W], and the last h, c and memory.

    `driven` [T, B, 4 U] is what the inputs give to the LSTM's gates i, f, o, g, `recur` [4 U, U + H W] the weights of h
    and the reads; `heads` are weights and biases of what `access` makes of h: key, value (if it is not the key), gate
    and sharpness (if there is one), whose arithmetic is its own. Differentiable once, but through usage.
    """
    flat = [each for pair in heads for each in pair]
    found, h, c, *last = _Steps.apply(
        torch.is_grad_enabled(), access, driven, h, c, *(memory[name] for name in STATE), recur, *flat
    )
    return found, h, c, dict(zip(STATE, last, strict=True))


class _Steps(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, keeps: bool, access: Access, driven: Tensor, h: Tensor, c: Tensor, *others: Tensor
    ) -> tuple[Tensor, ...]:
        memory, recur, heads = dict(zip(STATE, others[:4], strict=True)), others[4], others[5:]
        units, count = h.shape[-1], len(driven)
        gates, inputs = torch.empty_like(driven), h.new_empty(count, len(h), recur.shape[1])
        cells, tanh, outputs = (h.new_empty(count + extra, *h.shape) for extra in (1, 0, 0))
        cells[0] = c
        found, used, weights = torch.empty_like(inputs), [], [memory["weights"]]
        for t in range(count):
            torch.cat([h, memory["reads"].flatten(1)], 1, out=inputs[t])
            hidden = inputs[t] @ recur.t()
            conv_lstm_gates.forward(driven[t], hidden, cells[t], gates[t], cells[t + 1], tanh[t], outputs[t])
            h = outputs[t]
            memory, each = access(h, memory)
            torch.cat([h, memory["reads"].flatten(1)], 1, out=found[t])
            if keeps:
                used.append(each)
                weights.append(memory["weights"])
        ctx.save_for_backward(recur, *heads)
        ctx.kept = gates, inputs, cells, tanh, outputs, used, weights, units
        # What is kept must not be what is returned, which would hold itself through its graph.
        last = {name: memory[name].clone() for name in STATE}
        ctx.mark_non_differentiable(last["usage"])
        return found, h.clone(), cells[-1].clone(), *last.values()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_found: Tensor, d_h: Tensor, d_c: Tensor, *d_memory: Tensor) -> tuple[Tensor | None, ...]:
        recur, *heads = ctx.saved_tensors
        gates, inputs, cells, tanh, outputs, used, weights, units = ctx.kept
        d_rows, d_weights, _, d_reads = d_memory
        d_c = d_c.clone()
        head, d_gates = torch.cat(heads[::2]), torch.empty_like(gates)
        d_heads = gates.new_empty(*gates.shape[:2], len(head))
        shape = d_reads.shape
        for t in reversed(range(len(gates))):
            d_h = d_h + d_found[t, :, :units]
            d_reads = d_reads + d_found[t, :, units:].view(shape)
            after = d_rows, d_weights, d_reads
            d_rows, d_weights = _access_backward(used[t], weights[t], weights[t + 1], *after, d_heads[t])
            d_h = torch.addmm(d_h, d_heads[t], head)
            conv_lstm_gates.backward(d_h, d_c, gates[t], cells[t], tanh[t], d_gates[t])
            d_h, d_reads = (d_gates[t] @ recur).split([units, len(recur[0]) - units], 1)
            d_reads = d_reads.reshape(shape)
        flat = d_heads.flatten(0, 1)
        d_head, d_biases = flat.t() @ outputs.flatten(0, 1), flat.sum(0)
        sizes = [len(each) for each in heads[::2]]
        pairs = zip(d_head.split(sizes), d_biases.split(sizes), strict=True)
        d_recur = d_gates.flatten(0, 1).t() @ inputs.flatten(0, 1)
        d_flat = [each for pair in pairs for each in pair]
        return None, None, d_gates, d_h, d_c, d_rows, d_weights, None, d_reads, d_recur, *d_flat


def _access_backward(
    used: Used, before: Tensor, weights: Tensor, d_rows: Tensor, d_weights: Tensor, d_reads: Tensor, d_heads: Tensor
) -> tuple[Tensor, Tensor]:
    """The gradients of the rows and read weights before an access, given those after it; fills those of its heads."""
    looked_at, key = used.looked_at, used.key
    d_weights = torch.baddbmm(d_weights, d_reads, looked_at.mT)
    d_similar = torch.ops.aten._softmax_backward_data(d_weights, weights, -1, weights.dtype)
    d_sharp = []
    if used.sharp is not None:
        d_sharp = [(d_similar * used.similar).sum(-1) * used.sharp.sigmoid()]
        d_similar = d_similar * (1 + F.softplus(used.sharp)).unsqueeze(-1)
    d_products = d_similar * used.lengths.unsqueeze(1)
    d_keys = d_products @ looked_at
    d_key = (d_keys - used.keys * (d_keys * used.keys).sum(-1, keepdim=True)) * used.inverse
    d_looked_at = torch.cat([weights, d_products], 1).mT @ torch.cat([d_reads, used.keys], 1)
    shrunk = (d_similar * used.similar).sum(1) * used.lengths.square()
    d_looked_at.addcmul_(looked_at, shrunk.unsqueeze(-1), value=-1)

    if used.after:
        d_rows = d_rows + d_looked_at
    d_written, d_value = (key if used.value is None else used.value) @ d_rows.mT, used.written @ d_rows
    d_gate = (d_written * (before - used.least)).sum(-1) * used.gate.squeeze(-1) * (1 - used.gate.squeeze(-1))
    d_rows = d_rows * (1 - used.least[:, 0]).unsqueeze(-1)
    if not used.after:
        d_rows += d_looked_at
    if used.value is None:
        d_vectors = [torch.ops.aten.tanh_backward(d_key + d_value, key)]
    else:
        d_vectors = [torch.ops.aten.tanh_backward(*each) for each in ((d_key, key), (d_value, used.value))]
    torch.cat([*(each.flatten(1) for each in d_vectors), d_gate, *d_sharp], 1, out=d_heads)
    return d_rows, d_written * used.gate
