"""What learners have in common that take gradient steps within an episode, on weights that are each episode's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils import _pytree as pytree

from harness.method.interface import Feedback, Method, State
from methods.nn import label_pairing

W = TypeVar("W")

TestOptimizer = Literal["sgd", "adam"]
"""What takes the steps inside an episode while it is scored."""


class GradientLearner(Method):
    """A method whose memory is weights that labelled samples move, a step each or all steps on a support set at once.

    In streams the state has what `initial` gives, and "pending" [B, d, ...]: the samples whose labels are still to be
    revealed, so that the label delay d must be given. Every revealed label is a step (`learn`) on its sample.

    Support pairs are learned from likewise, unless `fits_support_set`: then "samples" [B, n, ...] and "labels" [B, n]
    are stored, and `adapt` puts in their place what `fit` makes of them.

    A subclass defines `sample_shape`, `initial`, `learn`, `answer`, and `fit` if it fits support sets; stepping, fast
    paths and queries follow.
    """

    needs_label_delay = True
    learns_by_gradient = True
    fits_support_set: bool = False

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """The shape of what `encode` gives of one image."""
        raise TypeError(f"{type(self).__name__} does not define sample_shape")

    def encode(self, x: Tensor) -> Tensor:
        """What is stored of images [B, N, C, H, W] until they are learned from, and answered by: [B, N, ...]."""
        return x

    def encode_stream(self, x: Tensor) -> Tensor:
        """The same of the images of whole episodes [T, B, C, H, W]: [B, T, ...]."""
        return self.encode(x.transpose(0, 1))

    def initial(self, episodes: int) -> State:
        """The entries of the state that learning changes, at the beginning of `episodes` episodes: a dict."""
        raise TypeError(f"{type(self).__name__} does not define initial()")

    def learn(self, state: State, samples: Tensor, target: Tensor) -> State:
        """The entries of the state that one step on samples [B, 1, ...] with labels [B, 1] changes; null is -1."""
        raise TypeError(f"{type(self).__name__} does not define learn()")

    def learn_all(self, state: State, samples: Tensor, target: Tensor) -> State:
        """The state after a step on each of samples [B, S, ...] with labels [B, S], one after another."""
        for step in range(samples.shape[1]):
            state = {**state, **self.learn(state, samples[:, step, None], target[:, step, None])}
        return state

    def fit(self, samples: Tensor, labels: Tensor) -> State:
        """The state after learning from a support set of samples [B, n, ...] with labels [B, n]."""
        raise TypeError(f"{type(self).__name__} does not define fit()")

    def episodes_at_once(self, images: int) -> int | None:
        """Of how many episodes so many images each are learned from, or answered, together; None: of all.

        Fewer at a time need less memory, and are faster where they fit into a cache.
        """
        return None

    def answer(self, state: State, samples: Tensor) -> Tensor:
        """Logits [B, N, ...] of samples [B, N, ...]."""
        raise TypeError(f"{type(self).__name__} does not define answer()")

    def outer_graph(self) -> torch.autograd.grad_mode.set_grad_enabled:
        """Autograd through the steps of an episode is for training; scoring needs it within a step at most."""
        return torch.set_grad_enabled(self.training and torch.is_grad_enabled())

    def as_rollout(self, logits: list[Tensor]) -> Tensor:
        """Logits [T, B, ...] of whole episodes from those of each step [B, 1, ...]; without a graph while scored."""
        joined = torch.cat(logits, 1).transpose(0, 1)
        return joined if self.training else joined.detach()

    def start(self, episodes: int) -> State:
        """No support pairs yet; in streams what `initial` gives, and a queue of d pending samples."""
        like = next(self.parameters())
        pending = like.new_zeros(episodes, self.task.label_delay or 0, *self.sample_shape)
        if self.fits_support_set:
            return {"samples": pending, "labels": torch.zeros(episodes, 0, dtype=torch.int64, device=like.device)}
        with self.outer_graph():
            return {**self.initial(episodes), "pending": pending}

    def observe(self, state: State, feedback: Feedback) -> State:
        """Stores a support pair, or takes a step on it; in a stream, a step on the oldest pending sample."""
        target = feedback.target.unsqueeze(1)
        with self.outer_graph():
            x = feedback.x
            samples = label_pairing.oldest(state["pending"]) if x is None else self.encode(x.unsqueeze(1))
        if self.fits_support_set:
            return _stored(state, samples, target)
        return {**state, **self.learn(state, samples, target)}

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        with self.outer_graph():
            sample = self.encode(x.unsqueeze(1))
            logits = self.answer(state, sample).squeeze(1)
            return logits, {**state, "pending": label_pairing.push(state["pending"], sample)}

    def adapt(self, state: State) -> State:
        """The stored support set, where there is one, gives way to what is learned from it."""
        if "samples" not in state:
            return state
        samples, labels = state["samples"], state["labels"]
        parts = [self.fit(*each) for each in self._parts((samples, labels), samples.shape[1])]
        return parts[0] if len(parts) == 1 else pytree.tree_map(lambda *each: torch.cat(each), *parts)

    def query(self, state: State, x: Tensor) -> Tensor:
        """All queries under the same weights, which need no copy for each."""
        with self.outer_graph():
            parts = [self.answer(part, self.encode(own)) for part, own in self._parts((state, x), x.shape[1])]
            return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _parts(self, tree: Any, images: int) -> list[Any]:
        """A pytree of tensors with leading B in parts of about as many episodes, of which none has more than
        `episodes_at_once` of so many images allows."""
        leaves, spec = pytree.tree_flatten(tree)
        episodes = len(leaves[-1])
        parts = -(-episodes // (self.episodes_at_once(images) or episodes))
        if parts == 1:
            return [tree]
        split = zip(*(each.tensor_split(parts) for each in leaves), strict=True)
        return [pytree.tree_unflatten(list(each), spec) for each in split]

    def absorb(self, state: State, x: Tensor, feedback: Feedback) -> State:
        """All images are encoded at once; support pairs are stored, or the labels learned from one by one."""
        target = feedback.target.transpose(0, 1)
        with self.outer_graph():
            samples, pending = self.encode_stream(x), state.get("pending")
            if self.fits_support_set:
                return _stored(state, samples, target)
            if feedback.x is None:
                samples, pending = label_pairing.pair(pending, samples)
        return {**self.learn_all(state, samples, target), "pending": pending}


def _stored(state: State, samples: Tensor, target: Tensor) -> State:
    """The state with further support pairs."""
    return {"samples": torch.cat([state["samples"], samples], 1), "labels": torch.cat([state["labels"], target], 1)}


def stream_logits(
    steps: int,
    delay: int,
    weights: W,
    answer: Callable[[W, int], Tensor],
    learn: Callable[[W, Tensor, int], W],
) -> list[Tensor]:
    """The logits of each step of a stream whose labels are revealed `delay` steps late, from the initial `weights`.

    `answer(weights, t)` gives the logits of the sample of step t; `learn(weights, logits, t)` the weights after the
    label that is revealed before step t, given the logits of its sample, that of step t - delay.
    """
    found: list[Tensor] = []
    for step in range(steps):
        if step >= delay:
            # At delay 1 the weights are still those of the last answer, whose forward pass serves the inner loss too.
            logits = found[-1] if delay == 1 else answer(weights, step - delay)
            weights = learn(weights, logits, step)
        found.append(answer(weights, step))
    return found


def pool(x: Tensor, size: Any) -> Tensor:
    """Images [B, N, C, H, W] average-pooled to `size` pixels a side (or height and width); None: as they are."""
    if size is None:
        return x
    return F.adaptive_avg_pool2d(x.flatten(0, 1), size).unflatten(0, x.shape[:2])
