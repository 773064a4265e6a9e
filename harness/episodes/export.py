"""Episodes as rows for use elsewhere: which image is shown at each step, what is revealed, what is scored."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from harness.data.dataset import Dataset
from harness.data.own_test_images import encoded, encoded_mask
from harness.episodes.plan import NULL, PHASES, plan_episodes
from harness.protocol.episode_rows import FORMATS
from harness.protocol.models import AnyProtocol
from harness.util.atomic_files import replacing
from harness.util.errors import UserError

CHUNK = 256
"""Episodes held in memory at once."""

_SHORT = 16

COLUMNS = {
    "digest": f"digest of the protocol (first {_SHORT} hex digits)",
    "fingerprint": f"fingerprint of the data set (first {_SHORT} hex digits)",
    "split": "train, validation or test",
    "seed": "seed of the episodes; scores are taken under 0",
    "episode": "number of the episode",
    "step": "0..T-1",
    "phase": "support, stream or query",
    "class_name": "class that is shown, as the data set names it",
    "image_id": "image that is shown, as the data set names it",
    "turns": "quarter turns counter-clockwise at which the image is shown",
    "target": "class number within the episode, the right answer",
    "feedback": "target revealed before the step, or null",
    "reveals": "step whose target that is, or null",
    "scored": "whether the answer counts",
    "shot": "earlier presentations of the class (queries do not count)",
    "revealed": "how many of them have a known label",
    "image": 'the image as a PNG file: {"bytes": ...}, in base64 where the file is JSON (only with --images)',
    "mask": "the mask of the object on it, likewise (only with --images)",
}
"""The columns of an exported file, one row a step, and what they hold."""

KINDS = (
    "A support pair reveals its own target. All queries of an episode follow the same step, and what they reveal is",
    "revealed once, before the first of them. Where masks are asked for, a target of 0 stands for the mask of the",
    "image shown, which is of the target class, and a target of 1 for an empty mask, since it shows the distractor.",
)
"""What rows of some kinds mean."""

_NULLABLE = ("feedback", "reveals")
_ENCODED = ("image", "mask")

Columns = dict[str, Any]


def export_episodes(
    protocol: AnyProtocol, dataset: Dataset, split: str, seed: int, episodes: int, out: Path, images: bool = False
) -> int:
    """Write the first `episodes` episodes of a split to `out` (.jsonl or .parquet); the number of rows.

    With `images` each row holds its image (and its mask, where the protocol has masks), before it is turned, so that
    the file needs no data set. It appears as a whole or not at all. Raises UserError for another suffix or a place
    that cannot be written, RunError where writing fails.
    """
    if out.suffix not in FORMATS:
        raise UserError(f"--out '{out}' must end in {' or '.join(FORMATS)}")
    chunks = _chunks(protocol, dataset, split, seed, episodes, images)
    with replacing(out) as temporary:
        if out.suffix == ".jsonl":
            return _write_jsonl(temporary, chunks)
        header = {
            "protocol_digest": protocol.digest,
            "data": dataset.name,
            "data_fingerprint": dataset.fingerprint,
        }
        return _write_parquet(temporary, chunks, header)


def _chunks(
    protocol: AnyProtocol, dataset: Dataset, split: str, seed: int, episodes: int, encode: bool
) -> Iterator[Columns]:
    """The rows of `CHUNK` episodes at a time, by column: arrays of equal length, or one value for all."""
    table = dataset.table(split)
    names, images = np.array(table.names, object), np.array(dataset.image_ids, object)
    phases = np.array(PHASES, object)
    for first in range(0, episodes, CHUNK):
        numbers = np.arange(first, min(first + CHUNK, episodes))
        plan = plan_episodes(protocol, table, split, seed, numbers)
        classes = np.take_along_axis(plan.classes, plan.target, axis=1).ravel()
        count, steps = plan.target.shape
        yield {
            "digest": protocol.digest[:_SHORT],
            "fingerprint": dataset.fingerprint[:_SHORT],
            "split": split,
            "seed": seed,
            "episode": np.repeat(plan.episode, steps),
            "step": np.tile(np.arange(steps), count),
            "phase": np.tile(phases[plan.phase], count),
            "class_name": names[classes],
            "image_id": images[plan.image.ravel()],
            "turns": table.rotations[classes],
            "target": plan.target.ravel(),
            "feedback": plan.feedback.ravel(),
            "reveals": np.tile(plan.feedback_step, count),
            "scored": np.tile(plan.scored, count),
            "shot": plan.shot.ravel(),
            "revealed": plan.revealed.ravel(),
            **(_encoded(protocol, dataset, plan.image.ravel()) if encode else {}),
        }


def _encoded(protocol: AnyProtocol, dataset: Dataset, numbers: np.ndarray) -> Columns:
    """The images of rows as PNG files, and the masks where the protocol has some."""
    distinct, at = np.unique(numbers, return_inverse=True)
    images = [encoded(dataset.card, dataset.images[number]) for number in distinct]
    found = {"image": [images[n] for n in at]}
    if protocol.masks and dataset.masks is not None:
        masks = [encoded_mask(dataset.masks[number]) for number in distinct]
        found["mask"] = [masks[n] for n in at]
    return found


def _write_jsonl(path: Path, chunks: Iterator[Columns]) -> int:
    rows = 0
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for chunk in chunks:
            size = len(chunk["step"])
            for name in _NULLABLE:
                chunk[name] = [None if value == NULL else value for value in chunk[name].tolist()]
            for name in chunk.keys() & set(_ENCODED):
                chunk[name] = [{"bytes": base64.b64encode(each).decode()} for each in chunk[name]]
            columns = [_values(each, size) for each in chunk.values()]
            for row in zip(*columns, strict=True):
                file.write(json.dumps(dict(zip(chunk, row, strict=True)), ensure_ascii=False) + "\n")
            rows += size
    return rows


def _values(column: Any, size: int) -> list[Any]:
    if isinstance(column, np.ndarray):
        return column.tolist()
    return column if isinstance(column, list) else [column] * size


def _write_parquet(path: Path, chunks: Iterator[Columns], header: dict[str, str]) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {"seed": pa.int64(), "episode": pa.int64(), "turns": pa.int8(), "scored": pa.bool_()}
    types |= dict.fromkeys(("step", "target", *_NULLABLE, "shot", "revealed"), pa.int32())
    picture = pa.struct([("bytes", pa.binary()), ("path", pa.string())])  # as the `datasets` library has images
    types |= dict.fromkeys(_ENCODED, picture)
    first = next(chunks)
    schema = pa.schema([(name, types.get(name, pa.string())) for name in first], metadata=header)
    rows = 0
    with pq.ParquetWriter(path, schema) as writer:
        for chunk in chain([first], chunks):
            size = len(chunk["step"])
            for name in chunk.keys() & set(_ENCODED):
                chunk[name] = [{"bytes": each, "path": None} for each in chunk[name]]
            arrays = [
                pa.array(
                    _values(chunk[name], size) if not isinstance(chunk[name], np.ndarray) else chunk[name],
                    type=schema.field(name).type,
                    mask=chunk[name] == NULL if name in _NULLABLE else None,
                )
                for name in chunk
            ]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
            rows += size
    return rows
