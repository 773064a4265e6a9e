"""MAML: an initialisation made to be learned from (Finn, Abbeel and Levine, "Model-agnostic meta-learning for fast
adaptation of deep networks", ICML 2017)."""

from __future__ import annotations

from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.method.interface import Feedback, Method, State, Task
from harness.training.interface import Trainable
from methods.nn import inner
from methods.nn.learners import Learner, Moments, Norm, PlasticConv, PlasticDense, share

_VALUES_AT_ONCE = 100_000_000
"""Values of the first layer over the support images of all episodes that are adapted together while scored."""


class MAML(Trainable, Method):
    """A net whose weights take a few steps of gradient descent in every episode, from a start that is trained for it.

    With the support pairs (x_i, y_i) of an episode, and W_0 where every episode begins:

        W_k+1 = W_k - rate * d/dW mean_i CE(f(x_i; W_k), y_i),  k = 0 .. steps - 1;   answers are f(x; W_steps).

    Training minimises the loss of the answers over W_0 (and the rate) by its exact gradient through all steps. All
    weights learn, scales and shifts of the normalisation included, for all episodes at once.

    Where there is a support set its pairs are collected in the state; `adapt` puts the adapted weights in their place.
    In streams every revealed label is one step on the image it belongs to, so that the label delay d must be told; the
    state is the weights and the last d images. Such a learner has a pretext: itself on support sets, where the
    gradient through a few steps is cheap, and of which it keeps net and moments.

    Options
    -------
    net : 'conv' (four layers of `channels`) or 'dense' (256-128-64-64 units, as in van Niekerk 2019, table 2).
    norm : what normalisation takes its mean and variance over. 'support': the images of the support set, and queries
        are normalised by what the adapted net took there, so that none sees another; 'instance': each image by itself,
        a channel at a time; 'layer': likewise, all channels together; 'batch': in the support set its images, among
        queries the queries, as the source has it, which makes the row transductive. In streams, where images come
        alone, 'support' stays at the moments that the pretext's support sets had on average (0 and 1 without it), and
        'batch' is 'instance'. What trained best by far (real Omniglot, 5-way 1-shot, 16x16, 32
        channels, two steps): 78 % after 73 updates by 'support', 58 % after 134 by 'instance', 61 % by 'layer'.
    rate : the inner learning rate: 'constant', 'global' (one, learned) or 'layer' (one a parameter tensor, learned).
        What is learned is a factor of `inner_lr`, from 1, since the steps of Adam know no scale; it may get negative.
    inner_lr : the rate, or where it begins if it is learned. The loss is a mean over the support set: what the source
        calls 0.4 for 5 ways and 0.1 for 20 is 2.0 here, its 0.01 for mini-ImageNet 0.05.
    pretext_lr : the same on the support sets of a stream's pretext. A stream of many steps on one image each, under
        moments that do not follow the weights, bears far less.
    inner_steps, test_steps : steps on the support set, in training and in scoring (None: as many).
    first_order : drop the second-order part of the training gradient.
    resolution : side to which images are average-pooled first, or None for their own size.
    """

    needs_label_delay = True
    learns_by_gradient = True
    kinds: ClassVar[tuple[str, ...]] = ("online_few_shot", "delayed_label", "continual", "n_way_k_shot")

    def __init__(
        self,
        task: Task,
        net: Literal["conv", "dense"] = "conv",
        channels: int = 64,
        norm: Norm = "support",
        rate: Literal["constant", "global", "layer"] = "constant",
        inner_lr: float = 0.05,
        pretext_lr: float = 0.4,
        inner_steps: int = 5,
        test_steps: int | None = None,
        first_order: bool = False,
        resolution: int | None = None,
    ) -> None:
        super().__init__(task)
        for name, value in {"inner_steps": inner_steps, "test_steps": test_steps}.items():
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, found {value}")
        self.first_order, self.resolution, self.inner_lr = first_order, resolution, inner_lr
        self.steps = (inner_steps, test_steps or inner_steps)
        self.collects = task.kind == "n_way_k_shot"
        self.transductive = norm == "batch" and self.collects
        if norm == "batch" and not self.collects:
            norm = "instance"
        depth, height, width = task.image_shape
        self.shape = (depth, resolution or height, resolution or width)
        body = PlasticConv(self.shape, channels, norm) if net == "conv" else PlasticDense(self.shape, norm)
        self.learner = Learner(body, task.ways)
        names = [name for name, _ in self.learner.named_parameters()]
        self.factors: nn.Parameter | None = None
        if rate != "constant":
            self.factors = nn.Parameter(torch.ones((len(names),) if rate == "layer" else ()))
        self._alike = partial(
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
        self._usual = norm == "support" and not self.collects
        self._widest = channels * self.shape[1] * self.shape[2] if net == "conv" else 256

    def start(self, episodes: int) -> State:
        """No pairs yet; in streams the initial weights of every episode, and images [B, d, C, H, W] to be labelled."""
        pending = self.learner.classify.weight.new_zeros(episodes, self.task.label_delay or 0, *self.shape)
        if self.collects:
            labels = torch.zeros(episodes, 0, dtype=torch.int64, device=pending.device)
            return {"images": pending, "labels": labels}
        with self._graph():
            return {"weights": inner.own_weights(self.learner, episodes), "pending": pending}

    def observe(self, state: State, feedback: Feedback) -> State:
        """Keeps the pair; or one step of gradient descent on it, or on the oldest pending image."""
        if self.collects:
            assert feedback.x is not None
            images = torch.cat([state["images"], self._seen(feedback.x.unsqueeze(1))], 1)
            return {"images": images, "labels": torch.cat([state["labels"], feedback.target.unsqueeze(1)], 1)}
        seen = state["pending"][:, :1] if feedback.x is None else self._seen(feedback.x.unsqueeze(1))
        weights = inner.ready(state["weights"], self.training)
        return {**state, "weights": self._moved(weights, self._answers(weights, seen), feedback.target.unsqueeze(1))}

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        seen = self._seen(x.unsqueeze(1))
        with self._graph():
            logits = self._answers(state["weights"], seen).squeeze(1)
        return logits, {**state, "pending": torch.cat([state["pending"][:, 1:], seen], 1)}

    def adapt(self, state: State) -> State:
        """The weights after all steps on the support set, and the moments that queries are normalised by."""
        if "images" not in state:
            return state
        images, labels = state["images"], state["labels"]
        at_once = len(images)
        if not self.training:
            at_once = max(1, _VALUES_AT_ONCE // (images.shape[1] * self._widest))
        parts = [self._adapted(*pair) for pair in zip(images.split(at_once), labels.split(at_once), strict=True)]
        weights = {name: torch.cat([part[0][name] for part in parts]) for name in parts[0][0]}
        moments = tuple(torch.cat(layer) for layer in zip(*(part[1] for part in parts), strict=True))
        return {"weights": weights, "moments": moments}

    def query(self, state: State, x: Tensor) -> Tensor:
        """All queries under the same weights, which need no copy for each."""
        with self._graph():
            return self._answers(state["weights"], self._seen(x), state.get("moments", ()))

    def rollout(self, x: Tensor, feedback: Feedback) -> Tensor | None:
        """As stepping, but what learned last is not computed again where the answer to it stands already."""
        delay = self.task.label_delay
        if delay is None:
            return None
        seen, target = self._seen(x.transpose(0, 1)), feedback.target
        weights = self._begun(x.shape[1])
        answers: list[Tensor] = []
        for step in range(len(x)):
            if step >= delay:
                late = seen[:, step - delay, None]
                # At delay 1 nothing was learned since: the answer of the last step is that of the inner loss.
                told = answers[-1] if delay == 1 else self._answers(weights, late)
                weights = inner.ready(self._moved(weights, told, target[step, :, None]), self.training)
            answers.append(self._answers(weights, seen[:, step, None]))
        logits = torch.cat(answers, 1).transpose(0, 1)
        return logits if self.training else logits.detach()

    def absorb(self, state: State, x: Tensor, feedback: Feedback) -> State:
        """Support pairs are stacked; in streams a step a label, and no answers."""
        seen, target = self._seen(x.transpose(0, 1)), feedback.target.T
        if self.collects:
            kept = torch.cat([state["images"], seen], 1), torch.cat([state["labels"], target], 1)
            return {"images": kept[0], "labels": kept[1]}
        fed = torch.cat([state["pending"], seen], 1) if feedback.x is None else seen
        weights = inner.ready(state["weights"], self.training)
        for step in range(len(x)):
            moved = self._moved(weights, self._answers(weights, fed[:, step, None]), target[:, step, None])
            weights = inner.ready(moved, self.training)
        return {"weights": weights, "pending": fed[:, len(x) :] if feedback.x is None else state["pending"]}

    def pretraining_method(self, task: Task) -> Method | None:
        """The same learner on support sets: its net, its factors, and its classifier where there are as many ways."""
        return None if self.collects else self._sharing(task)

    def _sharing(self, task: Task) -> MAML:
        maml = self._alike(task)
        share(maml.learner.body, self.learner.body)
        if maml.factors is not None and self.factors is not None:
            maml.factors.data = self.factors.data
        if task.ways == self.task.ways:
            share(maml.learner.classify, self.learner.classify)
        return maml

    def _seen(self, x: Tensor) -> Tensor:
        """Images [B, N, C, H, W] as the net sees them."""
        if self.resolution is None:
            return x
        return F.adaptive_avg_pool2d(x.flatten(0, 1), self.resolution).unflatten(0, x.shape[:2])

    def _begun(self, episodes: int) -> inner.Weights:
        return inner.ready(inner.own_weights(self.learner, episodes), self.training)

    def _adapted(self, images: Tensor, labels: Tensor) -> tuple[inner.Weights, Moments]:
        """The weights [B, ...] after all steps on the support sets, and the moments that they then have there."""
        return self._learned(self._begun(len(images)), images, labels)

    def _learned(self, weights: inner.Weights, images: Tensor, labels: Tensor) -> tuple[inner.Weights, Moments]:
        moments: Moments = ()
        for step in range(self.steps[not self.training]):
            logits, moments = inner.answers(self.learner, weights, images, ())
            if self.training and step == 0 and moments:
                self.learner.body.collect(moments)
            weights = self._moved(weights, logits, labels)
        with self._graph():
            moments = inner.answers(self.learner, weights, images, ())[1] if moments else ()
        return weights if self.training else {name: each.detach() for name, each in weights.items()}, moments

    def _answers(self, weights: inner.Weights, x: Tensor, moments: Moments = ()) -> Tensor:
        """Logits [B, N, ways] of images [B, N, C, H, W] under each episode's weights."""
        if self._usual:
            moments = tuple(each.expand(len(x), *each.shape) for each in self.learner.body.usual())
        logits: Tensor = inner.answers(self.learner, weights, x, moments)[0]
        return logits

    def _moved(self, weights: inner.Weights, logits: Tensor, target: Tensor) -> inner.Weights:
        """The weights after one step on the labels [B, N] of what was answered [B, N, ways]."""
        rates: Tensor | float | dict[str, Tensor] = self.inner_lr
        if self.factors is not None:
            rates = self.inner_lr * self.factors
            rates = dict(zip(weights, rates, strict=True)) if rates.dim() else rates
        loss = inner.loss_by_episode(logits, target)
        return inner.descended(weights, loss, rates, self.training, not self.first_order)

    def _graph(self) -> torch.autograd.grad_mode.set_grad_enabled:
        """While it is scored nothing is trained: a graph is needed within an inner step only."""
        return torch.set_grad_enabled(self.training and torch.is_grad_enabled())
