"""The files that rows name by their hash: scored weights, and the scores of every test episode.

A file's name is the SHA-256 of its bytes, so that a row says exactly which file is meant, and one that was changed or
damaged is not taken for it. Scores lie in `scores/` beside the boards. Weights lie in `checkpoints/` beside the boards
or in a repository on the Hugging Face hub, or are kept nowhere; which of these, the row says (`Record.kept`). Reading
either runs no code: weights are safetensors, scores are plain arrays.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

from harness.boards.places import is_shipped
from harness.boards.store import LOG, Report
from harness.evaluation.score import Scores
from harness.records.record import BESIDE, HUB, KEPT, Record
from harness.runs.folder import SCORES, read_scores
from harness.util.atomic_files import replacing
from harness.util.errors import RunError, UserError
from harness.util.tensor_files import WEIGHTS, sha256_of

SCORES_FOLDER = "scores"

SMALL = 1_000_000
"""Bytes of the largest weights that are kept beside the boards without being asked to: boards are files in git."""


def keep(record: Record, folder: Path, boards: Path, store: str | None = None, report: Report = LOG.warning) -> Record:
    """Keeps what a row's claim can be checked with; the record that says where its weights are.

    `folder` is the run's, `store` where its weights go: 'checkpoints' (beside the boards), 'hf://owner/name' (the hub),
    or None: beside the boards if they are small, else nowhere. Raises UserError if the folder's files are not those
    that the record names or the store is no store, RunError if they cannot be written or uploaded.
    """
    check_store(store)
    if record.scores is not None:
        _copy(_own(folder / SCORES, record.scores), boards / SCORES_FOLDER / f"{record.scores}.npz")
    if record.checkpoint is None:
        return record
    weights = _own(folder / WEIGHTS, record.checkpoint)
    size = weights.stat().st_size
    if store is None and size >= SMALL:
        report(f"the weights ({size / 1e6:.1f} MB) are not kept beside the board; `harness submit --store` keeps them")
        return record
    if store is not None and store.startswith(HUB):
        _upload(weights, store.removeprefix(HUB), _name(record.checkpoint))
        return record.model_copy(update={"kept": store})
    _copy(weights, _beside(boards, record.checkpoint))
    return record.model_copy(update={"kept": BESIDE})


def check_store(store: str | None) -> None:
    """UserError for what is no place that weights can be kept in."""
    if store is not None and not re.fullmatch(KEPT, store):
        raise UserError(
            f"--store is '{store}'; it can be '{BESIDE}' (beside the boards) or '{HUB}owner/name' (the hub)"
        )


def weights_of(record: Record, boards: Path) -> Path | None:
    """The file of a row's weights, fetched if they are on the hub; None if they are kept nowhere, or not installed.

    Raises UserError if the row says that they are kept and they are not there, or not as they were.
    """
    if record.checkpoint is None or not record.kept:
        return None
    if record.kept.startswith(HUB):
        return _whole(_download(record.kept.removeprefix(HUB), _name(record.checkpoint)), record.checkpoint)
    return None if not_installed(boards, BESIDE) else _whole(_beside(boards, record.checkpoint), record.checkpoint)


def lacks_weights(record: Record, boards: Path) -> bool:
    """Whether a row says that its weights are kept beside the boards, and there is no such file."""
    beside = record.checkpoint is not None and record.kept == BESIDE
    return beside and not _beside(boards, str(record.checkpoint)).is_file()


def not_installed(boards: Path, folder: str) -> bool:
    """Whether these boards came with an installed harness, which has rows without their weights and scores."""
    return is_shipped(boards) and not (boards / folder).is_dir()


def scores_of(record: Record, boards: Path) -> Scores | None:
    """The scores of every test episode of a row; None if they are not kept. UserError if they are damaged."""
    if record.scores is None:
        return None
    path = boards / SCORES_FOLDER / f"{record.scores}.npz"
    return read_scores(_whole(path, record.scores)) if path.is_file() else None


def _name(digest: str) -> str:
    return f"{digest}.safetensors"


def _beside(boards: Path, digest: str) -> Path:
    return boards / BESIDE / _name(digest)


def _own(path: Path, digest: str) -> Path:
    """A file of a run folder, if it is the one that the record names."""
    if not path.is_file():
        raise UserError(f"{path} is missing; the record names it: copy it as well, or run again")
    if sha256_of(path) != digest:
        raise UserError(f"{path} was changed after the run: its SHA-256 is not the record's ({digest[:12]}...)")
    return path


def _whole(path: Path, digest: str) -> Path:
    """A kept file, if it is there and as it was."""
    if not path.is_file():
        raise UserError(f"{path} is missing, where the row says that it is kept")
    if sha256_of(path) != digest:
        raise UserError(f"{path} is damaged: its SHA-256 is not its name")
    return path


def _copy(source: Path, target: Path) -> None:
    if target.is_file() and sha256_of(target) == target.stem:
        return
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as temporary:
            shutil.copyfile(source, temporary)
    except OSError as error:
        raise RunError(f"{target} could not be written ({error.strerror or error})") from error


def _upload(path: Path, repository: str, name: str) -> None:
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        if not api.file_exists(repository, name):
            api.upload_file(path_or_fileobj=path, path_in_repo=name, repo_id=repository)
    except Exception as error:  # the hub's errors have no common root
        raise RunError(_on_hub(repository, "could not be written to", error)) from error


def _download(repository: str, name: str) -> Path:
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repository, name))
    except Exception as error:  # the hub's errors have no common root
        raise UserError(_on_hub(repository, f"could not give {name}", error)) from error


def _on_hub(repository: str, what: str, error: Any) -> str:
    lines = str(error).strip().splitlines()
    return f"the repository {HUB}{repository} {what}: {lines[0] if lines else type(error).__name__}"
