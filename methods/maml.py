"""MAML: an initialisation made to be learned from (Finn, Abbeel and Levine, "Model-agnostic meta-learning for fast
adaptation of deep networks", ICML 2017)."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

from torch import Tensor

from harness.method.interface import Feedback, Method, State, Task
from harness.method.option_types import Count, NotNegative
from harness.training.interface import Trainable
from methods.nn import dense_descent, episode_conv, inner_loop
from methods.nn.functional_nets import (
    FunctionalDense,
    Norm,
    SourceNet,
    SourceNorm,
    Statistics,
    build_learner,
    share_memory,
)
from methods.nn.gradient_learner import GradientLearner, pool, stream_logits
from methods.nn.inner_loop import Rate, Weights

_VALUES_AT_ONCE = 100_000_000
"""Values of the first layer over all images that are learned from, or answered, together while scored."""
_VALUES_IN_CACHE = 1_000_000
"""The same on a CPU."""
_FEWEST = 3
"""Sets of weights that are used together at least. Alone, one takes another path through a convolution, to other last
bits, and of four or more episodes in parts of three at most none is left alone."""


class MAML(Trainable, GradientLearner):
    """A net whose weights take a few steps of gradient descent in every episode, from a start that is trained for it.

    With the support pairs (x_i, y_i) of an episode, and W_0 where every episode begins (algorithm 2 of the paper):

        W_k+1 = W_k - rate * d/dW mean_i CE(f(x_i; W_k), y_i),  k = 0 .. steps - 1;   answers are f(x; W_steps).

    Training minimises the loss of the answers over W_0 (and the rate) by its exact gradient through all steps.
    All weights learn, scales and shifts of the normalisation included, for all episodes at once.

    Where there is a support set its pairs are stored in the state; `adapt` puts the adapted weights in their place.
    In streams every revealed label is one step on the image it belongs to, so that the label delay d must be given; the
    state is the weights and the last d images. A learner of streams has a pretraining method: itself on support sets,
    where the gradient through a few steps is cheap, and of which it takes net and running statistics.

    On mini-ImageNet the source clips each entry of the gradient to [-10, 10] (`clip_value` of a recipe) and no norm.
    Its loss of queries is a sum divided by the shots: its 10 is 10 here for one shot, and 50 for five.

    Options
    -------
    net : 'conv' (four layers of `channels`), 'dense' (256-128-64-64 units, as in van Niekerk 2019, table 2), or
        'strided_mean' (four convolutions of stride 2, then the mean over places: the source's for Omniglot) and
        'strided' (the same without the mean).
    norm : what normalisation takes its mean and variance over. 'support': the images of the support set, and queries
        are normalised by the statistics of the adapted net there, so that none sees another; 'instance': each image by
        itself, a channel at a time; 'layer': likewise, all channels together; 'batch': in the support set its images,
        among queries the queries, as the source has it, which makes the row transductive; 'source': 'batch' without a
        scale, and with a shift that training learns and episodes do not adapt, as the source has that too. In streams,
        where images come alone, 'support' uses the running statistics of the support sets of pretraining (mean 0 and
        variance 1 without it), and the statistics of 'batch' and 'source' are those of 'instance'. What trained best by
        far (real Omniglot, 5-way 1-shot, 16x16, 32 channels, two steps): 78 % after 73 updates by 'support', 58 % after
        134 by 'instance', 61 % by 'layer'.
    rate : the inner learning rate: 'constant', 'global' (one, learned) or 'layer' (one a parameter tensor, learned).
        What is learned is a factor of `inner_lr`, from 1, since Adam's steps have no scale; it may get negative.
    inner_lr : the rate, or where it begins if it is learned. The loss is a mean over the support set: what the source
        calls 0.4 for 5 ways and 0.1 for 20 is 2.0 here, its 0.01 for mini-ImageNet 0.05.
    pretext_lr : the same on the support sets of pretraining. A stream of many steps on one image each, normalised by
        statistics that do not follow the weights, bears far less.
    inner_steps, test_steps : steps on the support set, in training and in scoring (None: as many).
    first_order : drop the second-order part of the training gradient.
    resolution : side in pixels to which images are average-pooled first, or None for their own size.
    """

    kinds: ClassVar[tuple[str, ...]] = ("online_few_shot", "delayed_label", "continual", "n_way_k_shot")

    def __init__(
        self,
        task: Task,
        *,
        net: SourceNet = "conv",
        channels: Count = 64,
        norm: SourceNorm = "support",
        rate: Rate = "constant",
        inner_lr: NotNegative = 0.05,
        pretext_lr: NotNegative = 0.4,
        inner_steps: Count = 5,
        test_steps: Count | None = None,
        first_order: bool = False,
        resolution: Count | None = None,
    ) -> None:
        super().__init__(task)
        self.first_order, self.resolution, self.inner_lr = first_order, resolution, inner_lr
        self.steps = (inner_steps, test_steps or inner_steps)
        self.fits_support_set = task.kind == "n_way_k_shot"
        self.transductive = norm in ("batch", "source") and self.fits_support_set
        over: Norm = "batch" if norm == "source" else norm
        if over == "batch" and not self.fits_support_set:
            over = "instance"
        self.over: Norm = over
        depth, height, width = task.image_shape
        self.shape = (depth, resolution or height, resolution or width)
        self.learner = build_learner(net, self.shape, task.ways, channels, over, scaled=norm != "source")
        names = [name for name, _ in self.learner.named_parameters()]
        self._fixed = [name for name in names if norm == "source" and name.endswith(".shift")]
        self.factors = inner_loop.rate_factors(self.learner, rate)
        self._on_support_sets = partial(
            MAML,
            net=net,
            channels=channels,
            norm=norm,
            rate=rate,
            inner_lr=pretext_lr,
            inner_steps=inner_steps,
            first_order=first_order,
            resolution=resolution,
        )
        self._running = norm == "support" and not self.fits_support_set
        places = self.shape[1] * self.shape[2]
        self._sets = 1
        self._widest = 256 if net == "dense" else channels * (places if net == "conv" else -(-places // 4))

    @property
    def sample_shape(self) -> tuple[int, ...]:
        return self.shape

    def encode(self, x: Tensor) -> Tensor:
        """Images as the net sees them."""
        return pool(x, self.resolution)

    def initial(self, episodes: int) -> State:
        """W_0 for every episode."""
        return {"weights": inner_loop.per_episode_weights(self.learner, episodes)}

    def learn(self, state: State, samples: Tensor, target: Tensor) -> State:
        weights = inner_loop.require_grad(state["weights"], self.training)
        return {"weights": self._step(weights, self._logits(weights, samples), target)}

    def answer(self, state: State, samples: Tensor) -> Tensor:
        if "descent" in state:
            logits: Tensor = state["descent"].answer(self.over, samples)
            return logits
        return self._logits(state["weights"], samples, state.get("statistics", ()))

    def fit(self, samples: Tensor, labels: Tensor) -> State:
        """The weights after all steps, and the statistics that queries are normalised by.

        In training a fully connected net keeps both as a `Descent`, from which `adapted_weights` forms all weights.
        """
        start = self._start(len(samples))
        if self._written_out:
            return {"descent": self._descent(start, samples, labels)}
        weights, statistics = self._descend(start, samples, labels)
        return {"weights": weights, "statistics": statistics}

    def adapted_weights(self, state: State) -> Weights:
        """The weights [B, ...] that `fit` came to."""
        weights: Weights = state["descent"].all_weights() if "descent" in state else state["weights"]
        return weights

    def episodes_at_once(self, images: int) -> int | None:
        if self.training:
            return None
        values = _VALUES_IN_CACHE if next(self.parameters()).device.type == "cpu" else _VALUES_AT_ONCE
        return max(-(-_FEWEST // self._sets), values // (images * self._widest * self._sets))

    def rollout(self, x: Tensor, feedback: Feedback) -> Tensor | None:
        """As stepping; at delay 1 a forward pass serves both the answer and the step on it."""
        if self.task.label_delay is None:
            return None
        samples, target = self.encode_stream(x), feedback.target

        def answer(weights: Weights, step: int) -> Tensor:
            return self._logits(weights, samples[:, step, None])

        def learn(weights: Weights, logits: Tensor, step: int) -> Weights:
            return inner_loop.require_grad(self._step(weights, logits, target[step, :, None]), self.training)

        found = stream_logits(len(x), self.task.label_delay, self._start(x.shape[1]), answer, learn)
        return self.as_rollout(found)

    def pretraining_method(self, task: Task) -> Method | None:
        """The same learner on support sets: its net, its factors, and its classifier where there are as many ways."""
        return None if self.fits_support_set else self._maml_sharing(task)

    def _maml_sharing(self, task: Task) -> MAML:
        maml = self._on_support_sets(task)
        share_memory(maml.learner.body, self.learner.body)
        if maml.factors is not None and self.factors is not None:
            maml.factors.data = self.factors.data
        if task.ways == self.task.ways:
            share_memory(maml.learner.classify, self.learner.classify)
        return maml

    def _start(self, episodes: int) -> Weights:
        return inner_loop.require_grad(inner_loop.per_episode_weights(self.learner, episodes), self.training)

    def _descend(self, weights: Weights, images: Tensor, labels: Tensor) -> tuple[Weights, Statistics]:
        """The weights [B, ...] after all steps from `weights` on the support sets, and their statistics there."""
        if self._written_out:
            descent = self._descent(weights, images, labels)
            return descent.all_weights(), descent.statistics
        statistics: Statistics = ()
        for step in range(self.steps[not self.training]):
            logits, statistics = episode_conv.forward(self.learner, weights, images)
            if self.training and step == 0 and statistics:
                self.learner.body.update_running_statistics(statistics)
            weights = self._step(weights, logits, labels)
        if statistics:
            with self.outer_graph():
                statistics = episode_conv.forward(self.learner, weights, images)[1]
        return weights if self.training else {name: each.detach() for name, each in weights.items()}, statistics

    @property
    def _written_out(self) -> bool:
        """Whether the descent is `dense_descent`'s, faster in training. Scored numbers stay what they were."""
        return self.training and isinstance(self.learner.body, FunctionalDense)

    def _descent(self, weights: Weights, images: Tensor, labels: Tensor) -> dense_descent.Descent:
        """What the steps from `weights` on the support sets come to, for a fully connected net."""
        rate = inner_loop.scaled_rate(self.inner_lr, self.factors, weights)
        settings = self.over, images, labels, rate, self.steps[0], not self.first_order, self._fixed
        descent = dense_descent.descend(weights, *settings)
        if descent.first_statistics:
            self.learner.body.update_running_statistics(descent.first_statistics)
        return descent

    def _logits(self, weights: Weights, x: Tensor, statistics: Statistics = ()) -> Tensor:
        """Logits [B, N, ways] of images [B, N, C, H, W] under each episode's weights."""
        if self._running:
            running = self.learner.body.running_statistics()
            statistics = tuple(each.expand(len(x), *each.shape) for each in running)
        return episode_conv.forward(self.learner, weights, x, statistics)[0]

    def _step(self, weights: Weights, logits: Tensor, target: Tensor) -> Weights:
        """W_k+1 from W_k, the logits [B, N, ways] under it and the labels [B, N]."""
        loss = inner_loop.loss_by_episode(logits, target)
        rate = inner_loop.scaled_rate(self.inner_lr, self.factors, weights)
        # Those that stay are the same tensors in every step: their gradient would go back through all steps before.
        moving = self._moving(weights)
        return {**weights, **inner_loop.sgd_step(moving, loss, rate, self.training, not self.first_order)}

    def _moving(self, weights: Weights) -> Weights:
        """Those that episodes adapt."""
        return {name: each for name, each in weights.items() if name not in self._fixed}
