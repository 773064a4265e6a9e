"""PLATIPUS: MAML from a start that is itself uncertain (Finn, Xu and Levine, "Probabilistic model-agnostic
meta-learning", NeurIPS 2018)."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.method.interface import Method, State, Task
from harness.method.option_types import Count, NotNegative, Positive
from harness.training.interface import Batch
from harness.util import philox
from methods.maml import MAML
from methods.nn import episode_conv, inner_loop
from methods.nn.functional_nets import NetName, SourceNorm
from methods.nn.inner_loop import Rate, Weights
from methods.nn.needs_queries import check_queries


class PLATIPUS(MAML):
    """`MAML` whose start is sampled in every episode, near to learned values; answers are averaged over samples.

    Trained are a mean mu and deviations sigma of every weight, deviations v of the same weights for training, and two
    step sizes gamma_p and gamma_q. With L(W; S) the mean cross-entropy of the net with weights W over samples S,

        p = N(mu - gamma_p dL(mu; support), sigma^2),    q = N(mu - gamma_q dL(mu; queries), v^2).

    Training (algorithm 1) samples W_0 from q, takes MAML's steps on the support set from there, to W_k, and minimises,
    averaged over episodes,

        sum over queries of CE(f(x; W_k), y)  +  kl_weight KL(q || p).

    So q sees the labels of queries, of training episodes only. When it is scored (algorithm 2), W_0 is sampled from p,
    and the answered probabilities are means over `samples` of them. These are the same draws of standard noise in every
    scored episode: an answer is a function of the episode alone. In training, they are new at every update.

    Its pretraining method is `MAML` with the same net, whose weights become mu: from a trained mean, much less of the
    training that sampled starts make slow is needed. It is for support sets only.

    Options
    -------
    samples : starts that are sampled when it is scored; the state has weights for each.
    kl_weight : as above; the source, too, gives the divergence a weight below 1.
    gamma : where both step sizes begin; learned as factors of it, like `MAML`'s rates.
    deviation : where sigma and v begin.
    net, channels, norm, rate, inner_lr, inner_steps, test_steps, first_order, resolution : as in `MAML`; first order
        holds for the two gradients at mu, too. Shifts that episodes do not adapt (norm 'source') are not sampled.
    """

    needs_label_delay = False
    kinds = ("n_way_k_shot",)

    def __init__(
        self,
        task: Task,
        *,
        samples: Count = 10,
        kl_weight: NotNegative = 0.15,
        gamma: NotNegative = 0.05,
        deviation: Positive = 0.01,
        net: NetName = "conv",
        channels: Count = 32,
        norm: SourceNorm = "support",
        rate: Rate = "constant",
        inner_lr: NotNegative = 0.05,
        inner_steps: Count = 5,
        test_steps: Count | None = None,
        first_order: bool = False,
        resolution: Count | None = None,
    ) -> None:
        super().__init__(
            task,
            net=net,
            channels=channels,
            norm=norm,
            rate=rate,
            inner_lr=inner_lr,
            pretext_lr=inner_lr,
            inner_steps=inner_steps,
            test_steps=test_steps,
            first_order=first_order,
            resolution=resolution,
        )
        self.samples, self.kl_weight, self.gamma = samples, kl_weight, gamma
        sampled = self._moving(dict(self.learner.named_parameters()))
        logs = [torch.full_like(each, math.log(deviation)) for each in sampled.values()]
        self.log_sigma, self.log_v = nn.ParameterList(logs), nn.ParameterList([each.clone() for each in logs])
        self.gamma_p, self.gamma_q = nn.Parameter(torch.ones(())), nn.Parameter(torch.ones(()))
        self._sets = samples

    def answer(self, state: State, samples: Tensor) -> Tensor:
        """The logarithms of probabilities, means over the sampled starts."""
        weights = {name: each.flatten(0, 1) for name, each in state["weights"].items()}
        statistics = tuple(each.flatten(0, 1) for each in state["statistics"])
        logits = self._logits(weights, samples.repeat_interleave(self.samples, 0), statistics)
        each = F.log_softmax(logits, -1).unflatten(0, (len(samples), self.samples))
        return each.logsumexp(1) - math.log(self.samples)

    def fit(self, samples: Tensor, labels: Tensor) -> State:
        """Weights [B, samples, ...] after all steps from starts sampled from p, and their statistics."""
        mean = {
            name: each.unsqueeze(1).expand(-1, self.samples, *each.shape[1:])
            for name, each in self._mean(samples, labels, self.gamma_p).items()
        }
        drawn = self._sampled(mean, self.log_sigma, self._noise())
        start = {name: each.flatten(0, 1) for name, each in drawn.items()}
        repeated = (each.repeat_interleave(self.samples, 0) for each in (samples, labels))
        weights, statistics = self._descend(inner_loop.require_grad(start, self.training), *repeated)
        shape = (len(samples), self.samples)
        by_episode = {name: each.unflatten(0, shape) for name, each in weights.items()}
        return {"weights": by_episode, "statistics": tuple(each.unflatten(0, shape) for each in statistics)}

    def episode_loss(self, batch: Batch) -> Tensor:
        """The summed loss of the queries from a start sampled from q, and the weighted divergence."""
        check_queries(batch, "the loss of PLATIPUS")
        x, labels, first = self.encode(batch.x.transpose(0, 1)), batch.target.T, batch.first_query
        support, queries = (x[:, :first], labels[:, :first]), (x[:, first:], labels[:, first:])
        p, q = self._mean(*support, self.gamma_p), self._mean(*queries, self.gamma_q)
        # In training the harness seeds torch anew for every update.
        noise = [torch.randn_like(each) for each in self._moving(q).values()]
        weights, statistics = self._descend(self._sampled(q, self.log_v, noise), *support)
        loss = self.loss(self._logits(weights, queries[0], statistics).transpose(0, 1), batch)
        q, p = self._moving(q), self._moving(p)
        return loss + self.kl_weight * divergence(q, list(self.log_v), p, list(self.log_sigma)).mean()

    def pretraining_method(self, task: Task) -> Method:
        """MAML with the net, and the classifier where there are as many ways."""
        return self._maml_sharing(task)

    def _mean(self, images: Tensor, labels: Tensor, factor: Tensor) -> Weights:
        """The mean of p or q [B, ...]: one step from mu on images [B, N, C, H, W] with labels [B, N]."""
        mu = self._start(len(images))
        loss = inner_loop.loss_by_episode(episode_conv.forward(self.learner, mu, images)[0], labels)
        moving = self._moving(mu)
        return {**mu, **inner_loop.sgd_step(moving, loss, self.gamma * factor, self.training, not self.first_order)}

    def _sampled(self, mean: Weights, logs: Iterable[Tensor], noise: Iterable[Tensor]) -> Weights:
        """Starts from their mean, the logarithms of deviations and standard noise of those that are sampled."""
        own = zip(self._moving(mean).items(), logs, noise, strict=True)
        return {**mean, **{name: each + log.exp() * drawn for (name, each), log, drawn in own}}

    def _noise(self) -> list[Tensor]:
        """Standard noise [samples, ...] for each sampled weight: always the same."""
        random = torch.Generator().manual_seed(philox.key_of("PLATIPUS", "samples")[0])
        return [torch.randn(self.samples, *each.shape, generator=random).to(each) for each in self.log_sigma]


def divergence(q: Weights, log_v: list[Tensor], p: Weights, log_sigma: list[Tensor]) -> Tensor:
    """KL(q || p) of Gaussians with means [B, ...] by name and logarithms of deviations [...] in their order, [B]."""
    total = []
    for name, log_q, log_p in zip(q, log_v, log_sigma, strict=True):
        distance = (q[name] - p[name]).square()
        each = log_p - log_q + ((2 * log_q).exp() + distance) / (2 * (2 * log_p).exp()) - 0.5
        total.append(each.flatten(1).sum(1))
    return torch.stack(total).sum(0)
