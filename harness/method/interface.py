"""The interface that every method implements, and what a method is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils import _pytree as pytree

State = Any
"""Everything a method carries from step to step: a pytree of tensors whose first dimension is B (episodes)."""


@dataclass(frozen=True)
class Task:
    """What a method is told when it is built.

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
    """Must be told d; keeps its pending samples in its state; marked on every board."""

    learns_by_gradient: bool = False
    """Needs autograd while it is scored; an option may set it on an instance. Marked on every board."""

    transductive: bool = False
    """An answer to a query may depend on the queries asked with it, which are then asked all together; an option may
    set it on an instance. Marked on every board."""

    skips: Mapping[str, str] = MappingProxyType({})
    """Checks of `harness check` that do not apply to it, each with the reason in words (`{"trainable": "..."}`); an
    option may set it on an instance. Only those in `harness.check.skips.SKIPPABLE` may be named. Printed in the
    report and marked on every board."""

    training_classes: Tensor | None = None
    """Which training classes the class numbers of the episodes are, int64 [B, ways] below `task.classes`: told in
    training to methods with a `class_head`, and to nobody else. None at all other times."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task = task

    def start(self, episodes: int) -> State:
        """Fresh states of `episodes` episodes, on the device of the method's parameters."""
        raise TypeError(f"{type(self).__name__} does not define start()")

    def observe(self, state: State, feedback: Feedback) -> State:
        """The state after `feedback` (one step's: target [B], or [B, 1, H, W]) became known."""
        raise TypeError(f"{type(self).__name__} does not define observe()")

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        """Logits [B, ways] (or [B, 1, H, W]) for the inputs x [B, C, H, W], and the state after seeing them."""
        raise TypeError(f"{type(self).__name__} does not define predict()")

    def adapt(self, state: State) -> State:
        """Called once, after the last feedback and before the first query."""
        return state

    def query(self, state: State, x: Tensor) -> Tensor:
        """Logits [B, Q, ways] for queries x [B, Q, C, H, W], each answered from the same state.

        By default every query is a step of its own that follows the state; what it leaves behind is dropped.
        """
        episodes, queries = x.shape[:2]
        forked = pytree.tree_map(lambda leaf: leaf.repeat_interleave(queries, 0), state)
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

    def memoryless_features(self, x: Tensor) -> Tensor | None:
        """Features [N, D] of images [N, C, H, W] seen without memory or labels; None: this method has none.

        Recipes may have a stage that trains them to tell the training classes apart. If [N, D, 1, 1] is taken for
        features that were computed before and passed on as [N, D], here and wherever else this method is given images,
        they may also have stages that train what follows alone, over features that are computed once.
        """
        shared = self.shared_features()
        return None if shared is None else shared(x)

    def shared_features(self) -> nn.Module | None:
        """The part of this method that all images go through first, from [N, C, H, W] to features [N, D]; or None.

        Such features are trained to tell the training classes apart once for all methods in which they are alike and
        begin alike (see `methods.nn.backbones.Backbone`), and kept in the cache.
        """
        return None

    def class_head(self) -> nn.Module | None:
        """A part of this method from its shared features [N, D] to logits [N, task.classes] of the training classes.

        It is trained by the objective on classes and kept; None: by a linear layer that is thrown away.
        """
        return None

    def pretext(self, task: Task) -> Method | None:
        """Another method that shares parts of this one, told `task`; None: this method has none.

        Recipes may have a stage that trains it, and so what it shares, by its own loss before this method is trained
        (as when a conv net is first trained to be adapted by gradient, then put under a memory).
        """
        return None

    def episode_loss(self, x: Tensor, target: Tensor, first: int) -> Tensor | None:
        """What training minimises, from whole episodes with all their labels; None: `loss` of its answers.

        For methods that are not trained by their answers alone. x [T, B, C, H, W] and target int64 [T, B] are all
        steps, of which those from `first` on are queries (T: none are). Only episodes of training classes come this
        way, and never while a method is scored.
        """
        return None

    def loss(self, logits: Tensor, target: Tensor, scored: Tensor) -> Tensor:
        """What training minimises: cross-entropy summed over the scored steps, averaged over episodes.

        logits [T, B, ways], target int64 [T, B], scored bool [T, B]; returns a scalar. For masks, logits and target
        are [T, B, 1, H, W], and the cross-entropy of a step is the mean over its pixels.
        """
        if logits.dim() == 5:
            pixels = F.binary_cross_entropy_with_logits(logits.float(), target, reduction="none")
            each = pixels.mean((2, 3, 4)).flatten()
        else:
            each = F.cross_entropy(logits.flatten(0, 1).float(), target.flatten(), reduction="none")
        return (each * scored.flatten()).sum() / target.shape[1]


def leaves(state: State) -> list[Tensor]:
    """The tensors of a state."""
    return [leaf for leaf in pytree.tree_leaves(state) if isinstance(leaf, Tensor)]


def state_bytes(state: State) -> int:
    """Bytes of the state of one episode."""
    return sum(leaf.element_size() * leaf[0].numel() for leaf in leaves(state) if len(leaf))


def one_hot(target: Tensor, ways: int) -> Tensor:
    """Float [..., ways] from class numbers [...]; null (-1) becomes all zeros."""
    return (target.unsqueeze(-1) == torch.arange(ways, device=target.device)).float()
