"""Images as scoring has them, for checks that must not be told from it: of the stand-ins, or of real data."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
import torch
from torch import Tensor

from harness.check.tasks import assemble, numbers
from harness.data.cards import CARDS
from harness.data.dataset import Dataset
from harness.data.synthetic import registry
from harness.episodes.source import Episodes, EpisodeSource
from harness.util import philox

_CLASSES, _IMAGES = 8, 12  # of a class
_GLYPHS, _OBJECTS, _SCENES = "glyphs", "objects", "scenes"


@dataclass(frozen=True)
class Pictures:
    """Images x float32 [K, N, C, H, W] of each of K classes, normalised as in scoring.

    `objects` are their masks, float [K, N, 1, H, W] of 0 and 1; None without masks. `source` says what they are of,
    `name` what people call that.
    """

    name: str
    source: str
    x: Tensor
    objects: Tensor | None = None


def pictures_of(dataset: Dataset) -> Pictures:
    """Some test images of a data set: of its first classes, as many of each as all of them have."""
    table = dataset.tables["test"]
    rows = np.arange(min(_CLASSES, len(table.names)))
    each = min(_IMAGES, int(table.sizes[rows].min()))
    image = table.members[table.offsets[rows, None] + np.arange(each)].astype(np.int64)
    x = EpisodeSource(dataset).pictures(image.ravel(), np.repeat(table.rotations[rows], each))
    masks = None
    if dataset.masks is not None:
        turned = [np.rot90(dataset.masks[image[row]], int(table.rotations[row]), (-2, -1)) for row in rows]
        masks = torch.from_numpy(np.stack(turned).astype(np.float32))
    source = f"{dataset.name} {dataset.fingerprint}"
    return Pictures(dataset.name, source, x.unflatten(0, image.shape), masks)


@lru_cache(maxsize=8)
def generated(image_shape: tuple[int, int, int], masks: bool = False) -> Pictures:
    """Images of a stand-in, in another shape where it is asked for (nearest pixels, so that their values stay)."""
    name = _SCENES if masks else _GLYPHS if image_shape[0] == 1 else _OBJECTS
    card = CARDS[name]
    images, objects = _first_classes(name)
    shape = (-1, 1, 1)
    x = (torch.from_numpy(images) / 255 - torch.tensor(card.mean).view(shape)) / torch.tensor(card.std).view(shape)
    x = x[:, :, torch.arange(image_shape[0]) % x.shape[2]]
    found = None if objects is None else _resized(torch.from_numpy(objects).float(), image_shape)
    return Pictures(name, f"{name} {registry.version(name)}", _resized(x, image_shape), found)


@cache
def _first_classes(name: str) -> tuple[np.ndarray, np.ndarray | None]:
    return registry.first_classes(name, _CLASSES, _IMAGES)


def _resized(x: Tensor, image_shape: tuple[int, int, int]) -> Tensor:
    rows, columns = (torch.arange(n) * old // n for n, old in zip(image_shape[1:], x.shape[-2:], strict=True))
    return x[..., rows[:, None], columns]


def pictured(episodes: Episodes, pictures: Pictures, *name: object) -> Episodes:
    """Episodes of the same plan and labels, of pictures: in an episode each class number shows another class."""
    number = numbers(episodes)
    steps, batch = number.shape
    classes, images = pictures.x.shape[:2]
    episode = np.arange(batch)
    order = philox.shuffled(philox.words(philox.key_of("check", *name, "classes"), episode, 0, classes))
    words = philox.words(philox.key_of("check", *name, "images"), episode, 0, steps)
    shown = np.take_along_axis(order, number.T.numpy() % classes, 1).T, philox.below(words, images).T
    objects = None if episodes.objects is None or pictures.objects is None else pictures.objects[shown]
    return assemble(pictures.x[shown], number, episodes.plan.classes.shape[1], episodes.plan, objects)
