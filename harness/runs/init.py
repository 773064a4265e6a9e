"""The weights that a training begins from (`--init`), and what they had been through."""

from __future__ import annotations

from pathlib import Path

from harness.method.interface import Method
from harness.records.parts import MOST
from harness.runs.build_record import FOREIGN, OF_ONE_RUN, OF_TRAINING, Before
from harness.runs.folder import RECORD, read_record
from harness.runs.resolve import weights_file
from harness.util.errors import UserError
from harness.util.tensor_files import load_tensors, load_weights, without_prefix


def load_init(method: Method, init: Path | None) -> Before:
    """Loads the weights that training begins from, and says what they had been through; UserError for damaged ones."""
    if init is None:
        return Before()
    path = weights_file(init)
    tensors, header = load_tensors(path)
    load_weights(method, without_prefix("best", tensors) or tensors, path)
    identity = header.get("identity")
    own = isinstance(identity, dict) and all(identity.get(name) for name in ("protocol", "digest", "method", "target"))
    marks = header.get("marks") if own else [FOREIGN]
    if marks is None and (path.parent / RECORD).is_file():  # weights from before their header had marks
        marks = [mark for mark in read_record(path.parent).marks if mark in OF_TRAINING]
    episodes, marks = header.get("train_episodes", 0), [] if marks is None else marks
    if not isinstance(episodes, int) or not 0 <= episodes <= MOST:
        raise UserError(f"{path} is damaged: it does not say how long its weights were trained")
    known = isinstance(marks, list) and all(isinstance(each, str) for each in marks)
    marks = [each for each in marks if not each.startswith(OF_ONE_RUN)] if known else []
    if not known or not set(marks) <= set(OF_TRAINING):
        raise UserError(f"{path} is damaged: marks of how weights were trained are {', '.join(OF_TRAINING)}")
    return Before(episodes, tuple(dict.fromkeys(marks)))
