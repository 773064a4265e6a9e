"""The interface that every method implements, and what a method is built for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from harness.util.errors import AnswerError

State = Any
"""Everything a method carries from step to step: a pytree of tensors whose first dimension is B (episodes)."""


@dataclass(frozen=True)
class Task:
    """What a method is built for.

    `ways` is the number of classes that it tells apart (the most of any stage of training), 1 where it answers with
    masks. `image_shape` is (C, H, W). `label_delay` is d for methods that declare `needs_label_delay` on kinds with
    a stream, else None. `classes` is the number of training classes of the data set, for methods that keep something
    of them; 0 where that is not known.
    """

    ways: int
    image_shape: tuple[int, int, int]
    kind: str
    label_delay: int | None = None
    classes: int = 0


@dataclass(frozen=True)
class Feedback:
    """What is revealed before a step.

    `target` holds class numbers (int64, [B] at one step, [T, B] in a rollout), or masks ([B, 1, H, W]);
    -1 stands for null, "nothing is revealed" (a plane of -1 for masks). `x` is the sample a target belongs to where
    the protocol says so (support pairs: [B, C, H, W], or [T, B, C, H, W] in `absorb`); in streams it is None, and the
    learner must work out which step is meant.
    """

    target: Tensor
    x: Tensor | None = None


CLASSES = ("online_few_shot", "delayed_label", "continual", "n_way_k_shot", "supervised")
"""Kinds of protocols that ask for class numbers."""

MASKS = ("segmentation_distractors",)
"""Kinds of protocols that ask for masks."""


class Method(nn.Module):
    """A learner of episodes, batched over B episodes. Subclass it; build as `MyMethod(task, **options)`.

    At each step of a stream the harness calls `observe` with the feedback and then `predict` with the input. Support
    pairs are given to `observe` alone, with `feedback.x`. Before the queries, `observe` is called once if a label is
    still due then, and `adapt` once. All that a method learns within an episode must be in the state it returns:
    attributes of the module belong to all episodes at once. Nothing may be changed in place: the harness may keep and
    fork any state.
    """

    kinds: ClassVar[tuple[str, ...]] = CLASSES
    """The kinds of protocols that it can be run on."""

    version: ClassVar[int] = 1
    """Raise it when what the method computes changes: seeds of different versions are never one entry of a board."""

    needs_label_delay: ClassVar[bool] = False
    """Needs the label delay d; keeps its pending samples in its state; marked on every board."""

    learns_by_gradient: bool = False
    """Needs autograd while it is scored; an option may set it on an instance. Marked on every board."""

    transductive: bool = False
    """An answer to a query may depend on the queries asked with it, which are then asked all together; an option may
    set it on an instance. Marked on every board."""

    skips: Mapping[str, str] = MappingProxyType({})
    """Checks of `harness check` that do not apply to it, each with the reason in words (`{"trainable": "..."}`); an
    option may set it on an instance. Only those in `harness.check.skips.SKIPPABLE` may be named. Printed in the
    report and marked on every board."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task = task

    def start(self, episodes: int) -> State:
        """Fresh states of `episodes` episodes, on the device of the method's parameters."""
        raise AnswerError(f"{type(self).__name__} does not define start()")

    def observe(self, state: State, feedback: Feedback) -> State:
        """The state after `feedback` (one step's: target [B], or [B, 1, H, W]) became known."""
        raise AnswerError(f"{type(self).__name__} does not define observe()")

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        """Logits [B, ways] (or [B, 1, H, W]) for the inputs x [B, C, H, W], and the state after seeing them."""
        raise AnswerError(f"{type(self).__name__} does not define predict()")

    def adapt(self, state: State) -> State:
        """Called once, after the last feedback and before the first query."""
        return state

    def query(self, state: State, x: Tensor) -> Tensor:
        """Logits [B, Q, ways] for queries x [B, Q, C, H, W], each answered from the same state.

        By default every query is a step of its own that follows the state; what it leaves behind is dropped.
        """
        episodes, queries = x.shape[:2]

        def fork(leaf: Tensor) -> Tensor:
            if not isinstance(leaf, Tensor):
                raise AnswerError(f"the state of {type(self).__name__} holds {leaf!r:.40}, which is no tensor")
            return leaf.repeat_interleave(queries, 0)

        forked = pytree.tree_map(fork, state)
        logits, _ = self.predict(forked, x.flatten(0, 1))
        return logits.unflatten(0, (episodes, queries))

    def rollout(self, x: Tensor, feedback: Feedback) -> Tensor | None:
        """Logits [T, B, ways] of whole episodes at once: x [T, B, C, H, W], feedback.target [T, B].

        An optional fast path for training; None means "step me". `feedback.target[t]` is what is revealed
        before step t. It must give what stepping gives (in evaluation mode, where normalisation is fixed).
        Scores that reach a board always come from stepping. Not used where there are queries: see `absorb`.
        """
        return None

    def absorb(self, state: State, x: Tensor, feedback: Feedback) -> State | None:
        """The state after all steps before the queries at once: x [T, B, C, H, W], feedback.target [T, B].

        An optional fast path for training where queries follow; None means "step me". Where the steps are support
        pairs, `feedback.x` is x and target t belongs to x[t]. It must give the state that stepping gives.
        """
        return None


def leaves(state: State) -> list[Tensor]:
    """The tensors of a state."""
    return [leaf for leaf in pytree.tree_leaves(state) if isinstance(leaf, Tensor)]


def state_bytes(state: State) -> int:
    """Bytes of the state of one episode."""
    return sum(leaf.element_size() * leaf[0].numel() for leaf in leaves(state) if len(leaf))


def one_hot(target: Tensor, ways: int) -> Tensor:
    """Float [..., ways] from class numbers [...]; null (-1) becomes all zeros."""
    return (target.unsqueeze(-1) == torch.arange(ways, device=target.device)).float()
