"""Whether a data set, once it is decoded, can hold the episodes of a protocol."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from harness.data.dataset import Dataset
from harness.data.image_decoding import listed
from harness.util.errors import UserError

if TYPE_CHECKING:
    from harness.protocol.models import AnyProtocol


def check_possible(protocol: AnyProtocol, dataset: Dataset) -> None:
    """Raises UserError, naming split and class, where an episode cannot be drawn from a split of the data set.

    The cards of known data sets tell this when a protocol is read; of a user's own it is known only now.
    """
    problems = list(_problems(protocol, dataset))
    if problems:
        raise UserError(f"the protocol is impossible on {dataset.name}:\n{listed(problems)}")


def _problems(protocol: AnyProtocol, dataset: Dataset) -> Iterator[str]:
    needs = protocol.needs
    for split, table in dataset.tables.items():
        if split == "test" and protocol.episode_file is not None:
            continue
        if needs.classes > len(table.names) and split != "validation":  # as in harness.protocol.base.too_many
            yield (
                f"{needs.classes_key}: {needs.classes} classes in an episode, but the {split} split of "
                f"{dataset.name} has {len(table.names)}"
            )
        for name, size in zip(table.names, table.sizes.tolist(), strict=True):
            if needs.images > size:
                yield (
                    f"{needs.images_key}: {needs.images} images of a class in an episode, but class '{name}' of "
                    f"{dataset.name} ({split}) has {size}"
                )
    if protocol.masks and dataset.masks is None:
        yield f"dataset: kind {protocol.kind} needs masks, and {dataset.name} has none"
