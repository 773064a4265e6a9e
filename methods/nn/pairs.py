"""Support pairs for learners that were made for streams."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.method.interface import Feedback


def labels_with_images(feedback: Feedback, pending: Tensor) -> tuple[Tensor, Tensor]:
    """The label that enters with each image [T, B], and the one that is still to enter after the last [B].

    In a stream a label enters with the image before which it is revealed, and none is left over. Support pairs are
    taken as the stream that shows their images one after another: a pair's label enters with the next image, so that
    an input means the same on every kind of protocol, and weights carry over from one to the other. With the first
    image enters what was `pending` [B] (null at the start of an episode).
    """
    target = feedback.target
    if feedback.x is None:
        return target, torch.full_like(pending, -1)
    return torch.cat([pending.unsqueeze(0), target[:-1]]), target[-1]
