"""`harness list`: protocols, methods and data sets by name."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import Any

from harness.cli.common import add_formats, table_width
from harness.cli.text_table import csv_table, text_table
from harness.util.errors import UserError, known_name, unknown
from harness.util.shown_text import in_json, shown

TOPICS = ("protocols", "methods", "datasets")
Rows = list[dict[str, Any]]
NOTHING = "-"
"""What stands in a column that a kind does not have."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("topic", nargs="?", choices=TOPICS, help="which to list (default: all three)")
    parser.add_argument(
        "--kind", metavar="K", help="only protocols of this kind; of methods those that run on it, with their papers"
    )
    add_formats(parser)


def execute(args: argparse.Namespace) -> int:
    topics: tuple[str, ...] = (args.topic,) if args.topic else TOPICS
    if args.csv and not args.topic:
        raise UserError(f"--csv prints one table; say which: {', '.join(TOPICS)}")
    if args.kind is not None:
        kind = _kind(args.kind)
        if args.topic == "datasets":
            raise UserError("--kind is of protocols and methods; a data set has none")
        topics = tuple(topic for topic in topics if topic != "datasets")
        rows = {topic: _of_kind(topic, kind) for topic in topics}
    else:
        rows = {topic: _ROWS[topic]() for topic in topics}
    if args.json:
        print(in_json(rows[args.topic] if args.topic else rows))
        return 0
    parts = []
    for topic in topics:
        cells = [_CELLS[topic](row) for row in rows[topic]]
        if args.csv:
            parts.append(csv_table(cells, ("name",)).rstrip("\n"))
            continue
        indent = "" if args.topic else "  "
        lines = _lines(cells, topic, table_width(args) - len(indent))
        parts.append("\n".join(["" if args.topic else f"{topic}:\n", *(indent + line for line in lines)]).lstrip("\n"))
    print(shown("\n\n".join(parts)))
    return 0


def _lines(cells: Sequence[dict[str, str]], topic: str, width: int) -> list[str]:
    if not cells:
        return ["none"]
    needed = ("name", "kind", "title") if topic == "protocols" else tuple(cells[0])
    return text_table(cells, width, needed, ("title", "description", "paper", "classes"))[0].splitlines()


def _kind(name: str) -> str:
    """A kind of protocol, whatever its capitals; UserError with the nearest."""
    from harness.protocol.models import KINDS

    found = known_name(name, KINDS)
    if found is None:
        raise unknown("kind", name, KINDS)
    return found


def _of_kind(topic: str, kind: str) -> Rows:
    if topic == "protocols":
        return [row for row in _protocols() if row.get("kind") == kind]
    from harness.cli.method_card import card
    from harness.method.registry import method_names

    cards = [card(name) for name in method_names()]
    return [{"description": each["title"], **each} for each in cards if kind in each["kinds"]]


def _protocols() -> Rows:
    from harness.protocol.load import inherited
    from harness.util.shipped_files import protocol_files
    from harness.yaml_files.extends import EXTENDS

    rows = []
    files = protocol_files()
    for name in sorted(files, key=_counted):
        # Read, not validated: building the models would take longer than all the rest.
        data = inherited(files[name]).data
        written = {key: value for key, value in data.items() if key != EXTENDS}
        rows.append({"name": name, **written, **_shape(data)})
    return rows


def _counted(name: str) -> list[str | int]:
    """A name as people sort it: continual5 before continual10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"([0-9]+)", name)]


def _shape(data: dict[str, Any]) -> dict[str, Any]:
    """Ways, shots and label delay in the words of the protocol's kind; None where the kind has no such thing.

    `shots` are those that are scored (streams, segmentation) or the one number of labelled samples of a class
    (continual, N-way K-shot).
    """
    kind, episode, scoring = data.get("kind"), _mapping(data.get("episode")), _mapping(data.get("scoring"))
    if kind == "n_way_k_shot":
        return {"ways": episode.get("ways"), "shots": episode.get("shots"), "label_delay": None}
    if kind == "continual":
        return {"ways": episode.get("subtasks"), "shots": episode.get("shots"), "label_delay": 1}
    if kind == "segmentation_distractors":
        return {"ways": 1, "shots": scoring.get("shots"), "label_delay": 1}
    if kind in ("online_few_shot", "delayed_label"):
        delay = episode.get("label_delay", 1)
        return {"ways": episode.get("ways"), "shots": scoring.get("shots"), "label_delay": delay}
    return {"ways": None, "shots": None, "label_delay": None}


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _methods() -> Rows:
    from harness.method.registry import describe

    return [{"name": name, "description": line} for name, line in describe().items()]


def _datasets() -> Rows:
    import dataclasses

    from harness.data.cards import CARDS

    return [dataclasses.asdict(card) for card in CARDS.values()]


def _protocol_cells(row: dict[str, Any]) -> dict[str, str]:
    # A user's own data set is described where it is named.
    dataset = row.get("dataset")
    name = dataset.get("name") if isinstance(dataset, dict) else dataset
    ways = row["ways"]
    if row.get("kind") == "segmentation_distractors":
        ways = "1+1" if _mapping(row.get("episode")).get("distractor", True) else "1"
    values = {
        "name": row["name"],
        "kind": row.get("kind"),
        "data set": name,
        "ways": ways,
        "shots": row["shots"],
        "delay": row["label_delay"],
        "title": row.get("title"),
    }
    return {column: _text(value) for column, value in values.items()}


def _text(value: Any) -> str:
    if value is None:
        return NOTHING
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _method_cells(row: dict[str, Any]) -> dict[str, str]:
    return {"name": row["name"], "description": row["description"]}


def _dataset_cells(row: dict[str, Any]) -> dict[str, str]:
    sizes = "/".join(str(count) for count in row["classes"].values())
    return {"name": row["name"], "classes": f"{sizes} classes ({'/'.join(row['classes'])})", "title": row["title"]}


_ROWS = {"protocols": _protocols, "methods": _methods, "datasets": _datasets}
_CELLS = {"protocols": _protocol_cells, "methods": _method_cells, "datasets": _dataset_cells}
