"""What was asked for, and what it comes to: every name of a command resolved before anything is done."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.data.dataset import Dataset
from harness.data.open_dataset import load_dataset
from harness.episodes.fixed import with_episodes
from harness.evaluation.evaluate import whole_test
from harness.method.options import resolved_options
from harness.method.registry import LoadedMethod, check_kind, load_method
from harness.protocol.feasibility import check_possible
from harness.protocol.load import Loaded, for_data, load_protocol
from harness.protocol.models import AnyProtocol
from harness.records.canonical import sha256_of as json_hash
from harness.runs.earlier import earlier_folder
from harness.runs.status import CHECKPOINT, CUT, NOTED, progress_of
from harness.training.interface import check_hooks
from harness.training.processes import ALONE, Processes
from harness.training.recipe import Budget, budget_hash
from harness.training.recipe_file import Resolved, resolve_for
from harness.training.selection import validation_protocol
from harness.training.state import Limits, Progress
from harness.util.errors import UserError
from harness.util.option_names import option
from harness.util.precision import Precision
from harness.util.tensor_files import WEIGHTS, sha256_of

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Request:
    """What a user asked for; every field is an option of `harness run`.

    With `isolated` the method is scored in a process of its own, with `fresh_workers` in a new one for each batch of
    episodes; neither changes the scores. `changes` are those of the recipe (--lr, --batch, --override):
    {"lr": 1e-3, "the protocol.batch": 4}. `searched` is the number of trials among which options and changes had
    the best validation score; it marks the row and is not part of which run it is. A run that is `only_named` is
    trained elsewhere: what this machine cannot do is no matter.
    """

    protocol: str
    method: str
    budget: str = "quick"
    seed: int = 0
    options: dict[str, Any] = field(default_factory=dict)
    recipe: Path | None = None
    changes: dict[str, Any] = field(default_factory=dict)
    episodes: int | None = None
    seconds: float | None = None
    test_episodes: int | None = None
    data: str = "real"
    data_root: Path | None = None
    cache: Path | None = None
    verify_cache: bool = False
    out: Path = Path("runs")
    folder: Path | None = None
    init: Path | None = None
    resume: bool = False
    fresh: bool = False
    device: str = "auto"
    threads: int | None = None
    precision: Precision | None = None
    isolated: bool = False
    fresh_workers: bool = False
    searched: int = 0
    only_named: bool = False
    command: str = ""


@dataclass(frozen=True)
class Prepared:
    """A request with every name resolved: what the run is a function of.

    `resolved` is the budget as the recipe has it, `budget` as it is run: with what the machine and the data change.
    `processes` train together; they are not part of which run it is.
    """

    request: Request
    loaded: Loaded
    protocol: AnyProtocol
    dataset: Dataset
    method: LoadedMethod
    options: dict[str, Any]
    resolved: Resolved
    budget: Budget
    identity: dict[str, Any]
    folder: Path
    device: torch.device
    processes: Processes = ALONE

    @property
    def stand_in(self) -> bool:
        """Whether the data are generated; such rows have boards of their own."""
        return self.dataset.card.stand_in


def prepare(
    request: Request, loaded: Loaded | None = None, method: LoadedMethod | None = None, dataset: Dataset | None = None
) -> Prepared:
    """Resolves names and loads the data; UserError for anything that is not there or does not fit.

    `loaded`, `method` and `dataset` (loaded for its protocol) are those of the request where they are at hand already.
    """
    device = device_named(request.device)
    loaded = loaded or load_protocol(request.protocol)
    method = method or load_method(request.method)
    protocol = for_data(loaded, request.data)
    check_kind(method.cls, protocol)
    check_hooks(method.cls)
    resolved = resolve_for(
        method, loaded, request.budget, request.recipe, request.init is not None, protocol, request.changes
    )
    budget = resolved.budget.model_copy(update={"precision": request.precision or resolved.budget.precision})
    options = resolved_options(method.cls, {**budget.options, **request.options})
    init = None if request.init is None else sha256_of(weights_file(request.init))
    if dataset is None:
        dataset = load_dataset(
            protocol.dataset,
            data_root=request.data_root,
            cache=request.cache,
            base=loaded.base,
            rehash=request.verify_cache,
        )
        dataset = with_episodes(protocol, dataset, request.cache, request.verify_cache)
    check_possible(protocol, dataset)
    whole = whole_test(protocol, dataset)
    if request.test_episodes is not None and request.test_episodes > whole:
        raise UserError(
            f"{option('test-episodes')} is {request.test_episodes}; the whole test of {loaded.name} has {whole}"
        )
    if validation_protocol(protocol, dataset) is None:
        budget = budget.model_copy(update={"validation": None})
    identity = {
        "protocol": loaded.name,
        "digest": protocol.digest,
        "data": dataset.name,
        "fingerprint": dataset.fingerprint,
        "method": method.name,
        "target": method.target,
        "options": options,
        "recipe": resolved.path.name,
        "recipe_hash": budget_hash(budget),
        "budget": resolved.name,
        CUT: limits_of(request, budget).text,
        "seed": request.seed,
        "init": init,
        "test_episodes": request.test_episodes or whole,
        # Only where there is something to say, so that other runs keep the names of their folders.
        **({"recipe_changes": dict(resolved.changes)} if resolved.changes else {}),
        **({"method_version": method.cls.version} if method.cls.version > 1 else {}),
    }
    folder = _folder(request, loaded.name, method, identity)
    _check_precision(request, folder, budget, device)
    return Prepared(request, loaded, protocol, dataset, method, options, resolved, budget, identity, folder, device)


def limits_of(request: Request, budget: Budget) -> Limits:
    """The limits that were asked for, but for one of episodes that the last update reaches or none does: that ends
    nothing."""
    before_last = budget.episodes - (budget.batches[-1][1] if budget.stages else 0)
    episodes = request.episodes if request.episodes is not None and request.episodes <= before_last else None
    return Limits(episodes, request.seconds if budget.episodes else None)


def _check_precision(request: Request, folder: Path, budget: Budget, device: torch.device) -> None:
    """UserError where a run is to be trained in a precision that the device has not."""
    from harness.util.arithmetic import check_precision

    if request.only_named:
        return
    try:
        check_precision(budget.precision, device)
    except UserError:
        if request.fresh or not (progress_of(folder) == "done" or _goes_on_anywhere(request, folder, budget)):
            raise


def _goes_on_anywhere(request: Request, folder: Path, budget: Budget) -> bool:
    """Whether a run that a GPU began can be resumed on a device that has not its precision: tf32 is what training may
    round to and need not, and at the end of the training, or of as much of it as is asked for, none is needed."""
    from harness.training.checkpoint import progress_in

    if not request.resume or not (folder / CHECKPOINT).is_file():
        return False
    progress = progress_in(folder / CHECKPOINT)
    return budget.precision == "tf32" or progress.ends_at(
        min(budget.episodes, request.episodes or budget.episodes), request.seconds
    )


def with_seeds(prepared: Prepared, seeds: Sequence[int]) -> list[Prepared]:
    """The same run under each of several seeds; UserError if they would share one folder."""
    if prepared.request.folder is not None and len(seeds) > 1:
        raise UserError(f"{option('run', str(prepared.request.folder))} is the folder of one run; give one seed")
    return [with_seed(prepared, seed) for seed in seeds]


def with_seed(prepared: Prepared, seed: int) -> Prepared:
    """The same run under another seed."""
    request = dataclasses.replace(prepared.request, seed=seed)
    identity = {**prepared.identity, "seed": seed}
    folder = _folder(request, prepared.loaded.name, prepared.method, identity)
    _check_precision(request, folder, prepared.budget, prepared.device)
    return dataclasses.replace(prepared, request=request, identity=identity, folder=folder)


def as_cut(prepared: Prepared, progress: Progress) -> Prepared:
    """The run with the limits that cut its training, which may be those of an earlier command; with none where what was
    trained is past those of this one."""
    episodes, seconds = prepared.request.episodes, prepared.request.seconds
    past = episodes is not None and progress.episodes > episodes
    past |= seconds is not None and progress.seconds > seconds
    cut = progress.cut or ("" if past else prepared.identity[CUT])
    return dataclasses.replace(prepared, identity={**prepared.identity, CUT: cut})


def resumed_or_begun(runs: list[Prepared]) -> list[Prepared]:
    """Of several seeds that resume, those that were not begun begin, unless none was begun."""
    if not any(each.folder.is_dir() for each in runs):
        return runs
    return [each if each.folder.is_dir() else _without_resume(each) for each in runs]


def _without_resume(prepared: Prepared) -> Prepared:
    return dataclasses.replace(prepared, request=dataclasses.replace(prepared.request, resume=False))


def _folder(request: Request, protocol: str, method: LoadedMethod, identity: dict[str, Any]) -> Path:
    """The folder that was given, or that is named after what the run is, or in which an earlier version began it."""
    own = json_hash({**identity, CUT: ""})[:10]
    folder = request.out / protocol / f"{method.name}-{identity['budget']}-s{request.seed}-{own}"
    if request.folder is not None or request.fresh or (folder / NOTED).is_file():
        return request.folder or folder
    return earlier_folder(folder, identity, method.cls) or folder


def weights_file(init: Path) -> Path:
    """The weights of a run folder, or the file itself."""
    path = init / WEIGHTS if init.is_dir() else init
    if not path.is_file():
        raise UserError(f"{option('init')}: no weights at {path}; name a finished run's folder or a weights file")
    return path


def device_named(name: str) -> torch.device:
    """The device of that name ('auto': a GPU if there is one); UserError if it cannot be used here."""
    import torch

    known = "name cpu, cuda, cuda:1 or auto"
    name = name.lower()
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        said = str(error).splitlines()[0].partition(". ")[0]
        why = "" if said.startswith(("Expected one of", "Invalid device string")) else f" ({said})"
        raise UserError(f"device '{name}' cannot be used here{why}; {known}") from None
    if device.type == "meta":
        raise UserError(f"device 'meta' computes nothing; {known}")
    return device
