"""One run: one training and one scoring, in a folder of its own, ending in one record.

A run is a function of (protocol, method, options, recipe, seed, data); its folder is named after them, so that the
same command finds its own folder again and another command never does.
"""

from __future__ import annotations

import dataclasses
import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness import provenance
from harness.checkpoint import load_tensors, load_weights, save_tensors, sha256_of, without_prefix
from harness.cost import measured_cost
from harness.data.dataset import Dataset
from harness.data.load import default_cache, load_dataset
from harness.data.possible import check_possible
from harness.episodes import EpisodeSource
from harness.errors import RunError, UserError
from harness.evaluate import EVALUATION_SEED, evaluate, whole_test
from harness.files import replacing
from harness.load import Loaded, for_data, load_protocol
from harness.memory import keep_freed_memory
from harness.method import MASKS, Method
from harness.plan import plan_episodes
from harness.pretrained import FeatureCache, spent_before
from harness.progress import Reporter
from harness.recipe import Budget, budget_hash, load_budget, recipe_path
from harness.record import (
    GRADIENT_AT_TEST,
    LABEL_DELAY_TOLD,
    PARTIAL_TEST,
    STAND_IN,
    TRANSDUCTIVE,
    DataInfo,
    Metric,
    Pretrained,
    Record,
    canonical_json,
    utc_now,
)
from harness.record import sha256_of as json_hash
from harness.registry import LoadedMethod, build_method, load_method, resolved_options, task_for
from harness.score import Scores, curves, metrics
from harness.spec import AnyProtocol, digest
from harness.train import Limits, Progress, Training, train

PRETRAINED = "features pre-trained on classes"
ELSEWHERE = "pre-trained on another kind of episode"

UNTOLD = 200
"""Test episodes at most that a learner of masks also lives without feedback, for the curves of its record."""


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


def prepare(request: Request) -> Prepared:
    """Resolves names and loads the data; UserError for anything that is not there or does not fit."""
    loaded = load_protocol(request.protocol)
    method = load_method(request.method)
    protocol = for_data(loaded, request.data)
    recipe = request.recipe or recipe_path(method.name, method.own_file)
    budget = load_budget(recipe, loaded, request.budget, init=request.init is not None)
    changes = {"amp": request.amp, "compile": request.compile}
    budget = budget.model_copy(update={name: value for name, value in changes.items() if value is not None})
    options = resolved_options(method.cls, {**budget.options, **request.options})
    dataset = load_dataset(protocol.dataset, data_root=request.data_root, cache=request.cache, base=loaded.base)
    check_possible(protocol, dataset)
    if "validation" not in dataset.tables:
        budget = budget.model_copy(update={"validation": None})
    identity = {
        "protocol": loaded.name,
        "digest": digest(protocol),
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
        "init": None if request.init is None else sha256_of(_weights_file(request.init)),
        "test_episodes": request.test_episodes or whole_test(protocol, dataset),
    }
    name = f"{method.name}-{request.budget}-s{request.seed}-{json_hash(identity)[:10]}"
    folder = request.folder or request.out / loaded.name / name
    return Prepared(request, loaded, protocol, dataset, method, options, recipe, budget, identity, folder)


def run(prepared: Prepared, quiet: bool = False) -> Record:
    """Trains (or resumes), scores, and writes the record into the run folder, which is returned.

    A finished run is not repeated: its record is read and returned. Raises UserError if the folder holds an
    unfinished run and neither `resume` nor `fresh` was asked for, or a run of something else.
    """
    from filelock import FileLock, Timeout

    folder = prepared.folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.parent / f".{folder.name}.lock", timeout=0):
            finished = _enter(prepared)
            return finished or _run(prepared, Reporter(folder / "log.jsonl", quiet=quiet))
    except Timeout:
        raise UserError(f"{folder} is in use by another process") from None
    except OSError as error:
        raise RunError(
            f"{error.strerror or error}: {error.filename or folder}; the run can go on with --resume"
        ) from error


def _run(prepared: Prepared, reporter: Reporter) -> Record:
    request, protocol, folder = prepared.request, prepared.protocol, prepared.folder
    device = _device(request.device)
    keep_freed_memory()
    if request.threads:
        torch.set_num_threads(request.threads)
    source = EpisodeSource(prepared.dataset, device)
    card = prepared.dataset.card
    task = task_for(prepared.method.cls, protocol, card.image_shape, card.classes["train"])
    method = build_method(prepared.method.cls, task, prepared.options, request.seed, device)
    trained_before = _load_init(method, request.init)
    training = Training(
        method,
        source,
        protocol,
        prepared.budget,
        request.seed,
        folder / "checkpoint.safetensors",
        {"identity": prepared.identity},
        Limits(request.episodes, request.seconds),
        FeatureCache((request.cache or default_cache()).expanduser().absolute() / "pretrained", reporter.say),
    )
    reporter.say(f"{prepared.loaded.name} with {prepared.method.name} on {prepared.dataset.name}, run folder {folder}")
    if any(True for _ in method.parameters()) and prepared.budget.stages and prepared.budget.validation is None:
        reporter.say("no validation classes to select by: the last weights are kept")
    _note(prepared, "training")
    try:
        progress = train(training, reporter.training)
    except KeyboardInterrupt:
        _note(prepared, "interrupted")
        reporter.close()
        raise
    except RunError:
        _note(prepared, "failed")
        raise
    finally:
        reporter.close()
    weights = folder / "weights.safetensors"
    header = {"identity": prepared.identity, "train_episodes": trained_before + progress.episodes}
    save_tensors(weights, method.state_dict(), header)
    _note(prepared, "scoring")
    began, total = time.monotonic(), prepared.identity["test_episodes"]
    scored = 0

    def count(episodes: int) -> None:
        nonlocal scored
        scored += episodes
        reporter.scoring(scored, total)

    scores = evaluate(method, source, protocol, "test", total, count)
    _write_scores(folder / "scores.npz", scores)
    score_seconds = time.monotonic() - began
    drawn = curves(protocol, scores)
    if protocol.kind in MASKS:
        alone = evaluate(method, source, protocol, "test", min(total, UNTOLD), told=False)
        drawn |= {f"{name}, null feedback": values for name, values in curves(protocol, alone).items()}
        reporter.curves(drawn)
    record = _record(prepared, method, progress, scores, drawn, score_seconds, trained_before, weights)
    _write(folder / "record.json", record.model_dump_json(indent=1))
    _note(prepared, "done")
    return record


def _record(
    prepared: Prepared,
    method: Method,
    progress: Progress,
    scores: Scores,
    drawn: dict[str, list[float]],
    score_seconds: float,
    trained_before: int,
    weights: Path,
) -> Record:
    identity, request = prepared.identity, prepared.request
    trained = progress.updates > 0
    table = prepared.dataset.tables["test"]
    plan = plan_episodes(prepared.protocol, table, "test", EVALUATION_SEED, [0])
    marks = [
        mark
        for mark, holds in (
            (LABEL_DELAY_TOLD, method.task.label_delay is not None),
            (GRADIENT_AT_TEST, method.learns_by_gradient),
            (TRANSDUCTIVE, method.transductive),
            (STAND_IN, prepared.dataset.card.stand_in),
            (PRETRAINED, trained and prepared.budget.pretrains),
            (ELSEWHERE, trained and prepared.budget.elsewhere),
            (PARTIAL_TEST, identity["test_episodes"] < whole_test(prepared.protocol, prepared.dataset)),
        )
        if holds
    ]
    return Record(
        schema_version=1,
        run=prepared.folder.name,
        status="done",
        protocol=prepared.loaded.name,
        digest=identity["digest"],
        data=DataInfo(
            name=prepared.dataset.name,
            fingerprint=prepared.dataset.fingerprint,
            source=prepared.dataset.source,
            stand_in=prepared.dataset.card.stand_in,
        ),
        method=prepared.method.name,
        target=prepared.method.target,
        options=prepared.options,
        recipe=identity["recipe"] if trained else "",
        recipe_hash=identity["recipe_hash"] if trained else "",
        budget=request.budget if trained else "",
        budget_cut=identity["budget_cut"] if trained else "",
        seed=request.seed,
        init=identity["init"],
        init_episodes=trained_before,
        train_episodes=progress.episodes,
        train_updates=progress.updates,
        test_episodes=identity["test_episodes"],
        metrics={
            name: Metric(mean=mean, interval=interval if episodes > 1 else None, episodes=episodes)
            for name, (mean, interval, episodes) in metrics(prepared.protocol, scores).items()
        },
        curves=drawn,
        cost=measured_cost(method, plan, _told_later(prepared, method)),
        marks=marks,
        pretrained=[Pretrained(**each) for each in spent_before(progress)],
        train_seconds=round(progress.seconds, 1),
        score_seconds=round(score_seconds, 1),
        hardware=provenance.hardware(_device(request.device)),
        versions=provenance.versions(),
        code=provenance.code(),
        checkpoint=sha256_of(weights) if any(True for _ in method.parameters()) else None,
        command=request.command,
        finished=utc_now(),
    )


def _told_later(prepared: Prepared, method: Method) -> Method:
    """The method as it would be if labels came a step later: itself, unless it was told the delay."""
    told = method.task.label_delay
    if told is None:
        return method
    task = dataclasses.replace(method.task, label_delay=told + 1)
    later = build_method(prepared.method.cls, task, prepared.options, prepared.request.seed)
    weights = method.state_dict()
    if all(weights[name].shape == each.shape for name, each in later.state_dict().items() if name in weights):
        later.load_state_dict(weights, strict=False)
    return later


def _enter(prepared: Prepared) -> Record | None:
    """Makes the run folder ready; the record if the run is already finished."""
    folder, request = prepared.folder, prepared.request
    if request.fresh and folder.exists():
        aside = next(p for n in range(1, 10_000) if not (p := folder.with_name(f"{folder.name}.old-{n}")).exists())
        os.replace(folder, aside)
    noted = folder / "run.json"
    if noted.is_file():
        try:
            found = json.loads(noted.read_text())
            theirs, status = found["identity"], found["status"]
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{noted} is damaged; set the folder aside with --fresh") from None
        differing = _differences(theirs, prepared.identity)
        if differing:
            raise UserError(f"{folder} belongs to another run:\n  " + "\n  ".join(differing))
        if status == "done":
            return Record.model_validate_json((folder / "record.json").read_text())
        if not request.resume:
            raise UserError(
                f"{folder} holds an unfinished run ({status}); add --resume to go on with it, "
                "or --fresh to set it aside and begin again"
            )
    elif folder.is_dir() and any(folder.iterdir()):
        raise UserError(f"{folder} is not empty and not a run folder; nothing was written there")
    folder.mkdir(parents=True, exist_ok=True)
    return None


def _differences(theirs: dict[str, Any], ours: dict[str, Any]) -> list[str]:
    lines = []
    for key in sorted(theirs.keys() | ours.keys()):
        there, here = theirs.get(key), ours.get(key)
        if isinstance(there, dict) and isinstance(here, dict):
            lines += [f"{key}.{line}" for line in _differences(there, here)]
        elif there != here:
            lines.append(f"{key}: there {there!r}, asked for {here!r}")
    return lines


def _note(prepared: Prepared, status: str) -> None:
    entry = {"status": status, "identity": prepared.identity, "command": prepared.request.command, "at": utc_now()}
    _write(prepared.folder / "run.json", canonical_json(entry))


def _write(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text + "\n")


def _write_scores(path: Path, scores: Scores) -> None:
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **scores)


def _weights_file(init: Path) -> Path:
    """The weights of a run folder, or the file itself."""
    path = init / "weights.safetensors" if init.is_dir() else init
    if not path.is_file():
        raise UserError(f"--init: no weights at {path}; name a finished run's folder or a weights file")
    return path


def _load_init(method: Method, init: Path | None) -> int:
    """Loads the weights that training begins from; the number of episodes they were trained on."""
    if init is None:
        return 0
    path = _weights_file(init)
    tensors, header = load_tensors(path)
    load_weights(method, without_prefix("best", tensors) or tensors, path)
    return int(header.get("train_episodes", 0))


def _cut(request: Request) -> str:
    parts = []
    if request.episodes is not None:
        parts.append(f"episodes={request.episodes}")
    if request.seconds is not None:
        parts.append(f"time={request.seconds:g}s")
    return " ".join(parts)


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device '{name}' cannot be used here: {str(error).splitlines()[0]}") from None
    return device


def with_seed(request: Request, seed: int) -> Request:
    """The same request under another seed."""
    return dataclasses.replace(request, seed=seed)
