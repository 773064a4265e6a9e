"""The fine-tuned CNN: a U-Net without memory that learns by gradient as masks are revealed (the baseline of Babu,
Savarese and Maire, "Online meta-learning via learning with layer-distributed memory", NeurIPS 2021, table 4)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from harness.method.interface import MASKS, Feedback, State, Task
from harness.method.option_types import Count, NotNegative, Positive
from methods.nn import inner_loop
from methods.nn.functional_nets import Normalise
from methods.nn.gradient_learner import GradientLearner, pool, stream_logits
from methods.nn.inner_loop import Rate, Weights
from methods.nn.unet import Size, channels, sizes, walk


class FinetunedCNN(GradientLearner):
    """The ten layers of CL U-Net as plain convolutions, whose weights are the only memory within an episode.

    Every revealed mask m is `steps` steps of gradient descent on the image x it belongs to:

        W' = W - rate * d/dW BCE(f(x; W), m), the mean over pixels;   answers are f(x; W).

    Training minimises the loss of all answers of a stream over where W begins (and the rate) by its exact gradient
    through these steps, which is MAML for streams. Its recipe does so without distractors, as in the paper, so that
    nothing prepares it for masks that call an object background. Each episode has weights of its own, and all
    episodes of a batch learn at once; an image is held in the state until its mask is revealed.

    Inner learning rate and number of steps, like sizes and normalisation, are not in the paper.

    Options
    -------
    width : of the layers: 16-32-64-128-128-128-64-32-16 channels times this.
    norm : normalisation after each layer but the last: 'layer' (over all channels and pixels of an image) or
        'instance' (each channel of an image by itself, which leaves nothing of maps of a single pixel). Neither needs
        other images or running statistics.
    rate : the inner learning rate: 'constant', 'global' (one, learned) or 'layer' (one a parameter tensor, learned).
        What is learned is a factor of `inner_lr`, from 1.
    inner_lr : the rate, or where it begins if it is learned.
    steps : steps on a revealed mask.
    first_order : drop the second-order part of the training gradient.
    resolution : side in pixels to which images are average-pooled first, or None for their own size; answers are
        upsampled to the size of the masks.
    """

    kinds = MASKS

    def __init__(
        self,
        task: Task,
        *,
        width: Positive = 1.0,
        norm: Literal["layer", "instance"] = "layer",
        rate: Rate = "constant",
        inner_lr: NotNegative = 0.1,
        steps: Count = 1,
        first_order: bool = False,
        resolution: Count | None = None,
    ) -> None:
        super().__init__(task)
        depth, *full = task.image_shape
        self.size: Size = (full[0], full[1]) if resolution is None else (resolution, resolution)
        self.net = FunctionalUNet(depth, self.size, width, norm)
        self.inner_lr, self.steps, self.first_order = inner_lr, steps, first_order
        self.factors = inner_loop.rate_factors(self.net, rate)

    @property
    def sample_shape(self) -> tuple[int, ...]:
        return (self.task.image_shape[0], *self.size)

    def encode(self, x: Tensor) -> Tensor:
        """Images [B, N, C, h, w] as the net sees them."""
        return pool(x, self.size)

    def initial(self, episodes: int) -> State:
        """The initial weights of every episode."""
        return {"weights": inner_loop.per_episode_weights(self.net, episodes)}

    def learn(self, state: State, samples: Tensor, target: Tensor) -> State:
        weights = inner_loop.require_grad(state["weights"], self.training)
        return {"weights": self._descend(weights, samples, self._logits(weights, samples), target)}

    def answer(self, state: State, samples: Tensor) -> Tensor:
        return self._logits(state["weights"], samples)

    def rollout(self, x: Tensor, feedback: Feedback) -> Tensor | None:
        """As stepping; at delay 1 a forward pass serves both the answer and the first step on it."""
        delay = self.task.label_delay
        if delay is None:
            return None
        samples, target = self.encode_stream(x), feedback.target

        def answer(weights: Weights, step: int) -> Tensor:
            return self._logits(weights, samples[:, step, None])

        def learn(weights: Weights, logits: Tensor, step: int) -> Weights:
            after = self._descend(weights, samples[:, step - delay, None], logits, target[step, :, None])
            return inner_loop.require_grad(after, self.training)

        start = inner_loop.require_grad(inner_loop.per_episode_weights(self.net, x.shape[1]), self.training)
        return self.as_rollout(stream_logits(len(x), delay, start, answer, learn))

    def _logits(self, weights: Weights, samples: Tensor) -> Tensor:
        """Logits [B, N, 1, H, W] of images [B, N, C, h, w] of each episode under its own weights."""
        logits: Tensor = inner_loop.forward(self.net, weights, samples)
        size = self.task.image_shape[1:]
        whole = F.interpolate(logits.flatten(0, 1), size, mode="bilinear", align_corners=False)
        return whole.unflatten(0, logits.shape[:2])

    def _descend(self, weights: Weights, samples: Tensor, logits: Tensor, target: Tensor) -> Weights:
        """The weights after all steps on images [B, 1, C, h, w] with masks [B, 1, 1, H, W]; `logits` are the first."""
        rate = inner_loop.scaled_rate(self.inner_lr, self.factors, weights)
        for step in range(self.steps):
            if step:
                logits = self._logits(weights, samples)
            # A null mask is masked out, and so has a gradient of 0.
            each = F.binary_cross_entropy_with_logits(logits, target.clamp(min=0), reduction="none")
            loss = (each * (target >= 0)).squeeze(1).mean((1, 2, 3))
            weights = inner_loop.sgd_step(weights, loss, rate, self.training, not self.first_order)
        return weights


class FunctionalUNet(nn.Module):
    """Logits [N, 1, h, w] of images [N, C, h, w]: 3x3 convolutions, each but the last normalised and rectified."""

    def __init__(self, depth: int, size: Size, width: float, norm: Literal["layer", "instance"]) -> None:
        super().__init__()
        self.sizes = sizes(*size)
        if norm == "instance" and (1, 1) in self.sizes:
            raise ValueError(
                f"norm=instance leaves nothing of maps of a single pixel, to which images of {size[0]}x{size[1]} "
                "shrink; use 32x32 or more, or norm=layer"
            )
        inputs, outputs = channels(depth, width)
        # The normalisation cancels a bias of the layer before it, or has a shift that does the same.
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
