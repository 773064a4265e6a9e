"""The decoded cache: built once, whole or not there, verified whenever it is opened."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.data import cache, cache_stamp
from harness.data.cards import Card
from harness.data.dataset import Dataset
from harness.data.open_dataset import default_cache
from harness.data.sources import Decoded, Source, table_of
from harness.util.errors import UserError

COUNTS = {"train": 2, "validation": 1, "test": 1}
CARD = Card("tiny", "four classes of two images", (1, 3, 3), COUNTS, dict.fromkeys(COUNTS, 2), (0.0,), (1.0,))


def decoded() -> Decoded:
    images = np.arange(8 * 9, dtype=np.uint8).reshape(8, 1, 3, 3)
    tables = {
        "train": table_of(["a", "b"], [np.arange(2), np.arange(2, 4)], [0, 1]),
        "validation": table_of(["c"], [np.arange(4, 6)]),
        "test": table_of(["d"], [np.arange(6, 8)]),
    }
    return Decoded(images, tuple(f"image{i}" for i in range(8)), tables)


SOURCE = Source("made for the test", "0" * 64, lambda scratch: decoded())
FINGERPRINT = "0989a2b91574c7d35cf5a4148e5ec31fe8a923ebc89004dc2eff864b6df86692"
MASKED = replace(CARD, masks=True)


def masked() -> Decoded:
    masks = (decoded().images > 20).astype(np.uint8)
    return replace(decoded(), masks=masks)


WITH_MASKS = replace(SOURCE, decode=lambda scratch: masked())


def folder(where: Path) -> Path:
    return cache.folder_of(where, "tiny", 1, SOURCE.digest)


def left_in(where: Path) -> list[str]:
    return sorted(path.name for path in where.iterdir() if path.suffix != ".lock")


def test_what_is_loaded_is_what_was_decoded(tmp_path: Path) -> None:
    loaded, made = cache.load(CARD, 1, SOURCE, tmp_path), decoded()
    assert (np.asarray(loaded.images) == made.images).all()
    assert loaded.image_ids == made.image_ids
    assert loaded.source == SOURCE.title
    for split, table in made.tables.items():
        assert loaded.tables[split].names == table.names
        for field in ("offsets", "members", "rotations"):
            found, wanted = getattr(loaded.tables[split], field), getattr(table, field)
            assert found.dtype == wanted.dtype
            assert found.tolist() == wanted.tolist()


def test_images_are_memory_mapped_and_cannot_be_written(tmp_path: Path) -> None:
    images = cache.load(CARD, 1, SOURCE, tmp_path).images
    assert isinstance(images, np.memmap)
    assert not images.flags.writeable


def test_masks_are_kept_beside_the_images_and_memory_mapped(tmp_path: Path) -> None:
    loaded, made = cache.load(MASKED, 1, WITH_MASKS, tmp_path), masked()
    assert isinstance(loaded.masks, np.memmap)
    assert not loaded.masks.flags.writeable
    assert loaded.masks.dtype == np.uint8
    assert (loaded.masks == made.masks).all()
    assert sorted(os.listdir(folder(tmp_path))) == ["images.npy", "masks.npy", "meta.json", "tables.json"]
    assert cache.load(CARD, 2, SOURCE, tmp_path).masks is None


def test_a_data_set_without_a_validation_split_is_read_as_it_is(tmp_path: Path) -> None:
    tables = {split: table for split, table in decoded().tables.items() if split != "validation"}
    loaded = cache.load(CARD, 1, replace(SOURCE, decode=lambda scratch: replace(decoded(), tables=tables)), tmp_path)
    assert list(loaded.tables) == ["train", "test"]
    assert loaded.fingerprint == cache.fingerprint(decoded().images, tables)


def test_folders_built_before_there_were_masks_are_still_read(tmp_path: Path) -> None:
    whole = cache.load(CARD, 1, SOURCE, tmp_path)
    file = folder(tmp_path) / "meta.json"
    meta = json.loads(file.read_text())
    del meta["masks"]
    file.write_text(json.dumps(meta))
    assert cache.load(CARD, 1, SOURCE, tmp_path).fingerprint == whole.fingerprint == FINGERPRINT


def test_a_card_that_promises_other_masks_than_there_are_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no masks, unlike its card"):
        cache.load(MASKED, 1, SOURCE, tmp_path)
    with pytest.raises(UserError, match="it has masks, unlike its card"):
        cache.load(CARD, 2, WITH_MASKS, tmp_path)


def test_pixels_may_be_mapped_from_temporary_files(tmp_path: Path) -> None:
    def decode(scratch: Path) -> Decoded:
        made, maps = masked(), []
        for name, array in (("images", made.images), ("masks", made.masks)):
            assert array is not None
            array.tofile(scratch / name)
            maps.append(np.memmap(scratch / name, np.uint8, "r", shape=array.shape))
        return replace(made, images=maps[0], masks=maps[1])

    loaded, made = cache.load(MASKED, 1, replace(SOURCE, decode=decode), tmp_path), masked()
    assert loaded.fingerprint == cache.fingerprint(made.images, made.tables, made.masks)
    assert left_in(tmp_path) == [folder(tmp_path).name]


def test_a_decoded_data_set_is_not_decoded_again_and_nothing_is_written(tmp_path: Path) -> None:
    def refuse(scratch: Path) -> Decoded:
        raise AssertionError("decoded twice")

    first = cache.load(CARD, 1, SOURCE, tmp_path)
    (tmp_path / f"{folder(tmp_path).name}.lock").unlink(missing_ok=True)
    assert cache.load(CARD, 1, replace(SOURCE, decode=refuse), tmp_path).fingerprint == first.fingerprint
    assert os.listdir(tmp_path) == [folder(tmp_path).name]


def test_another_version_of_the_decoder_or_another_source_is_decoded_apart(tmp_path: Path) -> None:
    cache.load(CARD, 1, SOURCE, tmp_path)
    cache.load(CARD, 2, SOURCE, tmp_path)
    cache.load(CARD, 2, replace(SOURCE, digest="1" * 64), tmp_path)
    assert left_in(tmp_path) == [f"tiny-v1-{'0' * 16}", f"tiny-v2-{'0' * 16}", f"tiny-v2-{'1' * 16}"]
    found = cache.decoded_before(tmp_path, "tiny", 1)
    assert found == folder(tmp_path)
    assert cache.decoded_before(tmp_path, "tin", 1) is None


def test_the_fingerprint_changes_with_every_part_that_changes_episodes() -> None:
    made = decoded()
    whole = cache.fingerprint(made.images, made.tables)
    pixels = made.images.copy()
    pixels[7, 0, 2, 2] ^= 1
    train = made.tables["train"]
    changed = [cache.fingerprint(pixels, made.tables), cache.fingerprint(made.images.reshape(8, 1, 1, 9), made.tables)]
    for other in (
        replace(train, names=("a", "B")),
        replace(train, offsets=np.array([0, 1, 4])),
        replace(train, members=train.members[::-1].copy()),
        replace(train, rotations=np.array([0, 2], np.int8)),
    ):
        changed.append(cache.fingerprint(made.images, {**made.tables, "train": other}))
    swapped = {**made.tables, "validation": made.tables["test"], "test": made.tables["validation"]}
    changed.append(cache.fingerprint(made.images, swapped))
    masks = masked().masks
    assert masks is not None
    changed.append(cache.fingerprint(made.images, made.tables, masks))
    changed.append(cache.fingerprint(made.images, made.tables, 1 - masks))
    assert len({whole, *changed}) == 1 + len(changed)


def test_the_fingerprint_without_masks_is_what_it_was_before_there_were_any() -> None:
    assert cache.fingerprint(decoded().images, decoded().tables) == FINGERPRINT


@pytest.mark.slow
def test_a_flipped_byte_is_found_wherever_it_is(tmp_path: Path) -> None:
    whole = cache.load(MASKED, 1, WITH_MASKS, tmp_path)
    harmless = 0
    for file in sorted(folder(tmp_path).iterdir()):
        good = file.read_bytes()
        for place in range(len(good)):
            bad = good[:place] + bytes([good[place] ^ 0x11]) + good[place + 1 :]
            file.write_bytes(bad)
            found = opened_or_message(folder(tmp_path))
            if isinstance(found, str):
                assert str(folder(tmp_path)) in found
                assert "delete this folder" in found
            else:
                # White space in a header may read the same; what was loaded must be the same, then.
                harmless += 1
                assert (np.asarray(found.images) == np.asarray(whole.images)).all()
                assert (np.asarray(found.masks) == np.asarray(whole.masks)).all()
                assert (found.fingerprint, found.image_ids) == (whole.fingerprint, whole.image_ids)
            assert file.read_bytes() == bad
        file.write_bytes(good)
    assert harmless < 10


def opened_or_message(where: Path) -> Dataset | str:
    try:
        return cache.opened(MASKED, where)
    except UserError as error:
        return str(error)


@pytest.mark.parametrize("name", ["images.npy", "masks.npy", "tables.json", "meta.json"])
def test_a_truncated_or_missing_file_is_named_and_left_as_it_is(tmp_path: Path, name: str) -> None:
    cache.load(MASKED, 1, WITH_MASKS, tmp_path)
    file = folder(tmp_path) / name
    good = file.read_bytes()
    for length in (0, 10, len(good) // 2, len(good) - 1):
        file.write_bytes(good[:length])
        with pytest.raises(UserError, match="corrupt") as caught:
            cache.load(MASKED, 1, WITH_MASKS, tmp_path)
        assert str(folder(tmp_path)) in str(caught.value)
        assert len(file.read_bytes()) == length
    file.unlink()
    with pytest.raises(UserError, match="corrupt"):
        cache.load(MASKED, 1, WITH_MASKS, tmp_path)


def test_pixels_are_hashed_once_and_again_when_asked_or_when_a_file_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed, fingerprint = [], cache.fingerprint

    def counted(*arrays: Any) -> str:
        hashed.append(1)
        return fingerprint(*arrays)

    cache.load(MASKED, 1, WITH_MASKS, tmp_path)
    assert not (folder(tmp_path) / cache_stamp.STAMP).exists()  # so new that its time says nothing
    monkeypatch.setattr(cache_stamp, "_MARGIN", 0.0)
    monkeypatch.setattr(cache, "fingerprint", counted)
    for rehash, times in ((False, 1), (False, 1), (True, 2), (False, 2)):
        cache.opened(MASKED, folder(tmp_path), rehash)
        assert len(hashed) == times
    for name in ("images.npy", "masks.npy", "tables.json", "meta.json"):
        file, before = folder(tmp_path) / name, len(hashed)
        good, at = file.read_bytes(), file.stat()
        file.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
        os.utime(file, ns=(at.st_atime_ns, at.st_mtime_ns))  # the time of its inode still tells
        with pytest.raises(UserError, match="corrupt"):
            cache.opened(MASKED, folder(tmp_path))
        file.write_bytes(good)
        cache.opened(MASKED, folder(tmp_path))
        assert len(hashed) > before


def test_a_note_of_a_check_that_is_damaged_or_of_something_else_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_stamp, "_MARGIN", 0.0)
    print_of = cache.load(MASKED, 1, WITH_MASKS, tmp_path).fingerprint
    note = folder(tmp_path) / cache_stamp.STAMP
    assert cache_stamp.is_unchanged(folder(tmp_path), print_of)
    assert not cache_stamp.is_unchanged(folder(tmp_path), "0" * 64)
    for content in (b"", b"[", b"null", b"\xff", b"{}", note.read_bytes().replace(b"images", b"image")):
        note.write_bytes(content)
        assert not cache_stamp.is_unchanged(folder(tmp_path), print_of)
        assert cache.opened(MASKED, folder(tmp_path)).fingerprint == print_of


def test_a_failed_decoding_leaves_nothing_behind(tmp_path: Path) -> None:
    def fail(scratch: Path) -> Decoded:
        (scratch / "half").write_text("done")
        raise UserError("the source is broken")

    with pytest.raises(UserError, match="the source is broken"):
        cache.load(CARD, 1, replace(SOURCE, decode=fail), tmp_path)
    assert left_in(tmp_path) == []


def test_temporary_files_of_a_decoder_are_not_kept(tmp_path: Path) -> None:
    def scribble(scratch: Path) -> Decoded:
        (scratch / "arrow").write_text("copy")
        return decoded()

    cache.load(CARD, 1, replace(SOURCE, decode=scribble), tmp_path)
    assert left_in(tmp_path) == [folder(tmp_path).name]
    assert sorted(os.listdir(folder(tmp_path))) == ["images.npy", "meta.json", "tables.json"]


def test_a_cache_that_cannot_be_written_says_how_to_choose_another(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"cache=DIR or .* HARNESS_CACHE") as caught:
        cache.load(CARD, 1, SOURCE, tmp_path / "file" / "cache")
    assert str(tmp_path / "file" / "cache") in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_read_only_cache_is_refused_but_can_be_read(tmp_path: Path) -> None:
    cache.load(CARD, 1, SOURCE, tmp_path)
    tmp_path.chmod(0o555)
    try:
        assert cache.load(CARD, 1, SOURCE, tmp_path).name == "tiny"
        with pytest.raises(UserError, match="cannot write"):
            cache.load(CARD, 2, SOURCE, tmp_path)
    finally:
        tmp_path.chmod(0o755)


def test_the_cache_may_be_chosen_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("HARNESS_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    assert default_cache() == tmp_path / "user" / "episode-harness"
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "chosen"))
    assert default_cache() == tmp_path / "chosen"


# What follows needs real processes: a lock and a kill cannot be played in one.

BUILDER = """
import sys
from dataclasses import replace
from pathlib import Path
import filelock
from harness.data import cache, cache_stamp
from harness.util.errors import HarnessError
sys.path.insert(0, sys.argv[2])
from test_cache import CARD, SOURCE, decoded

def tell(word):
    print(word, flush=True)

def acquire(*given, acquire=filelock.FileLock.acquire, **named):
    tell("locking")
    return acquire(*given, **named)

filelock.FileLock.acquire = acquire

def decode(scratch):
    tell("decoding")
    sys.stdin.readline()
    return decoded()

try:
    tell(cache.load(CARD, 1, replace(SOURCE, decode=decode), Path(sys.argv[1])).fingerprint)
except HarnessError as error:
    tell(f"refused: {error}")
"""


def builder(where: Path, before: str = "") -> subprocess.Popen[str]:
    root = Path(cache.__file__).parents[2]
    return subprocess.Popen(
        [sys.executable, "-c", before + BUILDER, str(where), str(Path(__file__).parent)],
        env={**os.environ, "PYTHONPATH": str(root)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def heard(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_two_processes_build_once(tmp_path: Path) -> None:
    with builder(tmp_path) as first:
        assert (heard(first), heard(first)) == ("locking", "decoding")
        with builder(tmp_path) as second:
            assert heard(second) == "locking"
            first.communicate("go on\n", timeout=60)
            heard_later = second.communicate("go on\n", timeout=60)[0].split()
    assert "decoding" not in heard_later
    made = decoded()
    assert heard_later[-1] == cache.fingerprint(made.images, made.tables)
    assert left_in(tmp_path) == [folder(tmp_path).name]


def test_a_builder_killed_half_way_leaves_nothing_that_is_taken_for_a_data_set(tmp_path: Path) -> None:
    with builder(tmp_path) as process:
        assert (heard(process), heard(process)) == ("locking", "decoding")
        process.kill()
        process.wait(timeout=60)
    left = left_in(tmp_path)
    assert len(left) == 1
    assert left[0].startswith(".")
    assert cache.decoded_before(tmp_path, "tiny", 1) is None
    cache.load(CARD, 1, SOURCE, tmp_path)
    assert left_in(tmp_path) == [folder(tmp_path).name]


def test_what_another_process_is_building_is_not_cleaned_away(tmp_path: Path) -> None:
    with builder(tmp_path) as process:
        assert (heard(process), heard(process)) == ("locking", "decoding")
        # Another version of the same data set does not share the lock, and must not take the other's folder.
        cache.load(CARD, 2, SOURCE, tmp_path)
        message, _ = process.communicate("go on\n", timeout=60)
    assert "refused" not in message
    assert left_in(tmp_path) == [folder(tmp_path).name, f"tiny-v2-{'0' * 16}"]


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    pytest.importorskip("resource")
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
    with builder(tmp_path, before=limit) as process:
        message, _ = process.communicate("go on\n", timeout=60)
    assert "refused: cannot write decoded data sets into" in message
    assert left_in(tmp_path) == []
