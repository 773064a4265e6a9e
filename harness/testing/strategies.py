"""Hypothesis strategies: protocols of all kinds, class tables, episodes, and what methods are told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.data.cards import CARDS
from harness.data.dataset import ClassTable
from harness.protocol.models import KINDS, PROTOCOL, AnyProtocol
from harness.testing.tiny import tiny_episodes, tiny_source
from harness.util import philox
from harness.util.errors import unknown

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn, SearchStrategy

    from harness.episodes.source import Episodes
    from harness.method.interface import Task

STREAM_KINDS = ("online_few_shot", "delayed_label")
"""Kinds that are streams and nothing else: every step is answered and scored, its label comes d steps later."""

_DATASETS = {"segmentation_distractors": ("scenes",), "supervised": ("objects_supervised",)}


def protocols(
    kinds: Sequence[str] = tuple(KINDS),
    max_ways: int = 5,
    max_presentations: int = 5,
    orders: Sequence[str] = ("balanced", "iid", "cyclic"),
) -> SearchStrategy[Any]:
    """Valid protocols of the given kinds (all six) on stand-ins.

    An episode has at most `max_ways` classes and shows at most `max_presentations` images of each (at least two
    where there are queries), or as many as it has steps where classes are drawn independently (order 'iid'). Label
    delays reach past the end of the episode (d > T, so that nothing is ever revealed). Raises UserError for an unknown
    kind.
    """
    from hypothesis import strategies as st

    for kind in kinds:
        if kind not in KINDS:
            raise unknown("kind", kind, KINDS)

    @st.composite
    def drawn(draw: DrawFn) -> AnyProtocol:
        kind = draw(st.sampled_from(list(kinds)))
        ways = draw(st.integers(1, max_ways))
        presentations = draw(st.integers(1, max_presentations))
        episode: dict[str, Any] = {}
        scoring: dict[str, Any] = {"test_episodes": draw(st.integers(1, 20))}
        if kind in ("continual", "n_way_k_shot"):
            most = max(2, max_presentations)
            shots = draw(st.integers(1, most - 1))
            classes = "subtasks" if kind == "continual" else "ways"
            episode = {classes: ways, "shots": shots, "queries": draw(st.integers(1, most - shots))}
        elif kind == "supervised":
            scoring = {}
        elif kind == "segmentation_distractors":
            episode = {"presentations": presentations, "distractor": draw(st.booleans())}
            scoring["shots"] = draw(_shots(presentations))
        else:
            order, steps = draw(st.sampled_from(list(orders))), ways * presentations
            episode = {"ways": ways, "presentations": presentations, "order": order}
            if kind == "delayed_label":
                episode["label_delay"] = draw(st.integers(2, steps + 2))
            scoring["shots"] = draw(_shots(steps if order == "iid" else presentations))
        return PROTOCOL.validate_python(
            {
                "kind": kind,
                "title": "drawn by hypothesis",
                "dataset": draw(st.sampled_from(_DATASETS.get(kind, ("glyphs", "objects")))),
                "episode": episode,
                "scoring": scoring,
            }
        )

    return drawn()


def class_tables(classes: tuple[int, int] = (5, 12), images: tuple[int, int] = (5, 9)) -> SearchStrategy[ClassTable]:
    """Class tables with classes of uneven size, some of them turned copies of the class before.

    `classes` and `images` (of each class) are inclusive bounds; the defaults hold every episode of the
    default `protocols()`. Image numbers are shuffled, so that they say nothing about the class.
    """
    from hypothesis import strategies as st

    @st.composite
    def drawn(draw: DrawFn) -> ClassTable:
        rows: list[np.ndarray] = []
        rotations: list[int] = []
        total = 0
        for _ in range(draw(st.integers(*classes))):
            if rows and rotations[-1] < 3 and draw(st.booleans()):
                rows.append(rows[-1])
                rotations.append(rotations[-1] + 1)
            else:
                rows.append(np.arange(total, total := total + draw(st.integers(*images))))
                rotations.append(0)
        key = philox.key_of("class table", draw(st.integers(0, 2**16)))
        number = philox.shuffled(philox.words(key, np.zeros(1), 0, total))[0]
        return ClassTable(
            names=tuple(f"class {c}" for c in range(len(rows))),
            offsets=np.cumsum([0, *map(len, rows)], dtype=np.int64),
            members=number[np.concatenate(rows)].astype(np.int32),
            rotations=np.array(rotations, np.int8),
        )

    return drawn()


def tasks(kinds: Sequence[str] = tuple(KINDS), max_ways: int = 5) -> SearchStrategy[Task]:
    """What methods are told when they are built; half of those with a stream are told the label delay."""
    from hypothesis import strategies as st

    from harness.method.registry import task_of

    return st.builds(
        lambda protocol, classes, delay: task_of(protocol, CARDS[protocol.dataset].image_shape, classes, delay),
        protocols(kinds, max_ways),
        st.integers(1, max_ways),
        st.booleans(),
    )


def episodes(
    kinds: Sequence[str] = tuple(KINDS), max_ways: int = 5, max_presentations: int = 5
) -> SearchStrategy[Episodes]:
    """One to four episodes, as tensors, of protocols drawn by `protocols()`, on random pixels."""
    return protocols(kinds, max_ways, max_presentations).flatmap(episodes_of)


def episodes_of(protocol: AnyProtocol) -> SearchStrategy[Episodes]:
    """One to four episodes of a protocol, as tensors, on random pixels."""
    from hypothesis import strategies as st

    tables = tiny_source(protocol).dataset.tables

    def of_split(split: str) -> SearchStrategy[Episodes]:
        # Of a supervised protocol, other splits than the training split have one episode an image.
        last = int(tables[split].offsets[-1]) - 1 if protocol.supervised and split != "train" else 1000
        numbers = st.lists(st.integers(0, last), min_size=1, max_size=4)
        return st.builds(tiny_episodes, st.just(protocol), st.just(split), st.integers(0, 5), numbers)

    return st.sampled_from(list(tables)).flatmap(of_split)


def _shots(most: int) -> SearchStrategy[list[int]]:
    """Some of the shots 0..most-1, rising."""
    from hypothesis import strategies as st

    return st.sets(st.integers(0, most - 1), min_size=1, max_size=3).map(sorted)
