"""Learners that store every labelled sample: their memory grows with the episode, and nothing is forgotten."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.method.interface import Feedback, Method, State
from methods.nn import label_pairing
from methods.nn.feature_net import FeatureNet


class MemoryBank(FeatureNet, Method):
    """A method that stores each sample when its label is revealed, and answers from all that is stored.

    The state is what `empty` gives and `store` extends, by default "features" [B, n, D] and "labels" [B, n] (null: -1),
    and "pending" [B, m, ...]: the samples, at most d, whose labels are still to be revealed. So the label delay d must
    be given.

    A subclass has its net and `answer`. What is stored of an image is its features, of size `dim`; or what `samples`
    makes of it, of `sample_shape`.
    """

    needs_label_delay = True
    kinds = ("online_few_shot", "delayed_label", "continual", "n_way_k_shot")

    dim: int
    """D, the number of features."""

    @property
    def delay(self) -> int:
        """The label delay d; 0 where there is no stream."""
        return self.task.label_delay or 0

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """The shape of a sample."""
        return (self.dim,)

    def samples(self, x: Tensor) -> Tensor:
        """Samples [B, N, ...] of images [B, N, C, H, W]."""
        return self.features(x)

    def stream_samples(self, x: Tensor) -> Tensor:
        """Samples [B, T, ...] of the images of whole episodes [T, B, C, H, W]."""
        return self.samples(x.transpose(0, 1))

    def empty(self, episodes: int) -> State:
        """A bank without samples."""
        features = next(self.parameters()).new_zeros(episodes, 0, *self.sample_shape)
        return {"features": features, "labels": torch.zeros(episodes, 0, dtype=torch.int64, device=features.device)}

    def store(self, state: State, samples: Tensor, labels: Tensor) -> State:
        """The bank of a state with further samples [B, N, ...] and their labels [B, N]; N may be 0."""
        return {
            "features": torch.cat([state["features"], samples], 1),
            "labels": torch.cat([state["labels"], labels], 1),
        }

    def answer(self, state: State, samples: Tensor, known: Tensor | None = None) -> Tensor:
        """Logits [B, N, ways] of samples [B, N, ...].

        `known` bool [N, M] says which of the M stored samples are known to which of those to be answered;
        None: all to all.
        """
        raise TypeError(f"{type(self).__name__} does not define answer()")

    def start(self, episodes: int) -> State:
        """An empty bank, and no sample pending."""
        pending = next(self.parameters()).new_zeros(episodes, 0, *self.sample_shape)
        return {**self.empty(episodes), "pending": pending}

    def observe(self, state: State, feedback: Feedback) -> State:
        """Stores the pair; in a stream the oldest pending sample with its label, once d samples are pending."""
        labels, pending = feedback.target.unsqueeze(1), state["pending"]
        if feedback.x is not None:
            return {**state, **self.store(state, self.samples(feedback.x.unsqueeze(1)), labels)}
        labelled, labels, pending = label_pairing.pair_labels(pending, pending[:, :0], labels, self.delay)
        return {**state, **self.store(state, labelled, labels), "pending": pending}

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        sample = self.samples(x.unsqueeze(1))
        logits = self.answer(state, sample).squeeze(1)
        return logits, {**state, "pending": torch.cat([state["pending"], sample], 1)}

    def rollout(self, x: Tensor, feedback: Feedback) -> Tensor:
        """All images at once, each with logits from those that were labelled before it."""
        samples, start = self.stream_samples(x), self.start(x.shape[1])
        known = label_pairing.labelled_by_step(len(x), self.delay, x.device)
        paired = label_pairing.pair_labels(start["pending"], samples, feedback.target.T, self.delay)
        state = {**start, **self.store(start, *paired[:2])}
        return self.answer(state, samples, known).transpose(0, 1)

    def absorb(self, state: State, x: Tensor, feedback: Feedback) -> State:
        """All images at once."""
        samples, labels, pending = self.stream_samples(x), feedback.target.T, state["pending"]
        if feedback.x is None:
            samples, labels, pending = label_pairing.pair_labels(pending, samples, labels, self.delay)
        return {**state, **self.store(state, samples, labels), "pending": pending}

    def query(self, state: State, x: Tensor) -> Tensor:
        """All queries from the same bank, which needs no copy for each."""
        return self.answer(state, self.samples(x))
