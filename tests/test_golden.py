"""The first test episodes of every shipped protocol are pinned, so that nobody can change them unawares.

Each protocol has its digest and a SHA-256 over the plan of test episodes 0..19: once on a class table made
from the data set's card (needs no data), once on the real class table (needs --data-root). After adding a
protocol, or after a change that is meant to change episodes (raise SEMANTICS in harness/spec.py then, so
that old rows are set apart), write the file anew and look at its difference:

    python -m tests.test_golden --data-root DIR

Without --data-root only entries on cards are written, and real ones are kept where the digest is the same.
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

from harness.data.dataset import ClassTable
from harness.data.load import load_dataset
from harness.load import load_protocol
from harness.plan import EpisodePlan, plan_episodes
from harness.shipped import protocol_files
from harness.spec import AnyProtocol, DelayedLabel, OnlineFewShot, digest
from harness.testing import card_table

GOLDEN = Path(__file__).with_name("golden.json")
EPISODES = 20
SHIPPED = sorted(protocol_files())
HINT = "if that is meant, run `python -m tests.test_golden` and explain the change"


def content(plan: EpisodePlan) -> str:
    """SHA-256 over names, shapes and values of a plan's arrays, as little-endian 64-bit numbers."""
    total = hashlib.sha256()
    for field in dataclasses.fields(EpisodePlan):
        values = np.asarray(getattr(plan, field.name))
        total.update(f"{field.name}{values.shape}".encode())
        total.update(np.ascontiguousarray(values, dtype="<i8").tobytes())
    return total.hexdigest()


def planned(protocol: AnyProtocol, table: ClassTable) -> str:
    return content(plan_episodes(protocol, table, "test", 0, range(EPISODES)))


def golden() -> dict[str, dict[str, str]]:
    return json.loads(GOLDEN.read_text())


def runnable(name: str) -> AnyProtocol | None:
    """The protocol, or None for a kind that has no plans yet."""
    protocol = load_protocol(name).protocol
    return protocol if isinstance(protocol, OnlineFewShot | DelayedLabel) else None


def test_every_shipped_protocol_is_pinned_and_nothing_else() -> None:
    assert SHIPPED
    assert sorted(golden()) == [name for name in SHIPPED if runnable(name)], HINT


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_protocol_means_what_it_meant(name: str) -> None:
    protocol = runnable(name)
    if protocol is None:
        pytest.skip(f"no plans yet for the kind of {name}")
    assert digest(protocol) == golden()[name]["digest"], f"the meaning of {name} changed; {HINT}"


@pytest.mark.parametrize("name", SHIPPED)
def test_first_test_episodes_are_what_they_were(name: str) -> None:
    protocol = runnable(name)
    if protocol is None:
        pytest.skip(f"no plans yet for the kind of {name}")
    found = planned(protocol, card_table(protocol.dataset, "test"))
    assert found == golden()[name]["card"], f"other episodes for the same {name}; {HINT}"


@pytest.mark.real_data
@pytest.mark.parametrize("name", SHIPPED)
def test_first_test_episodes_on_real_data_are_what_they_were(name: str, data_root: Path, cache: Path) -> None:
    protocol = runnable(name)
    if protocol is None:
        pytest.skip(f"no plans yet for the kind of {name}")
    table = load_dataset(protocol.dataset, data_root, cache, download=False).tables["test"]
    assert planned(protocol, table) == golden()[name]["real"], f"other real episodes for {name}; {HINT}"


def write(data_root: Path | None) -> None:
    """Writes golden.json for the shipped protocols."""
    old = golden() if GOLDEN.exists() else {}
    entries = {}
    with tempfile.TemporaryDirectory() as cache:
        for name in SHIPPED:
            protocol = runnable(name)
            if protocol is None:
                continue
            entry = {"digest": digest(protocol), "card": planned(protocol, card_table(protocol.dataset, "test"))}
            if data_root:
                dataset = load_dataset(protocol.dataset, data_root, Path(cache), download=False)
                entry["real"] = planned(protocol, dataset.tables["test"])
            elif old.get(name, {}).get("digest") == entry["digest"] and "real" in old[name]:
                entry["real"] = old[name]["real"]
            entries[name] = entry
    GOLDEN.write_text(json.dumps(entries, indent=2, sort_keys=True) + "\n")
    print(f"{GOLDEN}: {len(entries)} protocols")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path)
    write(parser.parse_args().data_root)
