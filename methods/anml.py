"""ANML: a neuromodulated meta-learner (Beaulieu et al., "Learning to continually learn", ECAI 2020)."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.method.interface import Feedback, Method, State, Task
from methods.nn import inner
from methods.nn.plastic import PlasticLayers, Rows


class ANML(Method):
    """A prediction net that takes one SGD step a label, its features gated by a second net that stays as it is.

    With the features f_W(x) of the prediction net's convolutions, its linear layer V and the neuromodulatory net:

        logits = V (f_W(x) * sigmoid(n(x)));  W, V <- W, V - rate dCE(logits, y)/d(W, V)  at each revealed label;

    training minimises the loss of later answers (in streams of all answers) over n and the initial W and V. Both nets
    are three 3x3 convolutions without padding, normalised over each image by itself (the source's batch normalisation
    sees single images), ReLU, and 2x2 max-pooling after the first two; n ends in a linear layer. The convolutions
    have no biases, which the normalisation would take off again.

    At the released widths there are 6.04 M parameters over one input channel and 1000 classes. It must be told the
    label delay d, and keeps the last d images in its state beside the weights (or, where only V learns, their gated
    features).

    Options
    -------
    channels, modulator : width of the convolutions of the prediction net, and of the neuromodulatory net.
    final_relu : whether the prediction net's features end in a ReLU, as in the source. Without it they have both signs
        (and mean 0 over each map), and learning one class moves the others less.
    adapts : what learns inside an episode. 'all' (W and V, in training and in scoring), 'head' (V, in both), or
        'source' (all in training, V alone in scoring, as the source scores; the convolutions then stay at a W that
        was trained to be moved).
    rate, learned_rate : learning rate of the inner steps, 0.1 in the source; whether it is trained (one a tensor).
    trunk_rate : where the rate of the convolutions is or begins, if not at `rate`. What convolutions learn of one class
        touches all others; a low rate here leaves it to the head, until training raises it.
    rows : how a class's row of V begins an episode: 'zero' (class numbers are then interchangeable), 'random' (drawn
        once and fixed; the source draws the row of a trajectory's class anew) or 'learned' (by number).
    first_order : drop the second-order part of the training gradient, as the released code does.
    resolution : side to which images are average-pooled first, or None for their own size.
    """

    needs_label_delay = True
    learns_by_gradient = True
    kinds = ("online_few_shot", "delayed_label", "continual", "n_way_k_shot")

    def __init__(
        self,
        task: Task,
        channels: int = 256,
        modulator: int = 112,
        final_relu: bool = True,
        adapts: Literal["all", "head", "source"] = "all",
        rate: float = 0.1,
        trunk_rate: float | None = None,
        learned_rate: bool = False,
        rows: Rows = "zero",
        first_order: bool = False,
        resolution: int | None = None,
    ) -> None:
        super().__init__(task)
        self.adapts, self.first_order, self.resolution = adapts, first_order, resolution
        depth, height, width = task.image_shape
        if resolution is not None:
            height = width = resolution
        area = positions(height, width)
        self.dim = channels * area
        self.trunk = Trunk(depth, channels, final_relu)
        opens = nn.Linear(modulator * area, self.dim)
        nn.init.kaiming_normal_(opens.weight)
        nn.init.zeros_(opens.bias)
        self.gate = nn.Sequential(Trunk(depth, modulator), opens, nn.Sigmoid())
        self.head = PlasticLayers(self.dim, 0, task.ways, rows, rate, learned_rate, first_order)
        if trunk_rate is not None and trunk_rate <= 0:
            raise ValueError(
                f"trunk_rate must be above 0, found {trunk_rate}; adapts=head keeps the convolutions fixed"
            )
        tensors = len(list(self.trunk.parameters()))
        begins = torch.full((tensors,), math.log(rate if trunk_rate is None else trunk_rate))
        self.log_rates = nn.Parameter(begins, learned_rate and adapts != "head")

    @property
    def moves_trunk(self) -> bool:
        """Whether the convolutions learn inside an episode, in the present mode."""
        return self.adapts == "all" or (self.adapts == "source" and self.training)

    def start(self, episodes: int) -> State:
        """The initial weights of every episode, and what awaits its label: images [B, d, C, H, W], or gated features
        [B, d, D] where only the linear layer learns."""
        kept: tuple[int, ...] = (self.dim,)
        trunk: inner.Weights = {}
        with self._graph():
            if self.moves_trunk:
                depth, height, width = self.task.image_shape
                kept = (depth, self.resolution or height, self.resolution or width)
                trunk = inner.own_weights(self.trunk, episodes)
            pending = self.log_rates.new_zeros(episodes, self.task.label_delay or 0, *kept)
            return {"trunk": trunk, "head": self.head.start(episodes), "pending": pending}

    def observe(self, state: State, feedback: Feedback) -> State:
        """One step of gradient descent on the pair, or on the oldest pending sample."""
        with self._graph():
            seen = state["pending"][:, :1] if feedback.x is None else self._kept(feedback.x.unsqueeze(1))
            if not self.moves_trunk:
                return {**state, "head": self.head.learned(state["head"], seen[:, 0], feedback.target)}
            gate = self._gates(seen)
        weights = self._weights(state)
        return {**state, **self._moved(weights, self._answers(weights, seen, gate), feedback.target)}

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        with self._graph():
            seen = self._kept(x.unsqueeze(1))
            pending = torch.cat([state["pending"][:, 1:], seen], 1)
            return self._asked(state, seen).squeeze(1), {**state, "pending": pending}

    def query(self, state: State, x: Tensor) -> Tensor:
        """All queries under the same weights, which need no copy for each."""
        with self._graph():
            return self._asked(state, self._kept(x))

    def rollout(self, x: Tensor, feedback: Feedback) -> Tensor:
        """All gates at once; what learned last is not computed again where the answer to it stands already."""
        state, target = self.start(x.shape[1]), feedback.target
        with self._graph():
            seen = self._kept(x.transpose(0, 1))
            if not self.moves_trunk:
                return self.head.stream(state["head"], state["pending"], seen, target.T).transpose(0, 1)
            gates = self._gates(seen)
        weights, delay = self._weights(state), self.task.label_delay
        assert delay is not None
        answers: list[Tensor] = []
        for step in range(len(x)):
            if step >= delay:
                late = slice(step - delay, step - delay + 1)
                # At delay 1 nothing was learned since: the answer of the last step is that of the inner loss.
                told = answers[-1] if delay == 1 else self._answers(weights, seen[:, late], gates[:, late])
                weights = self._weights(self._moved(weights, told, target[step]))
            now = slice(step, step + 1)
            answers.append(self._answers(weights, seen[:, now], gates[:, now]))
        logits = torch.cat(answers, 1).transpose(0, 1)
        return logits if self.training else logits.detach()

    def absorb(self, state: State, x: Tensor, feedback: Feedback) -> State:
        """All gates at once, and no answers."""
        steps, target = len(x), feedback.target
        with self._graph():
            seen = self._kept(x.transpose(0, 1))
            if not self.moves_trunk:
                head, pending = self.head.absorbed(state["head"], state["pending"], seen, target.T)
                return {**state, "head": head, "pending": pending}
            fed = torch.cat([state["pending"], seen], 1)
            gates = self._gates(fed[:, :steps])
        for step in range(steps):
            now, weights = slice(step, step + 1), self._weights(state)
            state = {**state, **self._moved(weights, self._answers(weights, fed[:, now], gates[:, now]), target[step])}
        return {**state, "pending": fed[:, steps:]}

    def _kept(self, x: Tensor) -> Tensor:
        """What is kept of images [B, N, C, H, W] until their labels come: themselves, or gated features [B, N, D]."""
        if self.resolution is not None:
            x = F.adaptive_avg_pool2d(x.flatten(0, 1), self.resolution).unflatten(0, x.shape[:2])
        if self.moves_trunk:
            return x
        return self.trunk(x.flatten(0, 1)).unflatten(0, x.shape[:2]) * self._gates(x)

    def _gates(self, x: Tensor) -> Tensor:
        return self.gate(x.flatten(0, 1)).unflatten(0, x.shape[:2])

    def _asked(self, state: State, kept: Tensor) -> Tensor:
        """Logits [B, N, ways] of samples as `_kept` gives them."""
        if not self.moves_trunk:
            return self.head.logits(state["head"], kept)
        return self._answers(self._weights(state), kept, self._gates(kept))

    def _weights(self, state: State) -> inner.Weights:
        """All weights that learn, by name, ready for a gradient."""
        ((weight, bias),) = state["head"]
        return inner.ready({**state["trunk"], "head.weight": weight, "head.bias": bias}, self.training)

    def _answers(self, weights: inner.Weights, x: Tensor, gates: Tensor) -> Tensor:
        """Logits [B, N, ways] of images [B, N, C, H, W] with their gates, under each episode's weights."""
        trunk = {name: each for name, each in weights.items() if not name.startswith("head.")}
        features = inner.answers(self.trunk, trunk, x)
        return torch.baddbmm(weights["head.bias"].unsqueeze(1), features * gates, weights["head.weight"].mT)

    def _moved(self, weights: inner.Weights, logits: Tensor, target: Tensor) -> dict[str, Any]:
        """The weights, as parts of a state, after one step on the labels [B] of what was answered [B, 1, ways]."""
        of_head = self.head.rates[0]
        of_trunk = dict(zip(weights, self.log_rates.exp(), strict=False))  # the trunk's names come first
        rates = {**of_trunk, "head.weight": of_head, "head.bias": of_head}
        loss = inner.loss_by_episode(logits, target.unsqueeze(1))
        moved = inner.descended(weights, loss, rates, self.training, not self.first_order)
        head = [(moved.pop("head.weight"), moved.pop("head.bias"))]
        return {"trunk": moved, "head": head}

    def _graph(self) -> torch.autograd.grad_mode.set_grad_enabled:
        """While it is scored nothing is trained: a graph is needed within an inner step only."""
        return torch.set_grad_enabled(self.training and torch.is_grad_enabled())


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
                layers += [nn.ReLU(), nn.MaxPool2d(2)]
            elif final_relu:
                layers.append(nn.ReLU())
        self.layers = nn.Sequential(*layers, nn.Flatten())

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def positions(height: int, width: int) -> int:
    """Number of places in the last map of a `Trunk`; raises ValueError where there are too few to normalise over."""
    sides = [((side - 2) // 2 - 2) // 2 - 2 for side in (height, width)]
    if min(sides) < 2:
        raise ValueError(f"images of {height}x{width} shrink to nothing in three convolutions; use 22x22 or more")
    return sides[0] * sides[1]
