"""The compiled pass over images gives the bits of torch's operations; without it these are used."""

from __future__ import annotations

import itertools
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.episodes import one_pass, source
from harness.episodes.changes import MOVES, changed
from harness.episodes.source import EpisodeSource
from harness.protocol.models import PROTOCOL
from harness.testing import tiny_dataset
from harness.util.compiled import compiled

needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
SHAPES = [(1, 28, 28), (3, 32, 32), (2, 9, 9), (3, 8, 12)]


def images_of(shape: tuple[int, int, int]) -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (6, *shape), dtype=np.uint8))


def scales(channels: int) -> tuple[Tensor, Tensor]:
    return torch.linspace(0.011, 0.019, channels), torch.linspace(-1.9, 0.3, channels)


def changes_of(height: int, width: int) -> np.ndarray:
    """All quarters (halves of what is not square) with windows to all sides, mirrored and not."""
    quarters = range(4) if height == width else (0, 2)
    moves = (-4, -1, 0, 3)
    return np.array(list(itertools.product(quarters, (0, 1), moves, moves)), np.int64)


def plainly(image: np.ndarray, turns: int, mirrored: int, down: int, right: int) -> np.ndarray:
    """The same in so many words."""
    image, margin = np.rot90(image, turns, (-2, -1)), 4
    frame = np.pad(image, ((0, 0), (margin, margin), (margin, margin)))
    window = frame[:, margin + down :, margin + right :][:, : image.shape[1], : image.shape[2]]
    return window[:, :, ::-1] if mirrored else window


@pytest.mark.parametrize("shape", SHAPES)
def test_images_are_changed_as_said(shape: tuple[int, int, int]) -> None:
    changes = changes_of(*shape[1:])
    which = np.arange(len(changes)) % 6
    found = changed(images_of(shape)[which], torch.from_numpy(changes)).numpy()
    for n, how in zip(which, changes, strict=True):
        assert (found[0] == plainly(images_of(shape)[n].numpy(), *how)).all(), how
        found = found[1:]


@needs_compiler
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("threads", [1, 3])
def test_the_pass_gives_the_bits_of_torch(
    shape: tuple[int, int, int], threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(one_pass, "_A_THREAD", 2**10)
    images, changes = images_of(shape), changes_of(*shape[1:])
    which = np.random.default_rng(1).integers(0, 6, len(changes))
    scale, shift = scales(shape[0])
    fast = one_pass.one_pass(images, scale, shift)
    assert fast is not None
    wide = [each.view(-1, 1, 1).expand(shape).contiguous() for each in (scale, shift)]
    for how in (None, changes):
        x = torch.empty(len(which), *shape)
        fast.into(x, which, how)
        pixels = images[which] if how is None else changed(images[which], torch.from_numpy(how))
        assert torch.equal(x, torch.addcmul(wide[1], pixels.float(), wide[0]))


@needs_compiler
def test_a_number_of_no_image_is_refused() -> None:
    fast = one_pass.one_pass(images_of((1, 4, 4)), *scales(1))
    assert fast is not None
    for wrong in (-1, 6):
        with pytest.raises(IndexError, match=f"from 0 to 5, found {wrong}"):
            fast.into(torch.empty(2, 1, 4, 4), np.array([5, wrong]), None)


@needs_compiler
def test_a_pass_of_other_bits_than_torch_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    text = Path(one_pass.__file__).with_suffix(".c").read_text()
    other = compiled(
        text.replace("__builtin_fmaf((float)from[i], by, plus)", "(float)((double)from[i] * by + plus + 1e-6)")
    )
    monkeypatch.setattr(one_pass, "_library", lambda: other)
    assert one_pass.one_pass(images_of((3, 8, 8)), *scales(3)) is None


def protocol_of(dataset: str) -> Any:
    return PROTOCOL.validate_python(
        {
            "kind": "online_few_shot",
            "title": "x",
            "dataset": dataset,
            "episode": {"ways": 3, "presentations": 4},
            "scoring": {"shots": [1], "test_episodes": 10},
        }
    )


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("augment", [(), MOVES])
def test_episodes_are_the_same_with_and_without_it(
    turned: bool, augment: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    protocol, made = protocol_of("glyphs"), EpisodeSource(tiny_dataset("glyphs", 7, 6, turned=turned))
    found = []
    for least in (0, 2**60):
        monkeypatch.setattr(source.one_pass, "LEAST", least)
        found.append(
            (made.episodes(protocol, "train", 0, range(9), augment).x, made.images(protocol, "train", 0, [3])[0])
        )
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_a_source_that_has_used_it_goes_to_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source.one_pass, "LEAST", 0)
    protocol, made = protocol_of("objects"), EpisodeSource(tiny_dataset("objects", 7, 6))
    x = made.episodes(protocol, "train", 0, range(3)).x
    assert torch.equal(pickle.loads(pickle.dumps(made)).episodes(protocol, "train", 0, range(3)).x, x)
