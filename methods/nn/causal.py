"""The layers of SNAIL (Mishra et al., ICLR 2018): causal, over stored items, and each step costs one step.

A layer runs over items that come one after another. What it keeps of them is its past; its past and what it needs of
the items that follow make a line. A query is seen as the item that would come next, and leaves
nothing behind: `next_item`. Items are [B, S, C]; what layers give is what they were given with more channels beside it.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor, nn

from methods.nn.novelty import UNSEEN


class Layer(Protocol):
    """What both kinds of layers have."""

    width: int

    def start(self, like: Tensor, episodes: int) -> Tensor:
        """The past [B, P, .] before any item."""
        ...

    def line(self, items: Tensor, past: Tensor) -> Tensor:
        """The past, and what is needed of items [B, S, C] that follow it: [B, P + S, .]."""
        ...

    def after(self, items: Tensor, line: Tensor) -> Tensor:
        """Items [B, S, width], from items [B, S, C] and their line."""
        ...

    def next_item(self, queries: Tensor, line: Tensor, items: int, before: Tensor) -> Tensor:
        """Queries [B, N, width], from [B, N, C], as if each came after `before` [N] of a line's `items`."""
        ...

    def past(self, line: Tensor) -> Tensor:
        """The past after all items of a line."""
        ...


class Attention(nn.Module):
    """An item beside what it reads: softmax(q . k / sqrt(K)) over the keys of all items up to its own, times values."""

    def __init__(self, channels: int, keys: int, values: int) -> None:
        super().__init__()
        self.keys, self.values, self.width = keys, values, channels + values
        self.query, self.key, self.value = (nn.Linear(channels, size) for size in (keys, keys, values))

    def start(self, like: Tensor, episodes: int) -> Tensor:
        return like.new_zeros(episodes, 0, self.keys + self.values)

    def line(self, items: Tensor, past: Tensor) -> Tensor:
        """Every item's key and value."""
        return torch.cat([past, torch.cat([self.key(items), self.value(items)], -1)], 1)

    def after(self, items: Tensor, line: Tensor) -> Tensor:
        keys, values = line.split([self.keys, self.values], -1)
        place = torch.arange(line.shape[1], device=line.device)
        own = place[line.shape[1] - items.shape[1] :].unsqueeze(-1)
        scores = self.query(items) @ keys.mT / math.sqrt(self.keys)
        return torch.cat([items, scores.masked_fill(place > own, UNSEEN).softmax(-1) @ values], -1)

    def next_item(self, queries: Tensor, line: Tensor, items: int, before: Tensor) -> Tensor:
        keys, values = line.split([self.keys, self.values], -1)
        query, key, value = self.query(queries), self.key(queries), self.value(queries)
        earlier = torch.arange(line.shape[1], device=line.device) < line.shape[1] - items + before.unsqueeze(-1)
        scores = (query @ keys.mT).masked_fill(~earlier, UNSEEN)
        both = torch.cat([scores, (query * key).sum(-1, keepdim=True)], -1) / math.sqrt(self.keys)
        weights = both.softmax(-1)
        return torch.cat([queries, weights[..., :-1] @ values + weights[..., -1:] * value], -1)

    def past(self, line: Tensor) -> Tensor:
        return line


class Dense(nn.Module):
    """An item x_t beside tanh(F) * sigmoid(G), two causal convolutions of kernel 2 over x_t and x_(t - dilation).

    Before the first item there are zeros. The past is the last `dilation` items.
    """

    def __init__(self, channels: int, filters: int, dilation: int) -> None:
        super().__init__()
        self.channels, self.dilation, self.width = channels, dilation, channels + filters
        self.both = nn.Linear(2 * channels, 2 * filters)

    def start(self, like: Tensor, episodes: int) -> Tensor:
        return like.new_zeros(episodes, self.dilation, self.channels)

    def line(self, items: Tensor, past: Tensor) -> Tensor:
        return torch.cat([past, items], 1)

    def after(self, items: Tensor, line: Tensor) -> Tensor:
        return self._attention_to_both(items, line[:, : items.shape[1]])

    def next_item(self, queries: Tensor, line: Tensor, items: int, before: Tensor) -> Tensor:
        return self._attention_to_both(queries, line[:, before])

    def past(self, line: Tensor) -> Tensor:
        return line[:, line.shape[1] - self.dilation :]

    def _attention_to_both(self, items: Tensor, earlier: Tensor) -> Tensor:
        signal, gate = self.both(torch.cat([earlier, items], -1)).chunk(2, -1)
        return torch.cat([items, signal.tanh() * gate.sigmoid()], -1)
