"""What was asked for, and what it comes to: every name of a command resolved before anything is done."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.data.dataset import Dataset
from harness.data.open_dataset import load_dataset
from harness.evaluation.evaluate import whole_test
from harness.method.registry import LoadedMethod, check_kind, load_method, resolved_options
from harness.protocol.feasibility import check_possible
from harness.protocol.load import Loaded, for_data, load_protocol
from harness.protocol.models import AnyProtocol
from harness.records.record import sha256_of as json_hash
from harness.training.recipe import Budget, budget_hash
from harness.training.recipe_file import recipe_path, resolve_budget
from harness.util.errors import UserError
from harness.util.tensor_files import WEIGHTS, sha256_of


@dataclass(frozen=True)
class Request:
    """What a user asked for; every field is an option of `harness run`."""

    protocol: str
    method: str
    budget: str = "quick"
    seed: int = 0
    options: dict[str, Any] = field(default_factory=dict)
    recipe: Path | None = None
    episodes: int | None = None
    seconds: float | None = None
    test_episodes: int | None = None
    data: str = "real"
    data_root: Path | None = None
    cache: Path | None = None
    out: Path = Path("runs")
    folder: Path | None = None
    init: Path | None = None
    resume: bool = False
    fresh: bool = False
    device: str = "auto"
    threads: int | None = None
    amp: str | None = None
    compile: bool | None = None
    command: str = ""


@dataclass(frozen=True)
class Prepared:
    """A request with every name resolved: what the run is a function of."""

    request: Request
    loaded: Loaded
    protocol: AnyProtocol
    dataset: Dataset
    method: LoadedMethod
    options: dict[str, Any]
    recipe: Path
    budget: Budget
    identity: dict[str, Any]
    folder: Path


def prepare(request: Request, loaded: Loaded | None = None) -> Prepared:
    """Resolves names and loads the data; UserError for anything that is not there or does not fit.

    `loaded` is the request's protocol where it has been read already, for another seed.
    """
    loaded = loaded or load_protocol(request.protocol)
    method = load_method(request.method)
    protocol = for_data(loaded, request.data)
    check_kind(method.cls, protocol)
    recipe = request.recipe or recipe_path(method.name, method.own_file)
    budget = resolve_budget(recipe, loaded, request.budget, request.init is not None, protocol, method).budget
    changes = {"amp": request.amp, "compile": request.compile}
    budget = budget.model_copy(update={name: value for name, value in changes.items() if value is not None})
    options = resolved_options(method.cls, {**budget.options, **request.options})
    dataset = load_dataset(protocol.dataset, data_root=request.data_root, cache=request.cache, base=loaded.base)
    check_possible(protocol, dataset)
    whole = whole_test(protocol, dataset)
    if request.test_episodes is not None and request.test_episodes > whole:
        raise UserError(f"--test-episodes is {request.test_episodes}; the whole test of {loaded.name} has {whole}")
    if "validation" not in dataset.tables:
        budget = budget.model_copy(update={"validation": None})
    whole = whole_test(protocol, dataset)
    if request.test_episodes is not None and request.test_episodes > whole:
        raise UserError(f"--test-episodes is {request.test_episodes}; the protocol has {whole}")
    identity = {
        "protocol": loaded.name,
        "digest": protocol.digest,
        "data": dataset.name,
        "fingerprint": dataset.fingerprint,
        "method": method.name,
        "target": method.target,
        "options": options,
        "recipe": recipe.name,
        "recipe_hash": budget_hash(budget),
        "budget": request.budget,
        "budget_cut": _cut(request),
        "seed": request.seed,
        "init": None if request.init is None else sha256_of(weights_file(request.init)),
        "test_episodes": request.test_episodes or whole,
    }
    name = f"{method.name}-{request.budget}-s{request.seed}-{json_hash(identity)[:10]}"
    folder = request.folder or request.out / loaded.name / name
    return Prepared(request, loaded, protocol, dataset, method, options, recipe, budget, identity, folder)


def with_seed(request: Request, seed: int) -> Request:
    """The same request under another seed."""
    return dataclasses.replace(request, seed=seed)


def weights_file(init: Path) -> Path:
    """The weights of a run folder, or the file itself."""
    path = init / WEIGHTS if init.is_dir() else init
    if not path.is_file():
        raise UserError(f"--init: no weights at {path}; name a finished run's folder or a weights file")
    return path


def _cut(request: Request) -> str:
    parts = []
    if request.episodes is not None:
        parts.append(f"episodes={request.episodes}")
    if request.seconds is not None:
        parts.append(f"time={request.seconds:g}s")
    return " ".join(parts)
