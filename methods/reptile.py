"""Reptile: a start that lies near to where learning every task ends (Nichol, Achiam and Schulman, "On first-order
meta-learning algorithms", 2018)."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from harness.method.interface import Feedback, Method, State, Task
from harness.method.option_types import Count, NotNegative
from harness.training.interface import Batch
from methods.maml import MAML
from methods.nn import adam, episode_conv, inner_loop
from methods.nn.adam import Moments
from methods.nn.functional_nets import Norm, SourceNet, share_memory
from methods.nn.inner_loop import Weights
from methods.nn.passes import batches_over, on_device


class Reptile(MAML):
    """`MAML`'s net, whose start moves towards where plain learning of training tasks took it.

    From the start W every episode b takes k steps of Adam without momentum (beta1 = 0), each on a batch of its labelled
    samples, and ends at W_b. An update is (the source's batched version)

        W <- W + eps mean_b (W_b - W),

    with eps the learning rate of a recipe's optimiser 'sgd': training minimises mean_b |W - W_b|^2 / 2 with W_b held
    constant, whose gradient that is. So the loss that a run reports is such a distance, and no cross-entropy. In
    training all samples of a k-shot episode are learned from, its queries like its support set (the source: 15 of a
    class for mini-ImageNet, whatever the shots), and eps falls from 1 to 0. While scored it is the support set alone.

    The mean squared gradients v of Adam are carried from episode to episode, in scoring from where training left them.
    In the source tasks follow one another; here those of one update start from the same v, and their mean is stored.

    In streams every revealed label is one step on the image it belongs to, so that the label delay d must be given; the
    state is the weights, v, and the last d images; W_b is then where a whole stream ends. Its pretraining method is
    Reptile on support sets, of which it takes net, running statistics and v.

    The source has max-pooling before the ReLU and not after it, which is the same.

    Options
    -------
    net, channels, norm, resolution : as in `MAML`; the source's net for Omniglot is 'strided' with 64 channels (256
        features at 28x28). By norm 'support' a query is normalised by the statistics of the
        adapted net over the support set; the source (not transductive) adds the query itself to the support set.
    transductive : queries are normalised by their own mean and variance, taken over them together, as in the better
        known numbers of the source; support sets with norm 'support' only. The row is marked.
    inner_lr : the rate of Adam.
    pretext_lr : the same on the support sets of pretraining.
    inner_steps, inner_batch : steps in training and samples of a batch; the set, if it has fewer.
    test_steps, test_batch : the same while scored; batch None: as in training. The source has 50 steps, of 5 samples
        for 5 x 1 and 15 for 5 x 5, and 50 of 10 for 20 ways.
    carry : v is carried from episode to episode, or begins at zero in each.
    """

    def __init__(
        self,
        task: Task,
        *,
        net: SourceNet = "conv",
        channels: Count = 32,
        norm: Norm = "support",
        transductive: bool = False,
        inner_lr: NotNegative = 1e-3,
        pretext_lr: NotNegative = 1e-3,
        inner_steps: Count = 8,
        inner_batch: Count = 10,
        test_steps: Count = 50,
        test_batch: Count | None = None,
        carry: bool = True,
        resolution: Count | None = None,
    ) -> None:
        if norm == "batch" or (transductive and norm != "support"):
            raise ValueError("norm 'batch' is asked for by transductive=true, which goes with norm 'support' alone")
        super().__init__(
            task,
            net=net,
            channels=channels,
            norm="batch" if transductive and task.kind == "n_way_k_shot" else norm,
            inner_lr=inner_lr,
            inner_steps=inner_steps,
            test_steps=test_steps,
            resolution=resolution,
        )
        self.batches = (inner_batch, test_batch or inner_batch)
        self.carry = carry
        self.squares = adam.CarriedMoments({"body": self.learner.body, "classify": self.learner.classify})
        self._reptile_on_support_sets = partial(
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

    def initial(self, episodes: int) -> State:
        """W and v for every episode."""
        return {**super().initial(episodes), "squares": self.squares.start(episodes)}

    def learn(self, state: State, samples: Tensor, target: Tensor) -> State:
        weights, squares = self._adam_step(state["weights"], state["squares"], samples, target)
        return {"weights": weights, "squares": squares}

    def fit(self, samples: Tensor, labels: Tensor) -> State:
        """The weights after all batches, and the statistics that queries are normalised by."""
        scored = not self.training
        rows = batches_over(samples.shape[1], self.batches[scored], self.steps[scored])
        weights, _ = self._train(samples, labels, rows)
        if self.over != "support":
            return {"weights": weights, "statistics": ()}
        with torch.no_grad():
            return {"weights": weights, "statistics": episode_conv.forward(self.learner, weights, samples)[1]}

    def rollout(self, x: Tensor, feedback: Feedback) -> Tensor | None:
        return None

    def episode_loss(self, batch: Batch) -> Tensor:
        """Half the squared distance to where learning ends, averaged over episodes; its gradient is mean_b (W - W_b).

        The running statistics and v are updated on the way.
        """
        samples, labels = self.encode(batch.x.transpose(0, 1)), batch.target.T
        with torch.no_grad():
            if self.fits_support_set:
                if self.over == "support":
                    first = samples[:, : self.batches[0]]
                    statistics = episode_conv.forward(self.learner, self._detached(len(samples)), first)[1]
                    self.learner.body.update_running_statistics(statistics)
                rows = batches_over(samples.shape[1], self.batches[0], self.steps[0])
            else:
                rows = [[step] for step in range(batch.first_query)]
            weights, squares = self._train(samples, labels, rows)
            if self.carry:
                self.squares.update(squares)
        distances = [(own - weights[name]).square().sum() for name, own in self.learner.named_parameters()]
        return 0.5 * torch.stack(distances).sum() / len(samples)

    def pretraining_method(self, task: Task) -> Method | None:
        """The same learner on support sets: its net and v, its classifier where there are as many ways."""
        if self.fits_support_set:
            return None
        reptile = self._reptile_on_support_sets(task)
        parts = ["body", "classify"] if task.ways == self.task.ways else ["body"]
        for part in parts:
            share_memory(getattr(reptile.learner, part), getattr(self.learner, part))
            share_memory(reptile.squares.parts[part], self.squares.parts[part])
        return reptile

    def _detached(self, episodes: int) -> Weights:
        weights = inner_loop.per_episode_weights(self.learner, episodes)
        return {name: each.detach() for name, each in weights.items()}

    def _train(self, samples: Tensor, labels: Tensor, batches: list[list[int]]) -> tuple[Weights, Moments]:
        """W_b and v after a step on each of the batches, given as positions in samples [B, N, C, H, W]."""
        weights, squares = self._detached(len(samples)), self.squares.start(len(samples))
        for rows in on_device(batches, samples.device):
            batch = samples.index_select(1, rows), labels.index_select(1, rows)
            weights, squares = self._adam_step(weights, squares, *batch)
        return weights, squares

    def _adam_step(self, weights: Weights, squares: Moments, x: Tensor, target: Tensor) -> tuple[Weights, Moments]:
        """Weights and v after one step on images [B, n, C, H, W] with labels [B, n]; null (-1) is masked out."""
        with torch.enable_grad():
            leaves = inner_loop.detach(weights)
            loss = inner_loop.loss_by_episode(self._logits(leaves, x), target)
            gradients = inner_loop.gradients(leaves, loss, create_graph=False)
        with torch.no_grad():
            return adam.step(
                {name: each.detach() for name, each in weights.items()},
                gradients,
                squares,
                self.inner_lr,
                (target >= 0).any(1),
            )
