"""CSN: conditionally shifted neurons (Munkhdalai, Yuan, Mehri and Trischler, ICML 2018), as adaCNN and adaResNet."""

from __future__ import annotations

import math
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.method.interface import State, Task, one_hot
from harness.method.option_types import Count, Positive
from harness.training.interface import Features, features_of
from methods.nn.attention import masked_softmax
from methods.nn.backbone_layers import LAYERS, active, before, depth_of, gathered, norms_of, slope_of
from methods.nn.backbones import Backbone, Net
from methods.nn.maps import channels_last, max_pool
from methods.nn.memory_bank import MemoryBank

PLACES = 10.0
"""p of the pre-processing of gradients: those below e^-p are scaled up in place of their logarithm."""


class CSN(MemoryBank):
    """A conv net whose neurons are shifted by what a memory of the labelled images holds for images like this one.

    Each labelled image i leaves a key k_i and, for every neuron j, a value V_ij = v_l(I_ij), where v_l is a net of its
    layer l and I_ij the conditioning information. With the key k of the image x:

        alpha_i = softmax_i(tau cos(k, k_i)),   beta_j = sum_i alpha_i V_ij
        conv layers: h = f(a) + f(beta);   answer: softmax(a + beta)

    for pre-activations a and the activation f: ReLU in conv4 (adaCNN); in resnet12 (adaResNet) the leaky ReLU that
    ends a block, with a the sum before it. Information, with delta = softmax(a_L) - y_i the error of the unshifted net
    at the image's logits: by direct feedback f'(a_j) delta, which takes no backward pass; or by the error gradient, the
    derivative of the cross-entropy by a_j, as the pair (log|g| / p, sign g), or (-1, e^p g) below e^-p, with p = 10,
    through which nothing is trained (in training it goes through batch normalisation, and so depends a little on the
    images that are stored together). At the logits it is delta_j or that pair of it. All neurons of a layer share v_l.
    With direct feedback it has thus but two values for an image in a conv layer: of active neurons and of the others.

    In a stream the memory is of the images whose labels are revealed by now, and the state grows with t. It needs
    the label delay d, and keeps the last d images. An image whose label is null is not remembered. Without memory
    nothing is shifted. Layers that follow a shift are normalised by statistics of their own. Where the logits alone are
    shifted and keys are shared, all is learned over features of single images, which a recipe may freeze.

    Options
    -------
    backbone, channels, widths, resolution : the net (`Backbone`).
    conditioning : 'feedback', or 'gradient', which needs autograd while it is scored and is marked on the row.
    shifts : how many of the last conv layers, of resnet12 blocks, are shifted beside the logits; adaCNN shifts all.
    keys : 'own', from a second net like the first (the source's), or 'shared', from the first net's own features.
    key : size of a key.
    hidden : units of the two hidden layers of v_l.
    scale, learned_scale : tau and whether it is trained; the source has none (1 and false), and almost flat attention.
    """

    def __init__(
        self,
        task: Task,
        backbone: Net = "conv4",
        channels: Count = 32,
        widths: list[Count] | None = None,
        resolution: Count | None = None,
        conditioning: Literal["feedback", "gradient"] = "feedback",
        shifts: int = 4,
        keys: Literal["own", "shared"] = "own",
        key: Count = 32,
        hidden: Count = 20,
        scale: Positive = 10.0,
        learned_scale: bool = True,
    ) -> None:
        super().__init__(task)
        for name, value, known in (
            ("conditioning", conditioning, ("feedback", "gradient")),
            ("keys", keys, ("own", "shared")),
            ("shifts", shifts, (0, 1, 2, 3, 4)),
        ):
            if value not in known:
                raise ValueError(f"{name} is one of {known}, not {value!r}")
        self.by_gradient, self.shifts, self.size = conditioning == "gradient", shifts, key
        self.learns_by_gradient = self.by_gradient
        self.backbone = Backbone(task.image_shape, backbone, channels, widths, resolution)
        self.key_net = Backbone(task.image_shape, backbone, channels, widths, resolution) if keys == "own" else None
        self.dim, self.over_features = self.backbone.dim, not shifts and keys == "shared"
        self.key = nn.Linear(self.backbone.dim, key)
        self.classify = nn.Linear(self.backbone.dim, task.ways)
        self.scale = nn.Parameter(torch.tensor(scale), learned_scale)
        height, width = self.backbone.image_shape[1:]
        net, shifted = self.backbone.net, range(LAYERS - shifts, LAYERS)
        self.slope = slope_of(net)
        self.shapes = [(depth_of(net, layer), height >> layer, width >> layer) for layer in shifted]
        self.neurons = [math.prod(shape) for shape in self.shapes] + [task.ways]
        inputs = [task.ways] * shifts + [1] if not self.by_gradient else [2] * (shifts + 1)
        self.values = nn.ModuleList(_value_net(size, hidden, layer < shifts) for layer, size in enumerate(inputs))
        after = [norm.num_features for layer in shifted[1:] for norm in norms_of(net, layer)]
        self.norms = nn.ModuleList(nn.BatchNorm2d(depth, affine=False) for depth in after)

    def memoryless_features(self) -> Features:
        """Those of the unshifted net. Shifts and values of its layers need what comes before: then there is no rest."""
        if self.over_features:
            return features_of(self, "backbone", shared=True)
        return Features(self.backbone, self.backbone)

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Samples are images, as what is stored of them needs their labels; features, where no layer is shifted."""
        return (self.dim,) if self.over_features else self.task.image_shape

    def samples(self, x: Tensor) -> Tensor:
        return self.features(x) if self.over_features else x

    def empty(self, episodes: int) -> State:
        """None yet: keys [B, n, K], values [B, n, neurons], and which of them are known [B, n]: whose label is."""
        zeros = self.scale.new_zeros
        return {
            "keys": zeros(episodes, 0, self.size),
            "values": zeros(episodes, 0, sum(self.neurons)),
            "known": zeros(episodes, 0, dtype=torch.bool),
        }

    def store(self, state: State, samples: Tensor, labels: Tensor) -> State:
        if not samples.shape[1]:
            return {name: state[name] for name in ("keys", "values", "known")}
        images = samples.flatten(0, 1)
        below, features = self._unshifted(images)
        values = self._values(below, features, labels.flatten()).unflatten(0, labels.shape)
        keys = self._keys(images, features).unflatten(0, labels.shape)
        if self.by_gradient and not self.training:
            # What a gradient was taken of is not to be kept with every image that is stored.
            keys, values = keys.detach(), values.detach()
        return {
            "keys": torch.cat([state["keys"], keys], 1),
            "values": torch.cat([state["values"], values], 1),
            "known": torch.cat([state["known"], labels >= 0], 1),
        }

    def answer(self, state: State, samples: Tensor, known: Tensor | None = None) -> Tensor:
        graph = self.training or not self.by_gradient
        with torch.set_grad_enabled(graph and torch.is_grad_enabled()):
            return self._answer(state, samples, known)

    def _answer(self, state: State, samples: Tensor, known: Tensor | None) -> Tensor:
        labelled = state["known"].unsqueeze(1)
        images = samples.flatten(0, 1)
        below, features = self._unshifted(images)
        keys = self._keys(images, features).unflatten(0, samples.shape[:2])
        near = self.scale * F.normalize(keys, dim=-1) @ F.normalize(state["keys"], dim=-1).mT
        weights = masked_softmax(near, labelled if known is None else labelled & known)
        *shifts, last = (weights @ state["values"]).flatten(0, 1).split(self.neurons, -1)
        if shifts:
            maps = [shift.unflatten(-1, shape) for shift, shape in zip(shifts, self.shapes, strict=True)]
            features = self._shifted(below[0], maps)
        return (self.classify(features) + last).unflatten(0, samples.shape[:2])

    def _unshifted(self, samples: Tensor) -> tuple[list[Tensor], Tensor]:
        """Pre-activations of the conv layers that are shifted, and features [N, D], of the unshifted net."""
        if self.over_features:
            return [], samples
        net, shifted = self.backbone.net, []
        h = channels_last(self.backbone.pool(samples))
        for layer in range(LAYERS):
            a = before(net, layer, h)
            if layer >= LAYERS - self.shifts:
                shifted.append(a)
            h = active(net, max_pool(a))
        return shifted, gathered(net, h)

    def _shifted(self, a: Tensor, shifts: list[Tensor]) -> Tensor:
        """Features [N, D] from pre-activations a of the first shifted layer, and the shifts from this one on."""
        net, own = self.backbone.net, iter(self.norms)
        h = max_pool(active(net, a) + active(net, shifts[0]))
        for layer, shift in enumerate(shifts[1:], LAYERS - self.shifts + 1):
            norms = [partial(_normalised, next(own), norm) for norm in norms_of(net, layer)]
            h = max_pool(active(net, before(net, layer, h, norms)) + active(net, shift))
        return gathered(net, h)

    def _keys(self, images: Tensor, features: Tensor) -> Tensor:
        return self.key(features if self.key_net is None else self.key_net(images))

    def _values(self, below: list[Tensor], features: Tensor, labels: Tensor) -> Tensor:
        """Values [N, neurons] of all shifted layers, one after another, of images with labels [N]."""
        logits = self.classify(features)
        if self.by_gradient:
            right = logits.log_softmax(-1) * one_hot(labels, self.task.ways)
            gradients = torch.autograd.grad(-right.sum(), [*below, logits], retain_graph=True)
            pairs = [processed(each.flatten(1).detach()) for each in gradients]
            return torch.cat([net(pair).squeeze(-1) for net, pair in zip(self.values, pairs, strict=True)], -1)
        error = logits.softmax(-1) - one_hot(labels, self.task.ways).to(logits.dtype)
        found = []
        for net, a in zip(self.values, below, strict=False):
            positive, others = net(error), net(self.slope * (error if self.slope else error[:1]))
            found.append(torch.where(a.flatten(1) > 0, positive, others))
        return torch.cat([*found, self.values[-1](error.unsqueeze(-1)).squeeze(-1)], -1)


def processed(gradient: Tensor) -> Tensor:
    """Two numbers [..., 2] for each of a gradient: its logarithm and sign, or a mark that it is small and itself."""
    small = gradient.abs() < math.exp(-PLACES)
    size = gradient.abs().clamp(min=math.exp(-PLACES)).log() / PLACES
    first = torch.where(small, -1.0, size)
    return torch.stack([first, torch.where(small, math.exp(PLACES) * gradient, gradient.sign())], -1)


def _normalised(own: nn.Module, norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """x by statistics of its own, with the scale and the shift of another normalisation."""
    return own(x) * norm.weight.view(-1, 1, 1) + norm.bias.view(-1, 1, 1)


def _value_net(inputs: int, hidden: int, positive: bool) -> nn.Sequential:
    """Three layers with ReLU between, to one number; `positive`: which begins above zero, where ReLU lets it learn."""
    last = nn.Linear(hidden, 1)
    if positive:
        nn.init.constant_(last.bias, 0.3)
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), last)
