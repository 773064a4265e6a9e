"""Progress: bars on a terminal, plain lines elsewhere, nothing where nobody asked for it, on any encoding."""

from __future__ import annotations

import io

import pytest

from harness.util import progress
from harness.util.progress import NORMAL, QUIET, VERBOSE, say, shown, track, tracked
from harness.util.text import replace_unencodable


class Terminal(io.StringIO):
    """A stream that a person looks at."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which a test sets."""
    time = [100.0]
    monkeypatch.setattr(progress, "monotonic", lambda: time[0])
    return time


def lines_of(now: list[float], level: int, step: float, limit: float | None = None) -> list[str]:
    out = io.StringIO()
    with shown(level, out), track("decoding", 100, "images", limit=limit) as task:
        for _ in range(10):
            now[0] += step
            task.advance(10)
    return out.getvalue().splitlines()


def test_a_program_that_did_not_turn_it_on_sees_nothing(now: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with track("decoding", 10, "images") as task:
        now[0] += 100
        task.advance(5)
    say("a line")
    assert capsys.readouterr() == ("", "")


def test_off_a_terminal_there_are_plain_lines_with_speed_and_time_left(now: list[float]) -> None:
    lines = lines_of(now, NORMAL, 5.0)
    assert lines[0] == "decoding: 10 of 100 images, 2 images/s, 0:45 min left"
    assert [line.split()[1] for line in lines] == ["10", "40", "70", "100"]


def test_what_takes_two_seconds_or_less_has_no_line_and_more_words_have_more_lines(now: list[float]) -> None:
    assert lines_of(now, NORMAL, 0.19) == []
    assert lines_of(now, QUIET, 60.0) == []
    assert len(lines_of(now, VERBOSE, 5.0)) == 10


@pytest.mark.parametrize(("step", "said"), [(12.2, "0.082"), (0.42, "2.38"), (0.000184, "5,435")])
def test_a_speed_is_never_a_power_of_ten(now: list[float], step: float, said: str) -> None:
    task = progress.Task("decoding", 100_000, "images", began=now[0])
    now[0] += 10 * step
    task.reach(10)
    assert task.rest.startswith(f"{said} images/s, ")


def test_the_time_left_respects_a_limit(now: list[float]) -> None:
    assert lines_of(now, NORMAL, 5.0, limit=20.0)[0].endswith("2 images/s, 0:15 min left")


def test_a_terminal_has_bars_that_vanish_and_lines_that_stay(now: list[float]) -> None:
    out = Terminal()
    with shown(NORMAL, out), track("training", 10, "episodes") as outer:
        for _ in tracked(range(3), "scoring", "episodes"):
            now[0] += 1
        now[0] += 1
        outer.reach(5, "loss 1.234")
        say("[a] line: stays")
    text = out.getvalue()
    assert "training" in text
    assert "scoring" in text
    assert "5/10" in text
    assert "loss 1.234" in text
    assert "[a] line: stays" in text
    assert "\x1b[2K" in text[-15:], "the bars are taken away at the end"


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_every_console_can_show_it(encoding: str, now: list[float]) -> None:
    class Console(io.TextIOWrapper):
        def isatty(self) -> bool:
            return True

    raw = io.BytesIO()
    out = Console(raw, encoding=encoding)
    replace_unencodable(out)
    with shown(NORMAL, out), track("Übung 犬", 10, "images") as task:
        now[0] += 1
        task.advance()
        say("± 犬 –")
    out.flush()
    assert b"1/10" in raw.getvalue()


def test_a_failure_takes_the_bar_away(now: list[float]) -> None:
    out = Terminal()
    with pytest.raises(ZeroDivisionError), shown(NORMAL, out), track("x", 1):
        raise ZeroDivisionError
    assert progress._SCREEN._live is None
