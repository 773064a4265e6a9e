"""PLATIPUS: MAML from a start that is itself uncertain (Finn, Xu and Levine, "Probabilistic model-agnostic
meta-learning", NeurIPS 2018)."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.method.interface import Method, State, Task
from harness.training.interface import Batch
from harness.util import philox
from methods.maml import MAML
from methods.nn import inner
from methods.nn.learners import Moments, Norm


class PLATIPUS(MAML):
    """`MAML` whose start is sampled in every episode, near to learned values; answers are averaged over samples.

    Learned are a mean mu and deviations sigma of every weight, deviations v of the same weights for training, and two
    step sizes gamma_p and gamma_q. With L(W; S) the mean cross-entropy of the net with weights W over samples S,

        p = N(mu - gamma_p dL(mu; support), sigma^2),    q = N(mu - gamma_q dL(mu; queries), v^2).

    Training samples W_0 from q, learns the support set from there by MAML's steps, W_k, and minimises, averaged over
    episodes,

        sum over queries of CE(f(x; W_k), y)  +  kl_weight KL(q || p).

    So q sees the labels of queries, of training episodes only. When it is scored, W_0 is sampled from p, and the
    probabilities that are answered are means over `samples` of them. These are the same draws of standard noise in
    every scored episode: an answer is a function of the episode alone. In training, they are new at every update.

    Its pretext is `MAML` with the same net, of which it keeps that as mu; a mean that is trained already spares much
    of the training that a sampled start makes slow. It is for support sets only.

    Options
    -------
    samples : starts that are sampled when it is scored; the state has weights for each.
    kl_weight : as above; the source weighs the divergence down too.
    gamma : where both step sizes begin; learned as factors of it, like `MAML`'s rates.
    deviation : where sigma and v begin.
    net, channels, norm, rate, inner_lr, inner_steps, test_steps, first_order, resolution : as in `MAML`; first order
        holds for the two gradients at mu, too.
    """

    needs_label_delay = False
    kinds = ("n_way_k_shot",)

    def __init__(
        self,
        task: Task,
        samples: int = 10,
        kl_weight: float = 0.15,
        gamma: float = 0.05,
        deviation: float = 0.01,
        net: Literal["conv", "dense"] = "conv",
        channels: int = 32,
        norm: Norm = "support",
        rate: Literal["constant", "global", "layer"] = "constant",
        inner_lr: float = 0.05,
        inner_steps: int = 5,
        test_steps: int | None = None,
        first_order: bool = False,
        resolution: int | None = None,
    ) -> None:
        if samples < 1:
            raise ValueError(f"samples must be at least 1, found {samples}")
        if deviation <= 0:
            raise ValueError(f"deviation must be above 0, found {deviation}")
        super().__init__(
            task,
            net,
            channels,
            norm,
            rate,
            inner_lr,
            pretext_lr=inner_lr,
            inner_steps=inner_steps,
            test_steps=test_steps,
            first_order=first_order,
            resolution=resolution,
        )
        self.samples, self.kl_weight, self.gamma = samples, kl_weight, gamma
        begun = [torch.full_like(each, math.log(deviation)) for each in self.learner.parameters()]
        self.log_sigma, self.log_v = nn.ParameterList(begun), nn.ParameterList([each.clone() for each in begun])
        self.gamma_p, self.gamma_q = nn.Parameter(torch.ones(())), nn.Parameter(torch.ones(()))
        self._widest *= samples

    def query(self, state: State, x: Tensor) -> Tensor:
        """The logarithms of probabilities, means over the samples."""
        weights = {name: each.flatten(0, 1) for name, each in state["weights"].items()}
        moments = tuple(each.flatten(0, 1) for each in state["moments"])
        with self._graph():
            answers = self._answers(weights, self._seen(x).repeat_interleave(self.samples, 0), moments)
            each = F.log_softmax(answers, -1).unflatten(0, (len(x), self.samples))
            return each.logsumexp(1) - math.log(self.samples)

    def episode_loss(self, batch: Batch) -> Tensor:
        """The summed loss of the queries from a start sampled from q, and the weighed divergence."""
        x, target, first = batch.x, batch.target, batch.first_query
        seen, labels = self._seen(x.transpose(0, 1)), target.T
        support, asked = (seen[:, :first], labels[:, :first]), (seen[:, first:], labels[:, first:])
        p, q = self._mean(*support, self.gamma_p), self._mean(*asked, self.gamma_q)
        # In training the harness seeds torch anew for every update.
        start = {
            name: each + log.exp() * torch.randn_like(each)
            for (name, each), log in zip(q.items(), self.log_v, strict=True)
        }
        weights, moments = self._learned(start, *support)
        answers = self._answers(weights, asked[0], moments).transpose(0, 1)
        loss = self.loss(answers, batch)
        return loss + self.kl_weight * divergence(q, list(self.log_v), p, list(self.log_sigma)).mean()

    def pretraining_method(self, task: Task) -> Method:
        """MAML with the net, and the classifier where there are as many ways."""
        return self._sharing(task)

    def _mean(self, images: Tensor, labels: Tensor, factor: Tensor) -> inner.Weights:
        """The mean of p or q [B, ...]: one step from mu on images [B, N, C, H, W] with labels [B, N]."""
        mu = self._begun(len(images))
        loss = inner.loss_by_episode(inner.answers(self.learner, mu, images, ())[0], labels)
        return inner.descended(mu, loss, self.gamma * factor, self.training, not self.first_order)

    def _adapted(self, images: Tensor, labels: Tensor) -> tuple[inner.Weights, Moments]:
        """Weights [B, samples, ...] after all steps from starts sampled from p, and their moments."""
        mean, noise = self._mean(images, labels, self.gamma_p), self._noise()
        start = {
            name: (each.unsqueeze(1) + log.exp() * own).flatten(0, 1)
            for (name, each), log, own in zip(mean.items(), self.log_sigma, noise, strict=True)
        }
        many = (each.repeat_interleave(self.samples, 0) for each in (images, labels))
        weights, moments = self._learned(inner.ready(start, self.training), *many)
        shape = (len(images), self.samples)
        parted = {name: each.unflatten(0, shape) for name, each in weights.items()}
        return parted, tuple(each.unflatten(0, shape) for each in moments)

    def _noise(self) -> list[Tensor]:
        """Standard noise [samples, ...] for each weight: always the same."""
        random = torch.Generator().manual_seed(philox.key_of("PLATIPUS", "samples")[0])
        own = self.learner.parameters()
        return [torch.randn(self.samples, *each.shape, generator=random).to(each) for each in own]


def divergence(q: inner.Weights, log_v: list[Tensor], p: inner.Weights, log_sigma: list[Tensor]) -> Tensor:
    """KL(q || p) of Gaussians with means [B, ...] by name and logarithms of deviations [...] in their order, [B]."""
    total = []
    for name, narrow, wide in zip(q, log_v, log_sigma, strict=True):
        apart = (q[name] - p[name]).square()
        each = wide - narrow + ((2 * narrow).exp() + apart) / (2 * (2 * wide).exp()) - 0.5
        total.append(each.flatten(1).sum(1))
    return torch.stack(total).sum(0)
