"""The first test episodes of every shipped protocol are pinned, so that nobody can change them unawares.

Each protocol has its digest and a SHA-256 over the plan of test episodes 0..19: once on a class table made
from the data set's card (needs no data), once on its stand-in, with the pixels of the first episodes, and once on
the real class table where the data was at hand when the file was written (needs --data-root). After adding a
protocol, or after a change that is meant to change episodes (raise SEMANTICS in harness/protocol/models.py then, so
that old rows are set apart), write the file anew and look at its difference:

    python -m tests.episodes.test_golden --data-root DIR

Real entries of data that is not there are kept where the digest is the same.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import tempfile
from pathlib import Path

import numpy as np
import pytest

from harness.data.dataset import ClassTable, Dataset, card_table
from harness.data.open_dataset import load_dataset
from harness.episodes.plan import EpisodePlan, plan_episodes
from harness.protocol.load import load_protocol
from harness.protocol.models import AnyProtocol, on_dataset
from harness.util.errors import UserError
from harness.util.shipped_files import protocol_files

GOLDEN = Path(__file__).with_name("golden.json")
EPISODES, PICTURED = 20, 2
SHIPPED = sorted(protocol_files())
HASHED_AS = {"feedback_step": "reveals"}  # the names that fields had when their hashes were pinned
HINT = "if that is meant, run `python -m tests.episodes.test_golden` and explain the change"


def content(plan: EpisodePlan) -> str:
    """SHA-256 over names, shapes and values of a plan's arrays, as little-endian 64-bit numbers."""
    total = hashlib.sha256()
    for field in dataclasses.fields(EpisodePlan):
        values = np.asarray(getattr(plan, field.name))
        total.update(f"{HASHED_AS.get(field.name, field.name)}{values.shape}".encode())
        total.update(np.ascontiguousarray(values, dtype="<i8").tobytes())
    return total.hexdigest()


def planned(protocol: AnyProtocol, table: ClassTable) -> str:
    return content(plan_episodes(protocol, table, "test", 0, range(EPISODES)))


def pictured(protocol: AnyProtocol, dataset: Dataset) -> str:
    """SHA-256 over the plan, and over the images (and masks) of its first episodes."""
    total = hashlib.sha256(planned(protocol, dataset.tables["test"]).encode())
    shown = plan_episodes(protocol, dataset.tables["test"], "test", 0, range(PICTURED)).image
    for pixels in (dataset.images, dataset.masks):
        if pixels is not None:
            total.update(np.ascontiguousarray(pixels[shown]).tobytes())
    return total.hexdigest()


def golden() -> dict[str, dict[str, str]]:
    return json.loads(GOLDEN.read_text())


def at_hand(protocol: AnyProtocol, data_root: Path, cache: Path) -> Dataset | None:
    """The real data of a protocol, or None where it is not under the root."""
    try:
        return load_dataset(protocol.dataset, data_root, cache, download=False)
    except UserError as error:
        if "is missing" in str(error):
            return None
        raise


def standing_in(name: str, cache: Path) -> str:
    """The hash of a protocol on its stand-in."""
    protocol = load_protocol(name).protocol
    assert protocol.stand_in is not None
    return pictured(on_dataset(protocol, protocol.stand_in), load_dataset(protocol.stand_in, cache=cache))


def test_every_shipped_protocol_is_pinned_and_nothing_else() -> None:
    assert SHIPPED
    assert sorted(golden()) == SHIPPED, HINT


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_protocol_means_what_it_meant(name: str) -> None:
    assert load_protocol(name).protocol.digest == golden()[name]["digest"], f"the meaning of {name} changed; {HINT}"


@pytest.mark.parametrize("name", SHIPPED)
def test_first_test_episodes_are_what_they_were(name: str) -> None:
    protocol = load_protocol(name).protocol
    found = planned(protocol, card_table(protocol.card, "test"))
    assert found == golden()[name]["card"], f"other episodes for the same {name}; {HINT}"


@pytest.mark.parametrize("name", SHIPPED)
def test_first_test_episodes_on_the_stand_in_are_what_they_were(name: str, cache: Path) -> None:
    assert standing_in(name, cache) == golden()[name]["stand_in"], f"other stand-in episodes for {name}; {HINT}"


@pytest.mark.real_data
@pytest.mark.parametrize("name", SHIPPED)
def test_first_test_episodes_on_real_data_are_what_they_were(name: str, data_root: Path, cache: Path) -> None:
    if "real" not in golden()[name]:
        pytest.skip("the data was not at hand when the file was written")
    protocol = load_protocol(name).protocol
    dataset = at_hand(protocol, data_root, cache)
    if dataset is None:
        pytest.skip(f"{protocol.data_name} is not at hand")
    found = planned(protocol, dataset.tables["test"])
    assert found == golden()[name]["real"], f"other real episodes for {name}; {HINT}"


def write(data_root: Path | None, cache: Path, scratch: Path) -> None:
    """Writes golden.json for the shipped protocols; stand-ins are generated anew into `scratch`."""
    old = golden() if GOLDEN.exists() else {}
    entries = {}
    for name in SHIPPED:
        protocol = load_protocol(name).protocol
        entry = {
            "digest": protocol.digest,
            "card": planned(protocol, card_table(protocol.card, "test")),
            "stand_in": standing_in(name, scratch),
        }
        dataset = at_hand(protocol, data_root, cache) if data_root else None
        if dataset:
            entry["real"] = planned(protocol, dataset.tables["test"])
        elif old.get(name, {}).get("digest") == entry["digest"] and "real" in old[name]:
            entry["real"] = old[name]["real"]
        entries[name] = entry
    GOLDEN.write_text(json.dumps(entries, indent=2, sort_keys=True) + "\n")
    print(f"{GOLDEN}: {len(entries)} protocols")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--cache", type=Path, help="where real data is kept when it is decoded (default: nowhere)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        write(args.data_root, args.cache or Path(scratch), Path(scratch))
