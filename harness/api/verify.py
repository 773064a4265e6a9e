"""`harness.verify`: rows of a board scored again from their weights, and held against what they say."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, overload

from harness.api.checked import checked
from harness.api.named import ProtocolLike, load_protocol, path_of
from harness.api.result import Result
from harness.boards.places import boards_to_read
from harness.boards.rescoring import Bench
from harness.boards.store import STAND_IN_FOLDER, Board, board_path, read_board
from harness.boards.verify import Verdict, verified
from harness.data.open_dataset import load_dataset
from harness.episodes.fixed import episode_places, with_episodes
from harness.method.registry import check_name
from harness.protocol.load import Loaded, for_data
from harness.records.record import Record
from harness.runs.resolve import device_named
from harness.util.errors import UserError
from harness.util.one_at_a_time import one_at_a_time
from harness.util.option_names import option
from harness.util.shipped_files import protocol_files
from harness.util.threads import torch_threads

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, repr=False)
class Verified:
    """A row (line `line` of the file of its board) and the verdict on it: `verdict.outcome` is 'same', 'agrees',
    'differs' or 'not re-scored', `verdict.said` a line for people."""

    board: str
    line: int
    record: Record
    verdict: Verdict

    def __repr__(self) -> str:
        row = f"{self.board}:{self.line} {self.record.method}, seed {self.record.seed}"
        return f"{row}: {self.verdict.outcome}: {self.verdict.said}"

    @property
    def holds(self) -> bool:
        """Whether the row was scored again and what it says holds."""
        return self.verdict.outcome in {"same", "agrees"}


@dataclass(frozen=True, repr=False)
class Verification(Sequence[Verified]):
    """The verdicts on rows, in order, and what boards that were verified as a whole hold besides: lines that were
    edited after they were written, cut short or there twice, as 'file:line: what'."""

    rows: tuple[Verified, ...]
    problems: tuple[str, ...] = ()

    @overload
    def __getitem__(self, place: int) -> Verified: ...

    @overload
    def __getitem__(self, place: slice) -> tuple[Verified, ...]: ...

    def __getitem__(self, place: int | slice) -> Verified | tuple[Verified, ...]:
        return self.rows[place]

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        return "\n".join([*map(repr, self.rows), *(f"{problem} (not a row)" for problem in self.problems)])

    @property
    def holds(self) -> bool:
        """Whether every row was scored again, what it says holds, and the boards hold nothing else."""
        return not self.problems and all(row.holds for row in self.rows)


@checked
@one_at_a_time
def verify(
    protocol: ProtocolLike | None = None,
    rows: int | Iterable[int] | str | Record | Result | None = None,
    *,
    episodes: int | None = None,
    method: str | None = None,
    data: Literal["real", "stand-in"] = "real",
    boards: str | Path | None = None,
    in_process: bool = False,
    fresh_workers: bool = False,
    device: str | torch.device = "cpu",
    threads: int | None = None,
    data_root: str | Path | None = None,
    cache: str | Path | None = None,
) -> Verification:
    """Scores rows of boards again from their weights, and compares with what they say: `harness verify`.

    Args:
        protocol: whose board it is; None: all boards of shipped protocols.
        rows: rows by their lines in the board's file, or the rows of a run: its name, record or result. None: all.
        episodes: only the first so many test episodes.
        method: the rows' method, 'file.py:Class', where it is not part of the harness.
        data: boards of 'real' or of 'stand-in' data.
        boards: the folder of boards, by default `leaderboards`, for stand-in data `runs/boards`.
        in_process: run the method in this process, where its code can reach targets and boards.
        fresh_workers: play each batch of episodes in a process that has seen no other.
        device: cpu, cuda, cuda:1 or auto.
        threads: torch's threads; None: as recorded on each row.
        data_root: where the real data sets are.
        cache: where decoded data are kept.

    Raises:
        UserError: for a protocol, board, row or method that is not there.
    """
    if method is not None:
        check_name(method)
    stand_in = data == "stand-in"
    if protocol is None:
        folder = boards_to_read(path_of(boards), stand_in)
        names = {path.stem for path in (folder / STAND_IN_FOLDER if stand_in else folder).glob("*.jsonl")}
        every = [load_protocol(name) for name in sorted(names & set(protocol_files()))]
        if not every:
            raise no_boards(folder, stand_in)
    else:
        every = [load_protocol(protocol)]
    found, problems = [], list[str]()
    for loaded in every:
        on_generated = stand_in or loaded.protocol.card.stand_in
        folder = boards_to_read(path_of(boards), on_generated, loaded.name)
        path = board_path(folder, loaded.name, on_generated)
        board = read_board(path)
        chosen = _chosen(path, board, rows, protocol is None)
        if rows is None:
            problems += board.problems
        if not chosen:
            continue
        bench = bench_for(loaded, data, path_of(data_root), path_of(cache), str(device), in_process, fresh_workers)
        for line, record in chosen:
            with torch_threads(threads or record.hardware.threads):
                verdict = verified(record, bench, folder, episodes, method)
            found.append(Verified(loaded.name, line, record, verdict))
    return Verification(tuple(found), tuple(problems))


def bench_for(
    loaded: Loaded,
    data: str,
    data_root: Path | None,
    cache: Path | None,
    device: str,
    in_process: bool,
    fresh_workers: bool,
) -> Bench:
    """What rows of a protocol's board are scored on."""
    protocol = for_data(loaded, data)
    dataset = load_dataset(protocol.dataset, data_root, cache, base=loaded.base, rehash=True)
    dataset = with_episodes(protocol, dataset, cache, rehash=True)
    places = episode_places(protocol, data_root, cache, loaded.base)
    return Bench(protocol, dataset, device_named(device), places, in_process, fresh_workers)


def _chosen(
    path: Path, board: Board, rows: int | Iterable[int] | str | Record | Result | None, among_others: bool
) -> list[tuple[int, Record]]:
    """The rows of a board that were asked for, with their lines; a board `among_others` may have none."""
    if isinstance(rows, str | Record | Result):
        named = rows.records if isinstance(rows, Result) else [rows]
        runs = {each if isinstance(each, str) else each.run for each in named}
        chosen = [(line, record) for line, record in board.records if record.run in runs]
        if not chosen:
            raise UserError(f"{path} has no row of {', '.join(sorted(runs))}")
        return chosen
    lines = None if rows is None else {rows} if isinstance(rows, int) else set(rows)
    chosen = [(line, record) for line, record in board.records if lines is None or line in lines]
    missing = (lines or set()) - {line for line, _ in chosen}
    if missing or not (chosen or among_others):
        raise no_such_rows(path, board, sorted(missing))
    return chosen


def no_such_rows(path: Path, board: Board, lines: Sequence[int]) -> UserError:
    """The error for lines of a board's file that hold no row, or for a board without rows."""
    if not board.records:
        if not path.is_file():
            return UserError(f"there is no board {path}")
        return UserError("; ".join([f"{path} has no row that can be read", *board.problems]))
    known = ", ".join(str(line) for line, _ in board.records)
    return UserError(f"{path} has no row in line {', '.join(map(str, lines))}; rows are in lines: {known}")


def no_boards(folder: Path, stand_in: bool) -> UserError:
    """The error for a folder without boards of shipped protocols, on such data."""
    where = folder / STAND_IN_FOLDER
    if stand_in or not any(where.glob("*.jsonl")):
        return UserError(f"there are no boards of shipped protocols in {where if stand_in else folder}")
    return UserError(
        f"there are no boards of shipped protocols in {folder}, but on generated data: {option('data', 'stand-in')}"
    )
