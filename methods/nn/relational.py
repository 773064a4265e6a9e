"""The decoder of APL: relational self-attention over the nearest entries of a memory."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class RelationalBlock(nn.Module):
    """x + attention(x), then x + LN(Linear(ReLU(x))), over slots x [N, slots, heads * value].

    The queries, keys and values of all heads are normalised together over slots and numbers, as in the source.
    """

    def __init__(self, slots: int, key: int, value: int, heads: int) -> None:
        super().__init__()
        self.heads, self.sizes = heads, (key, key, value)
        width, projected = heads * value, heads * (2 * key + value)
        self.project = nn.Linear(width, projected)
        self.norm = nn.LayerNorm([slots, projected])
        self.mix = nn.Linear(width, width)
        self.mix_norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        split = self.norm(self.project(x)).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        query, key, value = split.split(self.sizes, -1)
        attended = F.scaled_dot_product_attention(query, key, value)
        x = x + attended.transpose(1, 2).flatten(-2)
        return x + self.mix_norm(self.mix(x.relu()))


class RelationalDecoder(nn.Module):
    """Class logits of queries from their nearest entries (Ramalho and Garnelo, ICLR 2019).

    An entry's input is [its embedding, its label's learned embedding, the query's embedding, its weight], where weights
    are the softmax of minus squared distances over the entries. A linear layer, `blocks` of relational
    self-attention, the weighted sum over entries, a linear layer. Label `ways` stands for an empty entry.
    """

    def __init__(
        self, ways: int, embedding: int, label: int, slots: int, key: int, value: int, heads: int, blocks: int
    ) -> None:
        super().__init__()
        width = heads * value
        self.labels = nn.Embedding(ways + 1, label)
        self.enter = nn.Linear(2 * embedding + label + 1, width)
        self.blocks = nn.Sequential(*(RelationalBlock(slots, key, value, heads) for _ in range(blocks)))
        self.classify = nn.Linear(width, ways)
        for each in self.modules():
            if isinstance(each, nn.Linear):
                nn.init.xavier_normal_(each.weight)
                nn.init.zeros_(each.bias)

    def forward(self, query: Tensor, embeddings: Tensor, labels: Tensor, distances: Tensor) -> Tensor:
        """Logits [N, ways] of queries [N, E] from entries [N, slots, E], labels and distances [N, slots]."""
        return self.classify(self.read(self.inputs(query, embeddings, labels, distances)))

    def inputs(self, query: Tensor, embeddings: Tensor, labels: Tensor, distances: Tensor) -> Tensor:
        """What is known of each entry, [N, slots, 2 E + label + 1]; the last number is its weight."""
        weights = (-distances).softmax(-1).unsqueeze(-1)
        return torch.cat([embeddings, self.labels(labels), query.unsqueeze(1).expand_as(embeddings), weights], -1)

    def read(self, inputs: Tensor) -> Tensor:
        """The weighted sum [N, heads * value] over entries of what the blocks make of them."""
        return (self.blocks(self.enter(inputs)) * inputs[..., -1:]).sum(1)
