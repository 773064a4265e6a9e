"""Sample images of a split: some of its classes, a line each, as learners are shown them."""

from __future__ import annotations

import numpy as np

from harness.data.dataset import Dataset
from harness.report.figure import Figure
from harness.report.pixels import DISTRACTOR, TARGET, data_uri, painted
from harness.report.svg import add, drawing, markup, tooltip

_CLASSES, _IMAGES = 6, 8
_NAME, _SIDE, _GAP, _LETTERS = 190, 48, 6, 26


def class_samples(dataset: Dataset, split: str) -> Figure:
    """Classes spread evenly over the split, with their first images; objects are tinted where there are masks."""
    table = dataset.table(split)
    count = min(_CLASSES, len(table.names))
    chosen = np.linspace(0, len(table.names) - 1, count).round().astype(int).tolist()
    caption = f"{split}: {count} of {len(table.names)} classes"
    cell = _SIDE + _GAP
    drawn = drawing(_NAME + cell * _IMAGES, cell * count, caption)
    drawn.set("class", "long")
    for line, number in enumerate(chosen):
        name = table.names[number]
        group = add(drawn, "g", class_="row")
        tooltip(group, f"{name}: {table.sizes[number]} images")
        shown = name if len(name) <= _LETTERS else f"…{name[1 - _LETTERS :]}"
        add(group, "text", shown, x=0, y=cell * line + _SIDE / 2 + 4, class_="name")
        members = table.members[table.offsets[number] : table.offsets[number + 1]][:_IMAGES]
        for place, image in enumerate(members.tolist()):
            pixels = np.rot90(dataset.images[image], int(table.rotations[number]), (-2, -1))
            if dataset.masks is not None:
                mask = np.rot90(dataset.masks[image], int(table.rotations[number]), (-2, -1))[0] > 0
                pixels = painted(pixels, (mask, TARGET if line % 2 == 0 else DISTRACTOR))
            x, y, href = _NAME + cell * place, cell * line, data_uri(pixels, 64)
            add(group, "image", x=x, y=y, width=_SIDE, height=_SIDE, href=href)
    return Figure(caption, markup(drawn), [], [], [])
