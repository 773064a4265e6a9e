"""A data set from arrays in memory: images, a label each, and how they are split."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from harness.data.cache import fingerprint
from harness.data.cards import Card
from harness.data.dataset import SPLITS, ClassTable, Dataset
from harness.data.image_decoding import NAMED, listed
from harness.data.sources import table_of
from harness.data.user.pixels import statistics
from harness.util.errors import UserError, first_few, unknown
from harness.util.quantities import counted

SOURCE = "arrays in memory"
Splits = Mapping[str, Sequence[Hashable]] | Sequence[str]


def dataset_of(
    images: Any, labels: Sequence[Hashable] | np.ndarray, splits: Splits, *, name: str = "mine", masks: Any = None
) -> Dataset:
    """A data set of images that are arrays (NumPy, torch, or what `numpy.asarray` takes).

    `images` is uint8 [N, C, H, W], [N, H, W, C] or [N, H, W] with C 1 or 3; `labels` is the class of each, N numbers or
    names; `masks`, for protocols of masks, is bool or 0 and 1, [N, H, W] or [N, 1, H, W]. `splits` is the classes of
    each split, `{"train": [...], "validation": [...], "test": [...]}` ("validation" may be left out), or the name of
    the split of each image, N of them: then the splits either have no class in common, or (for kind supervised) all
    have the same classes.

    Classes are in the order of their names, images in the order given; mean and standard deviation of the training
    images are what pixels are normalised with. Raises UserError for arrays that do not fit together.
    """
    pixels, names = _pixels(images), _names(labels)
    if len(names) != len(pixels):
        raise UserError(f"there are {len(pixels)} images and {len(names)} labels; give a label for each image")
    of_split = _by_split(names, splits)
    disjoint = _is_disjoint(of_split)
    tables: dict[str, ClassTable] = {}
    for split in (each for each in SPLITS if each in of_split):
        groups = of_split[split]
        tables[split] = table_of(sorted(groups), [np.array(groups[each]) for each in sorted(groups)])
    planes = None if masks is None else _planes(masks, pixels)
    mean, std = statistics(pixels, tables["train"].members)
    card = Card(
        name=name,
        title=f"your own: {SOURCE}, {pixels.shape[2]}x{pixels.shape[3]} {'RGB' if pixels.shape[1] == 3 else 'gray'}",
        image_shape=(pixels.shape[1], pixels.shape[2], pixels.shape[3]),
        classes={split: len(table.names) for split, table in tables.items()},
        images_per_class={split: int(table.sizes.min()) for split, table in tables.items()},
        mean=mean,
        std=std,
        disjoint=disjoint,
        masks=planes is not None,
    )
    ids = tuple(map(str, range(len(pixels))))
    return Dataset(card, pixels, ids, tables, fingerprint(pixels, tables, planes), SOURCE, planes)


def _pixels(images: Any) -> np.ndarray:
    """uint8 [N, C, H, W]."""
    array = np.asarray(images)
    if array.dtype != np.uint8:
        raise UserError(f"images are {array.dtype}; give uint8, values 0 to 255 (the harness normalises them itself)")
    if array.ndim == 3:
        array = array[:, None]
    elif array.ndim == 4 and array.shape[1] not in (1, 3) and array.shape[3] in (1, 3):
        array = np.moveaxis(array, 3, 1)
    if array.ndim != 4 or array.shape[1] not in (1, 3) or 0 in array.shape:
        raise UserError(f"images are {list(np.shape(images))}; give [N, C, H, W], [N, H, W, C] or [N, H, W], C 1 or 3")
    return _own(array)


def _planes(masks: Any, pixels: np.ndarray) -> np.ndarray:
    """uint8 [N, 1, H, W] of 0 and 1."""
    array = np.asarray(masks)
    array = array[:, None] if array.ndim == 3 else array
    wanted = (len(pixels), 1, *pixels.shape[2:])
    if array.shape != wanted:
        raise UserError(f"masks are {list(np.shape(masks))}; the images need {list(wanted)}")
    if not np.isin(array, (0, 1)).all():
        raise UserError("masks hold other values than 0 (elsewhere) and 1 (on the object)")
    if len(empty := np.flatnonzero(~array.reshape(len(array), -1).any(axis=1))):
        found = first_few([str(number) for number in empty[:NAMED]], NAMED)
        raise UserError(
            f"{counted(len(empty), 'mask marks', 'masks mark')} no pixel as object, of image{'s' * (len(empty) > 1)} "
            f"{found}{', ...' * (len(empty) > NAMED)}; leave these images out"
        )
    return _own(array)


def _own(array: np.ndarray) -> np.ndarray:
    """A copy that nobody changes: the fingerprint of a data set must stay true."""
    copied = np.array(array, np.uint8, order="C")
    copied.setflags(write=False)
    return copied


def _names(labels: Sequence[Hashable] | np.ndarray) -> list[str]:
    """The class of each image by name; UserError where one is missing, or where two labels have one name."""
    # A list as it is: NumPy would make strings of all where one is.
    found = labels if isinstance(labels, list | tuple) else np.asarray(labels).tolist()
    of_name: dict[str, Any] = {}
    names = []
    for number, label in enumerate(found):
        if label is None or label != label:  # None, or not a number
            raise UserError(f"image {number} has no label (it is {label}); leave it out, or give it a class")
        name = _name(label)
        first = of_name.setdefault(name, label)
        if isinstance(first, str) != isinstance(label, str):
            raise UserError(f"the labels {first!r} and {label!r} have one name, '{name}'; write them alike")
        names.append(name)
    return names


def _name(label: Hashable) -> str:
    """What a label is called: 3.0, as data frames with a gap have it, is class 3."""
    number = getattr(label, "item", lambda: label)()  # of NumPy's and torch's numbers
    return str(int(number) if isinstance(number, float) and number.is_integer() else number)


def _by_split(names: list[str], splits: Splits) -> dict[str, dict[str, list[int]]]:
    """Split to class to the numbers of its images."""
    if isinstance(splits, Mapping):
        _check_names(splits)
        listed_in = {split: [_name(each) for each in classes] for split, classes in splits.items()}
        owner: dict[str, str] = {}
        for split, classes in listed_in.items():
            for each in classes:
                if owner.setdefault(each, split) != split:
                    raise UserError(f"class '{each}' is in the splits {owner[each]} and {split}; splits share no class")
        missing = sorted(set(owner) - set(names))
        if missing:
            raise UserError(f"there is no image of these classes:\n{listed(missing)}")
        own: list[str | None] = [owner.get(each) for each in names]
    else:
        own = [str(each) for each in splits]
        if len(own) != len(names):
            raise UserError(f"there are {len(names)} images, and {len(own)} names of splits; give one for each image")
        _check_names(dict.fromkeys(map(str, own)))
    found: dict[str, dict[str, list[int]]] = {}
    for number, (name, its_split) in enumerate(zip(names, own, strict=True)):
        if its_split is not None:
            found.setdefault(its_split, {}).setdefault(name, []).append(number)
    return found


def _check_names(splits: Mapping[str, object]) -> None:
    for each in splits:
        if each not in SPLITS:
            raise unknown("split", str(each), SPLITS)
    missing = [each for each in ("train", "test") if each not in splits]
    if missing:
        raise UserError(f"there is no {' and no '.join(missing)} split; a data set needs train and test")


def _is_disjoint(of_split: Mapping[str, Mapping[str, object]]) -> bool:
    """Whether no two splits share a class; UserError where they share some and not all."""
    classes = [set(groups) for groups in of_split.values()]
    if all(each == classes[0] for each in classes[1:]):
        return False
    shared = sorted(set.union(*classes), key=str)
    common = [name for name in shared if sum(name in each for each in classes) > 1]
    if common:
        raise UserError(f"splits share some classes and not all:\n{listed(common)}")
    return True
