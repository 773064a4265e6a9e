"""Boards as people read them: Markdown of a board, and the index; the same bytes for the same records."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from harness.boards.artifacts import scores_of
from harness.boards.columns import NOTHING, best_published, columns, measured, published_rows, table, why
from harness.boards.legend import legend
from harness.boards.standings import RANKINGS, Standings, nothing_ranked, standings, usual_digest, usual_ranking
from harness.boards.store import (
    LOG,
    STAND_IN_FOLDER,
    Board,
    Report,
    append_record,
    board_path,
    locked,
    read_board,
)
from harness.evaluation.score import Each, each
from harness.protocol.models import AnyProtocol
from harness.records.record import Record
from harness.util.atomic_files import leftovers, replacing
from harness.util.errors import UserError
from harness.util.garbage import uncollected
from harness.util.quantities import counted
from harness.util.shown_text import in_markdown

if TYPE_CHECKING:
    from harness.protocol.load import Loaded

MADE = "<!-- Written by `harness board --write` from the records; changes made here are lost. -->"
"""The first line of every file written here. A file without it is somebody's own and is left alone."""

INDEX = "README.md"
INDEX_COLUMNS = ("board", "file", "title", "best measured", "entries", "best published")


@dataclass(frozen=True)
class View:
    """One board, read and ranked; `protocol` is on the board's data set, None if its file is not at hand, and `path` is
    that of its Markdown."""

    name: str
    path: Path
    stand_in: bool
    protocol: AnyProtocol | None
    digest: str
    test_episodes: int | None
    board: Board
    standings: Standings
    read_at: tuple[int, int] | None = None
    """Size and time of the file of records when it was read: with others, somebody else has appended since."""


@uncollected()
def view_board(name: str, protocol: AnyProtocol | None, boards: Path, stand_in: bool) -> View:
    """Reads and ranks a board. Without its protocol, rows are compared with the one finished last, and ranked by
    the metric that boards of its kind are ranked by."""
    records = board_path(boards, name, stand_in)
    read_at = _size_and_time(records)
    board = read_board(records)
    wanted: int | None = None
    reported: tuple[str, ...] = ()
    if protocol is None:
        own, by = usual_digest(board.records), usual_ranking(board.records)
    else:
        own, by = protocol.digest, protocol.ranking
        wanted, reported = protocol.test_episodes, protocol.reported
    found = standings(board.records, own, wanted, by, lambda record: stored_values(protocol, record, boards), reported)
    return View(name, records.with_suffix(".md"), stand_in, protocol, own, wanted, board, found, read_at)


def _size_and_time(records: Path) -> tuple[int, int] | None:
    try:
        found = records.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def stored_values(protocol: AnyProtocol | None, record: Record, boards: Path) -> Each | None:
    """A record's metrics in every test episode, None where they are not stored, or not as they were."""
    if protocol is None or record.scores is None or record.digest != protocol.digest:
        return None
    try:
        scores = scores_of(record, boards)
        return None if scores is None else each(protocol, scores)
    except (
        UserError,
        KeyError,
        IndexError,
        ValueError,
    ):  # damaged, or of another protocol: `harness verify` tells
        return None


def view_all(boards: Path, known: View | None = None) -> list[View]:
    """Every board in the folder, real ones first, by name; protocols are those that are shipped.

    One that is `known` and has not changed since is not ranked again.
    """
    views = []
    for stand_in, folder in ((False, boards), (True, boards / STAND_IN_FOLDER)):
        for path in sorted(folder.glob("*.jsonl")):
            protocol = _shipped_protocol(path.stem, stand_in)
            if known and _is_of(known, path, protocol):
                views.append(known)
            else:
                views.append(view_board(path.stem, protocol, boards, stand_in))
    return views


def _is_of(known: View, records: Path, protocol: AnyProtocol | None) -> bool:
    same = known.path == records.with_suffix(".md") and known.protocol == protocol
    return same and known.read_at is not None and known.read_at == _size_and_time(records)


def render_board(view: View) -> str:
    """Markdown of the board of a protocol that is at hand: ranked entries, published results, entries apart, the file's
    problems."""
    protocol, stand_in = view.protocol, view.stand_in
    assert protocol is not None, f"{view.name} has no protocol"
    by, others = protocol.ranking, protocol.reported
    episodes = "the whole test split" if view.test_episodes is None else f"{view.test_episodes} test episodes"
    parts = [f"# {in_markdown(protocol.title)}"]
    if stand_in:
        parts.append("**Stand-in data: generated, for trying things out. Not to be compared with real data.**")
    parts.append(
        f"Board `{view.name}`: kind `{protocol.kind}`, data set `{protocol.data_name}`, "
        f"protocol digest `{view.digest[:12]}`, {episodes}."
    )
    parts.append("## Measured")
    if view.standings.ranked:
        ranks, ranked = zip(*view.standings.ranked, strict=True)
        rows = [{"rank": rank, **row} for rank, row in zip(ranks, columns(ranked, by, others), strict=True)]
        isolated = any(record.isolated for _, entry in view.standings.ranked for record in entry.records)
        parts += [table(rows), legend(protocol, by, isolated)]
    else:
        parts.append(nothing_ranked(view.standings))
    if protocol.published and not stand_in:
        parts += ["## Published elsewhere, not measured here", table(published_rows(protocol.published, (*others, by)))]
    if view.standings.apart:
        parts += [
            "## Apart: not ranked",
            "These rows cannot be compared with those above, or with each other.",
        ]
    for heading, entries in view.standings.apart:
        parts += [
            f"### {in_markdown(heading)}",
            table(
                [{"why": why(entry), **row} for entry, row in zip(entries, columns(entries, by, others), strict=True)]
            ),
        ]
    if view.board.problems:
        parts += ["## Problems in the file", "\n".join(f"- {in_markdown(each)}" for each in view.board.problems)]
    return "\n\n".join(parts) + "\n"


def render_index(views: Sequence[View]) -> str:
    """Markdown of the index: one line a board, and one table for each metric that boards are ranked by."""
    parts = ["# Leaderboards"]
    for heading, rows in index_tables(views):
        linked = [{**row, "board": f"[{in_markdown(row['board'])}]({quote(row['file'])})"} for row in rows]
        without_file = [{name: text for name, text in row.items() if name != "file"} for row in linked]
        parts += [f"## {heading}", table(without_file, markdown=["board"])]
    if len(parts) == 1:
        parts.append("No boards yet: `harness run PROTOCOL --method NAME` writes the first row.")
    return "\n\n".join(parts) + "\n"


def index_tables(views: Sequence[View]) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """The tables of the index with their headings: rows of boards that are ranked by the same metric, `file` being the
    rendered board as seen from the folder of boards."""
    for stand_in, heading in (
        (False, "Real data"),
        (True, "Stand-in data (generated; for trying things out)"),
    ):
        for by in dict.fromkeys((*RANKINGS, *(view.standings.ranking for view in views))):
            rows = [_index_row(view) for view in views if (view.stand_in, view.standings.ranking) == (stand_in, by)]
            if rows:
                yield f"{heading}, ranked by `{by}`", rows


@uncollected()
def write_board(loaded: Loaded, boards: Path, stand_in: bool = False, report: Report = LOG.warning) -> View:
    """Renders a board to `<board>.md` beside its records, and returns it.

    If a protocol of that name is shipped, the board is rendered by the shipped file: rows of somebody's
    changed copy must not put everybody else's apart. Raises UserError if `stand_in` is asked for and the protocol has
    none.
    """
    with locked(board_path(boards, loaded.name, stand_in)):
        view = view_board(loaded.name, on_data(_shipped(loaded.name) or loaded, stand_in), boards, stand_in)
        _write(view.path, render_board(view), report)
    return view


def write_index(boards: Path, report: Report = LOG.warning, known: View | None = None) -> Path:
    """Renders the index of all boards, and returns its path; one that is `known` is not ranked again."""
    path = boards / INDEX
    with locked(path):
        _write(path, render_index(view_all(boards, known)), report)
    return path


def publish(record: Record, loaded: Loaded, boards: Path, report: Report = LOG.warning) -> View:
    """Appends a record to its board, renders the board and the index again, and returns the board.

    Raises RunError if a file cannot be written.
    """
    append_record(record, boards, report)
    view = write_board(loaded, boards, record.data.stand_in, report)
    write_index(boards, report, view)
    return view


def _write(path: Path, text: str, report: Report) -> None:
    """Replaces a rendered file, unless the one that is there was not rendered; for who holds its lock."""
    for stale in leftovers(path):
        stale.unlink(missing_ok=True)
    whole = f"{MADE}\n\n{text}"
    if path.exists():
        there = path.read_text(encoding="utf-8", errors="replace")
        if there == whole:
            return
        if there.strip() and not there.startswith(MADE):
            report(f"{path} was not written by the harness and was left as it is")
            return
    with replacing(path) as temporary:
        temporary.write_text(whole, encoding="utf-8", newline="\n")


def on_data(loaded: Loaded, stand_in: bool) -> AnyProtocol:
    """The protocol on the data of its real or its stand-in board; UserError if it has no stand-in."""
    from harness.protocol.load import for_data

    if loaded.protocol.card.stand_in:
        return loaded.protocol
    return for_data(loaded, "stand-in" if stand_in else "real")


def _shipped(name: str) -> Loaded | None:
    from harness.protocol.load import load_protocol
    from harness.util.shipped_files import protocol_files

    path = protocol_files().get(name)
    return load_protocol(path) if path else None


def _shipped_protocol(name: str, stand_in: bool) -> AnyProtocol | None:
    """The shipped protocol of a board; None if it cannot be read: one bad file must not hide all."""
    try:
        shipped = _shipped(name)
        return on_data(shipped, stand_in) if shipped else None
    except UserError:
        return None


def _index_row(view: View) -> dict[str, str]:
    ranked = view.standings.ranked
    best = f"{ranked[0][1].newest.method} {measured(ranked[0][1], view.standings.ranking)}" if ranked else NOTHING
    problems = len(view.board.problems)
    folder = f"{STAND_IN_FOLDER}/" if view.stand_in else ""
    published = None if view.protocol is None or view.stand_in else best_published(view.protocol)
    cells = (
        view.name,
        f"{folder}{view.name}.md",
        view.protocol.title if view.protocol else "(protocol file not shipped)",
        best,
        str(view.standings.entries) + (f", {counted(problems, 'problem')}" if problems else ""),
        published or NOTHING,
    )
    return dict(zip(INDEX_COLUMNS, cells, strict=True))
