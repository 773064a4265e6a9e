"""The second half of the interface: what only training asks of a method. Nothing that scores a method imports it.

A method that is trained by the loss of its answers on episodes needs none of this. One that has more to say derives
from `Trainable` beside `Method` and defines the hooks it has.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

from harness.method.interface import Method, Task
from harness.util.errors import UserError


@dataclass(frozen=True)
class Batch:
    """Whole episodes of training classes with all their labels, as an objective hands them to a method.

    `x` is [T, B, C, H, W], `target` int64 [T, B] or masks [T, B, 1, H, W], `scored` bool [T, B]. Steps from
    `first_query` on are queries (T: none are). `class_rows` int64 [B, ways] says which training class each class
    number of an episode is, below `task.classes`.
    """

    x: Tensor
    target: Tensor
    scored: Tensor
    first_query: int
    class_rows: Tensor


@dataclass(frozen=True)
class Features:
    """What a method makes of single images, without memory or labels; stages of a recipe may train or freeze it.

    `net` maps images [N, C, H, W] to features [N, D]. `shared` is that net where all images go through it first: it is
    trained to tell the training classes apart once for all methods in which it is alike and begins alike (see
    `methods.nn.backbones.Backbone`), and kept in the cache. `class_head` is a part of the method from features to
    logits [N, task.classes] that is trained with them and kept; None: a linear layer that is thrown away. `rest` is the
    method with features [..., D] in the place of images, for stages that train what follows alone, over features that
    are computed once; None: it needs the images themselves.
    """

    net: Callable[[Tensor], Tensor]
    shared: nn.Module | None = None
    class_head: nn.Module | None = None
    rest: Method | None = None


def features_of(method: nn.Module, child: str, shared: bool = False, class_head: nn.Module | None = None) -> Features:
    """The features of a method that sees images through the child of that name, and through nothing else."""
    net, rest = method.get_submodule(child), copy.copy(method)
    # A view that shares all other parts: nothing of the method itself is changed.
    rest._modules = {**method._modules, child: nn.Identity()}
    return Features(net, net if shared else None, class_head, cast(Method, rest))


class Trainable:
    """The hooks of training, with their defaults; derive from it beside `Method`."""

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

    def episode_loss(self, batch: Batch) -> Tensor | None:
        """What training minimises, for methods that are not trained by their answers alone; None: `loss` of these."""
        return None

    def memoryless_features(self) -> Features | None:
        """The method's features of single images; None: it has none."""
        return None

    def without_classes(self, class_rows: Tensor) -> Method | None:
        """The method with training classes [B, ways] masked out of what it holds of them; None: it holds nothing.

        They pass for new classes in the episodes that it is then trained on.
        """
        return None

    def pretraining_method(self, task: Task) -> Method | None:
        """Another method, for `task`, that shares parts of this one and is trained first by a stage; None: none.

        So is a conv net first trained to be adapted by gradient, then put under a memory.
        """
        return None


HOOKS = ("loss", "episode_loss", "memoryless_features", "without_classes", "pretraining_method")


def training_hooks(method: Method) -> Trainable:
    """The method's own hooks, or the defaults; UserError where hooks are defined that would not be used."""
    if isinstance(method, Trainable):
        return method
    name = next((each for each in HOOKS if hasattr(method, each)), None)
    if name is not None:
        cls = type(method).__name__
        raise UserError(
            f"{cls} defines {name}(), a hook of training, which needs another base: class {cls}(Trainable, Method), "
            "with 'from harness import Method, Trainable'"
        )
    return Trainable()
