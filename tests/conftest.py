"""Shared by all tests: one torch thread, hypothesis profiles, and where the real data are."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

hypothesis.settings.register_profile("ci", derandomize=True, deadline=None, max_examples=60)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=2000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--data-root",
        default=os.environ.get("HARNESS_DATA"),
        help="folder with the real data sets; tests of real data skip without it",
    )
    parser.addoption("--device", default="cuda", help="what tests of the mark 'gpu' run on (cpu: to try them)")


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    # Two threads on a small machine with other work are slower than one, and results depend on the number.
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _threads_as_before(_one_thread: None) -> Iterator[None]:
    """A test that leaves torch with more threads changes the last bits of those after it, and fails itself instead."""
    import torch

    threads = torch.get_num_threads  # before a test puts another in its place
    yield
    left = threads()
    torch.set_num_threads(1)
    assert left == 1, f"torch is left with {left} threads"


@pytest.fixture(autouse=True, scope="session")
def _signals_are_heard() -> None:
    """A shell that runs the tests in the background has SIGINT ignored, `nohup` SIGHUP, and with them all processes
    that the tests start."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def _output_of_any_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is printed is as wide as in a pipe, whatever terminal the tests run in."""
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture(autouse=True)
def _no_data_set_stays_registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Data sets that a test registers are gone after it, with their cards."""
    from harness.data import registered
    from harness.data.cards import CARDS

    monkeypatch.setattr(registered, "_REGISTERED", dict(registered._REGISTERED))
    cards = dict(CARDS)
    yield
    CARDS.clear()
    CARDS.update(cards)


@pytest.fixture(autouse=True, scope="session")
def _notices_on_stderr() -> None:
    """What the library logs is on stderr, as on the command line."""
    from harness.cli.notices import show_notices

    show_notices()


@pytest.fixture(autouse=True)
def _no_data_by_accident(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests see the real data only through `data_root`."""
    monkeypatch.delenv("HARNESS_DATA", raising=False)


@pytest.fixture(scope="session")
def data_root(request: pytest.FixtureRequest) -> Path:
    """The root of the real data sets; the test is skipped where there is none."""
    given = request.config.getoption("--data-root")
    if not given:
        pytest.skip("no real data: give --data-root DIR or set HARNESS_DATA")
    if not Path(given).is_dir():
        pytest.fail(f"--data-root {given} is not a folder")
    return Path(given).absolute()


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of decoded data sets for the whole session and all its workers, empty when the session begins."""
    base = tmp_path_factory.getbasetemp()
    # Each worker of pytest-xdist has a folder of its own in that of the session.
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "decoded"


@pytest.fixture(autouse=True, scope="session")
def _no_cache_of_the_user(cache: Path) -> None:
    """What tests decode, generate or train lies in that cache unless they choose another, never in the user's own."""
    os.environ["HARNESS_CACHE"] = str(cache)
