"""Episodes as tensors are what an obvious loop over single images makes."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from harness.data.dataset import Dataset
from harness.episodes import one_pass
from harness.episodes import source as source_module
from harness.episodes.plan import AUGMENT, plan_episodes, plan_key
from harness.episodes.source import AUGMENTATIONS, Episodes, EpisodeSource
from harness.protocol.models import PROTOCOL, DelayedLabel, StreamProtocol
from harness.testing import STREAM_KINDS, protocols, tiny_dataset
from harness.util import philox
from tests.helpers.protocols import validated_as

PADDING = 4
SOURCES = {
    (name, turned): EpisodeSource(tiny_dataset(name, classes=7, images=6, turned=turned))
    for name in ("glyphs", "objects", "objects_supervised", "scenes")
    for turned in (False, True)
}
NUMBERS = st.lists(st.integers(0, 1000), min_size=1, max_size=4)
STREAMS = protocols(STREAM_KINDS)
MOVED = [("flip",), ("crop",), ("flip", "crop")]
AUGMENTED = st.sampled_from([*MOVED, ("warp",), AUGMENTATIONS])


def turned_by_pil(image: np.ndarray, quarters: int) -> np.ndarray:
    """uint8 [C, H, W] turned counter-clockwise, channel by channel, by another library."""
    return np.stack([np.asarray(Image.fromarray(plane).rotate(90 * quarters)) for plane in image])


def one_by_one(dataset: Dataset, protocol: StreamProtocol, split: str, seed: int, numbers: list[int]) -> Any:
    """uint8 [T, B, C, H, W]: every image looked up and turned by itself."""
    table = dataset.tables[split]
    plan = plan_episodes(protocol, table, split, seed, numbers)
    shown = np.zeros((plan.steps, len(numbers), *dataset.images.shape[1:]), np.uint8)
    for b in range(len(numbers)):
        for t in range(plan.steps):
            row = plan.classes[b, plan.target[b, t]]
            shown[t, b] = turned_by_pil(dataset.images[plan.image[b, t]], int(table.rotations[row]))
    return shown


def normalised(dataset: Dataset, shown: np.ndarray) -> np.ndarray:
    """(value / 255 - mean) / std, in double precision."""
    shape = (-1, 1, 1)
    mean, std = (np.array(each).reshape(shape) for each in (dataset.card.mean, dataset.card.std))
    return (shown / 255 - mean) / std


def bytes_of(source: EpisodeSource, x: torch.Tensor) -> np.ndarray:
    """The uint8 pixels that were normalised to x."""
    shape = (-1, 1, 1)
    mean, std = (np.array(each).reshape(shape) for each in (source.dataset.card.mean, source.dataset.card.std))
    values = (x.double().numpy() * std + mean) * 255
    assert np.abs(values - values.round()).max() < 1e-3
    return values.round().astype(np.uint8)


@given(protocols(), st.booleans(), st.sampled_from(["train", "test"]), st.integers(0, 9), NUMBERS)
def test_gathering_equals_a_loop_over_single_images(
    protocol: Any, turned: bool, split: str, seed: int, numbers: list[int]
) -> None:
    source = SOURCES[protocol.dataset, turned]
    if protocol.kind == "supervised" and split == "test":
        numbers = [number % (7 * 6) for number in numbers]  # there are no more
    found = source.episodes(protocol, split, seed, numbers)
    shown = one_by_one(source.dataset, protocol, split, seed, numbers)
    assert found.x.dtype == torch.float32
    assert found.x.is_contiguous()
    np.testing.assert_allclose(found.x.numpy(), normalised(source.dataset, shown), rtol=1e-5, atol=1e-5)
    assert (bytes_of(source, found.x) == shown).all()
    if found.objects is None:
        assert (found.target.numpy() == found.plan.target.T).all()
    assert (found.scored.numpy() == found.plan.scored[:, None]).all()


def test_all_four_turns_occur_in_the_loop_above() -> None:
    # Were no class turned, the comparison with PIL would prove nothing about rotation.
    assert set(SOURCES["glyphs", True].dataset.tables["test"].rotations.tolist()) == {0, 1, 2, 3}
    image = np.arange(12, dtype=np.uint8).reshape(1, 3, 4)[:, :, :3]
    assert (turned_by_pil(image, 1) == np.rot90(image, 1, (1, 2))).all()
    assert not (turned_by_pil(image, 1) == np.rot90(image, -1, (1, 2))).all()


@given(STREAMS, st.booleans(), st.integers(0, 9), NUMBERS, st.sampled_from(MOVED))
def test_augmentation_equals_a_loop_over_single_images(
    protocol: Any, turned: bool, seed: int, numbers: list[int], augment: tuple[str, ...]
) -> None:
    source = SOURCES[protocol.dataset, turned]
    found = bytes_of(source, source.episodes(protocol, "train", seed, numbers, augment).x)
    shown = one_by_one(source.dataset, protocol, "train", seed, numbers)
    steps, _, channels, height, width = shown.shape
    words = philox.words(plan_key(protocol, "train", seed), np.array(numbers), AUGMENT, steps).tolist()
    for b in range(len(numbers)):
        for t in range(steps):
            image, word = shown[t, b], words[b][t]
            if "crop" in augment:
                frame = np.zeros((channels, height + 2 * PADDING, width + 2 * PADDING), np.uint8)
                frame[:, PADDING : PADDING + height, PADDING : PADDING + width] = image
                down, right = ((word >> shift) % 256 * (2 * PADDING + 1) // 256 for shift in (8, 16))
                image = frame[:, down : down + height, right : right + width]
            if "flip" in augment and word % 2:
                image = image[:, :, ::-1]
            assert (found[t, b] == image).all()


@given(STREAMS, st.integers(0, 9), NUMBERS)
def test_a_flip_only_mirrors(protocol: Any, seed: int, numbers: list[int]) -> None:
    source = SOURCES[protocol.dataset, False]
    plain = source.episodes(protocol, "train", seed, numbers).x
    flipped = source.episodes(protocol, "train", seed, numbers, ["flip"]).x
    same = (flipped == plain).flatten(2).all(dim=2)
    mirrored = (flipped == plain.flip(-1)).flatten(2).all(dim=2)
    assert (same ^ mirrored).all()


@pytest.mark.slow
def test_flips_are_fair_and_every_crop_occurs() -> None:
    protocol = protocol_of("objects")
    words = philox.words(plan_key(protocol, "train", 0), np.arange(2000), AUGMENT, protocol.steps).flatten()
    assert abs((words & np.uint64(1)).mean() - 0.5) < 4 * 0.5 / np.sqrt(len(words))
    source = SOURCES["objects", False]
    numbers = range(40)
    plain = source.episodes(protocol, "train", 0, numbers).x
    cropped = source.episodes(protocol, "train", 0, numbers, ["crop"]).x
    black = (-torch.tensor(source.dataset.card.mean) / torch.tensor(source.dataset.card.std)).view(3, 1, 1)
    height, width = plain.shape[-2:]
    seen = set()
    for image, moved in zip(plain.flatten(0, 1), cropped.flatten(0, 1), strict=True):
        frame = black.expand(3, height + 2 * PADDING, width + 2 * PADDING).clone()
        frame[:, PADDING : PADDING + height, PADDING : PADDING + width] = image
        offsets = [
            (down, right)
            for down in range(2 * PADDING + 1)
            for right in range(2 * PADDING + 1)
            if torch.allclose(frame[:, down : down + height, right : right + width], moved, atol=1e-5)
        ]
        assert len(offsets) == 1, "a crop is one window of the padded frame"
        seen.add(offsets[0])
    assert {down for down, _ in seen} == {right for _, right in seen} == set(range(2 * PADDING + 1))


def protocol_of(dataset: str) -> DelayedLabel:
    return validated_as(
        DelayedLabel,
        {
            "kind": "delayed_label",
            "title": "x",
            "dataset": dataset,
            "episode": {"ways": 3, "presentations": 4, "label_delay": 2},
            "scoring": {"shots": [1], "test_episodes": 10},
        },
    )


@given(protocols(), st.booleans(), st.integers(0, 9), NUMBERS, st.one_of(st.just(()), AUGMENTED))
def test_an_episode_looks_the_same_in_any_batch_and_any_order(
    protocol: Any, turned: bool, seed: int, numbers: list[int], augment: tuple[str, ...]
) -> None:
    source = SOURCES[protocol.dataset, turned]
    whole = source.episodes(protocol, "train", seed, numbers, augment)
    backwards = source.episodes(protocol, "train", seed, numbers[::-1], augment)
    assert torch.equal(whole.x, backwards.x.flip(1))
    assert torch.equal(whole.target, backwards.target.flip(1))
    for row, number in enumerate(numbers):
        alone = source.episodes(protocol, "train", seed, [number], augment)
        assert torch.equal(whole.x[:, row], alone.x[:, 0])
        assert torch.equal(whole.target[:, row], alone.target[:, 0])


def test_a_batch_of_many_pieces_equals_its_episodes() -> None:
    # Large enough that the pixels are worked on in several pieces, and that the last piece is a short one.
    protocol, source = protocol_of("objects"), SOURCES["objects", True]
    for augment in ((), AUGMENTATIONS):
        whole = source.episodes(protocol, "train", 0, range(45), augment).x
        assert whole.numel() > 3 * 2**19
        for number in (0, 13, 29, 44):
            alone = source.episodes(protocol, "train", 0, [number], augment).x
            assert torch.equal(whole[:, number], alone[:, 0])


@given(STREAMS, st.booleans(), st.integers(0, 9), NUMBERS, st.one_of(st.just(()), AUGMENTED))
def test_single_images_are_of_their_class_and_the_same_in_any_batch(
    protocol: Any, turned: bool, seed: int, numbers: list[int], augment: tuple[str, ...]
) -> None:
    source = SOURCES[protocol.dataset, turned]
    table = source.dataset.tables["train"]
    plain, rows = source.images(protocol, "train", seed, numbers)
    for image, row in zip(bytes_of(source, plain), rows.tolist(), strict=True):
        members = source.dataset.images[table.members[table.offsets[row] : table.offsets[row + 1]]]
        assert any((image == turned_by_pil(each, int(table.rotations[row]))).all() for each in members)
    whole, again = source.images(protocol, "train", seed, numbers, augment)
    assert torch.equal(rows, again)
    for place, number in enumerate(numbers):
        alone, row = source.images(protocol, "train", seed, [number], augment)
        assert torch.equal(whole[place], alone[0])
        assert rows[place] == row[0]


def test_single_images_are_drawn_evenly() -> None:
    protocol, source = protocol_of("glyphs"), SOURCES["glyphs", False]
    x, rows = source.images(protocol, "train", 0, range(20_000))
    ink, which = np.unique(x.flatten(1).double().sum(dim=1).numpy().round(4), return_inverse=True)
    assert len(ink) == 7 * 6, "the sum of its pixels tells each image from the others"
    counts = np.bincount(which)
    assert ((counts - counts.mean()) ** 2 / counts.mean()).sum() - 41 < 4 * np.sqrt(2 * 41)
    assert len(rows.unique()) == 7


def test_augmentation_depends_on_seed_and_episode() -> None:
    protocol, source = protocol_of("objects"), SOURCES["objects", False]
    words = {
        (seed, number): tuple(
            philox.words(plan_key(protocol, "train", seed), np.array([number]), AUGMENT, protocol.steps)[0]
        )
        for seed in (0, 1)
        for number in (0, 1)
    }
    assert len(set(words.values())) == 4
    one, again = (source.episodes(protocol, "train", 0, [5], AUGMENTATIONS).x for _ in range(2))
    assert torch.equal(one, again)


@given(protocols(), st.integers(0, 9), NUMBERS, st.one_of(st.just(()), AUGMENTED))
def test_episodes_neither_read_nor_move_global_random_state(
    protocol: Any, seed: int, numbers: list[int], augment: tuple[str, ...]
) -> None:
    source = SOURCES[protocol.dataset, False]

    def state() -> tuple[Any, ...]:
        return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()

    def poison(number: int) -> None:
        random.seed(number)
        np.random.seed(number)
        torch.manual_seed(number)

    with torch.random.fork_rng(devices=[]):
        poison(1)
        before = state()
        one = source.episodes(protocol, "train", seed, numbers, augment)
        assert state() == before
        poison(2)
        other = source.episodes(protocol, "train", seed, numbers, augment)
    assert torch.equal(one.x, other.x)
    assert torch.equal(one.target, other.target)


def test_gathering_leaves_the_data_set_as_it_is() -> None:
    dataset = tiny_dataset("glyphs", turned=True)
    before = dataset.images.copy()
    source = EpisodeSource(dataset)
    for augment in ((), AUGMENTATIONS):
        source.episodes(protocol_of("glyphs"), "train", 0, range(5), augment).x.zero_()
    assert (dataset.images == before).all()


def test_a_read_only_memory_map_gives_the_same_episodes_without_a_warning(
    tmp_path: Any, recwarn: pytest.WarningsRecorder
) -> None:
    import dataclasses

    dataset = tiny_dataset("objects")
    np.save(tmp_path / "images.npy", dataset.images)
    mapped = dataclasses.replace(dataset, images=np.load(tmp_path / "images.npy", mmap_mode="r"))
    one, other = (EpisodeSource(each).episodes(protocol_of("objects"), "test", 0, [3]) for each in (dataset, mapped))
    assert torch.equal(one.x, other.x)
    assert not recwarn.list


@pytest.mark.parametrize("name", ["omniglot", "cifar_fs"])
def test_stored_pixels_are_those_that_episodes_normalise(name: str) -> None:
    protocol = PROTOCOL.validate_python(
        {
            "kind": "online_few_shot",
            "title": "t",
            "dataset": name,
            "episode": {"ways": 4, "presentations": 3},
            "scoring": {"shots": [1]},
        }
    )
    source = EpisodeSource(tiny_dataset(name, turned=True))
    stored, plan = source.pixels(protocol, "test", 3, [5, 1])
    shown = source.episodes(protocol, "test", 3, [5, 1])
    card = source.dataset.card
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (card.mean, card.std))
    assert stored.dtype == torch.uint8
    torch.testing.assert_close((stored / 255 - mean) / std, shown.x, rtol=1e-4, atol=1e-5)
    assert np.array_equal(plan.image, shown.plan.image)


@pytest.mark.parametrize("name", ["glyphs", "objects", "scenes"])
def test_images_that_stay_on_the_host_give_the_same_episodes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = tiny_dataset(name, turned=True)
    usual = EpisodeSource(dataset)
    monkeypatch.setattr(
        source_module, "_home", lambda device, size: torch.device("cpu", 0)
    )  # another device than "cpu"
    monkeypatch.setattr(one_pass, "LEAST", 2**40)  # there is none on a GPU
    apart = EpisodeSource(dataset)
    protocol, image, quarters = protocol_of(name), np.arange(5), np.arange(5) % 4
    for augment in ((), AUGMENTATIONS):
        assert_same_episodes(*(each.episodes(protocol, "train", 1, [4, 2], augment) for each in (usual, apart)))
        for mine, other in zip(
            *(each.images(None, "train", 0, [3, 9], augment) for each in (usual, apart)), strict=True
        ):
            assert torch.equal(mine, other)
    assert torch.equal(*(each.pixels(protocol, "test", 0, [7])[0] for each in (usual, apart)))
    assert torch.equal(*(each.pictures(image, quarters) for each in (usual, apart)))


@pytest.mark.parametrize(("free", "home"), [(100, "cpu"), (199, "cpu"), (200, "cuda"), (10**6, "cuda")])
def test_images_stay_on_the_host_that_need_more_than_half_of_a_gpus_memory(
    free: int, home: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 10**9))
    assert source_module._home(torch.device("cuda"), 100) == torch.device(home)
    assert source_module._home(torch.device("cpu"), 10**12) == torch.device("cpu")


def assert_same_episodes(one: Episodes, other: Episodes) -> None:
    """The same tensors, bit for bit."""
    for name in ("x", "target", "scored", "class_rows", "objects"):
        mine, yours = getattr(one, name), getattr(other, name)
        assert (mine is None) == (yours is None)
        assert mine is None or torch.equal(mine, yours), name
