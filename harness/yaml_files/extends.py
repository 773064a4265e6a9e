"""Files that take over others: `extends: other.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.util.atomic_files import is_file
from harness.util.errors import nearest
from harness.yaml_files.document import Document, parse_yaml
from harness.yaml_files.source_location import YamlError, problem_at, shown

EXTENDS = "extends"


def inherited(path: Path, shipped: Mapping[str, Path], what: str) -> Document:
    """The document of a file merged over those it extends, not yet checked against a model.

    Mappings are merged key by key; anything else (lists too) is replaced. Every value keeps the place where
    it stands, so that its errors are shown there. A parent is a file beside the one that names it, or one of
    `shipped` by name; `what` says in errors what these are. Raises YamlError, also for a missing parent or a circle.
    """
    return _inherited(path, [], shipped, what)


def merged(below: Any, above: Any) -> Any:
    """Data over data: mappings key by key, anything else replaced."""
    if not (isinstance(below, dict) and isinstance(above, dict)):
        return above
    return below | {key: merged(below[key], value) if key in below else value for key, value in above.items()}


def _inherited(path: Path, children: list[Path], shipped: Mapping[str, Path], what: str) -> Document:
    document = parse_yaml(path)
    if EXTENDS not in document.data:
        return document
    parent = _parent(document, [*children, path], shipped, what)
    below = _inherited(parent, [*children, path], shipped, what)
    own = {key: value for key, value in document.data.items() if key != EXTENDS}
    return Document(
        path,
        merged(below.data, own),
        {**below.keys, **document.keys},
        {**below.values, **document.values},
        (*document.problems, *below.problems),
    )


def _parent(document: Document, chain: list[Path], shipped: Mapping[str, Path], what: str) -> Path:
    """The file that a document extends: beside it, or else shipped."""
    given = document.data[EXTENDS]
    if not isinstance(given, str):
        raise _refused(document, f"expected the name of one {what} file, as in 'extends: other.yaml'")
    parent = document.path.parent / given
    # What is wrong with a file is shown with its text, which may be nobody's business if the file is no YAML.
    if is_file(parent) and parent.resolve().suffix.lower() not in {".yaml", ".yml"}:
        raise _refused(document, f"'{given}' does not end in .yaml or .yml, as the name of a {what} file does")
    if not is_file(parent):
        if given not in shipped:
            siblings = [each.name for each in document.path.parent.glob("*.yaml") if each != document.path]
            guess = nearest(given, [*siblings, *shipped])
            hint = f"; did you mean '{guess}'?" if guess else ""
            raise _refused(document, f"there is no file '{shown(parent)}' and no shipped {what} '{given}'{hint}")
        parent = shipped[given]
    if any(parent.samefile(each) for each in chain):
        circle = " -> ".join(each.name for each in [*chain, parent])
        raise _refused(document, f"the files extend each other in a circle: {circle}")
    return parent


def _refused(document: Document, message: str) -> YamlError:
    problem = problem_at(document.place((EXTENDS,)), message, (EXTENDS,))
    return YamlError(*document.problems, problem)
