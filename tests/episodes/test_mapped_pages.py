"""Images in a file larger than memory: the same episodes, in memory that is bounded."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.data.cards import CARDS
from harness.data.dataset import ClassTable, Dataset
from harness.episodes import mapped_pages
from harness.episodes.source import EpisodeSource
from harness.protocol.load import load_protocol
from harness.testing import tiny_dataset


@pytest.fixture
def no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapped_pages, "machine_memory", lambda: 0)
    monkeypatch.setattr(mapped_pages, "HELD", 2**20)


def mapped(dataset: Dataset, folder: Path) -> Dataset:
    """The data set with its pixels mapped from files, as a decoded one is."""

    def from_file(name: str, array: np.ndarray) -> np.ndarray:
        np.save(folder / f"{name}.npy", array)
        loaded: np.ndarray = np.load(folder / f"{name}.npy", mmap_mode="r")
        return loaded

    masks = None if dataset.masks is None else from_file("masks", dataset.masks)
    return replace(dataset, images=from_file("images", dataset.images), masks=masks)


@pytest.mark.usefixtures("no_memory")
@pytest.mark.parametrize("name", ["cifarfs_delay5", "omniglot_continual5", "fss1000_distractors"])
def test_episodes_are_those_of_images_in_memory(tmp_path: Path, name: str) -> None:
    protocol = load_protocol(name).protocol
    data = tiny_dataset(str(protocol.dataset), max(8, protocol.needs.classes + 2), protocol.needs.images + 1)
    ours, theirs = EpisodeSource(mapped(data, tmp_path)), EpisodeSource(data)
    assert ours._pages is not None
    assert theirs._pages is None
    let_go = 0
    for batch in range(8):
        numbers = range(4 * batch, 4 * batch + 4)
        mine, other = (each.episodes(protocol, "train", 0, numbers) for each in (ours, theirs))
        assert torch.equal(mine.x, other.x)
        assert torch.equal(mine.target, other.target)
        pixels = [each.pixels(protocol, "train", 0, numbers)[0] for each in (ours, theirs)]
        assert torch.equal(*pixels)
        let_go += ours._pages._held == 0
    assert let_go, "pages were let go between batches, and read again"


@pytest.mark.usefixtures("no_memory")
def test_a_copy_for_another_process_holds_no_map(tmp_path: Path) -> None:
    source = EpisodeSource(mapped(tiny_dataset(images=20), tmp_path))
    copy = pickle.loads(pickle.dumps(source))
    protocol = load_protocol("cifarfs_5way_online").protocol
    assert torch.equal(*(each.episodes(protocol, "train", 0, range(2)).x for each in (source, copy)))


def test_what_fits_into_memory_is_left_to_the_system(tmp_path: Path) -> None:
    assert EpisodeSource(mapped(tiny_dataset(), tmp_path))._pages is None


@pytest.mark.slow
def test_two_million_images_are_played_in_bounded_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """42 GB of 84x84 images as a file without content, most of which is never read."""
    status = Path("/proc/self/status")
    if not status.is_file():
        pytest.skip("this system does not say how much memory a process holds")
    monkeypatch.setattr(mapped_pages, "machine_memory", lambda: 2**34)  # 16 GB, whatever this machine has
    card, classes, per_class = CARDS["mini_imagenet"], 2000, 1000
    np.lib.format.open_memmap(tmp_path / "images.npy", "w+", np.uint8, (classes * per_class, *card.image_shape))
    table = ClassTable(
        tuple(f"class {number}" for number in range(classes)),
        np.arange(classes + 1, dtype=np.int64) * per_class,
        np.arange(classes * per_class, dtype=np.int32),
        np.zeros(classes, np.int8),
    )
    images = np.load(tmp_path / "images.npy", mmap_mode="r")
    source = EpisodeSource(Dataset(card, images, (), {"train": table}, "0" * 64, "made up"))
    protocol = load_protocol("miniimagenet_5way_5shot").protocol

    def held() -> int:
        """Bytes of mapped files in the memory of this process."""
        line = next(each for each in status.read_text().splitlines() if each.startswith("RssFile"))
        return int(line.split()[1]) * 1024

    before, most = held(), 0
    for batch in range(80):
        source.episodes(protocol, "train", 0, range(4 * batch, 4 * batch + 4))
        most = max(most, held() - before)
    assert 80 * 4 * 100 * images[0].nbytes > 2.5 * mapped_pages.HELD, "more was read than may be held"
    assert most < 1.2 * mapped_pages.HELD
