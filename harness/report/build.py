"""What a report is made of: which pages are asked for, and where each is written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from harness.boards.markdown import View, view_all
from harness.protocol.load import Loaded, load_protocol
from harness.report.board_page import board_page
from harness.report.episode_page import episode_page
from harness.report.index_page import RunLine, index_page
from harness.report.page import Pages, board_file, episode_file, protocol_file, run_file, table_file, write
from harness.report.protocol_page import protocol_page
from harness.report.run_episodes import run_episodes
from harness.report.run_log import RunFolder, read_run
from harness.report.run_page import run_page
from harness.report.sources import Places, Played, Subject, subject, subject_of
from harness.report.table_page import table_page
from harness.tables.cells import fill
from harness.tables.definition import all_tables
from harness.tables.reached import Reached, reached
from harness.util.shipped_files import protocol_files


@dataclass(frozen=True)
class Site:
    """Where pages go, and where boards are read from."""

    out: Path
    boards: Path

    def put(self, address: str, page: str) -> Path:
        """Writes a page at its address from the index's folder, and returns its path."""
        path = self.out / unquote(address)
        write(path, page)
        return path


def write_boards(site: Site, views: Sequence[View], pages: Pages) -> list[Path]:
    """A page for each board."""
    return [site.put(board_file(view.name, view.stand_in), board_page(view, site.boards, pages)) for view in views]


def write_tables(site: Site, views: Sequence[View]) -> tuple[list[Reached], list[Path]]:
    """A page for each table of a paper that is read from boards, and how far each is reached.

    The tables whose costs are computed at once are left to `harness table`: that builds nets, which takes a while.
    """
    boards = [view.name for view in views if not view.stand_in]
    filled = [fill(each, site.boards, views) for each in all_tables() if not each.table.computed]
    written = [site.put(table_file(each.printed.name), table_page(each, boards)) for each in filled]
    return [reached(each) for each in filled], written


def write_protocols(site: Site, subjects: Iterable[Subject], views: Sequence[View], thorough: bool) -> list[Path]:
    """A page for each protocol. With `thorough` lint compares the images of its splits, which takes seconds."""
    written = []
    for on in subjects:
        board = next((board_file(view.name, view.stand_in) for view in views if view.name == on.loaded.name), None)
        written.append(site.put(protocol_file(on.loaded.name), protocol_page(on, board, thorough=thorough)))
    return written


def write_all(site: Site, places: Places) -> list[Path]:
    """The index, every board, its protocol, and every table; the paths written, the index first."""
    views, shipped = view_all(site.boards), protocol_files()
    named = [load_protocol(shipped[name]) for name in dict.fromkeys(view.name for view in views) if name in shipped]
    boards = write_boards(site, views, Pages(protocols={loaded.name for loaded in named}))
    protocols = write_protocols(site, (subject(loaded, False, places) for loaded in named), views, thorough=False)
    figures, tables = write_tables(site, views)
    titles = [(loaded.name, loaded.protocol.title) for loaded in named]
    index = site.put("index.html", index_page(views, titles, figures))
    return [index, *boards, *protocols, *tables]


def write_some(site: Site, named: Sequence[tuple[Loaded, View]], folders: Sequence[Path], places: Places) -> list[Path]:
    """The pages of these protocols with their boards, and of the runs in these folders with their worst and best
    episodes, and an index of them; the paths, the index first. A run is of one of them, or of a shipped protocol."""
    found, views = [read_run(folder) for folder in folders], [view for _, view in named]
    pages = Pages({loaded.name for loaded, _ in named}, {(run.protocol, run.name) for run in found})
    boards = write_boards(site, views, pages)
    subjects = (subject(loaded, view.stand_in, places) for loaded, view in named)
    protocols = write_protocols(site, subjects, views, thorough=True)
    runs = [path for run in found for path in _write_run(site, run, [loaded for loaded, _ in named], places)]
    titles = [(loaded.name, loaded.protocol.title) for loaded, _ in named]
    index = site.put("index.html", index_page(views, titles, [], [run_line(run) for run in found]))
    return [index, *boards, *protocols, *runs]


def _write_run(site: Site, run: RunFolder, named: Sequence[Loaded], places: Places) -> Iterator[Path]:
    on = subject_of(run, places, named)
    episodes, found = run_episodes(run, on, places)
    yield site.put(run_file(run.protocol, run.name), run_page(run, on.protocol if on else None, episodes))
    for row, number in enumerate(found.shown.plan.episode.tolist() if found else []):
        assert found is not None
        yield site.put(episode_file(run.protocol, run.name, number), run_episode_page(run, found, row))


def run_episode_page(run: RunFolder, found: Played, row: int) -> str:
    """HTML of one of the episodes that a run's method played."""
    back = f"../{run_file(run.protocol, run.name)}"
    return episode_page(found.shown, run.protocol, row=row, note=found.note, up="../", back=back)


def run_line(run: RunFolder) -> RunLine:
    """A run's line of the index."""
    return RunLine(f"{run.protocol}: {run.name}", run_file(run.protocol, run.name), run.status, run.at)
