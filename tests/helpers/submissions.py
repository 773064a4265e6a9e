"""Runs on a tiny data set that are submitted, put on a board, edited and verified."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from harness import cli
from harness.boards.artifacts import keep
from harness.boards.store import append_record, read_board
from harness.evaluation.score import curves, metrics
from harness.protocol.load import load_protocol
from harness.records.canonical import canonical_json
from harness.records.canonical import sha256_of as json_hash
from harness.records.record import Record
from harness.runs.folder import NOTED, RECORD, SCORES, read_record, read_scores, write_scores
from harness.util.tensor_files import WEIGHTS, load_tensors, save_tensors, sha256_of

PROTOCOL = """\
extends: omniglot_delay2
episode: {presentations: 3}
scoring: {shots: [1, 2], test_episodes: 12}
"""


MINE = "mine.py:Mine"


RUN = ["run", "tiny.yaml", "--budget", "smoke", "--threads", "1"]


BOARD = Path("leaderboards/tiny.jsonl")


def finished(method: str, *words: str) -> Path:
    """The folder of a new run that is on no board."""
    before = set(Path().glob("*/tiny/*"))
    assert cli.main([*RUN, "--method", method, "--no-board", *words]) == 0
    (found,) = {path for path in Path().glob("*/tiny/*") if path.is_dir()} - before
    return found


HERE = "--in-process"
"""Most tests are of other things than isolation, which takes a second or two for each start of a process."""


def submitted(folder: Path, *words: str, where: str = HERE) -> int:
    return cli.main(["submit", str(folder), "--protocol", "tiny.yaml", *filter(None, [where]), *words])


def published(folder: Path, **changes: Any) -> Record:
    """Puts a run on the board as it is, with its weights and scores beside it."""
    record = keep(read_record(folder), folder, Path("leaderboards")).model_copy(update=changes)
    append_record(record, Path("leaderboards"))
    return record


def verify(*words: str, where: str = HERE) -> int:
    return cli.main(["verify", "tiny.yaml", *filter(None, [where]), *words])


def rows() -> list[Record]:
    return [record for _, record in read_board(BOARD).records]


def rewritten(folder: Path, **changes: Any) -> None:
    """Changes a run's record on the disk, and what the folder notes of it."""
    path, noted = folder / RECORD, folder / NOTED
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    noted.write_text(json.dumps({**json.loads(noted.read_text()), "record": sha256_of(path)}))


def other_weights(folder: Path, coherent: bool) -> None:
    """Weights that were never trained; `coherent`: the record is made to name them."""
    tensors, header = load_tensors(folder / WEIGHTS)
    torch.manual_seed(5)
    save_tensors(folder / WEIGHTS, {name: torch.randn_like(each.float()) for name, each in tensors.items()}, header)
    if coherent:
        rewritten(folder, checkpoint=sha256_of(folder / WEIGHTS))


def better_scores(folder: Path, coherent: bool) -> None:
    scores = read_scores(folder / SCORES)
    scores["right"][:, :] = scores["count"]
    write_scores(folder / SCORES, scores)
    rewritten(folder, scores=sha256_of(folder / SCORES))
    if coherent:
        protocol = load_protocol("tiny.yaml").protocol
        fields = {
            name: {"mean": mean, "interval": interval, "episodes": episodes}
            for name, (mean, interval, episodes) in metrics(protocol, scores).items()
        }
        rewritten(folder, metrics=fields, curves=curves(protocol, scores))


def raise_scores(folder: Path, rows: slice) -> None:
    """The best scores in these test episodes, with every number and hash of the record made to fit."""
    scores = read_scores(folder / SCORES)
    scores["right"][rows], scores["by_step"][rows] = scores["count"][rows], 1.0
    scores["revealed_right"][rows] = scores["revealed_count"][rows]
    write_scores(folder / SCORES, scores)
    protocol = load_protocol("tiny.yaml").protocol
    claims = {
        name: {"mean": mean, "interval": interval, "episodes": episodes}
        for name, (mean, interval, episodes) in metrics(protocol, scores).items()
    }
    rewritten(folder, metrics=claims, curves=curves(protocol, scores), scores=sha256_of(folder / SCORES))


def edit_row(change: Any) -> None:
    """Edits the first row of the board, and makes the SHA-256 of its line fit."""
    content = json.loads(BOARD.read_text().splitlines()[0])
    del content["sha256"]
    change(content)
    BOARD.write_text(canonical_json({**content, "sha256": json_hash(content)}) + "\n")


def at(*path: str, value: Any) -> Any:
    """A change of a row: one value, however deep."""

    def change(content: dict[str, Any]) -> None:
        for name in path[:-1]:
            content = content[name]
        content[path[-1]] = value

    return change
