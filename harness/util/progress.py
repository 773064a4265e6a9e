"""Progress of whatever may take longer than two seconds: bars on a terminal, plain lines elsewhere, nothing if quiet.

Any layer writes `with track("decoding", total, "images") as task: task.advance(n)`. Nothing is shown unless someone
turned it on for this process (`shown`): the command line does, a program that only imports the harness does not.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

from harness.util.quantities import clock

if TYPE_CHECKING:
    from rich.progress import Progress

T = TypeVar("T")

SILENT, QUIET, NORMAL, VERBOSE = -2, -1, 0, 1
SILENT_SECONDS = 2.0
"""What is over sooner gets no line."""

LINE_SECONDS = {NORMAL: 15.0, VERBOSE: 2.0}
"""Seconds between two plain lines of a task."""

REFRESH_SECONDS = 0.1


@dataclass
class Task:
    """Something that advances: `done` of `total` (None: nobody knows how many) of a unit such as 'episodes'.

    `limit` is the number of seconds after which it ends in any case; `note` is shown beside it.
    """

    what: str
    total: int | None
    unit: str
    limit: float | None = None
    done: int = 0
    note: str = ""
    first: int = 0
    began: float = field(default_factory=lambda: monotonic())
    last_line: float | None = None
    bar: Any = None

    def advance(self, count: int = 1) -> None:
        """So many more are done."""
        self.reach(self.done + count)

    def reach(self, done: int, note: str = "") -> None:
        """So many are done in all."""
        self.done, self.note = done, note or self.note
        _SCREEN.update(self)

    @property
    def rest(self) -> str:
        """Speed and time left in words; '' while neither can be said."""
        elapsed = monotonic() - self.began
        speed = (self.done - self.first) / elapsed if elapsed > 0 else 0.0
        times = [] if self.total is None or not speed else [(self.total - self.done) / speed]
        times += [] if self.limit is None else [self.limit - elapsed]
        said = [f"{_rounded(speed)} {self.unit}/s"] if speed and self.unit else []
        return ", ".join([*said, *([f"{clock(min(times))} left"] if times else [])])

    @property
    def line(self) -> str:
        """The state of the task as a line of text."""
        count = f"{self.done}" + ("" if self.total is None else f" of {self.total}")
        counted = f"{count} {self.unit}".strip() if self.total is not None or self.done else ""
        return ": ".join([self.what, ", ".join(filter(None, [counted, self.note, self.rest])) or "..."])


class _Screen:
    """Where tasks are shown. One for a process, since a process has one terminal."""

    def __init__(self) -> None:
        self.level = QUIET
        self.out: TextIO | None = None
        self._live: Progress | None = None
        self._bars = 0
        self._refreshed = 0.0

    @property
    def stream(self) -> TextIO:
        return self.out or sys.stderr

    def begin(self, task: Task) -> None:
        if self.level < NORMAL or not self.stream.isatty():
            return
        if self._live is None:
            self._live = _bars(self.stream)
            self._live.start()
            self._refreshed = monotonic()
        task.bar = self._live.add_task(task.what, total=task.total, completed=task.done, words="")
        self._bars += 1
        self._live.refresh()

    def update(self, task: Task) -> None:
        now = monotonic()
        if task.bar is not None and self._live is not None:
            words = ", ".join(filter(None, [task.note, task.rest]))
            self._live.update(task.bar, completed=task.done, words=words)
            if now - self._refreshed >= REFRESH_SECONDS:
                self._refreshed = now
                self._live.refresh()
        elif self.level >= NORMAL and now - (task.last_line or task.began + self._wait) >= self._pause:
            task.last_line = now
            self.say(task.line)

    @property
    def _pause(self) -> float:
        return LINE_SECONDS[self.level]

    @property
    def _wait(self) -> float:
        """So that the first line comes after `SILENT_SECONDS`."""
        return SILENT_SECONDS - self._pause

    def end(self, task: Task) -> None:
        if task.bar is None or self._live is None:
            return
        self._live.remove_task(task.bar)
        task.bar = None
        self._bars -= 1
        if not self._bars:
            self._live.stop()
            self._live = None

    def say(self, line: str) -> None:
        if self._live is not None:
            self._live.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            print(line, file=self.stream, flush=True)


_SCREEN = _Screen()


@contextmanager
def track(
    what: str, total: int | None = None, unit: str = "", done: int = 0, limit: float | None = None
) -> Iterator[Task]:
    """A task that is shown while the block runs, as far as anything is shown (`shown`)."""
    task = begin(what, total, unit, done, limit)
    try:
        yield task
    finally:
        end(task)


def tracked(items: Sequence[T], what: str, unit: str) -> Iterator[T]:
    """The items one after another, as a task that is done with the last of them."""
    with track(what, len(items), unit) as task:
        for item in items:
            yield item
            task.advance()


def begin(what: str, total: int | None = None, unit: str = "", done: int = 0, limit: float | None = None) -> Task:
    """A task that is shown until `end`; for what is not one block."""
    task = Task(what, total, unit, limit, done, first=done)
    _SCREEN.begin(task)
    return task


def end(task: Task) -> None:
    """The task is over and is shown no longer."""
    _SCREEN.end(task)


def say(line: str, level: int = NORMAL) -> None:
    """One line for people, above any bar; shown at this level of words and above."""
    if _SCREEN.level >= level:
        _SCREEN.say(line)


def level() -> int:
    """How much is shown at present: SILENT (not even warnings), QUIET, NORMAL or VERBOSE."""
    return _SCREEN.level


@contextmanager
def shown(level: int, out: TextIO | None = None) -> Iterator[None]:
    """Shows progress at this level while the block runs, on `out` (standard error)."""
    before = _SCREEN.level, _SCREEN.out
    _SCREEN.level, _SCREEN.out = level, out or _SCREEN.out
    try:
        yield
    finally:
        _SCREEN.level, _SCREEN.out = before


def _rounded(speed: float) -> str:
    """Three digits of a speed, never as a power of ten: '0.082', '2.38', '5,430'."""
    return f"{speed:,.0f}" if speed >= 100 else f"{speed:.3g}"


def _bars(out: TextIO) -> Progress:
    """Bars that vanish when they are done. They are drawn when tasks advance and not by a thread of their own, which
    no forked process would have. Where the terminal is narrow the bar gives way, never the words beside it."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.table import Column

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(table_column=Column(no_wrap=True)),
        TextColumn("{task.fields[words]}", markup=False),
        console=Console(file=out, highlight=False),
        transient=True,
        auto_refresh=False,
        redirect_stdout=False,
    )
