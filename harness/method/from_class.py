"""Methods that are given as classes, not by name: what a record says of them, and which file they are in."""

from __future__ import annotations

import hashlib
import inspect
from importlib.metadata import entry_points
from pathlib import Path

from harness.method.interface import Method
from harness.method.registry import GROUP, LoadedMethod, built_in, check_declared, load_method
from harness.method.source import files_of_code, source_text
from harness.records.provenance import public
from harness.util.atomic_files import replacing
from harness.util.errors import UserError

INTERACTIVE = "interactive"
"""What stands for the file in the target of a class that was defined in a notebook or at a prompt."""


def load_class(cls: type[Method], cache: Path) -> LoadedMethod:
    """A class under the name and target that it has where it is loaded by name.

    A class of a user's file is named after itself, and its target is the file's path from the working directory. The
    source of a class that was defined in a notebook is written into a folder of `cache`, so that a record has a file's
    hash to name.

    Raises UserError for what is no class derived from `harness.Method`, and where there is no source to be read.
    """
    if not (inspect.isclass(cls) and issubclass(cls, Method)):
        raise UserError(f"{cls!r} is not a method: give a name, or a class derived from harness.Method")
    check_declared(cls)
    target = f"{cls.__module__}:{cls.__qualname__}"
    name = built_in(target)
    if name is not None:
        return load_method(name)
    for point in entry_points(group=GROUP):
        if point.value == target:
            return LoadedMethod(point.name, target, cls)
    path = _file_of(cls)
    if path is not None:
        return LoadedMethod(cls.__name__, public(f"{_from_here(path)}:{cls.__qualname__}"), cls, path)
    return LoadedMethod(cls.__name__, f"{INTERACTIVE}:{cls.__qualname__}", cls, _written(cls, cache / INTERACTIVE))


def _file_of(cls: type[Method]) -> Path | None:
    """The file of a class; None of one from a notebook, a prompt, or a text that was executed."""
    names = files_of_code(cls)
    if not names:
        try:
            names = [inspect.getfile(cls)]  # of the module, which for __main__ need not be where the class is
        except (TypeError, OSError):
            return None
    path = Path(names[0])
    return path if path.is_file() else None


def _from_here(path: Path) -> Path:
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _written(cls: type[Method], folder: Path) -> Path:
    """The file with the source in which a class was defined, named after its content."""
    text = source_text(cls)
    if not text:
        raise UserError(f"the source of {cls.__qualname__} cannot be read; define it in a file or in a notebook")
    path = folder / f"{cls.__name__}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.py"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return path
