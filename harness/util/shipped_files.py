"""Where the files that come with the harness are: in a checkout, and in an installed wheel."""

from __future__ import annotations

from pathlib import Path

from harness.util.errors import RunError

_PACKAGE = Path(__file__).resolve().parents[1]


def protocols_dir() -> Path:
    """The folder of the shipped protocols.

    A wheel carries them inside the package (`shipped_files/protocols`: `force-include` in pyproject.toml); in
    a checkout they are the folder `protocols` beside it.
    """
    return _first(_PACKAGE / "shipped_files" / "protocols", _PACKAGE.parent / "protocols")


def protocol_files() -> dict[str, Path]:
    """The shipped protocols: name to file, in order of name."""
    return {path.stem: path for path in sorted(protocols_dir().glob("*.yaml"))}


def boards_dir() -> Path | None:
    """The folder of the project's boards, None if there is none: for reading only.

    A wheel carries their rows (`shipped_files/leaderboards`), not the scores and weights that rows name; in a checkout
    they are the folder `leaderboards` beside the package.
    """
    folders = (_PACKAGE / "shipped_files" / "leaderboards", _PACKAGE.parent / "leaderboards")
    return next((each for each in folders if each.is_dir()), None)


def recipes_dir() -> Path:
    """The folder of the built-in methods' recipes: inside the package `methods`, in a wheel too."""
    return _first(_PACKAGE.parent / "methods" / "recipes")


def sweep_files() -> dict[str, Path]:
    """The shipped sweeps: name to file, in order of name. In a wheel they lie inside the package, as protocols do."""
    folder = _first(_PACKAGE / "shipped_files" / "sweeps", _PACKAGE.parent / "sweeps")
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def papers_dir() -> Path:
    """The folder of the papers' tables: inside the package, in a wheel too."""
    return _first(_PACKAGE / "tables" / "papers")


def _first(*folders: Path) -> Path:
    for folder in folders:
        if folder.is_dir():
            return folder
    raise RunError(f"the installation is incomplete: there is no folder {' or '.join(map(str, folders))}")
