"""OML: a representation made for online learning (Javed and White, "Meta-learning representations for continual
learning", NeurIPS 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from harness.method.interface import Feedback, Method, State, Task
from harness.training.interface import Features, Trainable, features_of
from methods.nn.backbones import Conv4
from methods.nn.plastic import PlasticLayers, Rows


class OML(Trainable, Method):
    """A conv net that stays as it is within an episode, under linear layers that take one SGD step a label.

    With features phi(x) of the representation net and the prediction net's weights W:

        W_0 is where every episode begins;  W <- W - rate dCE(W phi(x), y)/dW  at each revealed label;

    training minimises the loss of later answers (in streams of all answers) over phi and W_0, by its exact gradient
    through all inner steps. The released code before July 2020, and what was built on it, dropped the second-order
    part; `first_order` does so too. Updates are in closed form (`PlasticLayers`): an episode's steps are a loop over
    its labels only, for all episodes at once, and the conv net sees all images in one call.

    It must be told the label delay d, and keeps the features of the last d samples in its state beside the weights;
    since phi is fixed, nothing more of a sample is ever needed, and no gradient passes through the convolutions.

    Options
    -------
    net : 'flops' (six 3x3 convolutions without padding or normalisation, ReLU, strides 1, 1, 1, 2, 1, 2; from 64
        pixels a side 2, 1, 2, 1, 2, 2 as the source has it for 84) or 'text' (`Conv4`). Babu et al. 2021 describe a
        4-layer CNN under two fully connected layers, but the 1.46 GFLOP they print are those of the six convolutions.
    channels : width of the convolutions.
    final_relu : whether the features end in a ReLU, as in the sources. Without it they have both signs, so that those
        of different classes have less in common, and learning one class moves the others less (600 episodes of 5-way
        Omniglot, 32 channels of `Conv4`, one layer: 65.6 % instead of 50.7 % at one shot).
    hidden : width of the prediction net's hidden layer; 0 for a single linear layer, as in the source's later code.
    rate, learned_rate : learning rate of the inner steps, 0.03 in the source; whether it is trained (one a layer).
    rows : how a class's row of the last layer begins an episode: 'zero' (class numbers are then interchangeable),
        'random' (drawn once and fixed; the source draws them anew for every trajectory) or 'learned' (by number).
    first_order : drop the second-order part of the training gradient.
    """

    needs_label_delay = True
    learns_by_gradient = True
    kinds = ("online_few_shot", "delayed_label", "continual", "n_way_k_shot")

    def __init__(
        self,
        task: Task,
        net: Literal["flops", "text"] = "flops",
        channels: int = 256,
        final_relu: bool = True,
        hidden: int = 1024,
        rate: float = 0.03,
        learned_rate: bool = False,
        rows: Rows = "zero",
        first_order: bool = False,
    ) -> None:
        super().__init__(task)
        large = min(task.image_shape[1:]) >= 64
        strides = (2, 1, 2, 1, 2, 2) if large else (1, 1, 1, 2, 1, 2)
        self.represent: Conv4 | Strided
        if net == "text":
            self.represent = Conv4(task.image_shape[0], channels, final_relu)
        else:
            self.represent = Strided(task.image_shape[0], channels, strides, final_relu)
        self.dim = self.represent.features(task.image_shape)
        self.learner = PlasticLayers(self.dim, hidden, task.ways, rows, rate, learned_rate, first_order)

    def start(self, episodes: int) -> State:
        """The initial weights of every episode, and features [B, d, D] that await their labels."""
        pending = self.learner.log_rates.new_zeros(episodes, self.task.label_delay or 0, self.dim)
        with self._graph():
            return {"weights": self.learner.start(episodes), "pending": pending}

    def observe(self, state: State, feedback: Feedback) -> State:
        """One step of gradient descent on the pair, or on the oldest pending features."""
        with self._graph():
            features = state["pending"][:, 0] if feedback.x is None else self.represent(feedback.x)
            return {**state, "weights": self.learner.learned(state["weights"], features, feedback.target)}

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        with self._graph():
            features = self.represent(x).unsqueeze(1)
            logits = self.learner.logits(state["weights"], features).squeeze(1)
            return logits, {**state, "pending": torch.cat([state["pending"][:, 1:], features], 1)}

    def rollout(self, x: Tensor, feedback: Feedback) -> Tensor:
        """All images through the conv net at once; then the labels one by one; then all answers at once."""
        with self._graph():
            fresh, features = self.start(x.shape[1]), self._features(x).transpose(0, 1)
            logits = self.learner.stream(fresh["weights"], fresh["pending"], features, feedback.target.T)
            return logits.transpose(0, 1)

    def absorb(self, state: State, x: Tensor, feedback: Feedback) -> State:
        """All images through the conv net at once, then the labels one by one."""
        with self._graph():
            features, target = self._features(x).transpose(0, 1), feedback.target.T
            weights, pending = self.learner.absorbed(state["weights"], state["pending"], features, target)
            return {"weights": weights, "pending": pending}

    def query(self, state: State, x: Tensor) -> Tensor:
        """All queries under the same weights, which need no copy for each."""
        with self._graph():
            return self.learner.logits(state["weights"], self._features(x))

    def memoryless_features(self) -> Features:
        return features_of(self, "represent")

    def _features(self, x: Tensor) -> Tensor:
        return self.represent(x.flatten(0, 1)).unflatten(0, x.shape[:2])

    def _graph(self) -> torch.autograd.grad_mode.set_grad_enabled:
        """While it is scored nothing is trained, and the closed form needs no graph to learn."""
        return torch.set_grad_enabled(self.training and torch.is_grad_enabled())


class Strided(nn.Module):
    """3x3 convolutions without padding, each followed by ReLU: [N, C, H, W] to [N, channels x height x width]."""

    def __init__(self, in_channels: int, channels: int, strides: Sequence[int], final_relu: bool) -> None:
        super().__init__()
        self.channels, self.strides = channels, tuple(strides)
        layers: list[nn.Module] = []
        for number, stride in enumerate(strides):
            conv = nn.Conv2d(in_channels if number == 0 else channels, channels, 3, stride)
            # Without normalisation the signal must keep its size through all layers by itself.
            nn.init.kaiming_normal_(conv.weight)
            assert conv.bias is not None
            nn.init.zeros_(conv.bias)
            layers += [conv, nn.ReLU()]
        if not final_relu:
            layers.pop()
        self.layers = nn.Sequential(*layers, nn.Flatten())

    def features(self, image_shape: tuple[int, int, int]) -> int:
        """Number of features of one image of shape (C, H, W); raises ValueError for images too small."""
        sides = list(image_shape[1:])
        for stride in self.strides:
            sides = [(side - 3) // stride + 1 for side in sides]
        if min(sides) < 1:
            raise ValueError(
                f"images of {image_shape[1]}x{image_shape[2]} vanish in six convolutions without padding; use net=text"
            )
        return self.channels * sides[0] * sides[1]

    def forward(self, x: Tensor) -> Tensor:
        # Channels-last memory is what the convolutions of CPUs and tensor cores are fastest on.
        return self.layers(x.contiguous(memory_format=torch.channels_last))
