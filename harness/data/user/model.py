"""A user's own data set as a protocol file describes it: where it lies, its columns, and how it is split."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, WithJsonSchema, model_validator

from harness.data.cards import CARDS, Card
from harness.util.errors import nearest
from harness.util.pydantic_base import Strict

PLACES = ("folder", "parquet", "hub")
STEM, CLASS = "{stem}", "{class}"
"""What stands in the pattern of a folder's masks for the image's name without suffix, and for its class."""

Text = Annotated[str, Field(min_length=1)]
_Side = Annotated[int, Field(strict=True, ge=1, le=1024)]
_Size = _Side | Annotated[list[_Side], Field(min_length=2, max_length=2)]
_Classes = Annotated[
    list[Text],
    Field(min_length=1),
    # As written it may also be the name of a file, which is read before the model sees it.
    WithJsonSchema({"anyOf": [{"type": "array", "items": {"type": "string"}, "minItems": 1}, {"type": "string"}]}),
]


class ClassLists(Strict):
    """The classes of each split, none in common (order does not matter)."""

    train: _Classes = Field(description="classes trained on: a list, or the name of a file with one class a line")
    validation: _Classes | None = Field(None, description="classes of model selection, if any")
    test: _Classes = Field(description="classes scored on")


class OwnSplits(Strict):
    """The source's own splits: each with the same classes, or each with classes of its own (`disjoint`)."""

    train: Text = Field(description="name of the split that is trained on")
    validation: Text | None = Field(None, description="name of the split of model selection, if any")
    test: Text = Field(description="name of the split that is scored on")
    disjoint: bool = Field(False, strict=True, description="whether each split has classes of its own")


class OwnData(Strict):
    """A data set of the user's own; its images are stretched to `size` and decoded once."""

    name: Annotated[str, Field(pattern="^[a-z0-9_]+$", max_length=100)] = Field(
        description="what it is called, in small letters, digits and _"
    )
    folder: Text | None = Field(
        None, description="folder with a folder of images for each class (with 'splits': such a folder for each split)"
    )
    parquet: Text | dict[Text, Text] | None = Field(
        None, description="Parquet files, as in 'birds/*.parquet'; with 'splits': split to files"
    )
    hub: Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")] | None = Field(
        None, description="repository of data on the Hugging Face hub, as in owner/name"
    )
    config: Text | None = Field(None, description="configuration of a hub repository that has several")
    revision: Text | None = Field(None, description="commit, tag or branch of a hub repository")
    hub_splits: Annotated[list[Text], Field(min_length=1)] | None = Field(
        None, description="splits of a hub repository that 'classes' are taken from, all if left out"
    )
    image: Text | None = Field(None, description="column of the images, 'image' if left out (not for a folder)")
    label: Text | None = Field(None, description="column of the classes, 'label' if left out (not for a folder)")
    mask: Text | None = Field(
        None, description="column of the masks; for a folder their files beside the images, as in '{stem}_mask.png'"
    )
    size: _Size = Field(description="side of the decoded images in pixels, or [height, width]")
    channels: Literal[1, 3] = Field(3, description="1 for gray, 3 for colour")
    classes: ClassLists | None = Field(None, description="classes of each split, for learning new classes")
    splits: OwnSplits | None = Field(
        None, description="the source's own splits, for kind supervised; for the others with 'disjoint: true'"
    )

    @model_validator(mode="after")
    def _possible(self) -> OwnData:
        places, lists = _given(self, PLACES), _given(self, ("classes", "splits"))
        lacking = [] if places else [f"one of {', '.join(PLACES)} (where it lies)"]
        lacking += [] if lists else ["classes or splits (what is trained and scored on)"]
        if lacking:
            raise ValueError(f"a data set needs {' and '.join(lacking)}")
        problems = [*_clashes(self, places, lists), *_columns(self), *_parts(self)]
        problems += _repeated(self.classes) if self.classes else []
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def __hash__(self) -> int:
        return hash((self.name, self.image_shape))

    @property
    def place(self) -> str:
        """Which of `PLACES` is given."""
        return _given(self, PLACES)[0]

    @property
    def image_column(self) -> str:
        return self.image or "image"

    @property
    def label_column(self) -> str:
        return self.label or "label"

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        height, width = self.size if isinstance(self.size, list) else (self.size, self.size)
        return (self.channels, height, width)

    @property
    def lists(self) -> dict[str, tuple[str, ...]]:
        """The classes of each split, sorted; empty where the source's own splits are taken."""
        given = self.classes.model_dump(exclude_none=True) if self.classes else {}
        return {split: tuple(sorted(names)) for split, names in given.items()}

    @property
    def parts(self) -> dict[str, str]:
        """The source's own split that each split is taken from; empty where class lists are given."""
        return self.splits.model_dump(exclude_none=True, exclude={"disjoint"}) if self.splits else {}

    @property
    def disjoint(self) -> bool:
        """Whether the splits have no class in common, as learning new classes needs it."""
        return self.splits is None or self.splits.disjoint

    @property
    def meaning(self) -> dict[str, Any]:
        """What of this changes what is measured: all but where the data lie, whose content has a fingerprint."""
        columns = {} if self.folder else {"image": self.image_column, "label": self.label_column}
        return {
            "name": self.name,
            "image_shape": self.image_shape,
            "classes": self.lists,
            "splits": self.parts,
            "mask": self.mask,
            **columns,
            **({"disjoint": True} if self.splits and self.splits.disjoint else {}),
            **({"hub_splits": sorted(self.hub_splits)} if self.hub_splits else {}),
        }

    @property
    def card(self) -> Card:
        """What is known before the images are decoded: how many images a class has, and their mean, is not."""
        shape = self.image_shape
        words = {"folder": "an image folder", "parquet": "Parquet files", "hub": f"{self.hub} on the hub"}
        form = f"{shape[1]}x{shape[2]} {'RGB' if self.channels == 3 else 'gray'}"
        return Card(
            name=self.name,
            title=f"your own: {words[self.place]}, {form}",
            image_shape=shape,
            classes={split: len(names) for split, names in self.lists.items()},
            images_per_class={},
            mean=(0.0,) * self.channels,
            std=(1.0,) * self.channels,
            disjoint=self.disjoint,
            masks=self.mask is not None,
        )


def unfit(data: OwnData, kind: str, supervised: bool, masks: bool) -> Iterator[str]:
    """Why a protocol of this kind, supervised or with masks, cannot be on the data set."""
    if supervised and data.splits is None:
        yield (
            f"dataset.classes: kind {kind} has the same classes in train and test: give the source's own splits, "
            "as in 'splits: {train: train, test: test}', in place of class lists"
        )
    elif supervised and data.disjoint:
        yield f"dataset.splits.disjoint: kind {kind} has the same classes in train and test; leave it out"
    elif not supervised and not data.disjoint:
        yield (
            f"dataset.splits: kind {kind} tests on classes that were not trained on: add 'disjoint: true' if each "
            "split has classes of its own, or give the 'classes' of each split in place of the source's own splits"
        )
    if masks and data.mask is None:
        yield f"dataset: kind {kind} needs masks: say where they are with 'mask'"


def _given(data: OwnData, keys: tuple[str, ...]) -> list[str]:
    return [key for key in keys if getattr(data, key) is not None]


def _clashes(data: OwnData, places: list[str], lists: list[str]) -> Iterator[str]:
    """Keys that cannot stand together, each sentence beginning with the key it is about."""
    if data.name in CARDS:
        yield f"name: '{data.name}' is the name of a known data set and would be taken for it"
    if len(places) > 1:
        yield f"{places[1]}: {places[0]} is given already, and a data set lies in one place"
    if len(lists) > 1:
        yield "splits: classes are given already, which split the data set"
    for key in _given(data, ("config", "revision", "hub_splits")) if not data.hub else ():
        yield f"{key}: only a hub repository has {'them' if key == 'hub_splits' else 'one'}"
    if data.hub and data.hub_splits and data.splits:
        yield "hub_splits: 'splits' says already which are used"


def _columns(data: OwnData) -> Iterator[str]:
    if data.folder is None:
        return
    for key in _given(data, ("image", "label")):
        yield f"{key}: an image folder has no columns (its classes are the names of its folders)"
    rest = (data.mask or STEM).replace(STEM, "", 1).replace(CLASS, "")
    if data.mask and (STEM not in data.mask or "{" in rest or "}" in rest):
        yield f"mask: for a folder, expected a pattern with {STEM} in it (and {CLASS} if needed), as in {STEM}_mask.png"


def _parts(data: OwnData) -> Iterator[str]:
    """Splits that are the same part of the source, or that the Parquet files are not told apart by."""
    if data.splits is None:
        return
    first: dict[str, str] = {}
    for split, part in data.parts.items():
        same = os.path.normpath(part) if data.folder else part
        if same in first:
            yield f"splits.{split}: '{part}' is {first[same]} too, and splits share no image"
        first.setdefault(same, split)
    if data.parquet is None:
        return
    if isinstance(data.parquet, str):
        yield "parquet: with splits, say which files each has, as in {train: 'a/*.parquet', test: 'b/*.parquet'}"
        return
    for split, part in data.parts.items():
        if part not in data.parquet:
            guess = nearest(part, data.parquet)
            hint = f", did you mean '{guess}'?" if guess else ""
            yield f"splits.{split}: parquet names no files of '{part}'{hint} (it names {', '.join(data.parquet)})"


def _repeated(lists: ClassLists) -> Iterator[str]:
    first: dict[str, str] = {}
    for split, names in lists.model_dump(exclude_none=True).items():
        for number, name in enumerate(names):
            if name in first:
                where = "twice" if first[name] == split else f"in {first[name]} too, and splits share no class"
                yield f"classes.{split}[{number}]: class '{name}' is named {where}"
            first.setdefault(name, split)
