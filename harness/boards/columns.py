"""The tables of boards: the columns of an entry, published results, and their Markdown."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence

from harness.boards.entries import Entry, summarise
from harness.protocol.episode_models import Published
from harness.protocol.models import AnyProtocol
from harness.records.option_defaults import changed_options
from harness.records.parts import Cost
from harness.records.record import Record
from harness.util.quantities import counted
from harness.util.shown_text import cells_in_markdown

NOTHING = "–"
ISOLATED, UNCONFINED = "isolated", "isolated in a process alone"
"""Marks of entries whose method was apart from targets while all its records were scored, or scored again."""


def columns(entries: Sequence[Entry], by: str, others: Sequence[str]) -> list[dict[str, str]]:
    """The columns of entries: what each is, how well it did, what it cost.

    `by` is the metric that the board is ranked by, `others` those shown before it.
    """
    summarise(entries, (*others, by))
    return [_columns(entry, by, others) for entry in entries]


def _columns(entry: Entry, by: str, others: Sequence[str]) -> dict[str, str]:
    newest, cost = entry.newest, entry.newest.cost
    summary = entry.summary(by)
    spread = None if summary is None else summary.spread
    seeds = str(len(entry.records)) + (f" (± {spread:.2f})" if spread is not None else "")
    return {
        "method": newest.method,
        "options": options_of(newest) or NOTHING,
        **{name: measured(entry, name) for name in (*others, by)},
        "seeds": seeds,
        "training episodes": trained(entry),
        "budget": budget_of(newest) or NOTHING,
        "recipe": f"{newest.recipe} {newest.recipe_hash[:8]}" if newest.recipe else NOTHING,
        "parameters": f"{cost.parameters:,}",
        "GFLOP/step": _gflop(cost.gflop_per_step),
        **({"GFLOP/query": _gflop(cost.gflop_per_query)} if by == "query_accuracy" else {}),
        "state bytes": f"{cost.state_bytes:,}",
        "state growth": _growth(cost),
        "marks": ", ".join(marks_of(entry)) or NOTHING,
        "hardware": _hardware(newest),
        "run": ", ".join([record.run for record in entry.records]),
    }


def marks_of(entry: Entry) -> list[str]:
    """The marks of any of the entry's records, and what a reader should know besides."""
    records = entry.records
    marks = {mark for record in records for mark in record.marks}
    if any(record.code.dirty for record in records):
        marks.add("uncommitted code")
    isolated = [record.isolated for record in records if record.isolated]
    if len(isolated) == len(records):
        marks.add(ISOLATED if all(each.confined for each in isolated) else UNCONFINED)
    if entry.older:
        marks.add(f"{entry.older} older not shown")
    return sorted(marks)


def options_of(record: Record) -> str:
    """The options of a record that differ from the method's defaults, as 'channels=16, lstm=128'; '' if none do."""
    return ", ".join(option_texts(record))


def option_texts(record: Record) -> list[str]:
    """The same one by one."""
    return [
        f"{name}={value if isinstance(value, str) else json.dumps(value)}"
        for name, value in changed_options(record.target, record.options, record.defaults).items()
    ]


def budget_of(record: Record) -> str:
    """The budget of a record, the precision of its training and what cut it short, as 'quick bf16 time=10m', fp32 being
    left out; '' if it was not trained."""
    precision = "" if record.precision == "fp32" else record.precision
    return " ".join(filter(None, [record.budget, precision, record.budget_cut]))


def measured(entry: Entry, metric: str) -> str:
    """An entry's metric with its interval, as '97.1 ± 0.2'."""
    summary = entry.summary(metric)
    return NOTHING if summary is None else summary.text()


def trained(entry: Entry) -> str:
    """Training episodes of an entry's records, and those that the weights had seen from which they began."""
    found = [record.train_episodes for record in entry.records]
    least, most = min(found), max(found)
    text = f"{least:,}" + (f" to {most:,}" if least < most else "")
    return text + (f" after {entry.newest.init_episodes:,}" if entry.newest.init else "")


def _hardware(record: Record) -> str:
    machine = record.hardware
    return machine.gpu or f"{' '.join(machine.cpu.split()) or machine.device}, {counted(machine.threads, 'thread')}"


def _growth(cost: Cost) -> str:
    """How the state grows, as '+12 a step, +8 a step of delay'; older records do not know the second."""
    rates = [(cost.growth_bytes_per_step, "a step"), (cost.growth_bytes_per_delay or 0, "a step of delay")]
    return ", ".join(f"{rate:+,.0f} {each}" for rate, each in rates if rate) or "constant"


def _gflop(value: float | None) -> str:
    return "not counted" if value is None else f"{value:.3g}"


def why(entry: Entry) -> str:
    """Why an entry is not ranked."""
    return "; ".join(detail for _, detail in entry.reasons)


def published_rows(published: Iterable[Published], names: Sequence[str]) -> list[dict[str, str]]:
    """What others printed, with the spread they printed, whatever they meant by it.

    `names` are the metrics of the board, whose columns come first.
    """
    found = list(published)
    others = sorted({name for each in found for name in each.metrics} - {*names})
    names = [name for name in (*names, *others) if any(name in each.metrics for each in found)]
    return [
        {
            "method": each.method,
            "variant": each.variant or NOTHING,
            **{name: _printed(each.metrics.get(name)) for name in names},
            "source": each.source,
            "note": each.note or NOTHING,
        }
        for each in found
    ]


def _printed(value: float | list[float] | None) -> str:
    if value is None:
        return NOTHING
    return " ± ".join(map(str, value)) if isinstance(value, list) else str(value)


def best_published(protocol: AnyProtocol) -> str | None:
    """The best published result in words, None if there is none.

    Best by the metric that the board is ranked by, where it was printed or follows from what was printed, and
    otherwise by the metric that was printed most often.
    """
    values = [(found[0], each) for each in protocol.published if (found := published_ranking(protocol, each))]
    if values:
        value, best = max(values, key=lambda each: each[0])
        return f"{_titled(best)} {value:.1f} ({best.source})"
    counts = Counter(name for each in protocol.published for name in each.metrics)
    if not counts:
        return None
    metric = max(counts, key=lambda name: (counts[name], name))
    having = [each for each in protocol.published if metric in each.metrics]
    best = max(having, key=lambda each: _first(each.metrics[metric]))
    return f"{_titled(best)} {_first(best.metrics[metric])} {metric} ({best.source})"


def published_ranking(protocol: AnyProtocol, published: Published) -> tuple[float, float | None] | None:
    """The metric that the board is ranked by, of a published result: its value and the spread printed with it.

    Where only the metrics were printed whose mean it is, their mean without a spread; None where it does not follow.
    """
    by, parts, numbers = protocol.ranking, _parts(protocol), published.metrics
    if by in numbers:
        value = numbers[by]
        return (value[0], value[1]) if isinstance(value, list) else (value, None)
    if parts and all(name in numbers for name in parts):
        return statistics.fmean(_first(numbers[name]) for name in parts), None
    return None


def _parts(protocol: AnyProtocol) -> tuple[str, ...]:
    """The metrics whose mean is the one that the board is ranked by; () where it is not a mean of reported ones."""
    return protocol.reported if protocol.ranking_is_mean else ()


def _first(value: float | list[float]) -> float:
    return value[0] if isinstance(value, list) else value


def _titled(published: Published) -> str:
    return published.method + (f", {published.variant}," if published.variant else "")


def table(rows: Sequence[dict[str, str]], markdown: Sequence[str] = ()) -> str:
    """Markdown of a table whose rows share their columns; what is in the columns `markdown` is Markdown already.

    Columns are lined up and to the left. (Libraries that do it guess the type of each cell, which takes them as long as
    it takes to read and rank the rows.)
    """
    lined_up = [
        _padded(name, cells if name in markdown else cells_in_markdown(cells))
        for name, cells in zip(rows[0], zip(*_in_order(rows), strict=True), strict=True)
    ]
    head, *lines = (f"| {' | '.join(cells)} |" for cells in zip(*lined_up, strict=True))
    return "\n".join([head, f"|{'|'.join(':' + '-' * (len(column[0]) + 1) for column in lined_up)}|", *lines])


def _in_order(rows: Sequence[dict[str, str]]) -> Iterable[Iterable[str]]:
    """The cells of each row in the order of the first one's columns."""
    names = list(rows[0])
    return [row.values() if list(row) == names else [row[name] for name in names] for row in rows]


def _padded(name: str, cells: Sequence[str]) -> list[str]:
    """A column with its name on top, all as wide as the widest and two wider than the name, as tabulate has it."""
    width = max(len(name) + 2, *map(len, cells))
    return [each.ljust(width) for each in (name, *cells)]
