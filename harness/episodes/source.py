"""Episodes: a plan's images gathered on the device, with all conversion done there in batches."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from harness.data.dataset import ClassTable, Dataset
from harness.episodes import one_pass
from harness.episodes.ahead import PlansAhead
from harness.episodes.changes import MOVES, changed, drawn_changes
from harness.episodes.mapped_pages import mapped_pages
from harness.episodes.plan import AUGMENT, NULL, SINGLE, EpisodePlan, plan_key
from harness.episodes.warp import drawn_maps, warped
from harness.protocol.models import AnyProtocol
from harness.util import philox
from harness.util.device_copy import packed_to_device, tensor_to_device, to_device
from harness.util.errors import UserError

__all__ = ["AUGMENTATIONS", "EpisodeSource", "Episodes"]

AUGMENTATIONS = (*MOVES, "warp")
"""What training images may go through: each by itself, or ("warp") as parts of an episode."""

_CACHED = 2**19
"""Pixels worked on at once on a CPU: few enough to stay in its cache from one pass to the next."""


@dataclass(frozen=True)
class Episodes:
    """B episodes of T steps as tensors on one device, time first.

    x is float [T, B, C, H, W], normalised; scored bool [T, B]. `target` is the right answer: class numbers
    int64 [T, B], or masks float [T, B, 1, H, W] (1 on the object of the target class, all 0 for a distractor).
    `objects` are the masks of whatever object is shown, a distractor's too, for scoring; None without masks.
    `class_rows` int64 [B, ways] are those of the plan; None: not on the device yet.
    """

    x: Tensor
    target: Tensor
    scored: Tensor
    plan: EpisodePlan
    objects: Tensor | None = None
    class_rows: Tensor | None = None

    @cached_property
    def revealed(self) -> Tensor:
        """What is revealed before each step, int64 [T, B] or masks [T, B, 1, H, W]: the target of step
        `plan.feedback_step[t]` (a support pair's own), or null."""
        source = to_device(self.plan.feedback_step, self.target.device)
        shown = self.target[source.clamp(min=0)]
        known = (source >= 0).view(-1, *(1,) * (shown.dim() - 1))
        return torch.where(known, shown, NULL)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All that is on the device, by name."""
        names = ("x", "target", "scored", "objects", "class_rows", "revealed")
        found = {name: getattr(self, name) for name in names}
        return {name: each for name, each in found.items() if each is not None}

    def with_tensors(self, tensors: dict[str, Tensor]) -> Episodes:
        """The same episodes over other memory, of the names, shapes and types of `tensors`."""
        x, target, scored = (tensors[name] for name in ("x", "target", "scored"))
        objects, class_rows = tensors.get("objects"), tensors.get("class_rows")
        found = replace(self, x=x, target=target, scored=scored, objects=objects, class_rows=class_rows)
        found.__dict__["revealed"] = tensors["revealed"]
        return found


class EpisodeSource:
    """Episodes of one data set on one device; the uint8 images are moved there once.

    Images that would take more than half of a GPU's free memory stay on the host, and those of each batch are copied
    by pinned memory while the GPU is busy with the batch before.

    Every call is a pure function of its arguments; what is planned ahead (`PlansAhead`) makes it faster alone. `values`
    is the number of values of an image.
    """

    def __init__(self, dataset: Dataset, device: torch.device | str = "cpu") -> None:
        self.dataset = dataset
        self.device = torch.device(device)
        self.values = math.prod(dataset.card.image_shape)
        masks = dataset.masks
        self._home = _home(self.device, dataset.images.nbytes + (0 if masks is None else masks.nbytes))
        self._images = _shared(dataset.images).to(self._home)
        self._masks = None if masks is None else _shared(masks).to(self._home)
        self._pages = mapped_pages(dataset.images, masks) if self._home.type == "cpu" else None
        self._plans = PlansAhead()
        card = dataset.card
        scale = torch.tensor(card.std, device=self.device) * 255
        shift = -torch.tensor(card.mean, device=self.device) * 255 / scale
        # Written out for each pixel: torch's vectorised loops do not take two operands that stand still.
        self._scale, self._shift = (
            each.view(-1, 1, 1).expand(card.image_shape).contiguous() for each in (1 / scale, shift)
        )

    def episodes(
        self,
        protocol: AnyProtocol,
        split: str,
        seed: int,
        numbers: Sequence[int] | np.ndarray,
        augment: Sequence[str] = (),
        part: slice | None = None,
    ) -> Episodes:
        """The numbered episodes of a split under a seed, or `part` of them, with the AUGMENTATIONS that are named.

        Raises UserError where the protocol asks for masks and the data set has none.
        """
        table = self.dataset.tables[split]
        plan = self._plans.plan(protocol, table, split, seed, numbers)
        plan = plan if part is None else plan.part(part)
        key, words = plan_key(protocol, split, seed), None
        if any(each in augment for each in MOVES):
            words = philox.words(key, plan.episode, AUGMENT, plan.steps).T.flatten()
        changes = drawn_changes(_rotations(table, plan), words, augment)
        # Time first, so that the pixels come out as [T, B, ...] without a copy.
        shown = [plan.image.T, *([] if changes is None else [changes])]
        others = [plan.target.T, plan.scored, plan.classes, *([drawn_maps(plan, key)] if "warp" in augment else [])]
        (image, *more), (target, scored, class_rows, *maps) = self._placed(shown, others)
        scored = scored.bool()[:, None].expand_as(target)
        x = self._gathered(image.flatten(), *more)
        x = (warped(x, *maps) if maps else x).unflatten(0, target.shape)
        if not protocol.masks:
            return Episodes(x, target, scored, plan, class_rows=class_rows)
        objects = self._objects(image.flatten(), *more)
        objects = (warped(objects, *maps) > 0.5).float() if maps else objects
        objects = objects.unflatten(0, target.shape)
        shown = objects * (target == 0)[:, :, None, None, None]
        return Episodes(x, shown, scored, plan, objects, class_rows)

    def pixels(
        self, protocol: AnyProtocol, split: str, seed: int, numbers: Sequence[int] | np.ndarray
    ) -> tuple[Tensor, EpisodePlan]:
        """The images of the numbered episodes as they are stored, uint8 [T, B, C, H, W], and their plan.

        For training loops of one's own that convert on another device: a quarter of the bytes of `episodes`.
        """
        table = self.dataset.tables[split]
        plan = self._plans.plan(protocol, table, split, seed, numbers)
        changes = drawn_changes(_rotations(table, plan), None, ())
        image, *more = packed_to_device([plan.image.T, *([] if changes is None else [changes])], self._home)
        pixels = self._selected(self._images, image.flatten(), *more)
        self._looked_at(len(pixels))
        return pixels.unflatten(0, image.shape), plan

    def images(
        self,
        protocol: AnyProtocol | None,
        split: str,
        seed: int,
        numbers: Sequence[int] | np.ndarray,
        augment: Sequence[str] = (),
    ) -> tuple[Tensor, Tensor]:
        """Single images x [N, C, H, W] and their rows int64 [N] in the split's class table, classes drawn evenly.

        Of AUGMENTATIONS these take what each image goes through by itself; "warp" leaves them as they are.
        Image i of a split under a seed is a pure function of (protocol digest, split, seed, i); or, without a protocol,
        of the data's fingerprint in place of the digest.
        """
        table = self.dataset.tables[split]
        key = plan_key(protocol, split, seed) if protocol else philox.key_of(self.dataset.fingerprint, split, seed)
        drawn = philox.words(key, np.asarray(numbers), SINGLE, 3)
        row = philox.below(drawn[:, 0], len(table.names))
        image = table.members[table.offsets[row] + philox.below(drawn[:, 1], table.sizes[row])].astype(np.int64)
        changes = drawn_changes(table.rotations[row], drawn[:, 2] if augment else None, augment)
        (which, *more), (rows,) = self._placed([image, *([] if changes is None else [changes])], [row])
        return self._gathered(which, *more), rows

    def pictures(self, image: np.ndarray, rotations: np.ndarray) -> Tensor:
        """Float [N, C, H, W], normalised, of image numbers [N], each turned by `rotations` quarters [N]."""
        changes = drawn_changes(rotations, None, ())
        return self._gathered(*packed_to_device([image, *([] if changes is None else [changes])], self._home))

    def _objects(self, image: Tensor, changes: Tensor | None = None) -> Tensor:
        """Float [N, 1, H, W] of 0 and 1: the masks of images [N], changed as the images are."""
        if self._masks is None:
            raise UserError(f"the data set '{self.dataset.name}' has no masks, which this kind of protocol needs")
        return self._selected(self._masks, image, changes).float()

    def _placed(self, shown: list[np.ndarray], others: list[np.ndarray]) -> tuple[list[Tensor], list[Tensor]]:
        """Integers that say which images are shown, where the images lie, and others on the device; by one copy where
        that is one place."""
        if self._home != self.device:
            return packed_to_device(shown, self._home), packed_to_device(others, self.device)
        placed = packed_to_device([*shown, *others], self.device)
        return placed[: len(shown)], placed[len(shown) :]

    def _selected(self, images: Tensor, which: Tensor, changes: Tensor | None = None) -> Tensor:
        """uint8 [N, C, H, W] on the device: the images of these numbers [N], each with its changes [N, 4]."""
        pixels = torch.index_select(images, 0, which)
        pixels = pixels if changes is None else changed(pixels, changes)
        return pixels if self._home == self.device else tensor_to_device(pixels, self.device)

    def _gathered(self, image: Tensor, changes: Tensor | None = None) -> Tensor:
        """Float [N, C, H, W], normalised, of image numbers [N], each with its changes [N, 4]."""
        x = self._empty(len(image))
        if self._one_pass is not None and x.numel() >= one_pass.LEAST:
            self._one_pass.into(x, image.numpy(), None if changes is None else changes.numpy())
            self._looked_at(len(image))
            return x
        size = max(1, _CACHED // x[0].numel()) if self.device.type == "cpu" else len(image)
        for first in range(0, len(image), size):
            part = slice(first, first + size)
            pixels = self._selected(self._images, image[part], None if changes is None else changes[part])
            torch.addcmul(self._shift, x[part].copy_(pixels), self._scale, out=x[part])
        self._looked_at(len(image))
        return x

    def _looked_at(self, images: int) -> None:
        if self._pages is not None:
            self._pages.looked_at(images, self._images[0].numel())

    @cached_property
    def _one_pass(self) -> one_pass.OnePass | None:
        """The compiled pass over the images, where there is one."""
        if self.device.type != "cpu":
            return None
        return one_pass.one_pass(self._images, *(each[:, 0, 0].contiguous() for each in (self._scale, self._shift)))

    def _empty(self, images: int) -> Tensor:
        """Memory for float [images, C, H, W]."""
        shape = (images, *self.dataset.card.image_shape)
        if self.device.type == "cpu":
            # NumPy asks the system for huge pages, torch does not: that is far faster to touch.
            return torch.from_numpy(np.empty(shape, np.float32))
        return torch.empty(shape, device=self.device)


def _home(device: torch.device, size: int) -> torch.device:
    """Where `size` bytes of images lie: on the device, or on the host if they leave too little of a GPU's memory."""
    if device.type == "cuda" and size > torch.cuda.mem_get_info(device)[0] // 2:
        return torch.device("cpu")
    return device


def _shared(pixels: np.ndarray) -> Tensor:
    """Pixels as a tensor over the same memory: a map of a file that may be larger than memory is never copied.

    torch warns that it could write to a read-only array; nothing here does.
    """
    with warnings.catch_warnings(action="ignore"):
        return torch.from_numpy(pixels)


def _rotations(table: ClassTable, plan: EpisodePlan) -> np.ndarray:
    """By how many quarters the image of each step is turned, [T * B], time first."""
    if not table.rotations.any():
        return np.zeros(plan.target.size, np.int8)
    return table.rotations[np.take_along_axis(plan.classes, plan.target, axis=1)].T.flatten()
