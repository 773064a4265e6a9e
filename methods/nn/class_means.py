"""Learners whose memory is the mean of something by class: constant in size, whatever the stream's length."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.method.interface import Feedback, Method, State, one_hot
from harness.training.interface import Batch
from methods.nn import label_pairing
from methods.nn.feature_net import FeatureNet
from methods.nn.novelty import loss_among_seen


class ClassMeans(FeatureNet, Method):
    """A method that answers from the means, by class, of what it makes of each labelled image.

    The state is "means" [B, ways, M], "counts" [B, ways], and "pending" [B, d, D]: the features of the last d samples,
    whose labels are still to be revealed. So the label delay d must be given. A null label is of no class and changes
    nothing.

    A subclass has its net, `dim` (D), and `logits`; and `statistics` and `mean_dim` where means are not of features.
    """

    needs_label_delay = True
    kinds = ("online_few_shot", "delayed_label", "continual", "n_way_k_shot")

    dim: int
    """D, the number of features."""

    @property
    def mean_dim(self) -> int:
        """M, the size of what means are taken of."""
        return self.dim

    def statistics(self, features: Tensor) -> Tensor:
        """What means are taken of, [..., B, M], for features [..., B, D] of labelled images."""
        return features

    def logits(self, features: Tensor, means: Tensor, counts: Tensor) -> Tensor:
        """Logits [..., Q, ways] of features [..., Q, D] under means [..., ways, M] of so many images [..., ways]."""
        raise TypeError(f"{type(self).__name__} does not define logits()")

    def start(self, episodes: int) -> State:
        """No labels yet: means and counts are zero, and so are the pending features."""
        zeros = next(self.parameters()).new_zeros
        return {
            "means": zeros(episodes, self.task.ways, self.mean_dim),
            "counts": zeros(episodes, self.task.ways),
            "pending": zeros(episodes, self.task.label_delay or 0, self.dim),
        }

    def observe(self, state: State, feedback: Feedback) -> State:
        """Moves the mean of the revealed class towards the pair's image, or towards the oldest pending one."""
        if feedback.x is None:
            features = label_pairing.oldest(state["pending"]).squeeze(1)
        else:
            features = self.features(feedback.x.unsqueeze(0)).squeeze(0)
        statistics = self.statistics(features)
        hit = one_hot(feedback.target, self.task.ways).to(statistics.dtype)
        counts = state["counts"] + hit
        step = (hit / counts.clamp(min=1)).unsqueeze(-1)
        means = state["means"] + step * (statistics.unsqueeze(1) - state["means"])
        return {**state, "means": means, "counts": counts}

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        features = self.features(x.unsqueeze(1))
        logits = self.logits(features, state["means"], state["counts"]).squeeze(1)
        return logits, {**state, "pending": label_pairing.push(state["pending"], features)}

    def rollout(self, x: Tensor, feedback: Feedback) -> Tensor:
        """All images through the net at once, and the running means as one cumulative sum."""
        features, delay = self.features(x), self.task.label_delay or 0
        statistics = self.statistics(features)
        labelled = torch.cat([torch.zeros_like(statistics[:delay]), statistics[:-delay]])
        hit = one_hot(feedback.target, self.task.ways).to(statistics.dtype)
        counts = hit.cumsum(0)
        sums = (hit.unsqueeze(-1) * labelled.unsqueeze(-2)).cumsum(0)
        means = sums / counts.clamp(min=1).unsqueeze(-1)
        return self.logits(features.unsqueeze(2), means, counts).squeeze(2)

    def absorb(self, state: State, x: Tensor, feedback: Feedback) -> State:
        """All images through the net at once, and the means as one sum."""
        features, pending = self.features(x), state["pending"]
        if feedback.x is None:
            paired, pending = label_pairing.pair(pending, features.transpose(0, 1))
            features = paired.transpose(0, 1)
        statistics = self.statistics(features)
        hit = one_hot(feedback.target, self.task.ways).to(statistics.dtype)
        counts = state["counts"] + hit.sum(0)
        sums = state["counts"].unsqueeze(-1) * state["means"] + torch.einsum("tbk,tbm->bkm", hit, statistics)
        return {"means": sums / counts.clamp(min=1).unsqueeze(-1), "counts": counts, "pending": pending}

    def query(self, state: State, x: Tensor) -> Tensor:
        """All queries under the same means, which need no copy for each."""
        return self.logits(self.features(x), state["means"], state["counts"])

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy among seen classes, at scored steps whose class was seen."""
        return loss_among_seen(logits.float(), batch)
