"""ANML: a neuromodulated meta-learner (Beaulieu et al., "Learning to continually learn", ECAI 2020)."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from harness.method.interface import Feedback, State, Task
from harness.method.option_types import Count, Positive
from harness.training.interface import Batch, Trainable
from methods.nn import adam, inner_loop, label_pairing
from methods.nn.functional_linear import FunctionalLinear, Rows
from methods.nn.gradient_learner import GradientLearner, TestOptimizer, pool, stream_logits
from methods.nn.inner_loop import Weights
from methods.nn.maps import MaxPool
from methods.nn.remembering import ClassRows, MetaLoss, remember_loss


class ANML(Trainable, GradientLearner):
    """A prediction net that takes one SGD step a label, its features gated by a second net that is fixed meanwhile.

    With the features f_W(x) of the prediction net's convolutions, its linear layer V and the neuromodulatory net:

        logits = V (f_W(x) * sigmoid(n(x)));  W, V <- W, V - rate dCE(logits, y)/d(W, V)  at each revealed label;

    training minimises the loss of later answers (in streams of all answers) over n and the initial W and V. Both nets
    are three 3x3 convolutions without padding, normalised over each image by itself (the source's batch normalisation
    sees single images), ReLU, and 2x2 max-pooling after the first two; n ends in a linear layer. The convolutions
    have no biases, which the normalisation would cancel.

    At the released widths there are 6.04 M parameters over one input channel and 1000 classes. The label delay d must
    be given; the state is the weights and the last d images (or, where only V learns, their gated features).

    Options
    -------
    channels, modulator : width of the convolutions of the prediction net, and of the neuromodulatory net.
    final_relu : whether the prediction net's features end in a ReLU, as in the source. Without it they have both signs
        (and mean 0 over each map), and learning one class changes the others less.
    adapts : what learns inside an episode. 'all' (W and V, in training and in scoring), 'head' (V, in both), or
        'source' (all in training, V alone in scoring, as the source scores; the convolutions then stay at a W that
        was trained to be updated).
    rate, learned_rate : learning rate of the inner steps, 0.1 in the source; whether it is trained (one a tensor).
    trunk_rate : the rate of the convolutions, or where it begins, if not `rate`. What convolutions learn of one class
        affects all others; a low rate here leaves learning to the head, until training raises it.
    rows : how a class's row of V begins an episode: 'zero' (class numbers are then interchangeable), 'random' (drawn
        once and fixed; the source draws the row of a trajectory's class anew) or 'learned' (by number).
    first_order : drop the second-order part of the training gradient, as the released code does.
    resolution : side to which images are average-pooled first, or None for their own size.
    meta_loss, remember : what training minimises, as in `OML`; the random batch has 64 images in the source, whose
        queries are the labelled samples themselves.
    test_optimizer, test_rate : what takes the steps in scoring, as in `OML`; the source searches the rate of Adam from
        1e-5 to 1e-3, with `adapts=source`.
    """

    kinds = ("online_few_shot", "delayed_label", "continual", "n_way_k_shot")

    def __init__(
        self,
        task: Task,
        *,
        channels: Count = 256,
        modulator: Count = 112,
        final_relu: bool = True,
        adapts: Literal["all", "head", "source"] = "all",
        rate: Positive = 0.1,
        trunk_rate: Positive | None = None,
        learned_rate: bool = False,
        rows: Rows = "zero",
        first_order: bool = False,
        resolution: Count | None = None,
        meta_loss: MetaLoss = "episode",
        remember: Count = 64,
        test_optimizer: TestOptimizer = "sgd",
        test_rate: Positive = 1e-3,
    ) -> None:
        super().__init__(task)
        self.adapts, self.first_order, self.resolution = adapts, first_order, resolution
        depth, height, width = task.image_shape
        if resolution is not None:
            height = width = resolution
        area = positions(height, width)
        self.dim = channels * area
        self.trunk = Trunk(depth, channels, final_relu)
        gating = nn.Linear(modulator * area, self.dim)
        nn.init.kaiming_normal_(gating.weight)
        nn.init.zeros_(gating.bias)
        self.gate = nn.Sequential(Trunk(depth, modulator), gating, nn.Sigmoid())
        self.head = FunctionalLinear(self.dim, 0, task.ways, rows, rate, learned_rate, first_order)
        tensors = len(list(self.trunk.parameters()))
        initial = torch.full((tensors,), math.log(rate if trunk_rate is None else trunk_rate))
        self.log_rates = nn.Parameter(initial, learned_rate and adapts != "head")
        self.by_adam, self.test_rate, self.remember = test_optimizer == "adam", test_rate, remember
        self.class_rows = ClassRows(task, self.dim) if meta_loss == "remember" else None

    @property
    def adapts_trunk(self) -> bool:
        """Whether the convolutions learn inside an episode, in the present mode."""
        return self.adapts == "all" or (self.adapts == "source" and self.training)

    @property
    def steps_by_adam(self) -> bool:
        """Whether Adam takes the steps inside an episode, in the present mode."""
        return self.by_adam and not self.training

    @property
    def sample_shape(self) -> tuple[int, ...]:
        if not self.adapts_trunk:
            return (self.dim,)
        depth, height, width = self.task.image_shape
        return depth, self.resolution or height, self.resolution or width

    def encode(self, x: Tensor) -> Tensor:
        """Pooled images [B, N, C, H, W], or gated features [B, N, D] where only the linear layer learns."""
        x = pool(x, self.resolution)
        if self.adapts_trunk:
            return x
        return self.trunk(x.flatten(0, 1)).unflatten(0, x.shape[:2]) * self._gates(x)

    def initial(self, episodes: int) -> State:
        """The initial W (none where it does not learn) and V of every episode; Adam's moments where it takes steps."""
        trunk = inner_loop.per_episode_weights(self.trunk, episodes) if self.adapts_trunk else {}
        state: State = {"trunk": trunk, "head": self.head.start(episodes)}
        if self.steps_by_adam:
            own = adam.with_momentum(self._weights(state)) if self.adapts_trunk else self.head.moments(state["head"])
            return {**state, "moments": own}
        return state

    def learn(self, state: State, samples: Tensor, target: Tensor) -> State:
        with self.outer_graph():
            if not self.adapts_trunk:
                return self._head_step(state, samples[:, 0], target[:, 0])
            gates = self._gates(samples)
        weights = self._weights(state)
        logits = self._logits(weights, samples, gates)
        return (
            self._adam_step(state, weights, logits, target)
            if self.steps_by_adam
            else self._step(weights, logits, target)
        )

    def learn_all(self, state: State, samples: Tensor, target: Tensor) -> State:
        """All gates at once; then the labels one by one."""
        if self.steps_by_adam:
            return super().learn_all(state, samples, target)
        with self.outer_graph():
            if not self.adapts_trunk:
                return {**state, "head": self.head.sgd_steps(state["head"], samples, target)}
            gates = self._gates(samples)
        for step in range(samples.shape[1]):
            weights, now = self._weights(state), slice(step, step + 1)
            logits = self._logits(weights, samples[:, now], gates[:, now])
            state = {**state, **self._step(weights, logits, target[:, now])}
        return state

    def answer(self, state: State, samples: Tensor) -> Tensor:
        if not self.adapts_trunk:
            return self.head.logits(state["head"], samples)
        return self._logits(self._weights(state), samples, self._gates(samples))

    def episode_loss(self, batch: Batch) -> Tensor | None:
        if self.class_rows is None:
            return None
        state = self.initial(batch.target.shape[1])
        every = {**state, "head": self.class_rows.beside(state["head"], batch.class_rows)}
        return remember_loss(self, every, batch, self.remember)

    def rollout(self, x: Tensor, feedback: Feedback) -> Tensor | None:
        """All gates at once; at delay 1 a forward pass serves both the answer and the step on it."""
        if self.steps_by_adam:
            return None
        state, target, delay = self.start(x.shape[1]), feedback.target, self.task.label_delay
        with self.outer_graph():
            samples = self.encode_stream(x)
            if not self.adapts_trunk:
                labelled, _ = label_pairing.pair(state["pending"], samples)
                return self.head.stream_logits(state["head"], labelled, samples, target.T).transpose(0, 1)
            gates = self._gates(samples)
        assert delay is not None

        def answer(weights: Weights, step: int) -> Tensor:
            return self._logits(weights, samples[:, step, None], gates[:, step, None])

        def learn(weights: Weights, logits: Tensor, step: int) -> Weights:
            return self._weights(self._step(weights, logits, target[step, :, None]))

        return self.as_rollout(stream_logits(len(x), delay, self._weights(state), answer, learn))

    def _gates(self, x: Tensor) -> Tensor:
        """sigmoid(n(x)) [B, N, D] of images [B, N, C, H, W]."""
        return self.gate(x.flatten(0, 1)).unflatten(0, x.shape[:2])

    def _weights(self, state: State) -> Weights:
        """W and V of a state by name, each requiring a gradient."""
        ((weight, bias),) = state["head"]
        return inner_loop.require_grad({**state["trunk"], "head.weight": weight, "head.bias": bias}, self.training)

    def _logits(self, weights: Weights, x: Tensor, gates: Tensor) -> Tensor:
        """Logits [B, N, ways] of images [B, N, C, H, W] with their gates, under each episode's weights."""
        trunk = {name: each for name, each in weights.items() if not name.startswith("head.")}
        features = inner_loop.forward(self.trunk, trunk, x)
        return torch.baddbmm(weights["head.bias"].unsqueeze(1), features * gates, weights["head.weight"].mT)

    def _step(self, weights: Weights, logits: Tensor, target: Tensor) -> State:
        """W and V, as entries of a state, after one step on logits [B, 1, ways] with labels [B, 1]."""
        head_rate = self.head.rates[0]
        trunk_rates = dict(zip(weights, self.log_rates.exp(), strict=False))  # the trunk's names come first
        rates = {**trunk_rates, "head.weight": head_rate, "head.bias": head_rate}
        loss = inner_loop.loss_by_episode(logits, target)
        trunk = inner_loop.sgd_step(weights, loss, rates, self.training, not self.first_order)
        head = [(trunk.pop("head.weight"), trunk.pop("head.bias"))]
        return {"trunk": trunk, "head": head}

    def _adam_step(self, state: State, weights: Weights, logits: Tensor, target: Tensor) -> State:
        """W, V and moments, as entries of a state, after Adam's step on logits [B, 1, ways] with labels [B, 1]."""
        found = inner_loop.gradients(weights, inner_loop.loss_by_episode(logits, target), create_graph=False)
        with torch.no_grad():
            trunk, moments = adam.step(weights, found, state["moments"], self.test_rate, target[:, 0] >= 0)
        head = [(trunk.pop("head.weight"), trunk.pop("head.bias"))]
        return {"trunk": trunk, "head": head, "moments": moments}

    def _head_step(self, state: State, x: Tensor, target: Tensor) -> State:
        """V (and moments), as entries of a state, after a step on gated features [B, D] with labels [B]."""
        if not self.steps_by_adam:
            return {"head": self.head.sgd_step(state["head"], x, target)}
        found = self.head.adam_step(state["head"], state["moments"], x, target, self.test_rate)
        return dict(zip(("head", "moments"), found, strict=True))


class Trunk(nn.Module):
    """Three 3x3 convolutions without padding or bias, each with normalisation over the image, ReLU, and 2x2
    max-pooling after the first two: [N, C, H, W] to [N, channels x height x width]. The last ReLU can be left off."""

    def __init__(self, in_channels: int, channels: int, final_relu: bool = True) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for layer in range(3):
            conv = nn.Conv2d(in_channels if layer == 0 else channels, channels, 3, bias=False)
            nn.init.kaiming_normal_(conv.weight)
            layers += [conv, nn.GroupNorm(channels, channels)]
            if layer < 2:
                layers += [MaxPool(), nn.ReLU()]
            elif final_relu:
                layers.append(nn.ReLU())
        self.layers = nn.Sequential(*layers, nn.Flatten())

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def positions(height: int, width: int) -> int:
    """Number of pixels in the last map of a `Trunk`; raises ValueError where there are too few to normalise over."""
    sides = [((side - 2) // 2 - 2) // 2 - 2 for side in (height, width)]
    if min(sides) < 2:
        raise ValueError(f"images of {height}x{width} shrink to nothing in three convolutions; use 22x22 or more")
    return sides[0] * sides[1]
