"""What a sweep file says: grids of runs, what to leave out of them, and what each run may take."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter, model_validator

from harness.sweep.ranges import Range
from harness.util.errors import UserError, nearest
from harness.util.pydantic_base import Count, Strict
from harness.util.quantities import duration, seed_numbers
from harness.util.shipped_files import sweep_files
from harness.yaml_files import extends
from harness.yaml_files.document import Document, validated

ALL = "all"
"""In place of a list of protocols or methods: every shipped one, wherever the two fit each other."""


def _seeds(value: Any) -> Any:
    return seed_numbers(str(value), "seeds") if isinstance(value, str | int) and not isinstance(value, bool) else value


def _checked_duration(text: str) -> str:
    duration(text, "time")
    return text


def _as_value_errors(function: Any) -> Any:
    def call(value: Any) -> Any:
        try:
            return function(value)
        except UserError as error:
            raise ValueError(str(error)) from None

    return call


Names = Literal["all"] | Annotated[list[str], Field(min_length=1)]
Seed = Annotated[int, Field(strict=True, ge=0, lt=2**63)]
Seeds = Annotated[
    list[Seed],
    Field(min_length=1),
    BeforeValidator(_as_value_errors(_seeds), json_schema_input_type=list[int] | int | str),
]
Duration = Annotated[str, AfterValidator(_as_value_errors(_checked_duration))]
Budget = Literal["smoke", "quick", "day", "full"]
Budgets = Annotated[list[Budget], Field(min_length=1)]
Share = Annotated[float, Field(ge=0, le=1024)]


class Resources(Strict):
    """What one run takes of the machine; it waits until that much is free."""

    cores: Count = Field(1, description="CPU threads")
    gpus: Share = Field(0.0, description="GPUs: 0 runs on the CPU, 0.25 puts four runs on one GPU, 1 takes one alone")
    memory_gb: Share = Field(0.0, description="main memory, in gigabytes; 0 if it is not to be counted")


class Runs(Strict):
    """What runs are of; what is left out is taken from the sweep."""

    protocols: Names = Field(description="names of shipped protocols or files; 'all': every one the methods run on")
    methods: Names = Field(description="names of methods or file.py:Class; 'all': every one that runs on the protocols")
    budgets: Budgets | None = None
    seeds: Seeds | None = Field(None, description="a list, or as text: '0-2', '0,3,7'")
    data: Literal["real", "stand-in"] | None = None
    recipe: str | None = Field(None, description="another recipe than the methods' own: a file, beside this one")
    overrides: dict[str, Any] = Field({}, description="keys of the recipe, as in --override: {lr: 1e-3}")
    time: Duration | None = Field(None, description="training time of a run at most: 90s, 10m, 2h")
    episodes: Count | None = Field(None, description="training episodes of a run at most")
    test_episodes: Count | None = Field(None, description="test episodes that are scored")
    priority: int = Field(0, description="runs of a higher priority begin first")
    resources: Resources | None = None


class Grid(Runs):
    """Every combination of these is a run."""

    options: Annotated[list[dict[str, Any]], Field(min_length=1)] = Field([{}], description="options of the methods")


class Ranges(Strict):
    """What is searched."""

    options: dict[str, Range] = Field({}, description="options of the methods")
    overrides: dict[str, Range] = Field({}, description="keys of the recipe, as in --override")

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not (self.options or self.overrides):
            raise ValueError("say what is searched: options or overrides")
        return self


class Search(Runs):
    """A search for each combination of protocol, method and budget: trials train on the first of the seeds and are
    compared by their best validation score; then the best configuration is run, and scored, under every seed."""

    options: dict[str, Any] = Field({}, description="options of the methods in all trials")
    ranges: Ranges
    trials: Annotated[int, Field(strict=True, ge=1, le=100_000)] = Field(description="trainings that are compared")
    at_once: Count = Field(
        1, description="trials that are drawn together, and may run together, knowing the trials before them alone"
    )
    sampler: Literal["tpe", "random"] = Field(
        "tpe", description="tpe: tree-structured Parzen estimator, after ten random trials; random: no regard to scores"
    )
    sampler_seed: Seed = Field(0, description="of the sampler; the same trials are drawn under the same seed")


class Exclusion(Strict):
    """Leaves out the runs of grids that agree with everything it says."""

    protocol: str | None = None
    method: str | None = None
    options: dict[str, Any] = Field({})
    budget: Budget | None = None
    seed: Seed | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not (self.protocol or self.method or self.options or self.budget or self.seed is not None):
            raise ValueError("say which runs to leave out: protocol, method, options, budget or seed")
        return self


class Sweep(Strict):
    """Grids of runs, and searches of hyperparameters."""

    title: str = ""
    table: str = Field("", description="the table of a paper that the runs fill, shown at the end (harness table)")
    runs: list[Grid] = Field([], description="grids of runs")
    search: list[Search] = Field([], description="searches of hyperparameters on validation scores")
    exclude: list[Exclusion] = Field([])
    budgets: Budgets = Field(["quick"])
    seeds: Seeds = Field([0], description="a list, or as text: '0-2', '0,3,7'")
    data: Literal["real", "stand-in"] = "real"
    time: Duration | None = Field(
        None,
        description="the whole sweep at most: no run begins after that, and those "
        "that train are stopped and can be resumed",
    )
    resources: Resources = Field(Resources())

    @model_validator(mode="after")
    def _has_runs(self) -> Self:
        if not (self.runs or self.search):
            raise ValueError("nothing to run; write at least one entry under runs or search")
        return self


_ADAPTER: TypeAdapter[Sweep] = TypeAdapter(Sweep)


def read_sweep(name_or_path: str | Path) -> tuple[str, Sweep, Document]:
    """A sweep by path, or by the name of a shipped one: its name, what it says, and where that stands.

    Raises UserError for an unknown name, and YamlError with every problem at its line.
    """
    path = _find(name_or_path)
    document = extends.inherited(path, sweep_files(), "sweep")
    return path.stem, validated(document, _ADAPTER, also=(extends.EXTENDS,)), document


def sweep_schema() -> dict[str, Any]:
    """The JSON Schema of sweep files."""
    own = _ADAPTER.json_schema()
    own["properties"][extends.EXTENDS] = {"type": "string", "description": "another sweep file, which this one changes"}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **own, "title": "sweep"}


def _find(name_or_path: str | Path) -> Path:
    path, shipped = Path(name_or_path), sweep_files()
    if path.is_file():
        return path
    name = re.sub(r"^(\./)?sweeps/|\.ya?ml$", "", str(name_or_path))
    if name in shipped:
        return shipped[name]
    guess = nearest(name, shipped)
    hint = f" Did you mean '{guess}'?" if guess else ""
    raise UserError(f"there is no sweep '{name_or_path}'.{hint} Give a file, or one of: {', '.join(shipped)}.")
