"""Where the data of a protocol may lie on this machine: what a program that must not look images up must not find."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from harness.data.open_dataset import DATA_VARIABLE, default_cache

if TYPE_CHECKING:
    from harness.data.user.model import OwnData


def data_places(
    data: str | OwnData, data_root: Path | None = None, cache: Path | None = None, base: Path | None = None
) -> tuple[Path, ...]:
    """The data root, the cache, the cache of the Hugging Face hub, and what a user's own data set names.

    The arguments are those of `load_dataset`. Of a pattern of files it is the folder in which the pattern begins.
    """
    root = data_root or (Path(os.environ[DATA_VARIABLE]) if os.environ.get(DATA_VARIABLE) else None)
    hub = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    found = [*([root] if root else []), cache or default_cache(), hub]
    if not isinstance(data, str):
        files = data.parquet if isinstance(data.parquet, dict) else {"": data.parquet}
        named = [each for each in (data.folder, *files.values()) if each]
        starts = [Path(each.partition("*")[0]) if "*" in each else Path(each) for each in named]
        found += [where / start for start in starts for where in (base or Path.cwd(), *([root] if root else []))]
    return tuple(dict.fromkeys(each.expanduser().absolute() for each in found))
