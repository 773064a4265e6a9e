"""What a report is made of: which pages are asked for, and where each is written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from harness.boards.markdown import View
from harness.protocol.load import Loaded
from harness.report.all_boards import board_of, read_all
from harness.report.board_page import board_page
from harness.report.commands import word_of
from harness.report.episode_page import episode_page
from harness.report.index_page import RunLine, index_page
from harness.report.page import Pages, board_file, check_own, episode_file, protocol_file, run_file, table_file, write
from harness.report.protocol_page import protocol_page
from harness.report.run_episodes import run_episodes
from harness.report.run_log import RunFolder, read_run
from harness.report.run_page import run_page
from harness.report.sources import Places, Played, Subject, subject, subject_of

INDEX = "index.html"


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


def write_all(site: Site, places: Places) -> list[Path]:
    """The index, every board, its protocol, and every table; the paths written, the index first."""
    check_own(site.out / INDEX)
    found = read_all(site.boards)
    boards = write_boards(site, found.views, found.pages)
    protocols = [site.put(protocol_file(each.name), found.protocol(each, places)) for each in found.protocols]
    tables = [site.put(table_file(each.printed.name), found.table(each)) for each in found.tables]
    return [site.put(INDEX, found.index()), *boards, *protocols, *tables]


def write_some(site: Site, named: Sequence[tuple[Loaded, View]], folders: Sequence[Path], places: Places) -> list[Path]:
    """The pages of these protocols with their boards, and of the runs in these folders with their worst and best
    episodes, and an index of them; the paths, the index first. A run is of one of them, or of a shipped protocol."""
    check_own(site.out / INDEX)  # the likeliest page of somebody else's, before any is written
    found, views = [read_run(folder) for folder in folders], [view for _, view in named]
    pages = Pages({loaded.name: word_of(loaded) for loaded, _ in named}, {(run.protocol, run.name) for run in found})
    boards = write_boards(site, views, pages)
    protocols = [
        site.put(
            protocol_file(loaded.name),
            protocol_page(subject(loaded, view.stand_in, places), places, board_of(loaded, views)),
        )
        for loaded, view in named
    ]
    runs = [path for run in found for path in _write_run(site, run, [loaded for loaded, _ in named], views, places)]
    titles = [(loaded.name, loaded.protocol.title) for loaded, _ in named]
    index = site.put(INDEX, index_page(views, titles, [], [run_line(run) for run in found]))
    return [index, *boards, *protocols, *runs]


def _write_run(
    site: Site, run: RunFolder, named: Sequence[Loaded], views: Sequence[View], places: Places
) -> Iterator[Path]:
    on = subject_of(run, places, named)
    episodes, found = run_episodes(run, on, places)
    page = run_page(run, on.protocol if on else None, episodes, links=run_links(run, on, views, named))
    yield site.put(run_file(run.protocol, run.name), page)
    for row, number in enumerate(found.shown.plan.episode.tolist() if found else []):
        assert found is not None
        yield site.put(episode_file(run.protocol, run.name, number), run_episode_page(run, found, row))


def run_links(
    run: RunFolder, on: Subject | None, views: Sequence[View], named: Sequence[Loaded]
) -> list[tuple[str, str]]:
    """Pages of a report that a run's page leads to: the board of its data, and its protocol."""
    if on is None:
        return []
    own = (run.protocol, on.protocol.card.stand_in)
    boards = [("The board", board_file(*own)) for view in views if (view.name, view.stand_in) == own]
    return boards + [("The protocol", protocol_file(each.name)) for each in named if each.name == run.protocol]


def run_episode_page(run: RunFolder, found: Played, row: int) -> str:
    """HTML of one of the episodes that a run's method played."""
    back = f"../{run_file(run.protocol, run.name)}"
    return episode_page(found.shown, run.protocol, row=row, note=found.note, up="../", back=back)


def run_line(run: RunFolder) -> RunLine:
    """A run's line of the index."""
    return RunLine(f"{run.protocol}: {run.name}", run_file(run.protocol, run.name), run.status, run.when)
