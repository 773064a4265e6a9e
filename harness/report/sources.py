"""Where the protocols, data and weights of a page come from: nothing is downloaded, and only known code is imported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.boards.artifacts import weights_of
from harness.boards.markdown import on_data, view_board
from harness.data.dataset import Dataset
from harness.data.open_dataset import load_dataset
from harness.episodes.fixed import with_episodes
from harness.protocol.load import Loaded, load_protocol
from harness.protocol.models import AnyProtocol
from harness.records.record import Record
from harness.report.run_log import RunFolder, is_run, read_run
from harness.report.shown_episodes import ShownEpisodes, answered, method_of_run, shown_episodes
from harness.util.errors import MissingData, UserError
from harness.util.shipped_files import protocol_files
from harness.util.tensor_files import WEIGHTS


@dataclass(frozen=True)
class Places:
    """Where data sets lie, as for `load_dataset`, and the method that the user named for runs whose code is not built
    in (`--method`)."""

    data_root: Path | None = None
    cache: Path | None = None
    method: str | None = None


@dataclass(frozen=True)
class Subject:
    """A protocol on the data of a page: `dataset` is None where it is not at hand, and `missing` says why."""

    loaded: Loaded
    protocol: AnyProtocol
    dataset: Dataset | None
    missing: str = ""


@dataclass(frozen=True)
class Weighted:
    """A finished run: its record, and the file of its weights (None: it has none, or they are not kept)."""

    record: Record
    weights: Path | None


@dataclass(frozen=True)
class Played:
    """Episodes of a page, and what a reader should know that they lack ('' for nothing)."""

    shown: ShownEpisodes
    note: str


def subject(loaded: Loaded, stand_in: bool, places: Places) -> Subject:
    """A protocol with its data, if they are at hand."""
    protocol = on_data(loaded, stand_in)
    try:
        dataset = load_dataset(protocol.dataset, places.data_root, places.cache, download=False, base=loaded.base)
    except MissingData as error:
        return Subject(loaded, protocol, None, str(error).splitlines()[0])
    return Subject(loaded, protocol, with_episodes(protocol, dataset, places.cache))


def subject_of(run: RunFolder, places: Places, named: Sequence[Loaded] = ()) -> Subject | None:
    """The protocol of a run, by its digest, among those `named` and the shipped ones; None if it is none of them."""
    shipped, digest = protocol_files(), run.identity.get("digest")
    for loaded in [*named, *([load_protocol(shipped[run.protocol])] if run.protocol in shipped else [])]:
        for stand_in in (False, True):
            if (loaded.protocol.stand_in or not stand_in) and _digest(loaded, stand_in) == digest:
                return subject(loaded, stand_in, places)
    return None


def _digest(loaded: Loaded, stand_in: bool) -> str | None:
    try:
        return on_data(loaded, stand_in).digest
    except UserError:  # its stand-in cannot hold such an episode
        return None


def weighted(name: str, on: Subject, boards: Path) -> Weighted:
    """The finished run in the folder `name`, or the one of that name on the board.

    Raises UserError if there is none, or it is of another protocol.
    """
    if is_run(Path(name)):
        run = read_run(Path(name))
        if run.record is None:
            raise UserError(f"the run in {name} is not finished ({run.status}): there is nothing to answer with yet")
        path = run.folder / WEIGHTS
        found = Weighted(run.record, path if path.is_file() else None)
    else:
        view = view_board(on.loaded.name, on.protocol, boards, on.protocol.card.stand_in)
        record = next((record for _, record in view.board.records if record.run == name), None)
        if record is None:
            raise UserError(
                f"--run {name} is neither the folder of a run nor the name of a row on the board of {on.loaded.name} "
                "('harness board PROTOCOL --wide' lists them)"
            )
        found = Weighted(record, weights_of(record, boards))
    if found.record.digest != on.protocol.digest:
        raise UserError(
            f"the run {name} is of another protocol ({found.record.protocol}, data {found.record.data.name}) than "
            f"{on.loaded.name} on {on.protocol.data_name}"
        )
    return found


def played(on: Subject, split: str, seed: int, numbers: Sequence[int], run: Weighted | None, places: Places) -> Played:
    """The numbered episodes with what the run's method answers, and why there are no images or answers if so.

    Raises UserError for a data set of the user's own that is not at hand: its classes are not known then.
    """
    if on.dataset is None and not on.protocol.card.images_per_class:
        raise UserError(f"no episode can be shown: {on.missing}")
    shown = shown_episodes(on.protocol, on.dataset, split, seed, numbers)
    if on.dataset is None:
        return Played(shown, f"Without images{' and answers' if run else ''}: {on.missing}")
    if run is None:
        return Played(shown, "")
    try:
        method = method_of_run(run.record, run.weights, on.protocol, on.dataset, places.method)
        return Played(answered(shown, on.dataset, method, run.record.method), "")
    except UserError as error:
        return Played(shown, f"Without answers: {error}")
