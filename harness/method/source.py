"""Which files a method's code is in, and one hash over them: what a row is of, whatever is changed later."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import linecache
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any


def source_files(own: Path, module: str = "") -> dict[str, Path]:
    """The file of a method and all those of the same package (or folder) that it imports, by module name.

    `module` is the name by which the file was imported from its package; without it the file is a user's own, whose
    imports are looked for in its folder. Files are read, not run; what is installed apart from them (torch, NumPy, the
    harness) is not part of it: its versions are on the row. Nor are packages that are only on the way to a module:
    a further method in the list of all leaves the others as they are.
    """
    base = None if module else own.parent
    name = module or own.stem
    found = {name: own}
    waiting = [name]
    while waiting:
        current = waiting.pop()
        for each in _imported(found[current], current, _is_package(found[current])):
            path = None if each in found else _file_of(each, name.partition(".")[0], base)
            if path is not None:
                found[each] = path
                waiting.append(each)
    return dict(sorted(found.items()))


def source_hash(own: Path, module: str = "") -> str:
    """SHA-256 over the names and the bytes of these files; the same wherever they lie."""
    total = hashlib.sha256()
    for name, path in source_files(own, module).items():
        total.update(f"{name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()


def class_hash(cls: type) -> str:
    """`source_hash` of the file that a class is defined in; of a class without a file (of a notebook), SHA-256 over the
    text of its cell, or over its name where there is no text."""
    module = getattr(sys.modules.get(cls.__module__), "__file__", None)
    file = next((Path(each) for each in (*files_of_code(cls), module) if each and Path(each).is_file()), None)
    if file is not None:
        own = module is not None and Path(module) == file and "." in cls.__module__
        return source_hash(file, cls.__module__ if own else "")
    return hashlib.sha256((source_text(cls) or cls.__qualname__).encode()).hexdigest()


def source_text(cls: type) -> str:
    """The text of the cell or file that defines a class, which Python keeps under the file name of the code of its
    functions; '' where it cannot be read."""
    return next(filter(None, ("".join(linecache.getlines(name)) for name in files_of_code(cls))), "")


def files_of_code(cls: type) -> list[str]:
    """The file names of the functions of a class, which in a notebook are those of its cells."""
    members: list[Any] = [getattr(each, "__func__", each) for each in vars(cls).values()]
    return list(dict.fromkeys(each.__code__.co_filename for each in members if inspect.isfunction(each)))


def _imported(path: Path, module: str, package: bool) -> Iterator[str]:
    """Names that may be modules which a file imports, wherever in it; none from a file that cannot be parsed."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, RecursionError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = module.split(".")
            # One dot is the package of a module, and a package itself.
            above = parts[: len(parts) - node.level + package] if node.level else []
            start = ".".join([*above, *([node.module] if node.module else [])])
            yield from filter(None, [start])
            yield from (f"{start}.{alias.name}" if start else alias.name for alias in node.names)


def _file_of(name: str, package: str, base: Path | None) -> Path | None:
    """The file of a module if it is in `package`, or, of a user's file, below the folder `base`."""
    if base is None:
        return _found_by_import(name) if name.partition(".")[0] == package else None
    path = base.joinpath(*name.split("."))
    candidates = (path / "__init__.py", path.with_name(f"{path.name}.py"))
    return next((each for each in candidates if each.is_file()), None)


@cache
def _found_by_import(name: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, AttributeError, ValueError):  # a class or function of a module, not a module
        return None
    path = Path(spec.origin) if spec is not None and spec.origin else None
    return path if path is not None and path.suffix == ".py" and path.is_file() else None


def _is_package(path: Path) -> bool:
    return path.name == "__init__.py"
