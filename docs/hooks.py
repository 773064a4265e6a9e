"""Parts of pages that are made from the code when the site is built: a line `<!-- made: NAME -->` gives way to them."""

from __future__ import annotations

import importlib
import posixpath
import re
from collections.abc import Callable, Iterable
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from mkdocs.structure.pages import Page
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from harness import cli
from harness.cli.parser import Parser
from harness.method.registry import describe, load_method
from harness.protocol.models import KINDS
from harness.records.record import Record
from harness.training.recipe import Budget, EpisodeChange, Optimizer, Part, Recipe, Stage, Validation, When
from harness.util.shipped_files import protocol_files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Called by MkDocs for the text of every page. Raises KeyError for a part that is not known.

    Links to files of the repository outside of docs/ lead nowhere on the site: their paths are written out instead.
    """
    markdown = re.sub(r"^<!-- made: ([\w-]+) -->$", lambda found: MADE[found[1]](), markdown, flags=re.MULTILINE)
    folder = posixpath.dirname(page.file.src_uri)

    def written_out(link: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join("docs", folder, link[2]))
        if path.startswith("docs/"):
            return link[0]
        return f"`{path}`" if link[1].strip("`") == posixpath.basename(path) else f"{link[1]} (`{path}`)"

    return re.sub(r"(?<!!)\[([^\]]+)\]\((\.\./[^)#]+)\)", written_out, markdown)


def _protocol_keys() -> str:
    parts = [f"### Kind `{kind}`\n\n{_first_line(model)}\n\n{_keys(model)}" for kind, model in KINDS.items()]
    return "\n\n".join(parts)


def _recipe_keys() -> str:
    models = (
        ("A recipe", Recipe),
        ("A part", Part),
        ("`when` of a part", When),
        ("A budget", Budget),
        ("`validation` of a budget", Validation),
        ("`optimizer` of a budget or a stage", Optimizer),
        ("A stage", Stage),
        ("`episode` of a stage", EpisodeChange),
    )
    return "\n\n".join(f"### {title}\n\n{_first_line(model)}\n\n{_keys(model)}" for title, model in models)


def _commands() -> str:
    parts = []
    for name, (module, line) in cli.COMMANDS.items():
        parser = Parser(prog=f"harness {name}", description=f"{line[0].upper()}{line[1:]}.")
        importlib.import_module(module).add_arguments(parser)
        parts.append(f"### `harness {name}`\n\n```text\n{parser.format_help().rstrip()}\n```")
    return "\n\n".join(parts)


def _methods() -> str:
    rows = []
    for name, line in describe().items():
        loaded = load_method(name)
        doc = " ".join((loaded.cls.__doc__ or "").split("\n\n")[0].split())
        rows.append((f"`{name}`", line, ", ".join(f"`{kind}`" for kind in loaded.cls.kinds), doc))
    return _table(("method", "in short", "kinds", "what it is, and its source"), rows)


def _protocols() -> str:
    from harness.protocol.load import load_protocol

    found = [(name, load_protocol(name).protocol) for name in protocol_files()]
    rows = [(f"`{name}`", each.title, f"`{each.kind}`", f"`{each.data_name}`") for name, each in found]
    return _table(("protocol", "title", "kind", "data set"), rows)


def _keys(model: type[BaseModel], before: str = "") -> str:
    return _table(("key", "value", "default", "meaning"), _rows(model, before))


def _rows(model: type[BaseModel], before: str = "") -> Iterable[tuple[str, ...]]:
    for name, field in model.model_fields.items():
        inner = _model_in(field.annotation)
        # The episode and the scoring of a kind are its own; other models have tables of their own, or none.
        if inner is not None and name in ("episode", "scoring") and not before:
            yield from _rows(inner, f"{name}.")
            continue
        default = "required" if field.is_required() else f"`{_default(field)}`"
        yield f"`{before}{name}`", f"`{_type(field.annotation)}`", default, field.description or ""


def _model_in(annotation: Any) -> type[BaseModel] | None:
    candidates = (annotation, *get_args(annotation))
    return next((each for each in candidates if isinstance(each, type) and issubclass(each, BaseModel)), None)


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    return "{}" if isinstance(value, BaseModel) else repr(value) if value == "" else str(value)


def _type(annotation: Any) -> str:
    """A type as it is written in Python, without what bounds its values."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(inner[0])
    if origin in (Union, UnionType):
        return " | ".join(dict.fromkeys(map(_type, inner)))
    if origin is Literal:
        return " | ".join(map(repr, inner))
    if origin is not None:
        return f"{origin.__name__}[{', '.join(map(_type, inner))}]"
    return "None" if annotation is type(None) else str(getattr(annotation, "__name__", annotation))


def _first_line(model: type[BaseModel]) -> str:
    return " ".join((model.__doc__ or "").strip().split("\n\n")[0].split())


def _table(headings: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [headings, tuple("---" for _ in headings), *rows]
    return "\n".join("| " + " | ".join(each.replace("|", "\\|") for each in line) + " |" for line in lines)


MADE: dict[str, Callable[[], str]] = {
    "protocol-keys": _protocol_keys,
    "recipe-keys": _recipe_keys,
    "board-columns": lambda: _keys(Record),
    "commands": _commands,
    "methods": _methods,
    "protocols": _protocols,
}
"""Name of a part to the function that makes its Markdown."""
