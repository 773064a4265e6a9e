"""The pages of a report over HTTP, made when they are requested, by default to this machine alone: nothing is
written."""

from __future__ import annotations

import contextlib
import functools
import ipaddress
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from harness.boards.places import STAND_IN_FOLDER, boards_to_read
from harness.report.all_boards import AllBoards, read_all
from harness.report.board_page import board_page
from harness.report.build import run_episode_page, run_line, run_links
from harness.report.page import board_file, episode_file, protocol_file, run_file, table_file
from harness.report.run_episodes import RunEpisodes, run_episodes
from harness.report.run_log import RunFolder, find_runs, read_run
from harness.report.run_page import run_page
from harness.report.sources import Places, Played, Subject, subject_of
from harness.util.errors import HarnessError

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Sources:
    """Where boards, runs and data are read from; without `given_boards`, from where they are at the time, those of
    generated data if `stand_in` says so."""

    given_boards: Path | None
    runs: Path
    places: Places = field(default_factory=Places)
    stand_in: bool = False

    @property
    def boards(self) -> Path:
        """The folder of boards; UserError where the one that was given is not there."""
        return boards_to_read(self.given_boards, self.stand_in)


def page_at(address: str, sources: Sources) -> str | None:
    """The page at an address, as it is now; None if there is none."""
    if address.startswith(("runs/", "episodes/")):
        return next((page for run in _runs(sources) if (page := _page_of(run, address, sources))), None)
    boards = _boards(sources.boards, _state(sources.boards))
    if address in {"", "index.html"}:
        runs = sorted(_runs(sources), key=lambda run: run.at, reverse=True)
        return boards.index([run_line(run) for run in runs], live=True)
    if address.startswith("boards/"):
        pages = replace(boards.pages, runs={(run.protocol, run.name) for run in _runs(sources)})
        for view in boards.views:
            if board_file(view.name, view.stand_in) == address:
                return board_page(view, sources.boards, pages)
    for loaded in boards.protocols:
        if protocol_file(loaded.name) == address:
            return boards.protocol(loaded, sources.places)
    for filled in boards.tables:
        if table_file(filled.printed.name) == address:
            return boards.table(filled)
    return None


def _state(boards: Path) -> tuple[tuple[str, int, int], ...]:
    """What tells whether boards have changed: their files, when they were written, and their sizes."""
    found = sorted([*boards.glob("*.jsonl"), *(boards / STAND_IN_FOLDER).glob("*.jsonl")])
    return tuple((str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in found)


@functools.lru_cache(maxsize=1)
def _boards(folder: Path, state: object) -> AllBoards:
    """The boards in their `state`, read once: an index that is open asks every few seconds."""
    return read_all(folder)


def _page_of(run: RunFolder, address: str, sources: Sources) -> str | None:
    """The page at an address if it is one of a run's."""
    own, places = run_file(run.protocol, run.name), sources.places
    if address == own:
        boards = _boards(sources.boards, _state(sources.boards))
        on, episodes, _ = _episodes(run.folder, places, str(run.record and run.record.finished))
        links = run_links(run, on, boards.views, boards.protocols)
        return run_page(run, on.protocol if on else None, episodes, live=True, links=links)
    if address.startswith(own.replace("runs/", "episodes/", 1).removesuffix(".html")):
        _, _, found = _episodes(run.folder, places, str(run.record and run.record.finished))
        numbers = found.shown.plan.episode.tolist() if found else []
        for row, number in enumerate(numbers):
            if found and address == episode_file(run.protocol, run.name, number):
                return run_episode_page(run, found, row)
    return None


@functools.lru_cache(maxsize=16)
def _episodes(folder: Path, places: Places, finished: str) -> tuple[Subject | None, RunEpisodes, Played | None]:
    """What is shown of the episodes of a run, which takes a while to play, once for each time that it is `finished`."""
    run = read_run(folder)
    on = subject_of(run, places)
    return (on, *run_episodes(run, on, places))


def server(sources: Sources, port: int = 0, host: str = HOST) -> ThreadingHTTPServer:
    """A server of the pages at an address and port of this machine (0: any free one), not yet serving.

    Raises OSError where it cannot listen there.
    """
    handler = _handler(lambda address: page_at(address, sources), host)
    return (_SixServer if ":" in host else ThreadingHTTPServer)((host, port), handler)


class _SixServer(ThreadingHTTPServer):
    address_family = socket.AF_INET6


def is_loopback(host: str) -> bool:
    """Whether an address reaches this machine alone."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _called(header: str | None) -> str:
    """The name or address in a request's header Host, which has no port where that is 80; '' for what is none."""
    with contextlib.suppress(ValueError):
        return urlsplit(f"//{header or ''}").hostname or ""
    return ""


def answers_to(name: str, host: str) -> bool:
    """Whether a request may call the server at `host` by this name or address.

    A page elsewhere may have a name of its own lead to this machine, and its requests say that name; so names are those
    of this machine, and addresses are taken only where the server listens at more than its own.
    """
    if name in {HOST, "localhost", host}:
        return True
    if is_loopback(host):
        return False
    try:
        return bool(ipaddress.ip_address(name))
    except ValueError:
        return name == socket.gethostname()


def _runs(sources: Sources) -> Iterator[RunFolder]:
    """The runs that can be read; a damaged one must not hide the others."""
    for folder in find_runs(sources.runs):
        try:
            yield read_run(folder)
        except HarnessError:
            continue


def _handler(page: Callable[[str], str | None], host: str) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        server_version = "harness"
        sys_version = ""

        def do_GET(self) -> None:
            self._answer(body=True)

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def _answer(self, body: bool) -> None:
            if not answers_to(_called(self.headers.get("Host")), host):
                return self.send_error(HTTPStatus.FORBIDDEN)
            try:
                text = page(urlsplit(self.path).path.removeprefix("/"))
            except HarnessError as error:
                return self.send_error(HTTPStatus.INTERNAL_SERVER_ERROR, explain=str(error))
            if text is None:
                return self.send_error(HTTPStatus.NOT_FOUND)
            content = text.encode()
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("X-Content-Type-Options", "nosniff")
            self.send_header("Referrer-Policy", "no-referrer")
            self.end_headers()
            if body:
                self.wfile.write(content)
            return None

        def log_message(self, format: str, *args: Any) -> None:
            """Requests are not logged: a live page asks every few seconds."""

    return Handler
