"""Transformer: a causal in-context learner over the same inputs and labels as the recurrent learners."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.method.interface import State, Task
from harness.method.option_types import Count
from methods.nn.feature_net import FeatureNet
from methods.nn.features import FeatureKind, encoder
from methods.nn.sequence_learner import SequenceLearner

Positions = Literal["rotary", "alibi", "none"]
_BASE = 100.0
"""Rotary wavelengths go from 2 pi steps to almost this many times that: episodes have tens to hundreds of steps."""


class Block(nn.Module):
    """Pre-norm attention and a two-layer net (GELU, four times as wide): x + A(LN(x)), then x + F(LN(x))."""

    def __init__(self, width: int, heads: int, layers: int) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.project, self.merge = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.widen, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        with torch.no_grad():  # so that the sum of all layers starts about as large as the token
            for each in (self.merge, self.narrow):
                each.weight *= (2 * layers) ** -0.5

    def projected(self, tokens: Tensor, rotations: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values [B, H, S, width / H] of tokens [B, S, width]; rotated, if rotary."""
        parts = self.project(self.before(tokens)).chunk(3, -1)
        query, key, value = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        return (
            (query, key, value) if rotations is None else (_rotated(query, rotations), _rotated(key, rotations), value)
        )

    def finished(self, tokens: Tensor, attended: Tensor) -> Tensor:
        """Tokens [B, S, width] after attention gave [B, H, S, width / H]."""
        tokens = tokens + self.merge(attended.transpose(1, 2).flatten(2))
        return tokens + self.narrow(F.gelu(self.widen(self.between(tokens))))


class Transformer(FeatureNet, SequenceLearner):
    """Token t is W features(x_t) + e(label revealed before t), with an e of its own for null; all tokens up to t are
    attended to, and the last layer's token t, normalised, gives the logits by a linear layer.

    After "Attention is all you need" (Vaswani et al., NeurIPS 2017) with pre-norm blocks; what it does here is the
    meta-learning of SNAIL (Mishra et al., ICLR 2018) and of in-context learners in general. Since a label enters with
    a later image than its own, a first layer must look `delay` tokens back to bring the two together, and only a
    later one can compare images.

    The state is every token's keys and values in every layer, [B, layers, t, width] each, and the pending label. It
    grows by 8 x layers x width bytes a step, and nothing is forgotten. The label delay is not needed.

    Options
    -------
    features : 'conv' (`Conv4`, then batch normalisation without scale or shift) or 'pixels'.
    channels : width of the conv net (unused with pixels).
    resolution : side to which images are average-pooled first, or None for their own size.
    width, layers, heads : of the blocks; `width` is shared out among the heads.
    positions : only distances count, so that a longer stream than those of training has no unknown positions.
        'rotary' (Su et al. 2021), the default, rotates half of each head's query and key by angles that grow with the
        step: a head can look for one distance, and so find the image whose label came `delay` steps late, while the
        half that is not rotated compares contents at any distance. 'alibi' (Press et al., ICLR 2022) lowers
        attention linearly with the distance: a head can prefer what is near, but not pick out one distance. 'none':
        order shows through the causal mask alone.
    """

    feature_net = "encode"

    def __init__(
        self,
        task: Task,
        features: FeatureKind = "conv",
        channels: Count = 64,
        resolution: Count | None = None,
        width: Count = 128,
        layers: Count = 4,
        heads: Count = 4,
        positions: Positions = "rotary",
    ) -> None:
        super().__init__(task)
        if positions not in ("rotary", "alibi", "none"):
            raise ValueError(f"positions is 'rotary', 'alibi' or 'none', not {positions!r}")
        share = 4 * heads if positions == "rotary" else heads
        if width % share:
            raise ValueError(f"with {heads} heads and positions={positions}, width must be a multiple of {share}")
        self.positions, self.heads, self.memory = positions, heads, (layers, width)
        self.encode, size = encoder(task.image_shape, features, channels, resolution)
        self.enter = nn.Linear(size, width)
        self.label = nn.Embedding(1 + task.ways, width)
        self.blocks: Sequence[Block] = nn.ModuleList(Block(width, heads, layers) for _ in range(layers))  # type: ignore[assignment]
        self.norm = nn.LayerNorm(width)
        self.classify = nn.Linear(width, task.ways)

    def initial(self, episodes: int) -> State:
        """Keys and values of no token."""
        layers, width = self.memory
        none = self.classify.weight.new_zeros(episodes, layers, 0, width)
        return {"keys": none, "values": none.clone()}

    def query(self, state: State, x: Tensor) -> Tensor:
        """Every query is the next token and sees the cache and itself; the cache is not copied for each."""
        tokens = self._tokens(self.features(x), state["label"].unsqueeze(1).expand(x.shape[:2]))
        past = state["keys"].shape[2]
        rotations = self._rotations(past, 1, tokens)
        for layer, block in enumerate(self.blocks):
            query, key, value = block.projected(tokens, rotations)
            keys, values = (self._by_head(state[name][:, layer]) for name in ("keys", "values"))
            scores = torch.cat([query @ keys.transpose(-1, -2), (query * key).sum(-1, keepdim=True)], -1)
            scores = scores * key.shape[-1] ** -0.5
            if self.positions == "alibi":
                scores = scores + self._bias(past, 1, tokens)
            weights = scores.softmax(-1)
            tokens = block.finished(tokens, weights[..., :past] @ values + weights[..., past:] * value)
        return self.classify(self.norm(tokens))

    def run(self, x: Tensor, labels: Tensor, state: State) -> tuple[Tensor, State]:
        tokens = self._tokens(self.features(x), labels).transpose(0, 1)
        past, steps = state["keys"].shape[2], len(labels)
        rotations, bias = self._rotations(past, steps, tokens), self._bias(past, steps, tokens)
        all_keys, all_values = [], []
        for layer, block in enumerate(self.blocks):
            query, key, value = block.projected(tokens, rotations)
            keys = torch.cat([self._by_head(state["keys"][:, layer]), key], 2)
            values = torch.cat([self._by_head(state["values"][:, layer]), value], 2)
            tokens = block.finished(tokens, F.scaled_dot_product_attention(query, keys, values, attn_mask=bias))
            all_keys.append(keys.transpose(1, 2).flatten(2))
            all_values.append(values.transpose(1, 2).flatten(2))
        memory = {"keys": torch.stack(all_keys, 1), "values": torch.stack(all_values, 1)}
        return self.classify(self.norm(tokens)).transpose(0, 1), memory

    def _tokens(self, features: Tensor, labels: Tensor) -> Tensor:
        return self.enter(features) + self.label(labels + 1)

    def _by_head(self, cached: Tensor) -> Tensor:
        """[B, H, t, width / H] of one layer's cache [B, t, width]."""
        return cached.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def _rotations(self, past: int, steps: int, like: Tensor) -> Tensor | None:
        """Cosines and sines [2, S, pairs] of the angles of the tokens after `past` others; None if not rotary."""
        if self.positions != "rotary":
            return None
        pairs = self.memory[1] // self.heads // 4
        step = torch.arange(past, past + steps, device=like.device, dtype=like.dtype)
        each = torch.arange(pairs, device=like.device, dtype=like.dtype) / pairs
        angles = step.unsqueeze(-1) * _BASE**-each
        return torch.stack([angles.cos(), angles.sin()])

    def _bias(self, past: int, steps: int, like: Tensor) -> Tensor:
        """What is added to scores [B, H, S, P + S] of S tokens after P others: -inf at later ones."""
        here = torch.arange(past, past + steps, device=like.device).unsqueeze(-1)
        distance = (here - torch.arange(past + steps, device=like.device)).to(like.dtype)
        slopes = torch.zeros(1, device=like.device, dtype=like.dtype)
        if self.positions == "alibi":
            slopes = 2 ** (-8 * torch.arange(1, self.heads + 1, device=like.device, dtype=like.dtype) / self.heads)
        return (-slopes[None, :, None, None] * distance).masked_fill(distance < 0, -math.inf)


def _rotated(x: Tensor, rotations: Tensor) -> Tensor:
    """x [B, H, S, D] with the first half of its last dimension rotated, as D / 4 planes, by the given angles."""
    cos, sin = rotations
    first, second, rest = x.split([x.shape[-1] // 4, x.shape[-1] // 4, x.shape[-1] // 2], -1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos, rest], -1)
