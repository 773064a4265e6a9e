"""CL U-Net: memory in every layer of a net that segments (Babu, Savarese and Maire, "Online meta-learning via learning
with layer-distributed memory", NeurIPS 2021, section 4.4)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint as recomputed

from harness.method.interface import MASKS, Feedback, Method, State, Task
from harness.method.option_types import Count, Positive
from harness.training.interface import Batch, Features, Trainable
from methods.nn.conv_lstm import ConvLSTM
from methods.nn.unet import Size, channels, sizes, walk

Memory = tuple[Tensor, Tensor]
"""h and c of one layer."""

_BOTTOM, _LAST = 4, 9
_GAIN = 8.0


class CLUNet(Trainable, Method):
    """A U-Net of ten convolutional LSTM layers (see `methods.nn.unet`); all memory is state, none is gradient.

    The newest revealed mask enters with the next image, as two planes beside the input of one layer: the mask m (1 on
    the object), and everywhere 1 if m marks anything or -1 if it is empty, as a distractor's is. Null is 0 in both.
    The paper enters one plane, with -1 for null; there an empty mask is all zeros, and nothing that a convolution
    could pass on. The tenth layer has one channel; its h, which lies between -1 and 1, becomes logits by a learned
    gain and bias.

    What the backward pass through 18 steps of 8 episodes keeps at width 1, in GB:

        images       plainly   with `checkpoint`
        64x64            1.5   0.9 (0.5 stored, 0.4 of the largest layer while it is computed again)
        128x128          6.2   3.6 (2.1, 1.5)
        224x224         18.9   11.1 (6.5, 4.6)

    These are the bytes of all tensors that autograd saves (counted by saved_tensors_hooks, each piece of memory once),
    as the difference between four and two steps of one episode, times 72; weights, moments and gradients come on top.

    Options
    -------
    width : of the layers: 16-32-64-128-128-128-64-32-16 channels times this. The paper does not print its widths.
    label_layer : the layer that masks enter: 1 (the default; table 4, last row) or 9 (the row above).
    resolution : side to which images and masks are average-pooled first, or None for their own size; logits are
        upsampled to the size of the image.
    norm : 'batch' normalises the output of each layer but the last on its way up (never the recurrent path; statistics
        over episodes, steps and space in training, running statistics in scoring), 'none' leaves it out.
    memory_kernel : side of the kernel through which a layer sees its own past.
    memory_begins : 'everywhere', or 'deep': only in the coarsest layer that masks reach (the fifth, or with
        label_layer 9 the ninth). The others then begin as plain convolutions, their forget gates closed
        (bias -4) and the weights on their own past at zero, and learn what to remember; what was trained on single
        images still holds then, and nothing blurs what the fifth layer sees.
    forget_bias : where the forget gates' biases of layers with memory start.
    gate_bias : where the biases of all input and output gates start. At 1 more of the signal passes each layer, and
        a net of ten leaves its first loss sooner.
    checkpoint : keep only what goes in and out of each layer for the backward pass, and compute its gates again.
    """

    kinds = MASKS

    def __init__(
        self,
        task: Task,
        width: Positive = 1.0,
        label_layer: Literal[1, 9] = 1,
        resolution: Count | None = None,
        norm: Literal["batch", "none"] = "batch",
        memory_kernel: Count = 3,
        memory_begins: Literal["everywhere", "deep"] = "everywhere",
        forget_bias: float = 1.0,
        gate_bias: float = 1.0,
        checkpoint: bool = False,
    ) -> None:
        super().__init__(task)
        self.label_layer, self.checkpoint = label_layer, checkpoint
        depth, *full = task.image_shape
        self.size: Size = (full[0], full[1]) if resolution is None else (resolution, resolution)
        self.sizes = sizes(*self.size)
        inputs, outputs = channels(depth, width)
        inputs[label_layer - 1] += 2
        self.deepest = _BOTTOM if label_layer == 1 else label_layer - 1
        cells = []
        for layer, (n, m) in enumerate(zip(inputs, outputs, strict=True)):
            begins = memory_begins == "everywhere" or layer == self.deepest
            cell = ConvLSTM(n, m, forget_bias=forget_bias if begins else -4.0, hidden_kernel=memory_kernel)
            bias = cell.inputs.bias
            assert bias is not None
            with torch.no_grad():
                bias[:m] += gate_bias
                bias[2 * m : 3 * m] += gate_bias
                cell.hidden.weight *= float(begins)
            cells.append(cell)
        self.cells: Iterable[ConvLSTM] = nn.ModuleList(cells)  # type: ignore[assignment]
        self.norms = nn.ModuleList(nn.BatchNorm2d(m) if norm == "batch" else nn.Identity() for m in outputs[:-1])
        self.gain = nn.Parameter(torch.tensor(_GAIN))
        self.bias = nn.Parameter(torch.zeros(()))

    def start(self, episodes: int) -> State:
        """Zero memories in every layer, and a null mask."""
        cells = [cell.start(episodes, *size) for cell, size in zip(self.cells, self.sizes, strict=True)]
        return {"mask": self.gain.new_zeros(episodes, 2, *self.size), "cells": cells}

    def observe(self, state: State, feedback: Feedback) -> State:
        """Keeps the mask; it enters with the next image, as in the paper. A support pair's image is seen first."""
        if feedback.x is not None:
            _, state = self.predict(state, feedback.x)
        return {**state, "mask": self.planes(feedback.target)}

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        logits, cells = self._run(x, state["mask"], state["cells"])
        return logits, {"mask": torch.zeros_like(state["mask"]), "cells": cells}

    def rollout(self, x: Tensor, feedback: Feedback) -> Tensor:
        """Layer by layer over the whole episode: one input convolution a layer for all steps."""
        planes = self.planes(feedback.target.flatten(0, 1))
        return self._run(x.flatten(0, 1), planes, None, len(x))[0].unflatten(0, x.shape[:2])

    def memoryless_features(self) -> Features:
        return Features(self._first_image)

    def _first_image(self, x: Tensor) -> Tensor:
        """What the fifth layer gives of a first image."""
        planes = x.new_zeros(len(x), 2, *self.size)
        return self.walked(x, planes, None, 1, _BOTTOM + 1)[0].flatten(1)

    def pretraining_method(self, task: Task) -> Method:
        """The coarsest layer that masks reach, trained to tell only whether it is the target that is shown."""
        return _Which(task, self)

    def _run(
        self, x: Tensor, planes: Tensor, memories: list[Memory] | None, steps: int = 1
    ) -> tuple[Tensor, list[Memory]]:
        """Logits [T * B, 1, H, W] and the memories after images [T * B, C, H, W] and planes [T * B, 2, h, w]."""
        maps, after = self.walked(x, planes, memories, steps)
        logits = self.gain * maps + self.bias
        return F.interpolate(logits, x.shape[-2:], mode="bilinear", align_corners=False), after

    def walked(
        self,
        x: Tensor,
        planes: Tensor,
        memories: list[Memory] | None,
        steps: int,
        layers: int = _LAST + 1,
        frozen: int = 0,
    ) -> tuple[Tensor, list[Memory]]:
        """What the last of `layers` layers gives, and the memories after it; without `memories` they begin empty.

        Through the first `frozen` layers no gradient goes.
        """
        cells, norms, after = list(self.cells), list(self.norms), []

        def layer(number: int, maps: Tensor) -> Tensor:
            with torch.set_grad_enabled(torch.is_grad_enabled() and number >= frozen):
                return one(number, maps)

        def one(number: int, maps: Tensor) -> Tensor:
            if number == self.label_layer - 1:
                maps = torch.cat([maps, planes], 1)
            memory, cell = None if memories is None else memories[number], cells[number]
            if self.checkpoint and torch.is_grad_enabled():
                # Not the normalisation, whose running statistics would be moved twice.
                maps, memory = recomputed(
                    cell.sequence, maps, memory, steps, use_reentrant=False, preserve_rng_state=False
                )
            else:
                maps, memory = cell.sequence(maps, memory, steps)
            after.append(memory)
            return maps if number == _LAST else norms[number](maps)

        return walk(F.adaptive_avg_pool2d(x, self.size), self.sizes, layer, layers), after

    def planes(self, target: Tensor) -> Tensor:
        """Masks [N, 1, H, W], null -1, as the two planes that the net sees: [N, 2, h, w]."""
        known = (target >= 0).to(target.dtype)
        marked = target.clamp(min=0).amax((1, 2, 3), keepdim=True)
        return F.adaptive_avg_pool2d(torch.cat([target * known, (2 * marked - 1) * known], 1), self.size)


class _Which(Trainable, Method):
    """The coarsest layer that masks reach, over those before it, which stay as they are, and a linear map of its mean.

    One number a step says whether the target class is shown, which is the part of the answer that only feedback tells.
    Learning that alone is far cheaper than learning masks with it.
    """

    kinds = MASKS

    def __init__(self, task: Task, net: CLUNet) -> None:
        super().__init__(task)
        self.net = net
        self.say = nn.Linear(list(net.cells)[net.deepest].channels, 1)

    def rollout(self, x: Tensor, feedback: Feedback) -> Tensor:
        """Logits [T, B, 1, 1, 1]."""
        planes = self.net.planes(feedback.target.flatten(0, 1))
        deepest = self.net.deepest
        maps, _ = self.net.walked(x.flatten(0, 1), planes, None, len(x), deepest + 1, frozen=deepest)
        return self.say(maps.mean((2, 3))).unflatten(0, x.shape[:2])[..., None, None]

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """The cross-entropy of telling whether the target class is shown, which its mask says: it is empty if not."""
        return super().loss(logits, replace(batch, target=batch.target.amax((3, 4), keepdim=True)))
