"""The scalars that updates of training minimise."""

from __future__ import annotations

from torch import Tensor, nn

from harness.episodes.source import Episodes
from harness.evaluation.rollout import training_logits
from harness.method.interface import Method
from harness.training.interface import Batch, Features, training_hooks
from harness.util.device_copy import to_device
from harness.util.errors import AnswerError


def episode_loss(method: Method, episodes: Episodes) -> Tensor:
    """The method's loss on episodes of training classes: its own, or that of its answers. AnswerError if it is none."""
    hooks, batch = training_hooks(method), batch_of(episodes)
    own = hooks.episode_loss(batch)
    if own is not None:
        return _scalar(own, method, "episode_loss")
    logits = training_logits(hooks.without_classes(batch.class_rows) or method, episodes)
    return _scalar(hooks.loss(logits, batch), method, "loss")


def _scalar(loss: object, method: Method, hook: str) -> Tensor:
    """A method's loss; AnswerError if it is none."""
    if isinstance(loss, Tensor) and loss.is_floating_point() and not loss.dim():
        return loss
    found = f"{type(loss).__name__} {loss!r:.60}"
    if isinstance(loss, Tensor):
        found = f"a tensor of shape {list(loss.shape)}" if loss.dim() else f"a tensor of {loss.dtype}"
    raise AnswerError(
        f"{type(method).__name__}.{hook} returned {found}; it must return a tensor of one floating-point number"
    )


def class_loss(features: Features, head: nn.Module, x: Tensor, rows: Tensor) -> Tensor:
    """Mean cross-entropy of `head` over features of images x [N, C, H, W] of the training classes `rows` [N]."""
    return nn.functional.cross_entropy(head(features.net(x)).float(), rows)


def batch_of(episodes: Episodes) -> Batch:
    """Episodes as training hands them to a method."""
    rows = episodes.class_rows
    if rows is None:
        rows = to_device(episodes.plan.classes, episodes.target.device)
    return Batch(episodes.x, episodes.target, episodes.scored, episodes.plan.first_query, rows)
