"""LLAMA: MAML as inference in a hierarchical model (Grant, Finn, Levine, Darrell and Griffiths, "Recasting
gradient-based meta-learning as hierarchical Bayes", ICLR 2018)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from harness.method.interface import Feedback, Task
from harness.method.option_types import Count, NotNegative, Positive
from harness.training.interface import Batch
from methods.maml import MAML
from methods.nn.curvature import Fisher, factors, log_determinant
from methods.nn.functional_nets import NetName, SourceNorm
from methods.nn.inner_loop import Rate
from methods.nn.needs_queries import check_queries


class LLAMA(MAML):
    """`MAML`, trained to end where the loss of a task is flat as well as low.

    The adapted weights W of an episode stand for a Gaussian around them (Laplace's approximation), whose width is that
    of the loss there. Training minimises, averaged over episodes,

        sum over queries of CE(f(x; W), y)  +  eta log det H(W),

    where H is the curvature of the summed loss on the support set at W, plus the precision of a Gaussian prior.
    H is Kronecker-factored, a layer at a time (`methods.nn.curvature`): A_l from the inputs of a layer, G_l from the
    gradients by its outputs. The gradient of the second term goes through all A_l and the classifier's G_l and from
    there through all inner steps; the other G_l, themselves gradients, count as constants. Answers are those of `MAML`.

    It is for support sets only: a stream has no set of labelled samples to take a curvature over, and without the term
    it is `MAML`.

    Options
    -------
    eta : weight of the log-determinant; 0 is `MAML`.
    precision : of the prior, added to the curvature.
    fisher : 'expected' (curvature over the labels that the net itself would give; as many backward passes as ways) or
        'empirical' (over the true labels; one pass).
    layers : whose curvature is computed: 'all' linear maps, or the 'last', the classifier.
    net, channels, norm, rate, inner_lr, inner_steps, test_steps, first_order, resolution : as in `MAML`.
    """

    needs_label_delay = False
    kinds = ("n_way_k_shot",)

    def __init__(
        self,
        task: Task,
        *,
        eta: NotNegative = 1e-6,
        precision: Positive = 1.0,
        fisher: Fisher = "expected",
        layers: Literal["all", "last"] = "all",
        net: NetName = "conv",
        channels: Count = 64,
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
            inner_steps=inner_steps,
            test_steps=test_steps,
            first_order=first_order,
            resolution=resolution,
        )
        self.eta, self.precision, self.fisher, self.layers = eta, precision, fisher, layers

    def episode_loss(self, batch: Batch) -> Tensor:
        """The summed loss of the queries and the weighted log-determinant, averaged over episodes."""
        check_queries(batch, "the loss of LLAMA")
        x, target, first = batch.x, batch.target, batch.first_query
        support, labels = x[:first], target[:first]
        state = self.adapt(self.absorb(self.start(x.shape[1]), support, Feedback(labels, support)))
        logits = self.query(state, x[first:].transpose(0, 1)).transpose(0, 1)
        loss = self.loss(logits, batch)
        if not self.eta:
            return loss
        samples, weights = self.encode(support.transpose(0, 1)), self.adapted_weights(state)
        layers = factors(self.learner, weights, samples, labels.T, self.fisher, self.layers == "last")
        return loss + self.eta * log_determinant(layers, first, self.precision).mean()
