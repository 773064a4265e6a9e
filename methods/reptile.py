"""Reptile: a start that lies near to where learning every task ends (Nichol, Achiam and Schulman, "On first-order
meta-learning algorithms", 2018)."""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch
from torch import Tensor

from harness.method.interface import Feedback, Method, State, Task
from harness.training.interface import Batch
from methods.maml import MAML
from methods.nn import adam, inner
from methods.nn.learners import Moments, Norm, share
from methods.nn.passes import batches_over


class Reptile(MAML):
    """`MAML`'s net, whose start moves towards where plain learning of training tasks took it.

    From the start W every episode b takes k steps of Adam without momentum (beta1 = 0), each on a batch of its labelled
    samples, and ends at W_b. An update is

        W <- W + eps mean_b (W_b - W),

    with eps the learning rate of a recipe's optimiser 'sgd': training minimises mean_b |W - W_b|^2 / 2 with W_b held
    constant, whose gradient that is. So the loss that a run reports is such a distance, and no cross-entropy. In
    training all samples of an episode are learned from, its queries like its support set (the source: 15 of a class for
    mini-ImageNet, whatever the shots), and eps falls from 1 to 0. Later it is the support set alone.

    The mean squared gradients v of Adam go on from episode to episode, in scoring from where training left them. In
    the source tasks follow one another; here those of one update go on from the same v, and their mean is kept.

    In streams every revealed label is one step on the image it belongs to, so that the label delay d must be told; the
    state is the weights, v, and the last d images; W_b is then where a whole stream ends. Its pretext is Reptile on
    support sets, of which it keeps net, moments and v.

    The source has max-pooling before the ReLU and not after it, which is the same.

    Options
    -------
    net, channels, norm, resolution : as in `MAML`. By norm 'support' a query is normalised by what the adapted net took
        over the support set; the source (not transductive) puts the query itself with the support set for that.
    transductive : queries are normalised by their own mean and variance, taken over them together, which is what the
        better known numbers of the source are of; support sets with norm 'support' only. The row is marked.
    inner_lr : the rate of Adam.
    pretext_lr : the same on the support sets of a stream's pretext.
    inner_steps, inner_batch : steps in training and samples of a batch; the set, if it has fewer.
    test_steps, test_batch : the same while scored; batch None: as in training. The source has 50 steps, of 5 samples
        for 5 x 1 and 15 for 5 x 5, and 50 of 10 for 20 ways.
    carry : v goes on from episode to episode, or begins at zero in each.
    """

    def __init__(
        self,
        task: Task,
        net: Literal["conv", "dense"] = "conv",
        channels: int = 32,
        norm: Norm = "support",
        transductive: bool = False,
        inner_lr: float = 1e-3,
        pretext_lr: float = 1e-3,
        inner_steps: int = 8,
        inner_batch: int = 10,
        test_steps: int = 50,
        test_batch: int | None = None,
        carry: bool = True,
        resolution: int | None = None,
    ) -> None:
        if norm == "batch" or (transductive and norm != "support"):
            raise ValueError("norm 'batch' is asked for by transductive=true, which goes with norm 'support' alone")
        if min(inner_batch, inner_batch if test_batch is None else test_batch) < 1:
            raise ValueError(f"batches must be of at least 1, found {inner_batch} and {test_batch}")
        together = transductive and task.kind == "n_way_k_shot"
        super().__init__(
            task,
            net,
            channels,
            "batch" if together else norm,
            inner_lr=inner_lr,
            inner_steps=inner_steps,
            test_steps=test_steps,
            resolution=resolution,
        )
        self.sizes = (inner_batch, test_batch or inner_batch)
        self.carry = carry
        self.squares = adam.Carried({"body": self.learner.body, "classify": self.learner.classify})
        self._alike = partial(  # type: ignore[assignment]
            Reptile,
            net=net,
            channels=channels,
            norm=norm,
            inner_lr=pretext_lr,
            inner_steps=inner_steps,
            inner_batch=inner_batch,
            test_steps=test_steps,
            carry=carry,
            resolution=resolution,
        )

    def start(self, episodes: int) -> State:
        """No pairs yet; in streams weights and squares, and images [B, d, C, H, W] to be labelled."""
        state = super().start(episodes)
        return state if self.collects else {**state, "squares": self.squares.begun(episodes)}

    def observe(self, state: State, feedback: Feedback) -> State:
        """Keeps the pair; or one step on it, or on the oldest pending image."""
        if self.collects:
            return super().observe(state, feedback)
        seen = state["pending"][:, :1] if feedback.x is None else self._seen(feedback.x.unsqueeze(1))
        weights, squares = self._stepped(state["weights"], state["squares"], seen, feedback.target.unsqueeze(1))
        return {**state, "weights": weights, "squares": squares}

    def rollout(self, x: Tensor, feedback: Feedback) -> Tensor | None:
        return None

    def absorb(self, state: State, x: Tensor, feedback: Feedback) -> State:
        """Support pairs are stacked; streams are stepped."""
        return super().absorb(state, x, feedback) if self.collects else None

    def episode_loss(self, batch: Batch) -> Tensor:
        """Half the squared distance to where learning ends, [B] averaged; its gradient is mean_b (W - W_b)."""
        x, target, first = batch.x, batch.target, batch.first_query
        seen, labels = self._seen(x.transpose(0, 1)), target.T
        with torch.no_grad():
            weights, squares = self._begun(len(seen)), self.squares.begun(len(seen))
            if self.collects:
                moments = inner.answers(self.learner, weights, seen[:, : self.sizes[0]], ())[1]
                if moments:
                    self.learner.body.collect(moments)
                batches = batches_over(seen.shape[1], self.sizes[0], self.steps[0])
            else:
                batches = [[step] for step in range(first)]
            for rows in batches:
                weights, squares = self._stepped(weights, squares, seen[:, rows], labels[:, rows])
            if self.carry:
                self.squares.collect(squares)
        apart = [(own - weights[name]).square().sum() for name, own in self.learner.named_parameters()]
        return 0.5 * torch.stack(apart).sum() / len(seen)

    def pretraining_method(self, task: Task) -> Method | None:
        """The same learner on support sets: its net and squares, its classifier where there are as many ways."""
        if self.collects:
            return None
        reptile = self._alike(task)
        assert isinstance(reptile, Reptile)
        parts = ["body", "classify"] if task.ways == self.task.ways else ["body"]
        for part in parts:
            share(getattr(reptile.learner, part), getattr(self.learner, part))
            share(reptile.squares.parts[part], self.squares.parts[part])
        return reptile

    def _begun(self, episodes: int) -> inner.Weights:
        return {name: each.detach() for name, each in inner.own_weights(self.learner, episodes).items()}

    def _adapted(self, images: Tensor, labels: Tensor) -> tuple[inner.Weights, Moments]:
        weights, squares = self._begun(len(images)), self.squares.begun(len(images))
        late = not self.training
        for rows in batches_over(images.shape[1], self.sizes[late], self.steps[late]):
            weights, squares = self._stepped(weights, squares, images[:, rows], labels[:, rows])
        with torch.no_grad():
            return weights, inner.answers(self.learner, weights, images, ())[1]

    def _stepped(
        self, weights: inner.Weights, squares: adam.Squares, x: Tensor, target: Tensor
    ) -> tuple[inner.Weights, adam.Squares]:
        """Weights and squares after one step on images [B, n, C, H, W] with labels [B, n]; null (-1) has no say."""
        with torch.enable_grad():
            free = inner.free(weights)
            loss = inner.loss_by_episode(self._answers(free, x), target)
            slopes = inner.gradients(free, loss, through=False)
        with torch.no_grad():
            free = {name: each.detach() for name, each in weights.items()}
            return adam.moved(free, slopes, squares, self.inner_lr, (target >= 0).any(1))
