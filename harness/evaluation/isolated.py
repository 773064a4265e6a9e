"""Isolated scoring: the method lives in a process of its own, targets and scorer in this one.

The worker is handed feedback and inputs step by step and gives back arrays of floats; it never holds a target that is
not revealed yet, nor an input that is not shown yet. Where the system allows it, it has no network, cannot write, and
does not find the data. What this promises, and what not, is in docs/scoring.md.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import math
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.episodes.source import EpisodeSource
from harness.evaluation.evaluate import evaluate
from harness.evaluation.messages import Channel, Closed, shared_memory
from harness.evaluation.score import Scores
from harness.method.interface import MASKS, Feedback, Method, State, Task
from harness.method.registry import LoadedMethod
from harness.method.source import source_files
from harness.protocol.models import AnyProtocol
from harness.records.parts import Isolated
from harness.util.confinement import BUBBLEWRAP, bubblewrap, environment, import_paths, uncovered, wrapped
from harness.util.errors import AnswerError, RunError, UserError
from harness.util.memory import machine_memory
from harness.util.option_names import switch
from harness.util.shown_text import in_line

LOG = logging.getLogger(__name__)

TIME_OUT = 600.0
"""Seconds that a method may take for one answer (of a whole batch), and to be built."""

_LONGEST = 500  # characters of what a worker says that are shown


@dataclass(frozen=True)
class Player:
    """What a worker is built from: a method by the name that `load_method` knows, its options, seed and weights."""

    method: str
    files: tuple[Path, ...]
    task: Task
    options: Mapping[str, Any]
    seed: int
    weights: Mapping[str, Tensor]


@dataclass(frozen=True)
class Bounds:
    """What a worker may use: seconds for one answer, bytes of memory (None: three quarters of the machine's), and the
    folders that it must not find, such as those of the data."""

    seconds: float = TIME_OUT
    memory: int | None = None
    hidden: tuple[Path, ...] = ()


def player_of(loaded: LoadedMethod, method: Method, options: Mapping[str, Any], seed: int) -> Player:
    """How a worker builds a method that was built here: its class by name, its task, options, seed and weights."""
    named = loaded.target if loaded.file is not None else loaded.name
    return named_player(named, method.task, options, seed, method.state_dict())


def named_player(
    named: str, task: Task, options: Mapping[str, Any], seed: int, weights: Mapping[str, Tensor]
) -> Player:
    """How a worker builds the method of a name that `load_method` knows."""
    file, _, attribute = named.rpartition(":")
    name = f"{Path(file).absolute()}:{attribute}" if file.endswith(".py") else named
    return Player(name, files_of(named), task, options, seed, weights)


def files_of(named: str) -> tuple[Path, ...]:
    """The files of a method that is named by its file: without them it cannot be imported."""
    file = named.rpartition(":")[0]
    if not file.endswith(".py"):
        return ()
    if not Path(file).is_file():
        raise UserError(f"there is no file {file}, which the method '{named}' is to be in")
    return tuple(source_files(Path(file).absolute()).values())


def scored(
    player: Player,
    source: EpisodeSource,
    protocol: AnyProtocol,
    split: str,
    episodes: int,
    *,
    of: int | None = None,
    batches: Sequence[int] | None = None,
    fresh: bool = False,
    bounds: Bounds | None = None,
) -> tuple[Scores, Isolated]:
    """What `evaluate` gives, to the last bit, of a method that is played in a process of its own; and how it was kept
    apart. That nothing but the process keeps it apart, where the system allows no more, is logged as a warning.

    With `fresh` each batch of episodes is played by a worker that has seen no other. Raises UserError where an answer
    cannot be scored, and RunError where the method raises, ends its process, dies or takes too long.
    """
    count = 0

    def counted(done: int) -> None:
        nonlocal count
        count += done

    with played(player, source.device, bounds or Bounds(), fresh=fresh) as method:
        if method.confined is None:
            _warn_unconfined(method.why_not)
        scores = evaluate(method, source, protocol, split, episodes, counted, of=of, batches=batches)
        return scores, Isolated(confined=method.confined, episodes=count, fresh=fresh)


@contextlib.contextmanager
def played(
    player: Player, device: torch.device | str = "cpu", bounds: Bounds | None = None, *, fresh: bool = False
) -> Iterator[Remote]:
    """A method whose calls are answered by a worker; the worker ends with the context."""
    worker = _Worker(player, torch.device(device), bounds or Bounds())
    try:
        yield Remote(worker, player.task, fresh)
    finally:
        worker.end()


class Remote(Method):
    """Stands for the method in the worker. Its state is there: what is passed on here only counts the steps."""

    def __init__(self, worker: _Worker, task: Task, fresh: bool = False) -> None:
        super().__init__(task)
        self.fresh, self.used = fresh, False
        self.worker = worker
        self.confined, self.why_not = worker.facts["confined"], worker.facts["why_not"]
        self.learns_by_gradient = worker.facts["learns_by_gradient"]
        self.transductive = worker.facts["transductive"]

    def start(self, episodes: int) -> State:
        if self.fresh and self.used:
            self.worker.end()
            self.worker.begin()
        self.used = True
        self.worker.call("start", episodes=episodes)
        return 0

    def observe(self, state: State, feedback: Feedback) -> State:
        self.worker.call("observe", [feedback.target, *([] if feedback.x is None else [feedback.x])])
        return state + 1

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        return self.worker.answer("predict", x), state + 1

    def adapt(self, state: State) -> State:
        self.worker.call("adapt")
        return state

    def query(self, state: State, x: Tensor) -> Tensor:
        return self.worker.answer("query", x)


class _Worker:
    """A process with a method in it, and the conversation with it."""

    def __init__(self, player: Player, device: torch.device, bounds: Bounds) -> None:
        if os.name != "posix":
            raise UserError(
                f"isolated scoring needs a POSIX system, this is {os.name}; score with {switch('in-process')}"
            )
        self.player, self.device, self.bounds = player, device, bounds
        self.begin()

    def begin(self) -> None:
        """Starts the process and has the method built in it."""
        player, needed = self.player, [*map(Path, (sys.prefix, sys.base_prefix, *import_paths())), *self.player.files]
        hidden = uncovered(self.bounds.hidden, [each for each in needed if each.exists()])
        program = bubblewrap()
        ours, theirs = socket.socketpair()
        ours.settimeout(TIME_OUT)
        self.channel = Channel(ours, shared_memory())
        self.noise = tempfile.TemporaryFile()  # noqa: SIM115 (closed by end)
        command = [sys.executable, "-m", "harness.evaluation.worker", str(theirs.fileno()), str(self.channel.memory)]
        self.process = subprocess.Popen(
            [*(wrapped(program, hidden) if program else []), *command],
            stdin=subprocess.DEVNULL,
            stdout=self.noise,
            stderr=self.noise,
            pass_fds=(theirs.fileno(), self.channel.memory),
            env=environment(),
            start_new_session=True,
        )
        theirs.close()
        raw = {name: each.detach().cpu().contiguous() for name, each in player.weights.items()}
        bits = [each.reshape(-1).view(torch.uint8).numpy() for each in raw.values()]
        self.channel.room(sum(each.nbytes + 64 for each in bits))
        hello = {
            "confined": BUBBLEWRAP if program else None,
            "hidden": list(map(str, hidden)),
            "bytes": 0 if self.device.type == "cuda" else self.bounds.memory or machine_memory() * 3 // 4,
            "threads": torch.get_num_threads(),
            "matmul": torch.get_float32_matmul_precision(),
            "device": str(self.device),
            "method": player.method,
            "task": dataclasses.asdict(player.task),
            "options": dict(player.options),
            "seed": player.seed,
            "names": list(raw),
            "dtypes": [str(each.dtype).removeprefix("torch.") for each in raw.values()],
            "shapes": [list(each.shape) for each in raw.values()],
            "weights": self.channel.put(bits),
        }
        self.facts = self._reply(hello, "its construction")
        ours.settimeout(self.bounds.seconds)

    def call(self, what: str, given: Sequence[Tensor] = (), **more: Any) -> None:
        """Has the worker do something that has no answer."""
        self._call(what, given, **more)

    def answer(self, what: str, x: Tensor) -> Tensor:
        """The worker's answer to x, if it has the form of one: a copy that the worker cannot reach."""
        shape = [*x.shape[:-3], *((1, *x.shape[-2:]) if self.player.task.kind in MASKS else (self.player.task.ways,))]
        self.channel.room(8 * math.prod(shape))
        found = self._call(what, [x]).get("arrays")
        forms = [[{"at": 0, "dtype": dtype, "shape": shape}] for dtype in ("<f4", "<f8")]
        if found not in forms:
            raise RunError(f"{self._name}: the worker's answer in {what} is none")
        return torch.from_numpy(self.channel.get(found)[0])

    def end(self) -> None:
        """Ends the process, whatever it is doing."""
        self.channel.connection.close()
        self.process.kill()
        self.process.wait()
        self.channel.close()
        self.noise.close()

    def _call(self, what: str, given: Sequence[Tensor], **more: Any) -> dict[str, Any]:
        arrays = [each.detach().cpu().numpy() for each in given]
        self.channel.room(sum(each.nbytes + 64 for each in arrays))
        return self._reply({"do": what, "arrays": self.channel.put(arrays), **more}, what, AnswerError)

    def _reply(self, message: dict[str, Any], what: str, refused: type[UserError] = UserError) -> dict[str, Any]:
        try:
            self.channel.send(message)
            reply = self.channel.receive()
        except Closed:
            raise RunError(f"{self._name}: {self._death(what)}") from None
        except TimeoutError:
            seconds = self.channel.connection.gettimeout()
            raise RunError(f"{self._name} gave no answer in {what} for {seconds:g} seconds") from None
        except ValueError:
            raise RunError(f"{self._name}: the worker's reply in {what} is none") from None
        if "refused" in reply:
            raise refused(_line(reply["refused"]))
        if "failed" in reply:
            raise RunError(f"{self._name} {_line(reply['failed'])}")
        return reply

    def _death(self, what: str) -> str:
        try:
            code = self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return f"it hung up in {what}"
        self.noise.seek(max(0, self.noise.seek(0, os.SEEK_END) - 4000))
        lines = self.noise.read().decode(errors="replace").strip().splitlines()
        last = f"; the last line that it printed: {_line(lines[-1])}" if lines else ""
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        likely = " (out of memory?)" if code == -9 else ""
        return f"its process {how}{likely} in {what}{last}"

    @property
    def _name(self) -> str:
        return self.player.method.rpartition("/")[2]


@functools.cache
def _warn_unconfined(why: str) -> None:
    """Says once what is missing from the isolation here."""
    LOG.warning(
        f"methods are scored in a process of their own, which can read and write what you can ({in_line(why)}); "
        "install bubblewrap, or allow user namespaces"
    )


def _line(text: object) -> str:
    """What a worker sent, as a line that is not too long."""
    return in_line(str(text))[:_LONGEST]
