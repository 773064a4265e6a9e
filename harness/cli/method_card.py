"""What there is to know of a method: full name and paper, kinds, options, marks, and how long its budgets took."""

from __future__ import annotations

import inspect
import re
import sys
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.text_table import text_table, wrap
from harness.util.shown_text import in_line

if TYPE_CHECKING:
    from harness.method.interface import Method
    from harness.records.record import Record


def card(name: str, boards: Path | None = None) -> dict[str, Any]:
    """A method as plain data; with `boards`, also the times that its rows there took. UserError for an unknown name."""
    from harness.method.registry import load_method
    from harness.records.marks import GRADIENT_AT_TEST, LABEL_DELAY_TOLD, TRANSDUCTIVE

    method = load_method(name)
    cls = method.cls
    marks = {
        LABEL_DELAY_TOLD: cls.needs_label_delay,
        GRADIENT_AT_TEST: cls.learns_by_gradient is True,
        TRANSDUCTIVE: cls.transductive is True,
    }
    found = {
        "name": method.name,
        "target": method.target,
        "title": _paragraph(sys.modules[cls.__module__].__doc__),
        "summary": _paragraph(cls.__doc__),
        "kinds": list(cls.kinds),
        "options": _options(cls),
        "marks": [mark for mark, holds in marks.items() if holds],
    }
    return found if boards is None else {**found, "measured": _measured(method.name, boards)}


def card_text(found: dict[str, Any], width: int, named: str) -> str:
    """A card for people; `named` is how commands name the method."""
    parts = [
        wrap(f"{found['name']}: {found['title']}", width),
        wrap(found["summary"], width),
        wrap(f"Kinds: {', '.join(found['kinds'])}", width, "  "),
        f"Marks on its rows: {', '.join(found['marks']) or 'none'}",
    ]
    if found["options"]:
        rows = [{name: in_line(str(text)) for name, text in option.items()} for option in found["options"]]
        parts.append(
            "Options (--set NAME=VALUE):\n\n" + text_table(rows, width, tuple(rows[0]), ("type", "meaning"))[0]
        )
    else:
        parts.append("It has no options.")
    if found.get("measured"):
        parts.append("Budgets, as measured:\n\n" + text_table(found["measured"], width, ("budget", "training"))[0])
    shown = f"harness recipe PROTOCOL --method {named}"
    parts.append(wrap(f"`{shown}` shows how it is trained, `harness check {named}` checks it.", width))
    return "\n\n".join(parts)


def _paragraph(text: str | None) -> str:
    """The first paragraph of a docstring in one line."""
    return in_line(inspect.cleandoc(text or "").split("\n\n")[0])


def _options(cls: type[Method]) -> list[dict[str, Any]]:
    meanings, hints = _meanings(cls), typing.get_type_hints(cls.__init__)
    return [
        {
            "option": name,
            "type": _type(hints.get(name)),
            "default": "required" if each.default is inspect.Parameter.empty else repr(each.default),
            "meaning": meanings.get(name, ""),
        }
        for name, each in inspect.signature(cls).parameters.items()
        if name not in {"self", "task"}
    ]


def _meanings(cls: type[Method]) -> dict[str, str]:
    """What the class's docstring says of each option, under the heading 'Options'."""
    section = re.split(r"\n\s*Options\n\s*-+\n", inspect.cleandoc(cls.__doc__ or ""))
    found: dict[str, str] = {}
    if len(section) == 2:
        for names, text in re.findall(r"^(\w+(?: *, *\w+)*) : (.*(?:\n[ \t]+\S.*)*)", section[1], re.MULTILINE):
            found |= dict.fromkeys(re.split(r" *, *", names), in_line(text))
    return found


def _type(hint: Any) -> str:
    if typing.get_origin(hint) is typing.Literal:
        return " or ".join(map(repr, typing.get_args(hint)))
    return hint.__name__ if isinstance(hint, type) else str(hint or "any").replace("typing.", "")


def _measured(name: str, boards: Path) -> list[dict[str, str]]:
    """For each budget of the method's rows: how many there are and how long training and scoring took."""
    from harness.boards.store import read_board

    times: dict[str, list[Record]] = {}
    for path in sorted(boards.glob("*.jsonl")):
        for _, record in read_board(path).records:
            if record.method == name:
                times.setdefault(record.budget or "none", []).append(record)
    return [
        {
            "budget": budget,
            "training": _range([record.train_seconds for record in records]),
            "scoring": _range([record.score_seconds for record in records]),
            "rows": str(len(records)),
            "boards": str(len({record.protocol for record in records})),
        }
        for budget, records in times.items()
    ]


def _range(seconds: list[float]) -> str:
    low, high = min(seconds), max(seconds)
    said = [f"{each / 60:.0f} min" if each >= 100 else f"{each:.0f} s" for each in (low, high)]
    return " to ".join(dict.fromkeys(said))
