"""SNAIL: temporal convolutions and attention over all labelled images (Mishra et al., ICLR 2018)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from harness.method.interface import Feedback, Method, State, Task, one_hot
from harness.training.interface import Features, Trainable, features_of
from methods.nn import kept
from methods.nn.backbones import Backbone, Net
from methods.nn.causal import Attention, Dense, Layer


class SNAIL(Trainable, Method):
    """A causal net over the labelled images [f(x_i), y_i] in order, whose last item is the one asked about, [f(x), 0].

        Attn(64, 32) -> TC(T, 128) -> Attn(256, 128) -> TC(T, 128) -> Attn(512, 256) -> linear, N logits

    Attn(K, V) puts beside each item what it reads by softmax(q . k / sqrt(K)) over the keys of all items up to its own
    (`Attention`). TC(T, F) is ceil(log2 T) blocks of dilations 1, 2, 4, ..., each of which puts F more channels beside
    each item (`Dense`). Attention has no bounds; T bounds what the convolutions see.

    In a stream the labelled images come in the order of their labels, and an image is asked about as the item after
    all that are labelled by then; once its own label is revealed it is seen again with it. So a stream is the same
    sequence as a support set, and weights carry over from one to the other. Nothing is recomputed: the state keeps the
    keys and values of every item, which grow with t, and for the convolutions the last items of each block. It must be
    told the label delay d, and keeps the features of the last d samples. An image whose label is null enters like one
    that is asked about.

    Options
    -------
    backbone, channels, widths, resolution : the net f (`Backbone`). The source's are conv4 with 64 channels, which is
        followed there by a layer of its own, and for mini-ImageNet a residual net.
    length : T; the source has the number of labelled images and one more.
    width : all sizes above are times this, at least 1.
    """

    needs_label_delay = True
    kinds = ("online_few_shot", "delayed_label", "continual", "n_way_k_shot")

    def __init__(
        self,
        task: Task,
        backbone: Net = "conv4",
        channels: int = 64,
        widths: list[int] | None = None,
        resolution: int | None = None,
        length: int = 101,
        width: float = 1.0,
    ) -> None:
        super().__init__(task)
        if length < 2:
            raise ValueError(f"length must be at least 2, an image and the one asked about, found {length}")
        if width <= 0:
            raise ValueError(f"width must be above 0, found {width}")

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
        self.delay = task.label_delay or 0

    def memoryless_features(self) -> Features:
        return features_of(self, "backbone", shared=True)

    def start(self, episodes: int) -> State:
        """The past of every layer, [B, P, .] each, and features [B, m, D] pending."""
        like = self.classify.weight
        past = [layer.start(like, episodes) for layer in self.layers]
        return {"past": past, "pending": like.new_zeros(episodes, 0, self.dim)}

    def observe(self, state: State, feedback: Feedback) -> State:
        """Runs the net over the pair, or over the oldest pending image with its label once d images are pending."""
        pending, labels = state["pending"], feedback.target.unsqueeze(1)
        if feedback.x is not None:
            return self._kept(state, self.backbone(feedback.x).unsqueeze(1), labels, pending)
        return self._kept(state, *kept.due(pending, self.delay, pending[:, :0], labels))

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        features = self.backbone(x).unsqueeze(1)
        logits = self._asked(features, state["past"])
        return logits.squeeze(1), {**state, "pending": torch.cat([state["pending"], features], 1)}

    def rollout(self, x: Tensor, feedback: Feedback) -> Tensor:
        """The net over all labelled images at once, and over all that are asked about, each beside those before it."""
        features = self._features(x.transpose(0, 1))
        shown, labels, _ = kept.due(features[:, :0], self.delay, features, feedback.target.T)
        lines = self._lines(shown, labels, self.start(x.shape[1])["past"])
        before = (torch.arange(len(x), device=x.device) - self.delay + 1).clamp(min=0)
        return self._asked(features, lines, shown.shape[1], before).transpose(0, 1)

    def absorb(self, state: State, x: Tensor, feedback: Feedback) -> State:
        features, labels = self._features(x.transpose(0, 1)), feedback.target.T
        if feedback.x is not None:
            return self._kept(state, features, labels, state["pending"])
        return self._kept(state, *kept.due(state["pending"], self.delay, features, labels))

    def query(self, state: State, x: Tensor) -> Tensor:
        """Every query is the item after all others; their past is not copied for each."""
        return self._asked(self._features(x), state["past"])

    def _features(self, x: Tensor) -> Tensor:
        return self.backbone(x.flatten(0, 1)).unflatten(0, x.shape[:2])

    def _kept(self, state: State, shown: Tensor, labels: Tensor, pending: Tensor) -> State:
        """The state after more features [B, S, D] with labels [B, S]."""
        past = state["past"]
        if shown.shape[1]:
            lines = self._lines(shown, labels, past)
            past = [layer.kept(line) for layer, line in zip(self.layers, lines, strict=True)]
        return {"past": past, "pending": pending}

    def _lines(self, shown: Tensor, labels: Tensor, past: list[Tensor]) -> list[Tensor]:
        """The line of every layer, after features [B, S, D] with labels [B, S]."""
        items = torch.cat([shown, one_hot(labels, self.task.ways).to(shown.dtype)], -1)
        lines: list[Tensor] = []
        for place, (layer, before) in enumerate(zip(self.layers, past, strict=True)):
            if place:
                items = self.layers[place - 1].after(items, lines[-1])
            lines.append(layer.line(items, before))
        return lines

    def _asked(self, features: Tensor, lines: list[Tensor], items: int = 0, before: Tensor | None = None) -> Tensor:
        """Logits [B, N, ways] of features [B, N, D], each as the item after `before` [N] of the lines' new items.

        Without `before`, after all that the lines hold.
        """
        count = features.shape[1]
        before = torch.zeros(count, dtype=torch.int64, device=features.device) if before is None else before
        asked = torch.cat([features, features.new_zeros(*features.shape[:2], self.task.ways)], -1)
        for layer, line in zip(self.layers, lines, strict=True):
            asked = layer.look(asked, line, items, before)
        return self.classify(asked)
