"""NTM: a memory-augmented network with least-recently-used access (Santoro et al., "Meta-learning with
memory-augmented neural networks", ICML 2016), over conv features or pixels."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.method.interface import State, Task, one_hot
from harness.method.option_types import Count
from methods.nn import memory_access
from methods.nn.feature_net import FeatureNet
from methods.nn.features import FeatureKind, encoder
from methods.nn.memory_access import Slots, Used
from methods.nn.sequence_learner import SequenceLearner

_PIXELS = 20
"""Side of the images that Santoro et al. feed."""
_EMPTY = 1e-6
"""What every cell of the memory holds at the start of an episode."""
_SMALL = 1e-6
"""Added to squared lengths: rows much shorter than 1e-3, such as empty ones, are similar to nothing."""


class Access(nn.Module):
    """One access of H heads to N slots of width W, from the controller's output h.

    Each head emits a key k = tanh(W_k h), a gate g = sig(w_g h) and, with `sharpness`, b = 1 + softplus(w_b h):

        write weights   v_n = g_n w_n' + (1 - g_n) l_n       w': read weights before, l_n: one-hot at the slot of which
                                                             the usage u' before was n-th least
        memory          M = M', the least used row cleared, + sum_n v_n (x) k_n
        read weights    w_n = softmax_i(b_n cos(k_n, M(i)))
        reads           r_n = sum_i w_n(i) M(i)
        usage           u = decay u' + sum_n w_n + sum_n v_n

    With `reads='before'` the read weights and reads are taken from M' in place of M; with `writes='value'` a vector
    a_n = tanh(W_a h) of its own is written in place of k_n. Which slots are least used has no derivative; equal usage
    counts in order of slots.
    """

    def __init__(
        self,
        units: int,
        slots: int,
        width: int,
        heads: int,
        decay: float,
        sharpness: float | None,
        reads: Literal["after", "before"],
        writes: Literal["key", "value"],
    ) -> None:
        super().__init__()
        self.slots, self.width, self.heads, self.decay, self.reads = slots, width, heads, decay, reads
        self.key = nn.Linear(units, heads * width)
        self.value = None if writes == "key" else nn.Linear(units, heads * width)
        self.gate = nn.Linear(units, heads)
        self.sharpness = None if sharpness is None else nn.Linear(units, heads)
        if self.sharpness is not None and sharpness is not None:
            # The inverse of b = 1 + softplus(bias); the weights start small beside it.
            nn.init.constant_(self.sharpness.bias, sharpness - 1 + math.log(-math.expm1(1 - sharpness)))

    def start(self, episodes: int) -> Slots:
        """An empty memory, read and used at the first slot alone."""
        like = self.gate.weight
        first = F.one_hot(torch.zeros(episodes, dtype=torch.int64, device=like.device), self.slots).to(like.dtype)
        return {
            "rows": like.new_full((episodes, self.slots, self.width), _EMPTY),
            "weights": first.unsqueeze(1).repeat(1, self.heads, 1),
            "usage": first,
            "reads": like.new_zeros(episodes, self.heads, self.width),
        }

    def forward(self, h: Tensor, before: Slots) -> tuple[Slots, Used]:
        """The memory after one access by controllers in state h [B, units], and what its backward pass needs."""
        key = self.key(h).tanh().unflatten(-1, (self.heads, self.width))
        value = key if self.value is None else self.value(h).tanh().view_as(key)
        gate = self.gate(h).sigmoid().unsqueeze(-1)
        order = before["usage"].argsort(dim=-1, stable=True)[:, : self.heads]
        least = F.one_hot(order, self.slots).to(h.dtype)
        written = gate * before["weights"] + (1 - gate) * least
        cleared = before["rows"] * (1 - least[:, 0]).unsqueeze(-1)
        rows = torch.baddbmm(cleared, written.transpose(1, 2), value)
        after = self.reads == "after"
        looked_at = rows if after else before["rows"]
        inverse = (torch.linalg.vector_norm(key, dim=-1, keepdim=True).square() + _SMALL).rsqrt()
        lengths = (torch.linalg.vector_norm(looked_at, dim=-1).square() + _SMALL).rsqrt()
        keys = key * inverse
        similar = sharpened = (keys @ looked_at.transpose(1, 2)) * lengths.unsqueeze(1)
        sharp = None if self.sharpness is None else self.sharpness(h)
        if sharp is not None:
            sharpened = similar * (1 + F.softplus(sharp)).unsqueeze(-1)
        weights = sharpened.softmax(-1)
        usage = self.decay * before["usage"] + (weights + written).detach().sum(1)
        memory = {"rows": rows, "weights": weights, "usage": usage, "reads": weights @ looked_at}
        written_of = None if self.value is None else value
        used = Used(after, key, written_of, gate, least, written, looked_at, keys, inverse, lengths, similar, sharp)
        return memory, used

    def maps_of_heads(self) -> list[tuple[Tensor, Tensor]]:
        """Weights and biases of what is made of h, as `memory_access.steps` has them."""
        maps = [each for each in (self.key, self.value, self.gate, self.sharpness) if each is not None]
        return [(each.weight, each.bias) for each in maps]


class NTM(FeatureNet, SequenceLearner):
    """An LSTM controller with an external memory; its answer is linear in the controller's output and the reads.

    The controller is fed the image's features, the one-hot newest label (null: zeros) and the last reads; then the
    memory is accessed once (`Access`), and the logits are W [h, r]. The LSTM's forget bias starts at 1. The state is
    (h, c), the memory with its read weights and usage, the last reads and the pending label: its size is constant,
    and the label delay is not needed.

    The source feeds 20x20 pixels and has no sharpness: `features='pixels', sharpness=None`. The default is over the
    same conv features as `lstm`, so that the two differ by the memory alone, and because such features can first be
    trained on classes, without which the LSTM stayed at the loss of guessing (Babu et al. 2021 do not say what they
    fed).

    Options
    -------
    features : 'conv' or 'pixels'.
    channels : width of the conv net (unused with pixels).
    resolution : side to which images are average-pooled first; None means their own size with conv, 20 with pixels.
    units : of the LSTM.
    slots, width, heads : of the memory. A head both reads and writes.
    decay : how much of a slot's usage is left a step later: 0.95 in public code, 0.99 in the source as recalled.
    sharpness : where the heads' learned b >= 1 starts; it must be above 1. None is the source, without b: the softmax
        of cosines over 128 slots is then nearly flat, and each read is close to the mean of all rows.
    reads : 'after' the write of the same step (the source) or 'before' it (the released code of Ren et al. 2021). After
        it, a head finds above all what it has just written under the very key it asks for, unless its reads are flat;
        before it, a net left the loss of guessing sooner, hence the recipe has 'before'.
    writes : 'key' (the source) or 'value', a vector of its own (public code).
    """

    feature_net = "encode"

    def __init__(
        self,
        task: Task,
        features: FeatureKind = "conv",
        channels: Count = 64,
        resolution: Count | None = None,
        units: Count = 200,
        slots: Count = 128,
        width: Count = 40,
        heads: Count = 4,
        decay: float = 0.95,
        sharpness: float | None = 10.0,
        reads: Literal["after", "before"] = "after",
        writes: Literal["key", "value"] = "key",
    ) -> None:
        super().__init__(task)
        if heads > slots:
            raise ValueError(f"each of {heads} heads writes to a slot of its own, but there are {slots} slots")
        if not 0 <= decay <= 1:
            raise ValueError(f"decay must be from 0 to 1, found {decay}")
        if sharpness is not None and sharpness <= 1:
            raise ValueError(f"sharpness must be above 1, or None to leave it out; found {sharpness}")
        if reads not in ("after", "before"):
            raise ValueError(f"reads is 'after' or 'before', not {reads!r}")
        if writes not in ("key", "value"):
            raise ValueError(f"writes is 'key' or 'value', not {writes!r}")
        if features == "pixels" and resolution is None:
            resolution = _PIXELS
        self.encode, size = encoder(task.image_shape, features, channels, resolution)
        self.access = Access(units, slots, width, heads, decay, sharpness, reads, writes)
        self.inputs = nn.Linear(size + task.ways, 4 * units)
        self.recur = nn.Linear(units + heads * width, 4 * units, bias=False)
        with torch.no_grad():
            self.inputs.bias[units : 2 * units] += 1.0
        self.classify = nn.Linear(units + heads * width, task.ways)
        self.units = units

    def initial(self, episodes: int) -> State:
        """Zero h and c [B, units], and an empty memory (`Access.start`)."""
        zero = self.classify.weight.new_zeros(episodes, self.units)
        return {"h": zero, "c": zero.clone(), "memory": self.access.start(episodes)}

    def run(self, x: Tensor, labels: Tensor, state: State) -> tuple[Tensor, State]:
        features = self.features(x)
        h, c, memory = state["h"], state["c"], state["memory"]
        driven = self.inputs(torch.cat([features, one_hot(labels, self.task.ways).to(features.dtype)], -1))
        maps = self.recur.weight, self.access.maps_of_heads()
        found, h, c, memory = memory_access.steps(self.access, driven, h, c, memory, *maps)
        return self.classify(found), {"h": h, "c": c, "memory": memory}
