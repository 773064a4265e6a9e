"""Records and a protocol for the tests of boards, and writers that run in processes of their own."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
from pathlib import Path
from typing import Any

from harness.boards import store as board
from harness.boards.markdown import on_data, render_board, view_board
from harness.protocol.load import Loaded, load_protocol
from harness.protocol.models import PROTOCOL, AnyProtocol
from harness.records.parts import Code, Cost, DataInfo, Hardware, Metric
from harness.records.record import Record
from harness.util.shipped_files import protocol_files

PROTOCOL_TEXT: dict[str, Any] = {
    "kind": "online_few_shot",
    "title": "Tiny | stream",
    "dataset": "omniglot",
    "stand_in": "glyphs",
    "episode": {"ways": 5, "presentations": 10},
    "scoring": {"shots": [1, 5], "test_episodes": 1000},
    "published": [
        {
            "method": "opn",
            "source": "Somebody 2020, table 1",
            "metrics": {"accuracy@shot=1": [91.2, 1.1], "accuracy@shot=5": 94.6},
            "note": "std over 3 runs",
        },
        {"method": "apl", "source": "Somebody 2020, table 1", "metrics": {"accuracy@shot=1": 99.0}},
    ],
}
LOADED = Loaded("tiny_online", Path("tiny_online.yaml"), PROTOCOL.validate_python(PROTOCOL_TEXT))
DIGEST = LOADED.protocol.digest


def rendered(loaded: Loaded, boards: Path, stand_in: bool = False) -> str:
    """The Markdown of a protocol's board as it is on disk."""
    return render_board(view_board(loaded.name, on_data(loaded, stand_in), boards, stand_in))


def record(accuracy: float = 80.0, interval: float = 0.5, **changes: Any) -> Record:
    """A record on the board of LOADED; `changes` replace its fields."""
    stand_in = changes.pop("stand_in", False)
    test_episodes = changes.get("test_episodes", 1000)
    metric = Metric(mean=accuracy, interval=interval, episodes=test_episodes)
    fields: dict[str, Any] = {
        "schema_version": 1,
        "run": "opn-quick-s0",
        "status": "done",
        "protocol": LOADED.name,
        "digest": DIGEST,
        "data": DataInfo(name="omniglot", fingerprint="a" * 64, source="local folder", stand_in=stand_in),
        "method": "opn",
        "target": "methods.opn:OPN",
        "options": {"width": 16},
        "recipe": "opn.yaml",
        "recipe_hash": "b" * 64,
        "budget": "quick",
        "seed": 0,
        "train_episodes": 20000,
        "train_updates": 2000,
        "test_episodes": test_episodes,
        "metrics": {"accuracy": metric, "accuracy@shot=1": metric, "accuracy@shot=5": metric},
        "curves": {"by_shot": [20.0, 80.0]},
        "cost": Cost(
            parameters=111936,
            gflop_per_step=0.0102,
            state_bytes=1300,
            state_growth="constant",
            growth_bytes_per_step=0.0,
        ),
        "marks": ["stand-in"] if stand_in else [],
        "train_seconds": 61.5,
        "score_seconds": 3.2,
        "hardware": Hardware(device="cpu", cpu="Some CPU", gpu=None, threads=2, cores=2),
        "versions": {"python": "3.11.7"},
        "code": Code(revision="c" * 40, dirty=False),
        "checkpoint": "d" * 64,
        "command": "harness run tiny_online --method opn",
        "finished": "2026-01-01T12:00:00Z",
    }
    return Record(**{**fields, **changes})


def record_of(protocol: AnyProtocol, name: str, value: float = 50.0, **changes: Any) -> Record:
    """A record of a whole test on the board of a protocol: `value` is its ranking metric, the n-th reported metric
    is `value` - n; a continual protocol's curve falls from 90 by one a subtask."""
    episodes = changes.get("test_episodes", getattr(protocol.scoring, "test_episodes", 1000))
    names = (protocol.ranking, *protocol.reported)
    defaults: dict[str, Any] = {
        "protocol": name,
        "digest": protocol.digest,
        "test_episodes": episodes,
        "metrics": {each: Metric(mean=value - n, interval=0.5, episodes=episodes) for n, each in enumerate(names)},
        "curves": {"by_subtask": [90.0 - n for n in range(getattr(protocol.episode, "subtasks", 0))]},
    }
    return record(**{**defaults, **changes})


def shipped_record(name: str, value: float = 50.0, **changes: Any) -> Record:
    """As `record_of`, on the board of a shipped protocol."""
    return record_of(load_protocol(protocol_files()[name]).protocol, name, value, **changes)


def board_file(boards: Path) -> Path:
    return boards / f"{LOADED.name}.jsonl"


def append_many(boards: str, writer: int, count: int, shared: int) -> None:
    """Appends `count` records of its own, the first `shared` of them after one that all writers append."""
    for number in range(count):
        own = record(run=f"w{writer}-{number}", seed=writer * 1000 + number)
        every = [record(run=f"shared-{number}", seed=number)] if number < shared else []
        for each in (*every, own):
            board.append_record(each, Path(boards), print)


def append_many_at_once(boards: str, writers: int, count: int, shared: int) -> None:
    """Forks `writers` processes that append as `append_many` does, all at once; fails if one of them does."""
    fork = multiprocessing.get_context("fork")
    children = [fork.Process(target=append_many, args=(boards, each, count, shared)) for each in range(writers)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0] * writers


def append_and_be_killed(boards: str, rounds: int, seed: int, connection: Any) -> None:
    """Forks one writer after another, each killed at a random moment; tells which runs it knew to be on the disk."""
    drawn, fork = random.Random(seed), multiprocessing.get_context("fork")
    promised: list[str] = []
    for number in range(rounds):
        receiver, sender = fork.Pipe(duplex=False)
        child = fork.Process(target=append_without_end, args=(boards, sender, f"round{number}"))
        child.start()
        sender.close()
        assert receiver.poll(timeout=60)
        # After the first row, the moment is anywhere within the next rows.
        child.join(timeout=drawn.uniform(0, 0.02))
        child.kill()
        child.join()
        known = 0
        while True:
            try:
                known = receiver.recv()
            except EOFError:
                break
        promised += [f"round{number}-{each}" for each in range(known)]
    connection.send(promised)


def append_without_end(boards: str, connection: Any, name: str = "endless") -> None:
    """Appends until it is killed, and tells how many lines it has put on the disk."""
    number = 0
    while True:
        board.append_record(record(run=f"{name}-{number}", seed=number), Path(boards), print)
        number += 1
        connection.send(number)


def die_while_appending(boards: str, share: float) -> None:
    """Is killed with the lock held, when a share of its line is written."""

    def half(file: Any, data: bytes) -> None:
        file.write(data[: int(len(data) * share)])
        os.kill(os.getpid(), signal.SIGKILL)

    board._append = half
    board.append_record(record(run="killed", seed=99), Path(boards), print)
