"""All boards of a folder with what belongs to them: the shipped protocols, and the papers' tables filled from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from harness.boards.markdown import View, view_all
from harness.protocol.load import Loaded, load_protocol
from harness.report.commands import word_of
from harness.report.index_page import RunLine, index_page
from harness.report.page import Pages, board_file
from harness.report.protocol_page import protocol_page
from harness.report.sources import Places, subject
from harness.report.table_page import table_page
from harness.tables.cells import Filled, fill
from harness.tables.definition import all_tables
from harness.tables.reached import reached
from harness.util.shipped_files import protocol_files


@dataclass(frozen=True)
class AllBoards:
    """The boards in `folder`, and the shipped protocols among theirs."""

    folder: Path
    views: Sequence[View]
    protocols: Sequence[Loaded]

    @cached_property
    def tables(self) -> list[Filled]:
        """The papers' tables that are read from boards.

        Those whose costs are computed at once are left to `harness table`: that builds nets, which takes a while.
        """
        return [fill(each, self.folder, self.views) for each in all_tables() if not each.table.computed]

    @property
    def pages(self) -> Pages:
        """What the page of a board can lead to."""
        return Pages(protocols={loaded.name: word_of(loaded) for loaded in self.protocols})

    def index(self, runs: Sequence[RunLine] = (), live: bool = False) -> str:
        """HTML of the index of all pages."""
        titles = [(loaded.name, loaded.protocol.title) for loaded in self.protocols]
        return index_page(self.views, titles, [reached(each) for each in self.tables], runs, live)

    def protocol(self, loaded: Loaded, places: Places) -> str:
        """HTML of one of the protocols; images of its splits are not compared, which takes seconds."""
        return protocol_page(subject(loaded, False, places), places, board_of(loaded, self.views), thorough=False)

    def table(self, filled: Filled) -> str:
        """HTML of one of the tables."""
        return table_page(filled, [view.name for view in self.views if not view.stand_in])


def read_all(folder: Path) -> AllBoards:
    """Reads all boards of a folder."""
    views, shipped = view_all(folder), protocol_files()
    named = [load_protocol(shipped[name]) for name in dict.fromkeys(view.name for view in views) if name in shipped]
    return AllBoards(folder, views, named)


def board_of(loaded: Loaded, views: Sequence[View]) -> str | None:
    """The address of a protocol's board among `views`, from the index's folder."""
    return next((board_file(view.name, view.stand_in) for view in views if view.name == loaded.name), None)
