"""Checkpoints: one safetensors file with tensors and a JSON header, replaced as a whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.util.atomic_files import replacing
from harness.util.errors import UserError, first_few
from harness.util.json_files import parsed_json

if TYPE_CHECKING:
    from torch import Tensor, nn

WEIGHTS = "weights.safetensors"
"""The scored weights in a run folder."""

_OWN_HASH = "sha256"


def save_tensors(path: Path, tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
    """Writes tensors and a JSON header to `path`; a kill or a full disk leaves the old file as it was."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    packed = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    # One key only: safetensors writes several in an order that differs from process to process.
    said = json.dumps({**header, _OWN_HASH: _whole(packed, header)}, sort_keys=True)
    with replacing(path) as temporary:
        try:
            save_file(packed, temporary, metadata={"harness": said})
        except SafetensorError as error:  # its own type for a full disk
            number = int(found[1]) if (found := re.search(r"os error (\d+)", str(error))) else 0
            raise OSError(number, os.strerror(number) if number else str(error), str(path)) from error


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and header of a file written by `save_tensors`; UserError if it is missing or damaged."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise UserError(f"no checkpoint at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            header = parsed_json((file.metadata() or {}).get("harness", "{}"), finite=False)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError, RecursionError, OSError) as error:
        raise UserError(f"{path} is damaged or not a checkpoint of this harness: {error}") from None
    if not isinstance(header, dict):
        raise UserError(f"{path} is damaged or not a checkpoint of this harness: its header is no JSON object")
    written = header.pop(_OWN_HASH, None)  # files from before there was one are taken as they are
    if written is not None and written != _whole(tensors, header):
        raise UserError(f"{path} is damaged: what it holds is not what was written")
    return tensors, header


def content_of(tensors: dict[str, Tensor]) -> str:
    """SHA-256 (hex) over names, types, shapes and values."""
    import torch

    total = hashlib.sha256()
    for name, each in sorted(tensors.items()):
        total.update(json.dumps([name, str(each.dtype), list(each.shape)]).encode())
        # As bytes, since NumPy has no bfloat16.
        total.update(each.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def _whole(tensors: dict[str, Tensor], header: dict[str, Any]) -> str:
    """SHA-256 (hex) over tensors and header, which tells a file that was changed from one that is as it was written."""
    return hashlib.sha256(f"{content_of(tensors)} {json.dumps(header, sort_keys=True)}".encode()).hexdigest()


def sha256_of(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def with_prefix(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under `prefix.name`."""
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def without_prefix(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Those tensors whose name begins with `prefix.`, under the rest of their names."""
    return {name.removeprefix(f"{prefix}."): each for name, each in tensors.items() if name.startswith(f"{prefix}.")}


def load_weights(method: nn.Module, tensors: dict[str, Tensor], where: Path) -> None:
    """Loads weights into a method; UserError that names what does not fit."""
    if misfits := _misfits(method.state_dict(), tensors):
        raise UserError(f"{where} does not fit this method and its options ({'; '.join(misfits)})")
    method.load_state_dict(tensors)


def fits(own: dict[str, Tensor], tensors: dict[str, Tensor]) -> bool:
    """Whether tensors have the names and shapes of `own`."""
    return not _misfits(own, tensors)


def _misfits(own: dict[str, Tensor], there: dict[str, Tensor]) -> list[str]:
    """In words, where tensors have not the names and shapes of `own`: the first few of each kind, the rest counted."""
    missing, extra = sorted(own.keys() - there.keys()), sorted(there.keys() - own.keys())
    differing = [
        f"{name} is {tuple(there[name].shape)} there and {tuple(own[name].shape)} here"
        for name in sorted(own.keys() & there.keys())
        if own[name].shape != there[name].shape
    ]
    return [
        *([f"missing there: {first_few(missing, 4)}"] if missing else []),
        *([f"unknown here: {first_few(extra, 4)}"] if extra else []),
        *([first_few(differing, 4, "; ")] if differing else []),
    ]
