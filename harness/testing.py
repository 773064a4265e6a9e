"""For tests of your protocols and methods: hypothesis strategies, a reference interpreter, a tiny data set.

    from hypothesis import given, strategies as st
    from harness import testing
    from harness.registry import build_method, task_for
    from harness.rollout import step_through

    @given(testing.protocols(max_ways=4), st.integers(0, 99))
    def test_my_method_answers_every_step(protocol, seed):
        episodes = testing.tiny_episodes(protocol, seed=seed)
        method = build_method(MyMethod, task_for(MyMethod, protocol, episodes.x.shape[2:]), {}, seed)
        assert step_through(method, episodes)[0].isfinite().all()

Only the strategies need hypothesis (it comes with the `test` extra), and only episodes and tasks need torch.
"""

from __future__ import annotations

import functools
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from harness import bits
from harness.data.cards import CARDS
from harness.data.dataset import SPLITS, ClassTable, Dataset
from harness.errors import unknown
from harness.spec import PROTOCOL, StreamProtocol

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn, SearchStrategy

    from harness.episodes import Episodes, EpisodeSource
    from harness.method import Task

STREAM_KINDS = ("online_few_shot", "delayed_label")
Event = tuple[Literal["reveal"], int, int] | tuple[Literal["show"], int]


# The reference interpreter: one episode, one event at a time, sharing nothing with plan.py and rollout.py.


def reference_events(targets: Sequence[int], delay: int) -> Iterator[Event]:
    """What happens in a stream with these targets and label delay d, in order.

    ('reveal', i, target) when the target of step i becomes known, ('show', t) when step t is shown and
    answered. The order is that of river's `stream.simulate_qa` for d >= 1; targets still waiting after the
    last step are never revealed.
    """
    waiting: deque[tuple[int, int, int]] = deque()
    for t, target in enumerate(targets):
        while waiting and waiting[0][0] <= t:
            _, i, known = waiting.popleft()
            yield "reveal", i, known
        yield "show", t
        waiting.append((t + delay, t, target))


def reference_counts(targets: Sequence[int], delay: int) -> list[tuple[int, int]]:
    """(shot, revealed) of each step: earlier showings of its class, and revealed labels of its class."""
    shown: Counter[int] = Counter()
    revealed: Counter[int] = Counter()
    counts = []
    for event in reference_events(targets, delay):
        if event[0] == "reveal":
            revealed[event[2]] += 1
        else:
            target = targets[event[1]]
            counts.append((shown[target], revealed[target]))
            shown[target] += 1
    return counts


# Data without files.


def card_table(name: str, split: str) -> ClassTable:
    """A class table with as many classes and images as the card of data set `name` says, and no pixels."""
    card = CARDS[name]
    classes, images = card.classes[split], card.images_per_class[split]
    return ClassTable(
        names=tuple(f"{split} class {c}" for c in range(classes)),
        offsets=np.arange(classes + 1, dtype=np.int64) * images,
        members=np.arange(classes * images, dtype=np.int32),
        turns=np.zeros(classes, np.int8),
    )


def tiny_dataset(
    name: str = "objects", classes: int = 8, images: int = 6, seed: int = 0, turned: bool = False
) -> Dataset:
    """A data set in memory with random pixels, in the image shape and normalisation of data set `name`.

    Each split has `classes` classes of `images` images, none in common; with `turned`, classes are turned by
    0, 1, 2, 3, 0, ... quarters when they are shown. It is a pure function of its arguments.
    """
    from harness.data.cache import fingerprint

    card = CARDS[name]
    per_split = classes * images
    tables = {
        split: ClassTable(
            names=tuple(f"{split} class {c}" for c in range(classes)),
            offsets=np.arange(classes + 1, dtype=np.int64) * images,
            members=np.arange(place * per_split, (place + 1) * per_split, dtype=np.int32),
            turns=(np.arange(classes) * turned % 4).astype(np.int8),
        )
        for place, split in enumerate(SPLITS)
    }
    numbers = np.arange(len(SPLITS) * per_split)
    pixels = bits.words(bits.key_of("tiny", name, seed), numbers, 0, int(np.prod(card.image_shape)))
    shown = (pixels & np.uint64(0xFF)).astype(np.uint8).reshape(-1, *card.image_shape)
    return Dataset(
        card=replace(
            card,
            classes=dict.fromkeys(SPLITS, classes),
            images_per_class=dict.fromkeys(SPLITS, images),
        ),
        images=shown,
        image_ids=tuple(f"tiny-{n}" for n in numbers),
        tables=tables,
        fingerprint=fingerprint(shown, tables),
        source="random pixels",
    )


def tiny_episodes(
    protocol: StreamProtocol, split: str = "test", seed: int = 0, numbers: Sequence[int] = (0, 1)
) -> Episodes:
    """Episodes of `protocol` on a `tiny_dataset` just large enough for it."""
    shape = protocol.episode
    return _tiny_source(protocol.dataset, shape.ways + 2, shape.presentations + 1).episodes(
        protocol, split, seed, numbers
    )


@functools.lru_cache(maxsize=64)
def _tiny_source(name: str, classes: int, images: int) -> EpisodeSource:
    from harness.episodes import EpisodeSource

    return EpisodeSource(tiny_dataset(name, classes, images))


# Hypothesis strategies.


def protocols(
    kinds: Sequence[str] = STREAM_KINDS,
    max_ways: int = 5,
    max_presentations: int = 5,
    orders: Sequence[str] = ("balanced", "iid"),
) -> SearchStrategy[StreamProtocol]:
    """Valid protocols of the stream kinds on the stand-ins 'glyphs' and 'objects'.

    Label delays reach past the end of the episode (d > T, so that nothing is ever revealed). Raises
    UserError for a kind that is not a stream.
    """
    from hypothesis import strategies as st

    for kind in kinds:
        if kind not in STREAM_KINDS:
            raise unknown("kind of stream", kind, STREAM_KINDS)

    @st.composite
    def drawn(draw: DrawFn) -> Any:
        kind = draw(st.sampled_from(list(kinds)))
        ways, presentations = draw(st.integers(1, max_ways)), draw(st.integers(1, max_presentations))
        order = draw(st.sampled_from(list(orders)))
        steps = ways * presentations
        episode = {"ways": ways, "presentations": presentations, "order": order}
        if kind == "delayed_label":
            episode["label_delay"] = draw(st.integers(2, steps + 2))
        last = presentations - 1 if order == "balanced" else steps - 1
        shots = sorted(draw(st.sets(st.integers(0, last), min_size=1, max_size=3)))
        return PROTOCOL.validate_python(
            {
                "kind": kind,
                "title": "drawn by hypothesis",
                "dataset": draw(st.sampled_from(["glyphs", "objects"])),
                "episode": episode,
                "scoring": {"shots": shots, "test_episodes": draw(st.integers(1, 20))},
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
        turns: list[int] = []
        total = 0
        for _ in range(draw(st.integers(*classes))):
            if rows and turns[-1] < 3 and draw(st.booleans()):
                rows.append(rows[-1])
                turns.append(turns[-1] + 1)
            else:
                rows.append(np.arange(total, total := total + draw(st.integers(*images))))
                turns.append(0)
        key = bits.key_of("class table", draw(st.integers(0, 2**16)))
        number = bits.shuffled(bits.words(key, np.zeros(1), 0, total))[0]
        return ClassTable(
            names=tuple(f"class {c}" for c in range(len(rows))),
            offsets=np.cumsum([0, *map(len, rows)], dtype=np.int64),
            members=number[np.concatenate(rows)].astype(np.int32),
            turns=np.array(turns, np.int8),
        )

    return drawn()


def tasks(kinds: Sequence[str] = STREAM_KINDS, max_ways: int = 5) -> SearchStrategy[Task]:
    """What methods are told when they are built; half of the tasks tell the label delay."""
    from hypothesis import strategies as st

    from harness.method import Task

    shapes = st.sampled_from([CARDS[name].image_shape for name in ("glyphs", "objects")])
    return protocols(kinds, max_ways).flatmap(
        lambda protocol: st.builds(
            Task,
            ways=st.just(protocol.episode.ways),
            image_shape=shapes,
            kind=st.just(protocol.kind),
            label_delay=st.sampled_from([None, protocol.label_delay]),
        )
    )


def episodes(
    kinds: Sequence[str] = STREAM_KINDS, max_ways: int = 5, max_presentations: int = 5
) -> SearchStrategy[Episodes]:
    """One to four episodes, as tensors, of protocols drawn by `protocols()`, on random pixels."""
    from hypothesis import strategies as st

    return st.builds(
        tiny_episodes,
        protocols(kinds, max_ways, max_presentations),
        split=st.sampled_from(SPLITS),
        seed=st.integers(0, 5),
        numbers=st.lists(st.integers(0, 1000), min_size=1, max_size=4),
    )
