"""`harness list`: protocols, methods and data sets by name."""

from __future__ import annotations

import argparse
import json
from typing import Any

TOPICS = ("protocols", "methods", "datasets")
Rows = list[dict[str, Any]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("topic", nargs="?", choices=TOPICS, help="which to list (default: all three)")
    parser.add_argument("--json", action="store_true", help="as JSON, with everything that is known of each")


def execute(args: argparse.Namespace) -> int:
    topics = (args.topic,) if args.topic else TOPICS
    rows = {topic: _ROWS[topic]() for topic in topics}
    if args.json:
        print(json.dumps(rows[args.topic] if args.topic else rows, indent=2, ensure_ascii=False))
        return 0
    parts = []
    for topic in topics:
        lines = _table([_cells(topic, row) for row in rows[topic]])
        parts.append("\n".join(lines if args.topic else [f"{topic}:", *(f"  {line}" for line in lines)]))
    print("\n\n".join(parts))
    return 0


def _protocols() -> Rows:
    from harness.load import inherited
    from harness.shipped import protocol_files

    rows = []
    for name, path in protocol_files().items():
        # Read, not validated: building the models would take longer than all the rest.
        data = inherited(path).data
        rows.append({"name": name, **{key: data.get(key) for key in ("kind", "dataset", "stand_in", "title")}})
    return rows


def _methods() -> Rows:
    from harness.registry import describe

    return [{"name": name, "description": line} for name, line in describe().items()]


def _datasets() -> Rows:
    import dataclasses

    from harness.data.cards import CARDS

    return [dataclasses.asdict(card) for card in CARDS.values()]


_ROWS = {"protocols": _protocols, "methods": _methods, "datasets": _datasets}


def _cells(topic: str, row: dict[str, Any]) -> list[str]:
    if topic == "protocols":
        return [row["name"], row["kind"] or "", row["dataset"] or "", row["title"] or ""]
    if topic == "methods":
        return [row["name"], row["description"]]
    sizes = "/".join(str(count) for count in row["classes"].values())
    return [row["name"], f"{sizes} classes (train/validation/test)", row["title"]]


def _table(rows: list[list[str]]) -> list[str]:
    """Lines with the columns lined up; the last column runs on."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
