"""Episodes: a plan's images gathered on the device, with all conversion done there in batches."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from harness.data.dataset import Dataset
from harness.episodes.plan import AUGMENT, SINGLE, EpisodePlan, plan_episodes, plan_key
from harness.protocol.models import AnyProtocol
from harness.util import philox
from harness.util.device_copy import to_device
from harness.util.errors import UserError

AUGMENTATIONS = ("flip", "crop")
_PADDING = 4
_CACHED = 2**19
"""Pixels worked on at once on a CPU: few enough to stay in its cache from one pass to the next."""


@dataclass(frozen=True)
class Episodes:
    """B episodes of T steps as tensors on one device, time first.

    x is float [T, B, C, H, W], normalised; scored bool [T, B]. `target` is the right answer: class numbers
    int64 [T, B], or masks float [T, B, 1, H, W] (1 on the object of the target class, all 0 for a distractor).
    `objects` are the masks of whatever object is shown, a distractor's too, for scoring; None without masks.
    """

    x: Tensor
    target: Tensor
    scored: Tensor
    plan: EpisodePlan
    objects: Tensor | None = None


class EpisodeSource:
    """Episodes of one data set on one device; the uint8 images are moved there once.

    It holds the data set's pixels and no other state: every call is a pure function of its arguments.
    """

    def __init__(self, dataset: Dataset, device: torch.device | str = "cpu") -> None:
        self.dataset = dataset
        self.device = torch.device(device)
        self._images = _shared(dataset.images).to(self.device)
        self._masks = None if dataset.masks is None else _shared(dataset.masks).to(self.device)
        card = dataset.card
        shape = (-1, 1, 1)
        scale = torch.tensor(card.std, device=self.device).view(shape) * 255
        shift = -torch.tensor(card.mean, device=self.device).view(shape) * 255 / scale
        # Written out for each pixel: torch's vectorised loops do not take two operands that stand still.
        self._scale = (1 / scale).expand(card.image_shape).contiguous()
        self._shift = shift.expand(card.image_shape).contiguous()

    def episodes(
        self,
        protocol: AnyProtocol,
        split: str,
        seed: int,
        numbers: Sequence[int] | np.ndarray,
        augment: Sequence[str] = (),
    ) -> Episodes:
        """The numbered episodes of a split under a seed; `augment` may name 'flip' and 'crop'.

        Raises UserError where the protocol asks for masks and the data set has none.
        """
        table = self.dataset.tables[split]
        plan = plan_episodes(protocol, table, split, seed, numbers)
        # Flat in time-major order, so that the pixels come out as [T, B, ...] without a copy.
        rows = np.take_along_axis(plan.classes, plan.target, axis=1)
        image, rotations, words = plan.image.T.flatten(), table.rotations[rows].T.flatten(), None
        if augment:
            words = philox.words(plan_key(protocol, split, seed), plan.episode, AUGMENT, plan.steps).T.flatten()
        x = self._gathered(image, rotations, words, augment)
        target = to_device(plan.target.T, self.device)
        scored = to_device(plan.scored, self.device)[:, None].expand_as(target)
        x = x.unflatten(0, target.shape)
        if not protocol.masks:
            return Episodes(x, target, scored, plan)
        objects = self._objects(image, rotations, words, augment).unflatten(0, target.shape)
        return Episodes(x, objects * (target == 0)[:, :, None, None, None], scored, plan, objects)

    def pixels(
        self, protocol: AnyProtocol, split: str, seed: int, numbers: Sequence[int] | np.ndarray
    ) -> tuple[Tensor, EpisodePlan]:
        """The images of the numbered episodes as they are stored, uint8 [T, B, C, H, W], and their plan.

        For training loops of one's own that convert on another device: a quarter of the bytes of `episodes`.
        """
        table = self.dataset.tables[split]
        plan = plan_episodes(protocol, table, split, seed, numbers)
        pixels = torch.index_select(self._images, 0, to_device(plan.image.T.flatten(), self.device))
        if table.rotations.any():
            rows = np.take_along_axis(plan.classes, plan.target, axis=1)
            _turn(pixels, table.rotations[rows].T.flatten())
        return pixels.unflatten(0, (plan.steps, len(plan.episode))), plan

    def images(
        self,
        protocol: AnyProtocol | None,
        split: str,
        seed: int,
        numbers: Sequence[int] | np.ndarray,
        augment: Sequence[str] = (),
    ) -> tuple[Tensor, Tensor]:
        """Single images x [N, C, H, W] and their rows int64 [N] in the split's class table, classes drawn evenly.

        Image i of a split under a seed is a pure function of (protocol digest, split, seed, i); or, without a protocol,
        of the data's fingerprint in place of the digest.
        """
        table = self.dataset.tables[split]
        key = plan_key(protocol, split, seed) if protocol else philox.key_of(self.dataset.fingerprint, split, seed)
        drawn = philox.words(key, np.asarray(numbers), SINGLE, 3)
        row = philox.below(drawn[:, 0], len(table.names))
        image = table.members[table.offsets[row] + philox.below(drawn[:, 1], table.sizes[row])].astype(np.int64)
        x = self._gathered(image, table.rotations[row], drawn[:, 2] if augment else None, augment)
        return x, to_device(row, self.device)

    def pictures(self, image: np.ndarray, rotations: np.ndarray) -> Tensor:
        """Float [N, C, H, W], normalised, of image numbers [N], each turned by `rotations` quarters [N]."""
        return self._gathered(image, rotations, None, ())

    def _objects(
        self, image: np.ndarray, rotations: np.ndarray, words: np.ndarray | None, augment: Sequence[str]
    ) -> Tensor:
        """Float [N, 1, H, W] of 0 and 1: the masks of images [N], turned and augmented as the images are."""
        if self._masks is None:
            raise UserError(f"the data set '{self.dataset.name}' has no masks, which this kind of protocol needs")
        masks = torch.index_select(self._masks, 0, to_device(image, self.device))
        _turn(masks, rotations)
        if words is not None:
            masks = _augmented(masks, to_device(words.astype(np.int64), self.device), augment)
        return masks.float()

    def _gathered(
        self, image: np.ndarray, rotations: np.ndarray, words: np.ndarray | None, augment: Sequence[str]
    ) -> Tensor:
        """Float [N, C, H, W], normalised, of image numbers [N], turned and augmented image by image."""
        x = self._empty(len(image))
        size = max(1, _CACHED // x[0].numel()) if self.device.type == "cpu" else len(image)
        for first in range(0, len(image), size):
            part = slice(first, first + size)
            pixels = torch.index_select(self._images, 0, to_device(image[part], self.device))
            _turn(pixels, rotations[part])
            if words is not None:
                random = to_device(words[part].astype(np.int64), self.device)
                pixels = _augmented(pixels, random, augment)
            torch.addcmul(self._shift, x[part].copy_(pixels), self._scale, out=x[part])
        return x

    def _empty(self, images: int) -> Tensor:
        """Memory for float [images, C, H, W]."""
        shape = (images, *self.dataset.card.image_shape)
        if self.device.type == "cpu":
            # NumPy asks the system for huge pages, torch does not: that is far faster to touch.
            return torch.from_numpy(np.empty(shape, np.float32))
        return torch.empty(shape, device=self.device)


def _shared(pixels: np.ndarray) -> Tensor:
    """Pixels as a tensor over the same memory: a map of a file that may be larger than memory is never copied.

    torch warns that it could write to a read-only array; nothing here does.
    """
    with warnings.catch_warnings(action="ignore"):
        return torch.from_numpy(pixels)


def _turn(pixels: Tensor, rotations: np.ndarray) -> None:
    """Turns image n of uint8 [N, C, H, W], in place, by `rotations[n]` quarters counter-clockwise."""
    for quarters in range(1, 4):
        chosen = np.flatnonzero(rotations == quarters)
        if len(chosen):
            at = to_device(chosen, pixels.device)
            pixels.index_copy_(0, at, torch.rot90(pixels.index_select(0, at), quarters, (-2, -1)))


def _augmented(pixels: Tensor, words: Tensor, augment: Sequence[str]) -> Tensor:
    """uint8 [N, C, H, W] mirrored with probability 1/2 and cropped from a zero-padded frame, image by image.

    `words` is one random 32-bit word per image (int64 [N]): its lowest bit decides the flip, its second and
    third byte the crop, so that turning one on does not move the other.
    """
    height, width = pixels.shape[-2:]
    rows = torch.arange(height, device=pixels.device).expand(len(pixels), -1)
    columns = torch.arange(width, device=pixels.device).expand(len(pixels), -1)
    if "flip" in augment:
        columns = torch.where((words & 1).bool()[:, None], width - 1 - columns, columns)
    if "crop" in augment:
        pixels = torch.nn.functional.pad(pixels, (_PADDING,) * 4)
        span = 2 * _PADDING + 1
        rows = rows + (((words >> 8) & 0xFF) * span >> 8)[:, None]
        columns = columns + (((words >> 16) & 0xFF) * span >> 8)[:, None]
    # One flat position per pixel, the same for all channels: far faster than indexing rows and columns apart.
    at = (rows[:, :, None] * pixels.shape[-1] + columns[:, None, :]).flatten(1)[:, :, None]
    out = pixels.flatten(2).mT.gather(1, at.expand(-1, -1, pixels.shape[1]))
    return out.mT.unflatten(2, (height, width))
