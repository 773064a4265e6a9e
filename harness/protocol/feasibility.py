"""Whether a data set, once it is decoded, can hold the episodes of a protocol."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from harness.data.dataset import Dataset
from harness.data.image_decoding import listed
from harness.data.open_dataset import own_sizes
from harness.util.errors import UserError

if TYPE_CHECKING:
    from harness.protocol.models import AnyProtocol

Sizes = Mapping[str, Mapping[str, int]]
"""How many images each class of each split has."""


def check_possible(protocol: AnyProtocol, dataset: Dataset) -> None:
    """Raises UserError, naming split and class, where an episode cannot be drawn from a split of the data set.

    The cards of known data sets tell this when a protocol is read; of a user's own it is known only now.
    """
    sizes = {
        split: dict(zip(table.names, table.sizes.tolist(), strict=True)) for split, table in dataset.tables.items()
    }
    check_sizes(protocol, dataset.name, sizes, dataset.masks is not None)


def data_problem(protocol: AnyProtocol, data_root: Path | None = None, base: Path | None = None) -> str:
    """What a run would say of a user's own files, as far as no image is read; '' where nothing is found to be wrong,
    and of any other data set."""
    try:
        sizes = own_sizes(protocol.dataset, data_root, base)
        if sizes is not None:
            check_sizes(protocol, protocol.data_name, sizes, protocol.card.masks)
    except UserError as error:
        return str(error)
    return ""


def check_sizes(protocol: AnyProtocol, name: str, sizes: Sizes, masks: bool) -> None:
    """The same of the data set of that `name` before it is decoded, with or without `masks`."""
    problems = list(_problems(protocol, name, sizes))
    if protocol.masks and not masks:
        problems.append(f"dataset: kind {protocol.kind} needs masks, and {name} has none")
    if problems:
        raise UserError(f"the protocol is impossible on {name}:\n{listed(problems)}")


def _problems(protocol: AnyProtocol, name: str, sizes: Sizes) -> Iterator[str]:
    needs = protocol.needs
    for split, classes in sizes.items():
        if split == "test" and protocol.episode_file is not None:
            continue
        if needs.classes > len(classes) and split != "validation":  # as in harness.protocol.base.too_many
            yield (
                f"{needs.classes_key}: {needs.classes} classes in an episode, but the {split} split of "
                f"{name} has {len(classes)}"
            )
        for each, size in classes.items():
            if needs.images > size:
                yield (
                    f"{needs.images_key}: {needs.images} images of a class in an episode, but class '{each}' of "
                    f"{name} ({split}) has {size}"
                )
