"""Support pairs for learners that were made for streams."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.method import Feedback


def labels_with_images(feedback: Feedback) -> tuple[Tensor, Tensor]:
    """The label that enters with each image [T, B], and the one that is still to enter after the last [B].

    In a stream a label enters with the image before which it is revealed, and none is left over. Support pairs are
    taken as the stream that shows their images one after another: a pair's label enters with the next image, so that
    an input means the same on every kind of protocol, and weights carry over from one to the other.
    """
    target = feedback.target
    null = torch.full_like(target[:1], -1)
    if feedback.x is None:
        return target, null[0]
    return torch.cat([null, target[:-1]]), target[-1]
