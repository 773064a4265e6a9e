"""Importing a file that a user names: alone, with the files beside it, or as a module of the package it is in."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from harness.util.errors import UserError
from harness.util.exits import exits_raised


def import_file(path: Path) -> ModuleType:
    """The module of a Python file, run anew on every call.

    Its folder is put at the end of the import path, so that it may import the files beside it and hides nothing. A
    file that imports relatively (`from .layers import Layer`) becomes a module of the package that it is in: of the
    outermost folder around it that has an `__init__.py` in each level.

    Raises UserError for a file that is not there, and for whatever is raised while it is imported.
    """
    check_file(path)
    _importable(path.absolute().parent)
    try:
        with exits_raised():
            return _alone(path)
    except ImportError as error:
        if "relative import" not in str(error):
            raise _not_imported(path, error) from error
    except (Exception, SystemExit) as error:  # whatever the author's file raises is the author's to read
        raise _not_imported(path, error) from error
    return _in_package(path)


def check_file(path: Path) -> None:
    """Raises UserError for a file that is not there."""
    if not path.is_file():
        raise UserError(f"no file '{path}' (looked for {path.absolute()})")


def _alone(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"harness_user_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _in_package(path: Path) -> ModuleType:
    folder, names = path.absolute().parent, [path.stem]
    while (folder / "__init__.py").is_file():
        folder, names = folder.parent, [folder.name, *names]
    if len(names) == 1:
        raise UserError(
            f"{path} imports relatively (from .module import ...), but its folder is no package: add an empty "
            "__init__.py to the folder, or import without the dot"
        )
    _importable(folder)
    try:
        with exits_raised():
            module = importlib.import_module(".".join(names))
    except (Exception, SystemExit) as error:  # whatever the author's package raises is the author's to read
        raise _not_imported(path, error) from error
    found = Path(module.__file__ or "").resolve()
    if found != path.resolve():
        raise UserError(f"{path} is module {'.'.join(names)}, but that name is taken by {found}; rename {names[0]}/")
    return module


def _importable(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def _not_imported(path: Path, error: BaseException) -> UserError:
    return UserError(f"{path} could not be imported: {type(error).__name__}: {error}")
