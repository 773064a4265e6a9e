"""Recipes: how a method is trained on a protocol, as data.

As files they are YAML (`methods/recipes/<method>.yaml`), read by `recipe_file`; what files may have besides, to be
short, is written out before (`recipe_library`).
"""

from __future__ import annotations

import hashlib
import json
import math
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StrictBool, ValidationError, field_validator, model_validator

from harness.protocol.load import Loaded
from harness.protocol.models import KINDS, PROTOCOL, AnyProtocol
from harness.util.errors import UserError, nearest
from harness.util.precision import Precision
from harness.util.pydantic_base import Count, Strict
from harness.yaml_files.messages import findings

BUDGETS = ("smoke", "quick", "day", "full")
Positive = Annotated[float, Field(strict=True, gt=0, le=1e6, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(strict=True, ge=0, le=1e6, allow_inf_nan=False)]
Rate = Annotated[float, Field(strict=True, gt=0, le=1000, allow_inf_nan=False)]
Decay = Annotated[float, Field(strict=True, gt=0, lt=1)]
Batch = Annotated[int, Field(strict=True, ge=1, le=2**20)]
Episodes = Annotated[int, Field(strict=True, ge=1, le=10**12)]
Updates = Annotated[int, Field(strict=True, ge=0, le=10**12)]


class EpisodeChange(Strict):
    """What a stage changes of the protocol's episode; what is left out stays as the protocol has it."""

    ways: Count | None = Field(None, description="classes in an episode; left out where the protocol has fewer")
    presentations: Count | None = Field(None, description="how often each class is shown")
    label_delay: Count | None = Field(None, description="steps until a label is revealed; 1 is online; likewise")
    order: Literal["balanced", "iid", "cyclic"] | None = Field(None, description="order of classes")
    subtasks: Count | None = Field(None, description="continual: classes, one after another; likewise")
    shots: Count | None = Field(None, description="continual, n_way_k_shot: labelled samples of each class")
    queries: Count | None = Field(None, description="continual, n_way_k_shot: queries per class")
    distractor: StrictBool | None = Field(None, description="segmentation: whether a second class is shown")


class Optimizer(Strict):
    """A torch optimiser and its settings."""

    name: Literal["adam", "adamw", "sgd"] = "adam"
    lr: Rate = Field(1e-3, description="learning rate at the start of a stage")
    weight_decay: NotNegative = 0.0
    weight_decay_of: Literal["all", "matrices"] = Field(
        "all",
        description="what weight_decay shrinks: all parameters, or those of two and more dimensions alone (kernels and "
        "matrices; not biases, scales and shifts)",
    )
    momentum: NotNegative = Field(0.0, description="sgd only")

    @model_validator(mode="after")
    def _used(self) -> Self:
        if self.momentum and self.name != "sgd":
            raise ValueError(f"momentum: {self.name} has none; it is a setting of sgd")
        return self


class Stage(Strict):
    """One stretch of training with one shape of episode, from a fresh optimiser.

    A stage with more ways, subtasks or label delay than the protocol has is left out, so that one curriculum serves
    many protocols.
    """

    name: str
    objective: Literal["episodes", "classes", "head", "memoryless", "pretext"] = Field(
        "episodes",
        description="episodes: the method's loss on episodes; classes: its memoryless features, through a linear "
        "layer that is thrown away (or its own class head), tell the training classes apart (an episode is then a "
        "single image; shared features are trained once and kept in the cache); head: "
        "the method's loss on episodes, with memoryless features that are frozen and computed once; memoryless: the "
        "same with these features trained as well, each of its image alone; pretext: the loss of the method's "
        "pretext, another method that shares parts of it",
    )
    kind: (
        Literal["online_few_shot", "delayed_label", "continual", "segmentation_distractors", "n_way_k_shot"] | None
    ) = Field(None, description="another kind of episode than the protocol's; `episode` then says all of its shape")
    episodes: Episodes = Field(description="training episodes at most")
    episode: EpisodeChange = EpisodeChange()
    until_loss: Positive | None = Field(
        None, description="end early once the smoothed loss per scored step falls below this"
    )
    lr: Rate | None = Field(None, description="learning rate, if not the optimiser's")
    schedule: Literal["constant", "cosine"] = Field("constant", description="of the learning rate over the stage")
    warmup: Updates = Field(0, description="updates of linear rise at the start")
    batch: Batch | None = Field(None, description="episodes an update, if not the budget's")
    optimizer: Optimizer | None = Field(None, description="the optimiser, if not the budget's")
    clip_value: Positive | None = Field(None, description="largest size of an entry, if not the budget's")
    clip_tensor_norm: Positive | None = Field(None, description="largest norm of a parameter's, if not the budget's")
    clip_norm: Positive | None = Field(None, description="largest norm of the gradient, if not the budget's")
    ema_decay: Decay | None = Field(
        None,
        description="objectives episodes, head and memoryless: decay of the weights' average, if not the budget's",
    )
    classes_weight: Positive | None = Field(
        None,
        description="objective episodes: beside their loss, that of the objective on classes with this weight, on as "
        "many single images as `classes_batch`",
    )
    classes_batch: Batch = Field(64, description="single images an update, with `classes_weight`")

    @property
    def on_episodes(self) -> bool:
        """Whether the whole method is trained on episodes, so that validation episodes tell how far it is."""
        return self.objective in ("episodes", "memoryless")

    @property
    def averaged(self) -> bool:
        """Whether an average of weights can take their place: not where others share them or begin from them."""
        return self.on_episodes or self.objective == "head"

    @model_validator(mode="after")
    def _together(self) -> Self:
        if self.classes_weight is not None and self.objective != "episodes":
            raise ValueError("classes_weight is for stages with the objective 'episodes'")
        if self.ema_decay is not None and not self.averaged:
            raise ValueError("ema_decay is for stages with the objective 'episodes', 'head' or 'memoryless'")
        return self


class Validation(Strict):
    """Model selection: the protocol itself, on validation classes; the best checkpoint is the one scored."""

    every: Episodes = Field(description="training episodes between two looks")
    episodes: Episodes = Field(description="validation episodes of a look")


class Budget(Strict):
    """One way to train: options of the method, and the stages that are run one after another."""

    options: dict[str, Any] = Field({}, description="options of the method under this budget")
    batch: Batch = Field(16, description="episodes an update")
    optimizer: Optimizer = Optimizer()
    clip_value: Positive | None = Field(None, description="largest size of an entry of the gradient, clipped by itself")
    clip_tensor_norm: Positive | None = Field(
        None, description="largest norm of each parameter's gradient by itself, after clip_value"
    )
    clip_norm: Positive | None = Field(
        None, description="largest norm of the method's whole gradient, after both of these"
    )
    ema_decay: Decay | None = Field(
        None,
        description="decay of an exponential moving average of the weights over the updates of a stage (0.99 is a mean "
        "over some 100): validation and scoring see the average, and the stage ends with it; none where left out, and "
        "on the objectives classes and pretext",
    )
    augment: list[Literal["flip", "crop", "warp"]] = Field(
        [],
        description="augmentation in training: flip mirrors every second image, crop moves each by up to 4 pixels, "
        "warp takes all images of an episode through one affine map and mirrors some classes (task augmentation)",
    )
    precision: Precision = Field(
        "fp32",
        description="what training may round to: tf32 (a GPU's convolutions and matrix products) or bf16 "
        "(convolutions); states and normalisation are fp32 always, and so is scoring",
    )
    stages: list[Stage] = Field([], description="what is run, one after another; none for no training")
    validation: Validation | None = None

    @property
    def episodes(self) -> int:
        """Training episodes at most: those of the stages, each filled up to whole updates."""
        return sum(math.ceil(each.episodes / size) * size for each, size in self.batches)

    @property
    def batches(self) -> list[tuple[Stage, int]]:
        """The stages, each with its episodes an update."""
        return [(stage, stage.batch or self.batch) for stage in self.stages]

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
    init: StrictBool | None = Field(None, description="whether training begins from another run's weights (--init)")

    @field_validator("kind")
    @classmethod
    def _known(cls, kinds: list[str] | None) -> list[str] | None:
        for each in kinds or ():
            if each not in KINDS:
                guess = nearest(each, KINDS)
                hint = f" Did you mean '{guess}'?" if guess else ""
                raise ValueError(f"there is no kind '{each}'.{hint} Known: {', '.join(KINDS)}")
        return kinds

    def covers(self, other: When) -> bool:
        """Whether this matches whatever the other one matches."""
        lists = ((self.dataset, other.dataset), (self.kind, other.kind), (self.protocol, other.protocol))
        within = all(mine is None or (theirs is not None and set(theirs) <= set(mine)) for mine, theirs in lists)
        return within and self.init in (None, other.init)

    def matches(self, loaded: Loaded, init: bool) -> bool:
        requested = (
            (self.dataset, loaded.protocol.data_name),
            (self.kind, loaded.protocol.kind),
            (self.protocol, loaded.name),
        )
        fits = all(allowed is None or value in allowed for allowed, value in requested)
        return fits and self.init in (None, init)


class Part(Strict):
    """The budgets for the protocols that `when` matches; any may be left out, but not all."""

    when: When = When()
    smoke: Budget | None = Field(None, description="seconds, for tests")
    quick: Budget | None = Field(None, description="minutes of two CPU cores")
    day: Budget | None = Field(None, description="a day of two CPU cores, or minutes of a GPU")
    full: Budget | None = Field(None, description="the scale of the papers, on a GPU")

    @property
    def budgets(self) -> dict[str, Budget]:
        """The budgets that there are, by name."""
        return {name: budget for name in BUDGETS if (budget := getattr(self, name)) is not None}

    @model_validator(mode="after")
    def _some_budget(self) -> Self:
        if not self.budgets:
            raise ValueError(f"this part has no budget; write at least one of {', '.join(BUDGETS)}")
        return self


class Recipe(Strict):
    """The parts of a recipe; the first whose `when` matches the protocol is taken."""

    method: str
    notes: str = ""
    parts: Annotated[list[Part], Field(min_length=1)]


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
    data = protocol.without_episode_file.model_dump()
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
