"""Recipes: how a method is trained on a protocol, as YAML (`methods/recipes/<method>.yaml`)."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from harness.protocol.load import Loaded
from harness.protocol.models import PROTOCOL, AnyProtocol
from harness.util.errors import UserError
from harness.util.pydantic_base import Count, Strict
from harness.util.shipped_files import recipes_dir
from harness.yaml_files.document import read_yaml, validated
from harness.yaml_files.messages import findings
from harness.yaml_files.source_location import Loc, YamlError, problem_at

BUDGETS = ("smoke", "quick", "day", "full")
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]


class EpisodeChange(Strict):
    """What a stage changes of the protocol's episode; what is left out stays as the protocol has it."""

    ways: Count | None = Field(None, description="classes in an episode; left out where the protocol has fewer")
    presentations: Count | None = Field(None, description="how often each class is shown")
    label_delay: Count | None = Field(None, description="steps until a label is revealed; 1 is online; likewise")
    order: Literal["balanced", "iid", "cyclic"] | None = Field(None, description="order of classes")
    subtasks: Count | None = Field(None, description="continual: classes, one after another; likewise")
    shots: Count | None = Field(None, description="continual, n_way_k_shot: labelled samples of each class")
    queries: Count | None = Field(None, description="continual, n_way_k_shot: queries per class")
    distractor: bool | None = Field(None, description="segmentation: whether a second class is shown")


class Optimizer(Strict):
    """A torch optimiser and its settings."""

    name: Literal["adam", "adamw", "sgd"] = "adam"
    lr: Positive = Field(1e-3, description="learning rate at the start of a stage")
    weight_decay: NotNegative = 0.0
    momentum: NotNegative = Field(0.0, description="sgd only")


class Stage(Strict):
    """One stretch of training with one shape of episode, from a fresh optimiser.

    A stage with more ways, subtasks or label delay than the protocol has is left out, so that one curriculum serves
    many protocols.
    """

    name: str
    objective: Literal["episodes", "classes", "head", "pretext"] = Field(
        "episodes",
        description="episodes: the method's loss on episodes; classes: its memoryless features, through a linear "
        "layer that is thrown away (or its own class head), tell the training classes apart (an episode is then a "
        "single image; shared features are trained once and kept in the cache); head: "
        "the method's loss on episodes, with memoryless features that are frozen and computed once; pretext: the "
        "loss of the method's pretext, another method that shares parts of it",
    )
    kind: (
        Literal["online_few_shot", "delayed_label", "continual", "segmentation_distractors", "n_way_k_shot"] | None
    ) = Field(None, description="another kind of episode than the protocol's; `episode` then says all of its shape")
    episodes: Count = Field(description="training episodes at most")
    episode: EpisodeChange = EpisodeChange()
    until_loss: Positive | None = Field(
        None, description="end early once the smoothed loss per scored step falls below this"
    )
    lr: Positive | None = Field(None, description="learning rate, if not the optimiser's")
    schedule: Literal["constant", "cosine"] = Field("constant", description="of the learning rate over the stage")
    warmup: Annotated[int, Field(strict=True, ge=0)] = Field(0, description="updates of linear rise at the start")
    batch: Count | None = Field(None, description="episodes an update, if not the budget's")
    optimizer: Optimizer | None = Field(None, description="the optimiser, if not the budget's")
    clip_norm: Positive | None = Field(None, description="largest norm of the gradient, if not the budget's")
    classes_weight: Positive | None = Field(
        None,
        description="objective episodes: beside their loss, that of the objective on classes with this weight, on as "
        "many single images as `classes_batch`",
    )
    classes_batch: Count = Field(64, description="single images an update, with `classes_weight`")

    @model_validator(mode="after")
    def _together(self) -> Self:
        if self.classes_weight is not None and self.objective != "episodes":
            raise ValueError("classes_weight is for stages with the objective 'episodes'")
        return self


class Validation(Strict):
    """Model selection: the protocol itself, on validation classes; the best checkpoint is the one scored."""

    every: Count = Field(description="training episodes between two looks")
    episodes: Count = Field(description="validation episodes of a look")


class Budget(Strict):
    """One way to train: options of the method, and the stages that are run one after another."""

    options: dict[str, Any] = Field({}, description="options of the method under this budget")
    batch: Count = Field(16, description="episodes an update")
    optimizer: Optimizer = Optimizer()
    clip_norm: Positive | None = Field(None, description="largest norm of the gradient")
    augment: list[Literal["flip", "crop"]] = Field([], description="augmentation of training images")
    amp: Literal["none", "bf16"] = Field("none", description="mixed precision in training, on a GPU")
    compile: bool = Field(False, description="torch.compile of the training rollout, on a GPU")
    stages: list[Stage] = Field([], description="what is run, one after another; none for no training")
    validation: Validation | None = None

    @property
    def episodes(self) -> int:
        """Training episodes at most."""
        return sum(stage.episodes for stage in self.stages)

    @property
    def elsewhere(self) -> bool:
        """Whether a stage trains on another kind of episode, or through a pretext."""
        return any(stage.kind is not None or stage.objective == "pretext" for stage in self.stages)

    @property
    def pretrains(self) -> bool:
        """Whether a stage trains on classes that are the same in every episode."""
        return any(stage.objective == "classes" or stage.classes_weight for stage in self.stages)


class When(Strict):
    """Which protocols a part of a recipe is for; what is left out matches all."""

    dataset: list[str] | None = None
    kind: list[str] | None = None
    protocol: list[str] | None = Field(None, description="names of protocol files")
    init: bool | None = Field(None, description="whether training begins from another run's weights (--init)")

    def matches(self, loaded: Loaded, init: bool) -> bool:
        asked = (
            (self.dataset, loaded.protocol.data_name),
            (self.kind, loaded.protocol.kind),
            (self.protocol, loaded.name),
        )
        fits = all(allowed is None or value in allowed for allowed, value in asked)
        return fits and self.init in (None, init)


class Part(Strict):
    """The budgets for the protocols that `when` matches."""

    when: When = When()
    smoke: Budget
    quick: Budget
    day: Budget | None = Field(None, description="a day of two CPU cores, or minutes of a GPU")
    full: Budget


class Recipe(Strict):
    """The parts of a recipe; the first whose `when` matches the protocol is taken."""

    method: str
    notes: str = ""
    parts: Annotated[list[Part], Field(min_length=1)]


_ADAPTER: TypeAdapter[Recipe] = TypeAdapter(Recipe)


def recipe_path(method: str, own_file: Path) -> Path:
    """Where a method's recipe is: the shipped one of its name, a YAML beside its own file, or the general one."""
    for path in (recipes_dir() / f"{method}.yaml", own_file.with_suffix(".yaml")):
        if path.is_file():
            return path
    return recipes_dir() / "default.yaml"


def load_budget(
    path: Path, loaded: Loaded, budget: str, init: bool = False, protocol: AnyProtocol | None = None
) -> Budget:
    """The named budget of the part of a recipe that fits the protocol; YamlError if none does, or a stage cannot be.

    Stages with more classes or later labels than the protocol's episodes are left out, so that growing episodes can be
    written down once for protocols of all lengths and delays. `init` tells whether training begins from another run's
    weights; `protocol` is the loaded one on the data that are used, if those are not its own.
    """
    document = read_yaml(path)
    recipe = validated(document, _ADAPTER)
    for number, part in enumerate(recipe.parts):
        if part.when.matches(loaded, init):
            whole: Budget | None = getattr(part, budget)
            if whole is None:
                message = f"this part of the recipe has no budget '{budget}'; it has {', '.join(_budgets(part))}"
                raise YamlError(problem_at(document.place(("parts", number)), message, ("parts", number)))
            found = _fitting(whole, loaded.protocol)
            loc: Loc = ("parts", number, budget, "stages")
            if whole.stages and not found.stages:
                message = f"every stage of '{budget}' has more classes than episodes of {loaded.name}"
                raise YamlError(problem_at(document.place(loc), message, loc))
            for place, stage in enumerate(whole.stages):
                try:
                    if stage in found.stages:
                        staged(protocol or loaded.protocol, stage.episode, stage.kind)
                except UserError as error:
                    raise YamlError(problem_at(document.place((*loc, place)), str(error), (*loc, place))) from None
            return found
    message = f"no part of this recipe is for {loaded.name} (kind {loaded.protocol.kind})"
    raise YamlError(problem_at(document.place(("parts",), at_key=True), message, ("parts",)))


def _budgets(part: Part) -> list[str]:
    return [name for name in BUDGETS if getattr(part, name) is not None]


def _fitting(budget: Budget, protocol: AnyProtocol) -> Budget:
    """The budget without the stages that have more ways, subtasks or label delay than the protocol."""
    most = None if protocol.masks else protocol.ways
    latest = protocol.label_delay if protocol.stream else None

    def fits(stage: Stage) -> bool:
        episode = stage.episode
        few = most is None or max(episode.ways or 0, episode.subtasks or 0) <= most
        return few and (latest is None or stage.kind is not None or (episode.label_delay or 0) <= latest)

    return budget.model_copy(update={"stages": [stage for stage in budget.stages if fits(stage)]})


def budget_hash(budget: Budget) -> str:
    """SHA-256 (hex) over what a budget says; what it leaves at its default has no say, so new keys change nothing."""
    text = json.dumps(budget.model_dump(mode="json", exclude_defaults=True), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def staged(protocol: AnyProtocol, change: EpisodeChange, kind: str | None = None) -> AnyProtocol:
    """The protocol with a stage's change of its episode, as a protocol of its own (with its own digest).

    With `kind`, an episode of that kind on the same data, of which `change` says everything. Raises UserError for an
    episode that is not possible.
    """
    changes = change.model_dump(exclude_none=True)
    if kind is not None:
        scoring = {"shots": [0]} if "presentations" in changes else {}
        return _possible({**_frame(protocol), "kind": kind, "episode": changes, "scoring": scoring}, changes)
    if not changes:
        return protocol
    data = protocol.model_dump()
    stream = data["kind"] in {"online_few_shot", "delayed_label"}
    for name in changes:
        if name not in data["episode"] and not (stream and name == "label_delay"):
            raise UserError(
                f"a stage of the recipe changes 'episode.{name}', but a protocol of kind {protocol.kind} has "
                f"{', '.join(data['episode']) or 'nothing that can be changed'}"
            )
    data["episode"].update(changes)
    if stream:
        late = data["episode"].pop("label_delay", 1)
        data["kind"] = "delayed_label" if late > 1 else "online_few_shot"
        if late > 1:
            data["episode"]["label_delay"] = late
    if "presentations" in data["episode"]:
        # What is scored does not matter in training, but a shorter stream must still be a possible protocol.
        most = data["episode"]["presentations"] - 1
        data["scoring"]["shots"] = [k for k in data["scoring"]["shots"] if k <= most] or [most]
    return _possible(data, changes)


def _frame(protocol: AnyProtocol) -> dict[str, Any]:
    return {"title": protocol.title, "dataset": protocol.model_dump()["dataset"]}


def _possible(data: dict[str, Any], changes: dict[str, Any]) -> AnyProtocol:
    try:
        return PROTOCOL.validate_python(data)
    except ValidationError as error:
        reasons = "; ".join(each.message for each in findings(PROTOCOL, data, error))
        raise UserError(f"a stage of the recipe asks for an impossible episode ({changes}): {reasons}") from None
