"""Pages from templates: everything that is put into one is escaped, and each stands alone in one file."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from harness.util.atomic_files import replacing
from harness.util.errors import UserError
from harness.util.shown_text import shown

_HERE = Path(__file__).parent
MADE = '<meta name="generator" content="harness report">'
"""What every page has near its beginning; a file without it is somebody's own and is not replaced."""

_LONGEST = 100


@dataclass(frozen=True)
class Pages:
    """What else is part of a report, so that its pages lead there: protocols by name, with what names them on a command
    line, and runs by (protocol, run)."""

    protocols: Mapping[str, str] = field(default_factory=dict)
    runs: Collection[tuple[str, str]] = ()


@cache
def _environment() -> Environment:
    """Templates in which every value is text (control characters spelt out, then escaped) unless built as markup."""
    environment = Environment(
        loader=PackageLoader("harness.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: shown(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style, script = asset("style.css") + asset("figures.css"), asset("script.js")
    environment.globals |= {"style": Markup(style), "script": Markup(script), "made": Markup(MADE)}
    environment.globals["policy"] = (
        f"default-src 'none'; img-src data:; connect-src 'self'; style-src {_hash(style)}; script-src {_hash(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    return environment


def render(template: str, *, up: str = "", live: bool = False, **values: Any) -> str:
    """A page. `up` leads to the folder of the index ('../' from a board's page); a live page fetches itself again."""
    text: str = _environment().get_template(template).render(up=up, live=live, **values)
    return text


def check_own(path: Path) -> None:
    """Raises UserError if there is a file that no report has written."""
    if path.exists() and MADE not in path.read_text(encoding="utf-8", errors="replace")[:2000]:
        raise UserError(f"{path} was not written by a report and is left as it is; choose another place")


def write(path: Path, page: str) -> None:
    """Writes a page; UserError if there is a file of that name that no report has written."""
    check_own(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def file_name(name: str) -> str:
    """A name of safe characters for a page about `name`; names that differ have pages that differ."""
    safe = re.sub(r"[^A-Za-z0-9_.-]", "_", name).lstrip(".")[:_LONGEST]
    if safe != name or not safe:
        safe += f"-{hashlib.sha256(name.encode(errors='surrogatepass')).hexdigest()[:8]}"
    return f"{safe}.html"


def board_file(name: str, stand_in: bool) -> str:
    """Where a board's page is, from the index's folder."""
    return quote(("boards/stand_in/" if stand_in else "boards/") + file_name(name))


def protocol_file(name: str) -> str:
    """Where a protocol's page is, from the index's folder."""
    return quote("protocols/" + file_name(name))


def table_file(name: str) -> str:
    """Where the page of a paper's table is, from the index's folder."""
    return quote("tables/" + file_name(name))


def run_file(protocol: str, run: str) -> str:
    """Where a run's page is, from the index's folder."""
    return quote(f"runs/{file_name(f'{protocol}--{run}')}")


def episode_file(protocol: str, run: str, number: int) -> str:
    """Where the page of a run's test episode is, from the index's folder."""
    stem = file_name(f"{protocol}--{run}").removesuffix(".html")
    return quote(f"episodes/{stem}--{number}.html")


def asset(name: str) -> str:
    """A file of styles or of script that pages are made with."""
    return (_HERE / "assets" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
