"""SNAIL: temporal convolutions and attention over all labelled images (Mishra et al., ICLR 2018)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from harness.method.interface import Feedback, State, Task, one_hot
from harness.method.option_types import Count, Positive
from methods.nn import label_pairing
from methods.nn.backbones import Backbone, Net
from methods.nn.causal import Attention, Dense, Layer
from methods.nn.memory_bank import MemoryBank


class SNAIL(MemoryBank):
    """A causal net over the labelled images [f(x_i), y_i] in order, whose last item is the query, [f(x), 0].

        Attn(64, 32) -> TC(T, 128) -> Attn(256, 128) -> TC(T, 128) -> Attn(512, 256) -> linear, N logits

    Attn(K, V) puts beside each item what it reads by softmax(q . k / sqrt(K)) over the keys of all items up to its own
    (`Attention`). TC(T, F) is ceil(log2 T) blocks of dilations 1, 2, 4, ..., each of which puts F more channels beside
    each item (`Dense`). Attention has no bounds; T bounds what the convolutions see.

    In a stream the labelled images come in the order of their labels, and a query is the item after
    all that are labelled by then; once its own label is revealed it is seen again with it. So a stream is the same
    sequence as a support set, and weights carry over from one to the other. Nothing is recomputed: the state keeps the
    keys and values of every item, which grow with t, and for the convolutions the last items of each block. It needs
    the label delay d, and keeps the features of the last d samples. An image whose label is null enters like a query.

    Options
    -------
    backbone, channels, widths, resolution : the net f (`Backbone`). The source's are conv4 with 64 channels, which is
        followed there by a layer of its own, and for mini-ImageNet a residual net.
    length : T; the source has the number of labelled images and one more.
    width : all sizes above are times this, at least 1.
    """

    def __init__(
        self,
        task: Task,
        backbone: Net = "conv4",
        channels: Count = 64,
        widths: list[Count] | None = None,
        resolution: Count | None = None,
        length: int = 101,
        width: Positive = 1.0,
    ) -> None:
        super().__init__(task)
        if length < 2:
            raise ValueError(f"length must be at least 2, an image and the query, found {length}")

        def sized(size: int) -> int:
            return max(1, round(size * width))

        self.backbone = Backbone(task.image_shape, backbone, channels, widths, resolution)
        self.dim = self.backbone.dim
        layers: list[Attention | Dense] = []
        size = self.dim + task.ways
        for keys, values in ((64, 32), (256, 128), (512, 256)):
            layers.append(Attention(size, sized(keys), sized(values)))
            size = layers[-1].width
            if keys < 512:
                for block in range((length - 1).bit_length()):
                    layers.append(Dense(size, sized(128), 2**block))
                    size = layers[-1].width
        self.layers: Sequence[Layer] = nn.ModuleList(layers)  # type: ignore[assignment]
        self.classify = nn.Linear(size, task.ways)

    def empty(self, episodes: int) -> State:
        """The past of every layer, [B, P, .] each."""
        return {"past": [layer.start(self.classify.weight, episodes) for layer in self.layers]}

    def store(self, state: State, samples: Tensor, labels: Tensor) -> State:
        """Runs the net over the samples with their labels, which become its past."""
        if not samples.shape[1]:
            return {"past": state["past"]}
        lines = self._lines(samples, labels, state["past"])
        return {"past": [layer.past(line) for layer, line in zip(self.layers, lines, strict=True)]}

    def answer(self, state: State, samples: Tensor, known: Tensor | None = None) -> Tensor:
        """Every sample is the item after all others, whose past is not copied for each."""
        assert known is None, "rollout knows what precedes an item by its place in the line"
        return self._logits(samples, state["past"])

    def rollout(self, x: Tensor, feedback: Feedback) -> Tensor:
        """The net over all labelled images at once, and over all queries, each after those before it."""
        features, start = self.stream_samples(x), self.start(x.shape[1])
        shown, labels, _ = label_pairing.pair_labels(start["pending"], features, feedback.target.T, self.delay)
        lines = self._lines(shown, labels, start["past"])
        before = (torch.arange(len(x), device=x.device) - self.delay + 1).clamp(min=0)
        return self._logits(features, lines, shown.shape[1], before).transpose(0, 1)

    def _lines(self, shown: Tensor, labels: Tensor, past: list[Tensor]) -> list[Tensor]:
        """The line of every layer, after features [B, S, D] with labels [B, S]."""
        items = torch.cat([shown, one_hot(labels, self.task.ways).to(shown.dtype)], -1)
        lines: list[Tensor] = []
        for place, (layer, before) in enumerate(zip(self.layers, past, strict=True)):
            if place:
                items = self.layers[place - 1].after(items, lines[-1])
            lines.append(layer.line(items, before))
        return lines

    def _logits(self, features: Tensor, lines: list[Tensor], items: int = 0, before: Tensor | None = None) -> Tensor:
        """Logits [B, N, ways] of features [B, N, D], each as the item after `before` [N] of the lines' new items.

        Without `before`, after all that the lines hold.
        """
        count = features.shape[1]
        before = torch.zeros(count, dtype=torch.int64, device=features.device) if before is None else before
        queries = torch.cat([features, features.new_zeros(*features.shape[:2], self.task.ways)], -1)
        for layer, line in zip(self.layers, lines, strict=True):
            queries = layer.next_item(queries, line, items, before)
        return self.classify(queries)
