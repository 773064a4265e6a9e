"""The built-in methods, which are found whatever else is called `methods` on the import path.

The package `methods` lies beside the package `harness`. A folder or file `methods` of a user's own may come before it
on the path; the name then stands for both: the user's modules first, then the built-in ones.
"""

from __future__ import annotations

import importlib
import importlib.util
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from harness.util.errors import UserError

NAME = "methods"
FOLDER = Path(__file__).resolve().parents[2] / NAME


@cache
def built_in_methods() -> dict[str, tuple[str, str]]:
    """Name to (target 'methods.module:Class', one-line description) of every built-in method; imports none of them."""
    spec = importlib.util.spec_from_file_location("harness_built_in_methods", FOLDER / "__init__.py")
    assert spec is not None
    assert spec.loader is not None
    listing = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(listing)
    found: dict[str, tuple[str, str]] = listing.BUILT_IN
    return found


def built_in_class(target: str) -> Any:
    """The class of a target 'methods.module:Class' of `built_in_methods`.

    Raises UserError, naming the file, where a module of the user's own hides one that the class needs.
    """
    module_name, attribute = target.split(":")
    package = _shared_package()
    try:
        module = importlib.import_module(module_name)
        hiding = _file(module)
    except ImportError as error:
        if _file(package).parent == FOLDER:
            raise
        raise _hidden(_file(package), f"{module_name} cannot be imported ({error})") from error
    if not hiding.is_relative_to(FOLDER):
        raise _hidden(hiding, f"it takes the place of the built-in {module_name}")
    return getattr(module, attribute)


def _shared_package() -> ModuleType:
    """The package `methods`, in which the built-in modules are found too if it is a user's own."""
    try:
        package = importlib.import_module(NAME)
    except (Exception, SystemExit) as error:  # whatever the user's own file raises, a script that ends among it
        spec = importlib.util.find_spec(NAME)
        where = Path(spec.origin) if spec and spec.origin else Path(NAME)
        raise _hidden(where, f"importing it raised {type(error).__name__}: {error}") from error
    places = list(getattr(package, "__path__", []))
    if str(FOLDER) not in places and FOLDER not in map(_resolved, places):
        package.__path__ = [*places, str(FOLDER)]
    return package


def _hidden(path: Path, why: str) -> UserError:
    return UserError(
        f"{path} has the name of the package '{NAME}' in which the built-in methods are, and {why}. "
        "Rename it, or start where it is not on the import path"
    )


def _file(module: ModuleType) -> Path:
    return Path(module.__file__ or module.__name__).resolve()


def _resolved(place: str) -> Path:
    return Path(place).resolve()
