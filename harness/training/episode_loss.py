"""The scalars that updates of training minimise."""

from __future__ import annotations

from torch import Tensor, nn

from harness.episodes.source import Episodes
from harness.evaluation.rollout import training_logits
from harness.method.interface import Method
from harness.training.interface import Batch, Features, training_hooks
from harness.util.device_copy import to_device


def episode_loss(method: Method, episodes: Episodes) -> Tensor:
    """The method's loss on episodes of training classes: its own, or that of its answers."""
    hooks, batch = training_hooks(method), batch_of(episodes)
    own = hooks.episode_loss(batch)
    if own is not None:
        return own
    logits = training_logits(hooks.without_classes(batch.class_rows) or method, episodes)
    return hooks.loss(logits, batch)


def class_loss(features: Features, head: nn.Module, x: Tensor, rows: Tensor) -> Tensor:
    """Mean cross-entropy of `head` over features of images x [N, C, H, W] of the training classes `rows` [N]."""
    return nn.functional.cross_entropy(head(features.net(x)).float(), rows)


def batch_of(episodes: Episodes) -> Batch:
    """Episodes as training hands them to a method."""
    rows = episodes.class_rows
    if rows is None:
        rows = to_device(episodes.plan.classes, episodes.target.device)
    return Batch(episodes.x, episodes.target, episodes.scored, episodes.plan.first_query, rows)
