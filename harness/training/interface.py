"""The second half of the interface: what only training asks of a method. Nothing that scores a method imports it.

A method that is trained by the loss of its answers on episodes needs none of this. One that has more to say derives
from `Trainable` beside `Method` and defines the hooks it has.
"""

from __future__ import annotations

import copy
import inspect
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

    `x` is [T, B, C, H, W] (features [T, B, D] in a stage on the head), `target` int64 [T, B] or masks
    [T, B, 1, H, W], `scored` bool [T, B]. Steps from `first_query` on are queries (T: none are). `class_rows` int64
    [B, ways] says which training class each class number of an episode is, below `task.classes`.

    Training looks at the answers to the queries where there are some, else at those of all steps: A steps, of which
    `answer_target` and `answer_scored` are the targets and flags.
    """

    x: Tensor
    target: Tensor
    scored: Tensor
    first_query: int
    class_rows: Tensor

    @property
    def answer_target(self) -> Tensor:
        """Targets of the steps that logits are of, int64 [A, B] or masks [A, B, 1, H, W]."""
        return self.target[self._first_answer :]

    @property
    def answer_scored(self) -> Tensor:
        """Which of the steps that logits are of are scored, bool [A, B]."""
        return self.scored[self._first_answer :]

    @property
    def _first_answer(self) -> int:
        return 0 if self.first_query == len(self.target) else self.first_query


@dataclass(frozen=True)
class Features:
    """What a method makes of single images, without memory or labels; stages of a recipe may train or freeze it.

    `net` maps images [N, C, H, W] to features [N, D]. `shared` is that net where all images go through it first: it is
    trained to tell the training classes apart once for all methods in which it is alike and begins alike (see
    `methods.nn.backbones.Backbone`), and kept in the cache. `class_head` is a part of the method from features to
    logits [N, task.classes] that is trained with them and kept; None: a linear layer that is thrown away. `rest` is the
    method with features [..., D] in the place of images, for stages that train what follows alone, over features that
    are computed once; None: it needs the images themselves. `whole` says that `rest` answers as the method itself, so
    that it may be scored in its place (`features_of` sees to that); it does not where the net itself has memory.
    """

    net: Callable[[Tensor], Tensor]
    shared: nn.Module | None = None
    class_head: nn.Module | None = None
    rest: Method | None = None
    whole: bool = False


def features_of(method: nn.Module, child: str, shared: bool = False, class_head: nn.Module | None = None) -> Features:
    """The features of a method that sees images through the child of that name, and through nothing else."""
    net, rest = method.get_submodule(child), copy.copy(method)
    # A view that shares all other parts: nothing of the method itself is changed.
    rest._modules = {**method._modules, child: nn.Identity()}
    return Features(net, net if shared else None, class_head, cast(Method, rest), whole=True)


class Trainable:
    """The hooks of training, with their defaults; derive from it beside `Method`."""

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """What training minimises: cross-entropy summed over the scored steps, averaged over episodes; a scalar.

        logits [A, B, ways] are of the steps of `batch.answer_target`. For masks, both are [A, B, 1, H, W], and the
        cross-entropy of a step is the mean over its pixels.
        """
        target, scored = batch.answer_target, batch.answer_scored
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


def check_hooks(cls: type[Method]) -> None:
    """Raises UserError if a class defines a training hook that would not be called, or not as it is defined."""
    for name in HOOKS:
        own, hook = getattr(cls, name, None), getattr(Trainable, name)
        if own is hook or not callable(own):
            continue
        if not issubclass(cls, Trainable):
            raise UserError(
                f"{cls.__name__} defines {name}(), a training hook, but does not derive from Trainable, so that it "
                f"would never be called; write: class {cls.__name__}(Trainable, Method), with "
                "'from harness import Method, Trainable'"
            )
        if not inspect.isfunction(inspect.getattr_static(cls, name)):
            continue  # static and class methods have other first arguments
        arguments = list(inspect.signature(hook).parameters)
        try:
            inspect.signature(own).bind(*arguments)
        except TypeError:
            raise UserError(
                f"{cls.__name__}.{name}() cannot be called as training calls it: define it as "
                f"{name}({', '.join(arguments)}), see harness.Trainable.{name}"
            ) from None


def training_hooks(method: Method) -> Trainable:
    """The method's own hooks, or the defaults; UserError where it defines hooks that would never be called."""
    if isinstance(method, Trainable):
        return method
    check_hooks(type(method))
    return Trainable()
