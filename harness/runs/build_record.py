"""The record of a finished run: what was asked for, what came out, and what a reader should be told."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from harness.check.skips import declared_skips
from harness.data.dataset import Dataset
from harness.episodes.plan import plan_episodes
from harness.evaluation.cost import measured_cost
from harness.evaluation.evaluate import EVALUATION_SEED, whole_test
from harness.evaluation.score import Scores, metrics
from harness.method.interface import Method
from harness.method.options import default_options
from harness.method.registry import build_method
from harness.protocol.models import AnyProtocol
from harness.records import provenance
from harness.records.marks import (
    CUSTOM_RECIPE,
    GRADIENT_AT_TEST,
    LABEL_DELAY_TOLD,
    PARTIAL_TEST,
    RECIPE_CHANGED,
    SEARCHED,
    SKIPS_CHECK,
    STAND_IN,
    TRAINED_BY,
    TRAINED_ON,
    TRANSDUCTIVE,
)
from harness.records.parts import Cost, DataInfo, Isolated, Metric, Pretrained
from harness.records.record import Record, utc_now
from harness.runs.folder import SCORES
from harness.runs.resolve import Prepared, limits_of
from harness.runs.status import CUT
from harness.training.cached_stage import finished_pretraining
from harness.training.recipe_changes import in_words
from harness.training.recipe_file import Resolved
from harness.training.selection import validation_protocol
from harness.training.state import Progress
from harness.util.devices import name_of
from harness.util.quantities import counted
from harness.util.tensor_files import WEIGHTS, sha256_of

PRETRAINED = "features pre-trained on classes"
ELSEWHERE = "pre-trained on another kind of episode"
FOREIGN = "starting weights from elsewhere"
"""They were not made by a run of the harness, so that nobody knows what they were trained on."""
FEATURES = "features of another method"
"""Training began from the features of a run of another method; all else was fresh."""
WHOLE = "weights of another method"
"""Training began from all weights of a run of another method, which fit this one or its pretraining method."""
FEWER_WAYS = "validated in fewer ways"
UNSELECTED = "not validated"
"""The validation split has fewer classes than an episode; or too few for any, and the last weights were scored."""
OF_TRAINING = (PRETRAINED, ELSEWHERE, FOREIGN, FEATURES, WHOLE, FEWER_WAYS, UNSELECTED)
"""Marks of how weights came about, which whatever is trained on from them keeps."""
OF_ONE_RUN = (CUSTOM_RECIPE, RECIPE_CHANGED, SEARCHED, TRAINED_BY, TRAINED_ON)
"""Marks, or beginnings of marks, that speak of one run alone: of its recipe, of what trained."""


@dataclass(frozen=True)
class Before:
    """What the weights that training began from had been through: episodes, marks of how they were trained, and the
    names of the devices that trained them."""

    episodes: int = 0
    marks: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()


def training_marks(prepared: Prepared, progress: Progress, before: Before) -> list[str]:
    """Marks of how the weights were trained, in this run or before it."""
    devices = trained_on(progress, before)
    of_devices = [TRAINED_ON + " and ".join(devices)] if {*devices} - {name_of(prepared.device)} else []
    if progress.updates == 0:
        return [*before.marks, *of_devices]
    selected_by = validation_protocol(prepared.protocol, prepared.dataset)
    selection = {
        FEWER_WAYS: prepared.budget.validation is not None and selected_by != prepared.protocol,
        UNSELECTED: "validation" in prepared.dataset.tables and selected_by is None,
    }
    trials = prepared.request.searched
    own = [
        *recipe_marks(prepared.resolved),
        *([f"{SEARCHED}: {trials} trials"] if trials else []),
        *(mark for mark, holds in selection.items() if holds),
        *([f"{TRAINED_BY}{progress.processes} processes"] if progress.processes > 1 else []),
        *of_devices,
    ]
    return [*before.marks, *(mark for mark in own if mark not in before.marks)]


def trained_on(progress: Progress, before: Before) -> list[str]:
    """The names of the devices that trained the weights, before the run and in it."""
    return list(dict.fromkeys([*before.devices, *progress.devices]))


def selection_in_words(prepared: Prepared) -> str:
    """What is unusual in how weights are selected; '' for nothing."""
    tables, selected_by = prepared.dataset.tables, validation_protocol(prepared.protocol, prepared.dataset)
    count = len(tables["validation"].names) if "validation" in tables else 0
    classes = counted(count, "class", "classes")
    if prepared.budget.validation is not None:
        fewer = selected_by != prepared.protocol
        return f"validation in fewer ways, as the validation split has {classes}" if fewer else ""
    why = "the data have none" if not count else "the recipe selects by none"
    if count and selected_by is None:
        why = f"the validation split has {classes}"
    return f"no validation ({why}): the last weights are kept"


def recipe_marks(resolved: Resolved) -> list[str]:
    """Marks of what is trained by a budget of a recipe."""
    budget = resolved.budget
    marks = {PRETRAINED: budget.pretrains, ELSEWHERE: budget.elsewhere, CUSTOM_RECIPE: resolved.custom}
    changes = [f"{RECIPE_CHANGED}: {each}" for each in in_words(resolved.changes)]
    return [*(mark for mark, holds in marks.items() if holds), *changes]


def method_marks(method: Method) -> list[str]:
    """Marks of what a method is told, does at test, or declares to skip."""
    marks = {
        LABEL_DELAY_TOLD: method.task.label_delay is not None,
        GRADIENT_AT_TEST: method.learns_by_gradient,
        TRANSDUCTIVE: method.transductive,
    }
    return [
        *(mark for mark, holds in marks.items() if holds),
        *(f"{SKIPS_CHECK}: {check}" for check in declared_skips(method)),
    ]


def cost_of(method: Method, protocol: AnyProtocol, dataset: Dataset, options: Mapping[str, Any], seed: int) -> Cost:
    """The cost of a method, built with these options and this seed, on the first test episode."""
    plan = plan_episodes(protocol, dataset.tables["test"], "test", EVALUATION_SEED, [0])
    return measured_cost(method, plan, _with_label_delay(method, options, seed))


def record_of(
    prepared: Prepared,
    method: Method,
    progress: Progress,
    before: Before,
    scores: Scores,
    curves: dict[str, list[float]],
    score_seconds: float,
    device: torch.device,
    isolated: Isolated | None = None,
) -> Record:
    """The record of a run whose weights and scores lie in its folder."""
    identity, request = prepared.identity, prepared.request
    trained = progress.updates > 0
    whole = whole_test(prepared.protocol, prepared.dataset)
    weights = any(True for _ in method.parameters())
    other_limits = identity[CUT] != limits_of(request, prepared.budget).text
    return Record(
        schema_version=1,
        run=prepared.folder.absolute().name,  # "." has none
        status="done",
        protocol=prepared.loaded.name,
        digest=identity["digest"],
        data=DataInfo(
            name=prepared.dataset.name,
            fingerprint=prepared.dataset.fingerprint,
            source=provenance.public(prepared.dataset.source),
            stand_in=prepared.dataset.card.stand_in,
        ),
        method=prepared.method.name,
        target=prepared.method.target,
        options=prepared.options,
        defaults=_defaults(prepared),
        recipe=identity["recipe"] if trained else "",
        recipe_hash=identity["recipe_hash"] if trained else "",
        recipe_changes=dict(prepared.resolved.changes) if trained else {},
        budget=identity["budget"] if trained else "",
        budget_cut=identity[CUT] if trained else "",
        seed=request.seed,
        init=identity["init"],
        init_episodes=before.episodes,
        train_episodes=progress.episodes,
        train_updates=progress.updates,
        test_episodes=identity["test_episodes"],
        metrics={
            name: Metric(mean=mean, interval=interval if episodes > 1 else None, episodes=episodes)
            for name, (mean, interval, episodes) in metrics(prepared.protocol, scores).items()
        },
        curves=curves,
        cost=cost_of(method, prepared.protocol, prepared.dataset, prepared.options, request.seed),
        marks=[
            *training_marks(prepared, progress, before),
            *method_marks(method),
            *([STAND_IN] if prepared.dataset.card.stand_in else []),
            *([PARTIAL_TEST] if identity["test_episodes"] < whole else []),
        ],
        pretrained=[Pretrained(**each) for each in finished_pretraining(progress)],
        precision=prepared.budget.precision if trained else "fp32",
        train_seconds=round(progress.seconds, 1),
        score_seconds=round(score_seconds, 1),
        hardware=provenance.hardware(device),
        versions=provenance.versions(),
        code=provenance.code(),
        checkpoint=sha256_of(prepared.folder / WEIGHTS) if weights else None,
        scores=sha256_of(prepared.folder / SCORES),
        isolated=isolated,
        method_file=sha256_of(prepared.method.own_file),
        method_version=prepared.method.cls.version,
        method_source=prepared.method.source_hash,
        command=provenance.public_command(request.command, identity[CUT] if other_limits else None),
        finished=utc_now(),
    )


def _defaults(prepared: Prepared) -> list[str]:
    """The options whose value is the default of the method's constructor."""
    defaults = default_options(prepared.method.cls)
    return sorted(
        name
        for name, value in prepared.options.items()
        if name in defaults and defaults[name] == value and type(defaults[name]) is type(value)
    )


def _with_label_delay(method: Method, options: Mapping[str, Any], seed: int) -> Method:
    """The method as it would be if labels came a step later: itself, unless it was told the delay."""
    delay = method.task.label_delay
    if delay is None:
        return method
    task = dataclasses.replace(method.task, label_delay=delay + 1)
    later = build_method(type(method), task, dict(options), seed)
    weights = method.state_dict()
    if all(weights[name].shape == each.shape for name, each in later.state_dict().items() if name in weights):
        later.load_state_dict(weights, strict=False)
    return later
