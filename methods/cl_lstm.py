"""CL+LSTM: memory in every layer (Babu, Savarese and Maire, "Online meta-learning via learning with
layer-distributed memory", NeurIPS 2021, section 3.3 and figure 2)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.method.interface import Feedback, State, Task, one_hot
from harness.method.option_types import Count
from harness.training.interface import Features, Trainable
from methods.nn.conv_lstm import ConvLSTM
from methods.nn.maps import max_pool
from methods.nn.sequence_learner import SequenceLearner

Memory = tuple[Tensor, Tensor]
"""h and c of one layer."""


class CLLSTM(Trainable, SequenceLearner):
    """Four convolutional LSTM layers, an LSTM and a linear classifier; all memory is state, none is gradient.

    The newest revealed label enters as `ways` planes of ones and zeros beside the image (or a layer's input)
    and as a one-hot vector beside the features of the LSTM; null is all zeros.

    Sizes follow from the paper's cost paragraph: 64 channels and 2x2 max-pooling between the layers, which
    gives 0.40 GFLOP a step on 28x28 images; an LSTM of 256 units gives 2.05 M parameters with the skip
    connection by concatenation, 1.91 M by addition.

    Options
    -------
    channels, layers : width of a convolutional LSTM layer, and how many there are.
    lstm : units of the LSTM.
    labels : 'lstm' (to the LSTM only; table 2, row 3), 'first' (to the first layer and the LSTM; the default,
        table 2, row 4) or 'all' (to every layer; drawn in figure 2).
    skip : 'concat', 'add' or 'none': the second layer's output, pooled, joins the fourth layer's input.
    norm : 'batch' normalises each layer's output on its way up (never the recurrent path; statistics over
        episodes, steps and space in training, running statistics in scoring and for queries), 'none' leaves it out.
        The paper names batch normalisation without saying where; without it the net does not leave the loss of
        guessing.
    resolution : side to which images are average-pooled first, or None for their own size.
    forget_bias : where the forget gates' biases of the convolutional layers start. At 1 a layer begins as a slow
        average over images; at -2 it begins as a plain feature of the present image, which keeps features that
        were pre-trained on single images intact (the LSTM's forget bias starts at 1 either way).
    memory_init : scale, at the start, of the weights through which the convolutional layers see their own past
        and the labels. At 0 (with a low forget_bias) the net begins as a plain convolutional net under an LSTM,
        and learns layer by layer what to remember; whatever was pre-trained without memory then still holds.
    label_init : scale, at the start, of the weights through which the LSTM sees the label. At 1 the label is a few
        inputs among hundreds that begin alike, and it takes the LSTM thousands of updates to listen to it; at 30
        hundreds do (docs/experiments.md).
    """

    def __init__(
        self,
        task: Task,
        channels: Count = 64,
        layers: Count = 4,
        lstm: Count = 256,
        labels: Literal["lstm", "first", "all"] = "first",
        skip: Literal["concat", "add", "none"] = "concat",
        norm: Literal["batch", "none"] = "batch",
        resolution: Count | None = None,
        forget_bias: float = 1.0,
        memory_init: float = 1.0,
        label_init: float = 1.0,
    ) -> None:
        super().__init__(task)
        if skip != "none" and layers < 4:
            raise ValueError(
                f"the skip connection joins layer 2 to layer 4, but there are {layers} layers; use skip=none"
            )
        self.labels, self.skip, self.resolution = labels, skip, resolution
        depth, height, width = task.image_shape
        if resolution is not None:
            height = width = resolution
        self.sizes = [(height >> layer, width >> layer) for layer in range(layers)]
        if not all(self.sizes[-1]):
            raise ValueError(
                f"{height}x{width} images vanish in {layers - 1} poolings; use fewer layers or more pixels"
            )
        cells: list[ConvLSTM] = []
        norms: list[nn.Module] = []
        for layer in range(layers):
            inputs = depth if layer == 0 else channels
            if labels == "all" or (labels == "first" and layer == 0):
                inputs += task.ways
            if skip == "concat" and layer == 3:
                inputs += channels
            cells.append(ConvLSTM(inputs, channels, forget_bias=forget_bias))
            norms.append(nn.BatchNorm2d(channels) if norm == "batch" else nn.Identity())
        with torch.no_grad():
            for layer, cell in enumerate(cells):
                cell.hidden.weight *= memory_init
                if labels == "all" or (labels == "first" and layer == 0):
                    cell.inputs.weight[:, -task.ways :] *= memory_init
        self.cells: Iterable[ConvLSTM] = nn.ModuleList(cells)  # type: ignore[assignment]
        self.norms: Iterable[nn.Module] = nn.ModuleList(norms)
        self.lstm = nn.LSTM(channels * self.sizes[-1][0] * self.sizes[-1][1] + task.ways, lstm)
        with torch.no_grad():
            bias: Tensor = self.lstm.bias_ih_l0  # type: ignore[assignment]
            bias[lstm : 2 * lstm] += 1.0
            weight: Tensor = self.lstm.weight_ih_l0  # type: ignore[assignment]
            weight[:, -task.ways :] *= label_init
        self.classify = nn.Linear(lstm, task.ways)

    def initial(self, episodes: int) -> State:
        """Zero memories in every layer."""
        weight = self.classify.weight
        zero = weight.new_zeros(episodes, self.lstm.hidden_size)
        return {
            "cells": [cell.start(episodes, *size) for cell, size in zip(self.cells, self.sizes, strict=True)],
            "lstm": (zero, zero.clone()),
        }

    def rollout(self, x: Tensor, feedback: Feedback) -> Tensor:
        """Layer by layer over the whole episode: one input convolution a layer for all steps, cuDNN's LSTM."""
        if self.task.kind == "supervised":  # a first image and no label: nothing is remembered yet
            label = one_hot(feedback.target, self.task.ways).to(x.dtype)
            return self.classify(self.lstm(torch.cat([self._first_image(x[0])[None], label], -1))[0])
        return super().rollout(x, feedback)

    def query(self, state: State, x: Tensor) -> Tensor:
        """As one more step from the state, whose own convolutions are done once for all queries of an episode."""
        episodes, queries = x.shape[:2]
        label = one_hot(state["label"], self.task.ways).to(x.dtype).repeat_interleave(queries, 0)
        maps, _ = self._convolve(x.flatten(0, 1), label, state["cells"], apart=True)
        h, c = (each.repeat_interleave(queries, 0).unsqueeze(0) for each in state["lstm"])
        hidden, _ = self.lstm(torch.cat([maps, label], 1).unsqueeze(0), (h, c))
        return self.classify(hidden[0]).unflatten(0, (episodes, queries))

    def memoryless_features(self) -> Features:
        """What the convolutional layers give of a first image; the rest is the LSTM."""
        return Features(self._first_image, rest=_Recurrent(self))

    def _first_image(self, x: Tensor) -> Tensor:
        """What the convolutional layers give of a first image, with empty memory and a null label."""
        return self._convolve(x, x.new_zeros(len(x), self.task.ways), None)[0]

    def run(self, x: Tensor, labels: Tensor, state: State) -> tuple[Tensor, State]:
        label = one_hot(labels, self.task.ways).to(x.dtype).flatten(0, 1)
        maps, cells = self._convolve(x.flatten(0, 1), label, state["cells"])
        inputs = torch.cat([maps, label], 1).unflatten(0, labels.shape)
        h, c = state["lstm"]
        hidden, (h, c) = self.lstm(inputs, (h.unsqueeze(0), c.unsqueeze(0)))
        return self.classify(hidden), {"cells": cells, "lstm": (h.squeeze(0), c.squeeze(0))}

    def _convolve(
        self, x: Tensor, label: Tensor, memories: list[Memory] | None, apart: bool = False
    ) -> tuple[Tensor, list[Memory]]:
        """Flat features [T * B, D] and the memories after images [T * B, ...] with one-hot labels [T * B, ways].

        Without `memories` every image is a first image: nothing is remembered from one to the next. With `apart`
        images are [B * Q, ...], each the next one after the memories of its episode; none are left behind.
        """
        maps = x if self.resolution is None else F.adaptive_avg_pool2d(x, self.resolution)
        second, after = maps, []
        for layer, (cell, norm, size) in enumerate(zip(self.cells, self.norms, self.sizes, strict=True)):
            if layer:
                maps = max_pool(maps)
            if layer == 3 and self.skip == "add":
                maps = maps + F.max_pool2d(second, 4)
            elif layer == 3 and self.skip == "concat":
                maps = torch.cat([maps, F.max_pool2d(second, 4)], 1)
            if self.labels == "all" or (self.labels == "first" and layer == 0):
                planes = label[:, None, None, :].expand(-1, *size, -1)
                maps = torch.cat([maps.permute(0, 2, 3, 1), planes], 3).permute(0, 3, 1, 2)
            if memories is None:
                maps = cell.first(maps)
            elif apart:
                maps = cell.apart(maps, memories[layer])
            else:
                maps, memory = cell.sequence(maps, memories[layer])
                after.append(memory)
            if apart and isinstance(norm, nn.BatchNorm2d):
                # Queries see memory at its fullest, so that statistics of their own would normalise otherwise in
                # training than the running ones do in scoring: those of the steps before serve both.
                # Copies: a loss on other images in the same update would change the statistics under its gradient.
                assert norm.running_mean is not None
                assert norm.running_var is not None
                mean, variance = norm.running_mean.clone(), norm.running_var.clone()
                maps = F.batch_norm(maps, mean, variance, norm.weight, norm.bias, eps=norm.eps)
            else:
                maps = norm(maps)
            if layer == 1:
                second = maps
        return maps.flatten(1), after


class _Recurrent(SequenceLearner):
    """The LSTM and the classifier of a `CLLSTM`, with features [..., D] in the place of images."""

    def __init__(self, net: CLLSTM) -> None:
        super().__init__(net.task)
        self.lstm, self.classify = net.lstm, net.classify

    def initial(self, episodes: int) -> State:
        """Zero h and c [B, units]."""
        zero = self.classify.weight.new_zeros(episodes, self.lstm.hidden_size)
        return {"lstm": (zero, zero.clone())}

    def run(self, x: Tensor, labels: Tensor, state: State) -> tuple[Tensor, State]:
        """Logits [T, B, ways] and the memory after features [T, B, D] with labels [T, B]."""
        h, c = (each.unsqueeze(0) for each in state["lstm"])
        hidden, (h, c) = self.lstm(torch.cat([x, one_hot(labels, self.task.ways).to(x.dtype)], -1), (h, c))
        return self.classify(hidden), {"lstm": (h.squeeze(0), c.squeeze(0))}
