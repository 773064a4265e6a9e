"""A method to begin from: what `harness new-method` copies, with its recipe and its test, under a name of your own."""

from __future__ import annotations

import keyword
import re
import sys
from pathlib import Path

from harness.util.atomic_files import replacing
from harness.util.errors import UserError

LONGEST = 32
"""With longer names a line that has both the file's and the class's would pass ruff's own 88 columns."""

TAKEN = ("harness", "methods", "numpy", "pytest", "torch")
"""Modules, besides those of Python itself, that a file of the same name beside a method would hide from it."""

FILES = ("skeleton.py", "skeleton.yaml", "test_skeleton.py")


def write_method(name: str, folder: Path) -> list[Path]:
    """Writes NAME.py, NAME.yaml and test_NAME.py into a folder, which is made if need be; returns them.

    Raises UserError if the name cannot be a Python module's, is too long or would hide another module, or if one of the
    files is there already.
    """
    if keyword.iskeyword(name):
        raise UserError(f"'{name}' is a word of Python itself and cannot be a method's name")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise UserError(f"'{name}' cannot be a method's name; write it as in fast_weights: a-z, 0-9 and _")
    if len(name) > LONGEST:
        raise UserError(f"a method's name has at most {LONGEST} characters, this one has {len(name)}")
    if name in sys.stdlib_module_names or name in TAKEN:
        raise UserError(f"'{name}' is the name of a module that the file would hide; choose another")
    paths = [folder / file.replace("skeleton", name) for file in FILES]
    there = [str(path) for path in paths if path.exists()]
    if there:
        raise UserError(
            f"{', '.join(there)} exist already and were left as they are; choose another name or --into DIR"
        )
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is not a folder")
    folder.mkdir(parents=True, exist_ok=True)
    for file, path in zip(FILES, paths, strict=True):
        text = (Path(__file__).parent / file).read_text(encoding="utf-8")
        with replacing(path) as temporary:
            temporary.write_text(text.replace("Skeleton", class_name(name)).replace("skeleton", name), encoding="utf-8")
    return paths


def class_name(name: str) -> str:
    """The class's name: fast_weights becomes FastWeights."""
    return "".join(part.capitalize() for part in name.split("_"))
