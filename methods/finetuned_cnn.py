"""The fine-tuned CNN: a U-Net without memory that learns by gradient as masks are revealed (the baseline of Babu,
Savarese and Maire, "Online meta-learning via learning with layer-distributed memory", NeurIPS 2021, table 4)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.method.interface import MASKS, Feedback, Method, State, Task
from methods.nn import inner
from methods.nn.learners import Normalise
from methods.nn.unet import Size, channels, sizes, walk


class FinetunedCNN(Method):
    """The ten layers of CL U-Net as plain convolutions, whose weights are the only memory that an episode has.

    Every revealed mask m is `steps` steps of gradient descent on the image x it belongs to:

        W' = W - rate * d/dW BCE(f(x; W), m), the mean over pixels;   answers are f(x; W).

    Training minimises the loss of all answers of a stream over where W begins (and the rate) by its exact gradient
    through these steps, which is MAML for streams. Its recipe does so without distractors, as in the paper, so that
    nothing prepares it for being told that an object is background. Each episode has weights of its own, and all
    episodes of a batch learn at once; an image is kept in the state until its mask is revealed.

    Inner learning rate and number of steps, like sizes and normalisation, are not in the paper.

    Options
    -------
    width : of the layers: 16-32-64-128-128-128-64-32-16 channels times this.
    norm : what is normalised after each layer but the last: 'layer' (all that the layer gives of an image) or
        'instance' (each channel of an image by itself, which leaves nothing of maps of a single pixel). Neither needs
        other images or statistics from before.
    rate : the inner learning rate: 'constant', 'global' (one, learned) or 'layer' (one a parameter tensor, learned).
        What is learned is a factor of `inner_lr`, from 1.
    inner_lr : the rate, or where it begins if it is learned.
    steps : steps on a revealed mask.
    first_order : drop the second-order part of the training gradient.
    resolution : side to which images and masks are average-pooled first, or None for their own size; answers are
        upsampled to the size of the image.
    """

    kinds = MASKS
    needs_label_delay = True
    learns_by_gradient = True

    def __init__(
        self,
        task: Task,
        width: float = 1.0,
        norm: Literal["layer", "instance"] = "layer",
        rate: Literal["constant", "global", "layer"] = "constant",
        inner_lr: float = 0.1,
        steps: int = 1,
        first_order: bool = False,
        resolution: int | None = None,
    ) -> None:
        super().__init__(task)
        if steps < 1:
            raise ValueError(f"steps must be at least 1, found {steps}")
        depth, *full = task.image_shape
        self.size: Size = (full[0], full[1]) if resolution is None else (resolution, resolution)
        self.net = PlasticUNet(depth, self.size, width, norm)
        self.inner_lr, self.steps, self.first_order = inner_lr, steps, first_order
        self.factors: nn.Parameter | None = None
        if rate != "constant":
            names = [name for name, _ in self.net.named_parameters()]
            self.factors = nn.Parameter(torch.ones((len(names),) if rate == "layer" else ()))

    def start(self, episodes: int) -> State:
        """The initial weights of every episode, and images [B, d, C, h, w] whose masks are to come."""
        depth, delay = self.task.image_shape[0], self.task.label_delay or 0
        pending = next(self.net.parameters()).new_zeros(episodes, delay, depth, *self.size)
        with self._graph():
            return {"weights": inner.own_weights(self.net, episodes), "pending": pending}

    def observe(self, state: State, feedback: Feedback) -> State:
        """Gradient descent on the oldest pending image; on a support pair's own."""
        seen = state["pending"][:, 0] if feedback.x is None else self._seen(feedback.x)
        weights = inner.ready(state["weights"], self.training)
        return {**state, "weights": self._learned(weights, seen, self._answers(weights, seen), feedback.target)}

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        seen = self._seen(x)
        with self._graph():
            logits = self._answers(state["weights"], seen)
        return logits, {**state, "pending": torch.cat([state["pending"][:, 1:], seen.unsqueeze(1)], 1)}

    def rollout(self, x: Tensor, feedback: Feedback) -> Tensor | None:
        """As stepping, but what learned last is not computed again where the answer to it stands already."""
        delay = self.task.label_delay
        if delay is None:
            return None
        seen = self._seen(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        weights = inner.ready(inner.own_weights(self.net, x.shape[1]), self.training)
        answers: list[Tensor] = []
        for step in range(len(x)):
            if step >= delay:
                late = seen[step - delay]
                # At delay 1 nothing was learned since: the answer of the last step is that of the inner loss.
                told = answers[-1] if delay == 1 else self._answers(weights, late)
                weights = inner.ready(self._learned(weights, late, told, feedback.target[step]), self.training)
            answers.append(self._answers(weights, seen[step]))
        logits = torch.stack(answers)
        return logits if self.training else logits.detach()

    def _seen(self, x: Tensor) -> Tensor:
        """Images [N, C, H, W] as the net sees them."""
        return F.adaptive_avg_pool2d(x, self.size)

    def _answers(self, weights: inner.Weights, seen: Tensor) -> Tensor:
        """Logits [B, 1, H, W] of one image [B, C, h, w] of each episode under its own weights."""
        logits: Tensor = inner.answers(self.net, weights, seen.unsqueeze(1)).squeeze(1)
        return F.interpolate(logits, self.task.image_shape[1:], mode="bilinear", align_corners=False)

    def _learned(self, weights: inner.Weights, seen: Tensor, logits: Tensor, target: Tensor) -> inner.Weights:
        """The weights after the steps on the masks [B, 1, H, W] of images whose answers stand already."""
        rates: Tensor | float | dict[str, Tensor] = self.inner_lr
        if self.factors is not None:
            rates = self.inner_lr * self.factors
            rates = dict(zip(weights, rates, strict=True)) if rates.dim() else rates
        for step in range(self.steps):
            if step:
                logits = self._answers(weights, seen)
            # A null mask has no say, and so a gradient of 0.
            each = F.binary_cross_entropy_with_logits(logits, target.clamp(min=0), reduction="none")
            loss = (each * (target >= 0)).mean((1, 2, 3))
            weights = inner.descended(weights, loss, rates, self.training, not self.first_order)
        return weights

    def _graph(self) -> torch.autograd.grad_mode.set_grad_enabled:
        """While it is scored nothing is trained: a graph is needed within an inner step only."""
        return torch.set_grad_enabled(self.training and torch.is_grad_enabled())


class PlasticUNet(nn.Module):
    """Logits [N, 1, h, w] of images [N, C, h, w]: 3x3 convolutions, each but the last normalised and rectified."""

    def __init__(self, depth: int, size: Size, width: float, norm: Literal["layer", "instance"]) -> None:
        super().__init__()
        self.sizes = sizes(*size)
        inputs, outputs = channels(depth, width)
        # The normalisation takes a bias of the layer before it off again, or has a shift that does the same.
        self.maps = nn.ModuleList(
            nn.Conv2d(n, m, 3, padding=1, bias=layer == 9)
            for layer, (n, m) in enumerate(zip(inputs, outputs, strict=True))
        )
        self.norms = nn.ModuleList(Normalise(m, norm) for m in outputs[:-1])

    def forward(self, x: Tensor) -> Tensor:
        return walk(x, self.sizes, self._layer)

    def _layer(self, number: int, maps: Tensor) -> Tensor:
        maps = self.maps[number](maps)
        return maps if number == 9 else self.norms[number](maps)[0].relu()
