"""The parts of a record: numbers within bounds, and what is said of data, cost, machine and code."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Percent = Annotated[float, Field(ge=0, le=100)]
MOST = 2**63 - 1
"""The largest whole number in a record: the largest that every reader of JSON, and torch, can hold."""
Whole = Annotated[int, Field(ge=0, le=MOST)]
Positive = Annotated[int, Field(ge=1, le=MOST)]
Processors = Annotated[int, Field(ge=1, le=65_536)]
"""Threads or cores: more than any machine has makes the libraries of whoever scores again give up the process."""
NonNegative = Annotated[float, Field(ge=0)]
Line = Annotated[str, Field(min_length=1, pattern=r"^[^\x00-\x1f\x7f]+$")]
FileStem = Annotated[str, Field(pattern=r"^[^./\\\x00-\x1f][^/\\\x00-\x1f]*$")]
"""A name that is also the name of a file, and so can lead to no other folder."""


class Part(BaseModel):
    """Frozen, takes no value of another type, no unknown key, and neither NaN nor infinity."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)


class Metric(Part):
    """A mean over test episodes, in per cent."""

    mean: Percent = Field(description="mean over the test episodes, per cent")
    interval: Percent | None = Field(
        description="1.96 standard errors of the mean over episodes, per cent; null if only one was scored. Boards "
        "show the interval that is computed from it, or from the scores of single episodes"
    )
    episodes: Positive = Field(description="episodes that the mean is over")

    @model_validator(mode="after")
    def _interval_needs_two(self) -> Self:
        if (self.interval is None) != (self.episodes == 1):
            raise ValueError("interval is null exactly when episodes is 1")
        return self


class DataInfo(Part):
    """The data set that a run was trained and scored on."""

    name: Line = Field(description="a name from `harness list datasets`")
    fingerprint: Sha256 = Field(description="SHA-256 over the pixels and the class tables")
    source: str = Field(description="where the data came from, in words")
    stand_in: bool = Field(description="whether the data were generated; such rows have boards of their own")


class Cost(Part):
    """What a method costs while it is scored, for one episode."""

    parameters: Whole = Field(description="numbers in the module's parameters")
    gflop_per_step: NonNegative | None = Field(
        description="10^9 floating-point operations of one step (observe and predict; for a support pair observe "
        "alone); null if not counted"
    )
    gflop_per_query: NonNegative | None = Field(
        None, description="10^9 floating-point operations of a query, its share of adapting included; null without"
    )
    state_bytes: Whole = Field(description="bytes of the state after the last step")
    state_growth: Literal["constant", "with t"] = Field(description="whether the state grows from step to step")
    growth_bytes_per_step: float = Field(description="bytes that a step adds to the state; 0 if constant")
    growth_bytes_per_delay: NonNegative | None = Field(
        None, description="bytes that a further step of label delay adds to the state; null without a stream"
    )

    @model_validator(mode="after")
    def _growth_agrees(self) -> Self:
        if (self.state_growth == "constant") != (self.growth_bytes_per_step == 0):
            raise ValueError(
                f"state_growth is '{self.state_growth}', but growth_bytes_per_step is {self.growth_bytes_per_step}"
            )
        return self


class Hardware(Part):
    """The machine that a run was scored on."""

    device: Line = Field(description="device the tensors were on: cpu, cuda, ...")
    cpu: str = Field(description="name of the processor")
    gpu: str | None = Field(description="name of the accelerator, null if none was used")
    threads: Processors = Field(description="threads that one operation may use")
    cores: Processors = Field(description="cores that the process may use")


class Isolated(Part):
    """How the method was kept apart from targets and data while its scores were made, or made again."""

    confined: Literal["bubblewrap", "user namespace"] | None = Field(
        description="what kept network, data and files from the worker; null: a process of its own and nothing more"
    )
    episodes: Positive = Field(description="test episodes that were scored so")
    fresh: bool = Field(description="whether each batch of episodes was played by a worker that had seen no other")


class Code(Part):
    """The revision of the code."""

    revision: str | None = Field(description="git commit; null outside a checkout")
    dirty: bool | None = Field(
        description="whether the code (harness, methods, protocols) differed from that commit; null outside a checkout"
    )


class Pretrained(Part):
    """Shared features that a stage trained on the training classes, or took from the cache."""

    key: Sha256 = Field(description="SHA-256 over everything that the features are a function of")
    reused: bool = Field(description="whether another run had trained them")
    episodes: Positive = Field(description="images that they were trained on; part of train_episodes")
    updates: Positive = Field(description="optimiser steps; part of train_updates")
    seconds: NonNegative = Field(description="wall time of that; part of train_seconds unless they were reused")
