"""What a table of a paper is: rows (systems) and columns (conditions), read from `harness/tables/papers/*.yaml`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, TypeAdapter, model_validator

from harness.protocol.episode_models import Number
from harness.util.errors import UserError, nearest
from harness.util.pydantic_base import Count, Strict
from harness.util.shipped_files import papers_dir
from harness.yaml_files.document import read_yaml, validated

Costs = Literal["million parameters", "GFLOP per prediction", "GFLOP per step"]


class CurvePoint(Strict):
    """One point of a record's curve; it has neither an interval nor a published number."""

    name: str = Field(description="the curve: by_step, by_shot, by_subtask, ...")
    number: Count = Field(description="which of its points, from 1")


class Column(Strict):
    """A condition. What it shows is one of `metric`, `curve` and `cost`."""

    label: str
    group: str = Field("", description="what stands over the labels of several columns")
    protocol: str = Field("", description="name of the shipped protocol; empty if the rows name theirs")
    metric: str = ""
    curve: CurvePoint | None = None
    cost: Costs | None = None

    @model_validator(mode="after")
    def _one_thing(self) -> Self:
        if sum(map(bool, (self.metric, self.curve, self.cost))) != 1:
            raise ValueError("give one of metric, curve and cost")
        return self

    @property
    def name(self) -> str:
        """Group and label: unlike any other column's."""
        return f"{self.group} {self.label}".strip()


class Row(Strict):
    """A system."""

    labels: Annotated[list[str], Field(min_length=1)] = Field(description="what stands in the table's `head` columns")
    method: str = Field(description="name of the method, in the protocols' published rows too")
    variant: str = Field("", description="variant of the published rows")
    options: dict[str, Any] = Field({}, description="options that a measured entry must have")
    init: bool | None = Field(
        None,
        description="whether a measured entry must have begun from weights of another protocol or method; one that "
        "goes on from a row of its own board has begun as that one",
    )
    protocol: str = Field("", description="name of the shipped protocol; empty if the columns name theirs")
    printed: dict[str, Number] = Field({}, description="published numbers of columns without a metric, by their name")
    note: str = ""


class Table(Strict):
    """A table or figure. The published numbers of metrics stand in the protocol files, under `source`."""

    name: str = Field(description="'table 1', 'figure 3', or a word")
    title: str
    source: str = Field("", description="the `source` of its published rows; empty if it has none")
    head: Annotated[list[str], Field(min_length=1)] = Field(description="what stands over the rows' labels")
    spread: Literal["parentheses", "plus-minus"] = Field("parentheses", description="how the paper prints a spread")
    turned: bool = Field(False, description="print conditions as rows and systems as columns, where these are few")
    computed: Literal["smoke", "quick", "full"] | None = Field(
        None, description="costs are computed at once, of untrained methods as this budget builds them, not from boards"
    )
    columns: Annotated[list[Column], Field(min_length=1)]
    rows: Annotated[list[Row], Field(min_length=1)]
    notes: list[str] = Field([], description="what a reader of the whole table should know")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        problems = []
        names = [column.name for column in self.columns]
        if len(set(names)) < len(names):
            problems.append("columns: two have the same group and label")
        if self.computed and not all(column.cost for column in self.columns):
            problems.append("computed: every column must then be a cost")
        if not self.computed and any(column.cost == "GFLOP per prediction" for column in self.columns):
            problems.append("columns: 'GFLOP per prediction' is not in records; it needs `computed`")
        free = {column.name for column in self.columns if not column.metric}
        for i, row in enumerate(self.rows):
            if len(row.labels) != len(self.head):
                problems.append(f"rows: number {i + 1} has {len(row.labels)} labels for {len(self.head)} head columns")
            for name in sorted({*row.printed} - free):
                problems.append(f"rows: number {i + 1} prints '{name}', which is no column without a metric")
            for column in self.columns:
                if bool(row.protocol) == bool(column.protocol):
                    problems.append(f"rows: number {i + 1} and column '{column.name}' must name one protocol together")
        if problems:
            raise ValueError("; ".join(problems))
        return self


class Paper(Strict):
    """A paper and its tables."""

    name: str = Field(description="what it is called here")
    also: list[str] = Field([], description="other words that it may be asked for by")
    citation: str
    tables: Annotated[list[Table], Field(min_length=1)]


@dataclass(frozen=True)
class Printed:
    """A table and the paper it is in."""

    paper: Paper
    table: Table

    @property
    def name(self) -> str:
        """As in `harness table NAME`."""
        return f"{self.paper.name} {self.table.name}"


_ADAPTER: TypeAdapter[Paper] = TypeAdapter(Paper)


def read_paper(path: Path) -> Paper:
    """The paper in a file; YamlError with every problem at its line."""
    return validated(read_yaml(path), _ADAPTER)


@cache
def all_tables() -> tuple[Printed, ...]:
    """Every table of every paper, papers in order of their files' names."""
    papers = [read_paper(path) for path in sorted(papers_dir().glob("*.yaml"))]
    return tuple(Printed(paper, table) for paper in papers for table in paper.tables)


def find_table(name: str) -> Printed:
    """The table that `name` means.

    Case, order and punctuation do not matter; 'table' may be left out, and any words of the paper's name: what is
    left must mean one table. Raises UserError with the nearest name, or with all that are meant.
    """
    tables = all_tables()
    wanted = _words(name)
    found = [each for each in tables if _means(wanted, each)]
    if len(found) == 1:
        return found[0]
    names = ", ".join(each.name for each in found or tables)
    if found:
        raise UserError(f"'{name}' may mean any of: {names}. Say which.")
    short = {each.name.replace("table ", ""): each.name for each in tables}
    guess = nearest(" ".join(name.lower().split()), [*short, *short.values()])
    hint = f" Did you mean '{short.get(guess, guess)}'?" if guess else ""
    raise UserError(f"unknown table '{name}'.{hint} Known: {names}.")


def _means(wanted: set[str], printed: Printed) -> bool:
    """Whether the words name the table (all of its own words but 'table') and beyond that only its paper."""
    own = _words(printed.table.name)
    paper = _words(" ".join([printed.paper.name, *printed.paper.also]))
    return wanted >= own - {"table"} and wanted - own <= paper


def _words(text: str) -> set[str]:
    """Words and numbers, without case or punctuation: 'Fig.3' is {'figure', '3'}."""
    found = re.findall(r"[^\W\d_]+|\d+", text.lower())
    return {{"fig": "figure", "tab": "table"}.get(word, word) for word in found}
