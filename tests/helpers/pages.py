"""Pages as a reader's program sees them: parsed by the rules of HTML, with what each may not hold."""

from __future__ import annotations

import importlib
import json
import re
import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import html5lib

from harness.cli import COMMANDS
from harness.cli.parser import Parser

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'; alert(1); //",
    "</style></title><svg onload=alert(1)>",
    "{{ 7 * 7 }}{% raw %}",
    "javascript:alert(1)",
    "]]><!--",
    "&lt;b&gt;",
)
"""Texts that would be markup, script or a template if they were not taken as text."""

OWN = {"script", "style"}


def parsed(page: str) -> Any:
    """The tree of a page; a fault of its HTML fails the test, as a browser that mends it would hide it."""
    parser = html5lib.HTMLParser(tree=html5lib.getTreeBuilder("etree"), namespaceHTMLElements=False)
    tree = parser.parse(page)
    faults = [each for each in parser.errors if each[1] not in {"non-void-element-with-trailing-solidus"}]
    assert not faults, faults[:5]
    return tree


def text_of(page: str) -> str:
    """What can be read on a page: text and the words of attributes, without its script and style."""
    found: list[str] = []

    def walk(node: Any) -> None:
        if isinstance(node.tag, str) and node.tag.rpartition("}")[2] in OWN:
            return
        found.extend(str(value) for value in node.attrib.values())
        found.append(node.text or "")
        for child in node:
            walk(child)
            found.append(child.tail or "")

    walk(parsed(page))
    return "\n".join(found)


def commands_of(page: str) -> list[str]:
    """The commands that a page prints, in order."""
    nodes = [node for node in parsed(page).iter() if isinstance(node.tag, str)]
    return ["".join(node.itertext()) for node in nodes if node.attrib.get("class") == "command" and node.tag != "td"]


def check_command(command: str) -> None:
    """Fails where the command line's own parser does not take a printed command."""
    program, name, *words = shlex.split(command)
    assert program == "harness", command
    module, _ = COMMANDS[name]
    parser = Parser(f"harness {name}", "")
    importlib.import_module(module).add_arguments(parser)
    assert parser.parse(words) is not None


def check_page(page: str, place: Path | None = None) -> None:
    """Fails on what no page may have: foreign scripts or addresses, handlers, ids that repeat, links to nowhere,
    figures without words, headings that skip a level."""
    tree = parsed(page)
    nodes = [node for node in tree.iter() if isinstance(node.tag, str)]
    names = [node.tag.rpartition("}")[2] for node in nodes]
    assert names.count("script") == names.count("style") == names.count("main") == names.count("h1") == 1
    assert not {"iframe", "object", "embed", "form", "base", "link"} & set(names)
    ids = [node.attrib["id"] for node in nodes if "id" in node.attrib]
    assert len(ids) == len(set(ids)), sorted(each for each in ids if ids.count(each) > 1)
    levels = [int(name[1]) for name in names if re.fullmatch(r"h[1-6]", name)]
    assert all(b - a <= 1 for a, b in pairwise(levels))
    for node, name in zip(nodes, names, strict=True):
        assert not [key for key in node.attrib if str(key).startswith("on") or key == "style"]
        if name == "svg":
            assert node.attrib.get("aria-label") or node.attrib.get("aria-hidden") == "true"
        if name in {"img", "image"}:
            address = next(value for key, value in node.attrib.items() if str(key).endswith(("src", "href")))
            assert re.match("data:image/(png|webp);base64,", address)
            assert name == "image" or node.attrib.get("alt") is not None
        if name == "a":
            _check_link(str(node.attrib["href"]), set(ids), place)


def _check_link(href: str, ids: set[str], place: Path | None) -> None:
    parts = urlsplit(href)
    assert not parts.scheme, href
    assert not parts.netloc, href
    if not parts.path:
        assert parts.fragment in ids, href
    elif place is not None:
        assert (place.parent / unquote(parts.path)).is_file(), f"{place}: {href}"


_LOG = [
    {"event": "update", "stage": "warm start", "episodes": 10, "updates": 1, "loss": 2.5, "seconds": 1.0},
    {"event": "update", "stage": "warm start", "episodes": 30, "updates": 3, "loss": 2.0, "seconds": 2.0},
    {"event": "validation", "stage": "the protocol", "episodes": 50, "updates": 5, "loss": 1.5, "seconds": 4.0,
     "validation": 41.5},
]  # fmt: skip


def write_run(folder: Path, status: str = "training", word: str = "opn") -> Path:
    """A run's folder as it is while the run goes on, or after it was stopped; `word` is whatever it names."""
    folder.mkdir(parents=True)
    identity = {"protocol": word, "method": word, "options": {word: word}, "budget": "quick", "seed": 0, "digest": "0"}
    noted = {"status": status, "identity": identity, "command": f"harness run {word}", "at": "2026-01-01T12:00:00Z"}
    (folder / "run.json").write_text(json.dumps(noted))
    lines = [json.dumps({**each, "stage": f"{word} {each['stage']}"}) for each in _LOG]
    (folder / "log.jsonl").write_text("\n".join([*lines, "[1]", "", '{"event": "upd']))
    return folder
