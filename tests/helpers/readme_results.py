"""The table of results in the README, made from the project's boards: `python -m tests.helpers.readme_results`."""

from __future__ import annotations

import re
from pathlib import Path

from harness.boards.columns import best_published, measured, table
from harness.boards.entries import Entry
from harness.boards.markdown import view_board
from harness.method.registry import load_method
from harness.protocol.load import load_protocol
from methods.nn.untrained import Untrained

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
SHOWN = (
    "omniglot_5way_online",
    "cifarfs_5way_online",
    "cifarfs_delay5",
    "omniglot_continual20",
    "omniglot_20way_1shot",
    "miniimagenet_5way_5shot",
    "cifar100_supervised",
)
"""Boards that the README shows, one or two of each kind."""

_BLOCK = re.compile(r"(<!-- results: [^\n]*-->\n)(.*?)(<!-- end of results -->)", re.DOTALL)


def results_table() -> str:
    """Markdown: of each board the best measured entry, the best trivial baseline and the best published result."""
    rows = []
    for name in SHOWN:
        protocol = load_protocol(name).protocol
        entries = [entry for _, entry in view_board(name, protocol, ROOT / "leaderboards", False).standings.ranked]
        rows.append(
            {
                "board": f"[{protocol.title}](leaderboards/{name}.md)",
                "best measured": _shown(entries[0], protocol.ranking),
                "best trivial": next((_shown(each, protocol.ranking) for each in entries if _trivial(each)), "–"),
                "best published": best_published(protocol) or "–",
            }
        )
    return table(rows, markdown=["board"])


def in_readme() -> str:
    """The table as the README has it."""
    found = _BLOCK.search(README.read_text(encoding="utf-8"))
    assert found is not None, "the README has lost the lines around its results"
    return found[2].strip()


def _trivial(entry: Entry) -> bool:
    return issubclass(load_method(entry.newest.method).cls, Untrained)


def _shown(entry: Entry, metric: str) -> str:
    return f"{entry.newest.method} {measured(entry, metric)}"


if __name__ == "__main__":
    text = README.read_text(encoding="utf-8")
    README.write_text(_BLOCK.sub(lambda found: f"{found[1]}\n{results_table()}\n\n{found[3]}", text), encoding="utf-8")
