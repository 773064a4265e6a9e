"""The page of one board: its rows as a table that can be sorted, what separates them, and what they cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.boards.artifacts import scores_of
from harness.boards.columns import marks_of, measured, options_of, published_ranking, why
from harness.boards.entries import Entry
from harness.boards.legend import legend
from harness.boards.markdown import View
from harness.evaluation import intervals
from harness.evaluation.score import Scores
from harness.protocol.episode_models import Published
from harness.records.record import Record
from harness.report.board_table import board_table
from harness.report.commands import verify_command
from harness.report.curves import TITLES, WORDS, mean_curve
from harness.report.entry_names import entry_names
from harness.report.figure import Figure
from harness.report.forest import Interval, forest
from harness.report.lines import Series, lines
from harness.report.marks import explained
from harness.report.page import Pages, protocol_file, render, run_file
from harness.report.scatter import Point, scatter
from harness.util.errors import UserError

CURVES, PAIRS, LINES = 8, 12, 60
"""Methods with a curve, entries in the matrix of differences, and lines of an interval plot, at most: the best ones."""


@dataclass(frozen=True)
class Pairs:
    """Differences of entries, row less column: `cells[i][j]` is (text, style, words), None where i is j. `without` are
    methods that have no scores of single episodes to be compared by, `left` how many others are not shown."""

    names: Sequence[str]
    cells: Sequence[Sequence[tuple[str, str, str] | None]]
    episodes: int
    without: Sequence[str]
    left: int


@dataclass(frozen=True)
class Row:
    """What a reader can do about one row: the command that makes it again, the one that checks its claim ('' without
    its protocol), and how far that can be checked."""

    label: str
    run: str
    line: int
    command: str
    verify: str
    state: str


def board_page(view: View, boards: Path, pages: Pages) -> str:
    """HTML of a board, whose rows lie in the folder `boards`; it leads to those of `pages` that the report has."""
    by, others = view.standings.ranking, view.protocol.reported if view.protocol else ()
    ranked = [entry for _, entry in view.standings.ranked]
    names = entry_names(ranked)
    isolated = any(record.isolated for entry in ranked for record in entry.records)
    apart = [entry for _, entries in view.standings.apart for entry in entries]
    best = _best_of_each_method(ranked)[:CURVES]
    scores = {id(entry): [_scores(record, boards) for record in entry.records] for entry in best}
    marks = {each.anchor: each for entry in (*ranked, *apart) for each in map(explained, marks_of(entry))}
    up = "../../" if view.stand_in else "../"

    def run_page(record: Record) -> str | None:
        return up + run_file(view.name, record.run) if (view.name, record.run) in pages.runs else None

    return render(
        "board.html",
        up=up,
        view=view,
        title=view.protocol.title if view.protocol else view.name,
        protocol=view.protocol,
        protocol_page=protocol_file(view.name) if view.name in pages.protocols else None,
        stand_in=view.stand_in,
        by=by,
        table=board_table(view.standings.ranked, by, others, run_page) if ranked else None,
        apart=[
            (heading, [(entry.newest.method, why(entry), measured(entry, by), entry.newest.run) for entry in entries])
            for heading, entries in view.standings.apart
        ],
        legend=legend(view.protocol, by, isolated) if view.protocol else "",
        forests=_forests(view, ranked, names, [by, *(name for name in others if name != by)]),
        curves=[*_curves(ranked, scores)],
        costs=_costs(ranked, names, by),
        pairs=_pairs(ranked, by),
        marks=[*sorted(marks.values(), key=lambda mark: mark.anchor)],
        rows=[*_rows(view, names, boards, pages.protocols.get(view.name, view.name))],
        published=[] if view.stand_in or not view.protocol else view.protocol.published,
    )


def board_figures(view: View) -> list[Figure]:
    """The figures of a board but for what needs the scores of single episodes: intervals, curves and costs."""
    by, ranked = view.standings.ranking, [entry for _, entry in view.standings.ranked]
    names = entry_names(ranked)
    return [*_forests(view, ranked, names, [by]), *_curves(ranked, {}), *_costs(ranked, names, by)]


def _forests(view: View, ranked: Sequence[Entry], names: dict[int, str], metrics: Sequence[str]) -> list[Figure]:
    drawn = []
    for metric in metrics:
        found = [*_measured(ranked, names, metric), *_published(view, metric)]
        if found:
            best = sorted(found, key=lambda each: -each.mean)
            more = f" (the best {LINES} of {len(found)})" if len(found) > LINES else ""
            drawn.append(forest(f"{metric}: intervals of all entries{more}", f"{metric}, %", best[:LINES]))
    return drawn


def _measured(ranked: Sequence[Entry], names: dict[int, str], metric: str) -> Iterator[Interval]:
    for entry in ranked:
        summary = entry.summary(metric)
        if summary:
            seeds = [record.metrics[metric].mean for record in entry.records]
            words = options_of(entry.newest)
            yield Interval(names[id(entry)], summary.mean, summary.bounds, summary.text(), False, seeds, words)


def _published(view: View, metric: str) -> Iterator[Interval]:
    if view.protocol is None or view.stand_in:
        return
    for each in view.protocol.published:
        value: tuple[float, float | None] | None
        if metric == view.standings.ranking:
            value = published_ranking(view.protocol, each)
        else:
            value = _as_pair(each, metric)
        if value is not None:
            label = each.method + (f", {each.variant}" if each.variant else "")
            yield _printed(label, *value, "; ".join(filter(None, [each.source, each.note])))


def _printed(label: str, mean: float, spread: float | None, note: str) -> Interval:
    if spread is None:
        return Interval(label, mean, None, f"{mean:.1f}", True, note=note)
    return Interval(label, mean, (mean - spread, mean + spread), f"{mean:.1f} ± {spread}", True, note=note)


def _as_pair(published: Published, metric: str) -> tuple[float, float | None] | None:
    value = published.metrics.get(metric)
    if value is None:
        return None
    return (value[0], value[1]) if isinstance(value, list) else (value, None)


def _best_of_each_method(ranked: Sequence[Entry]) -> list[Entry]:
    best: dict[str, Entry] = {}
    for entry in ranked:
        best.setdefault(entry.newest.method, entry)
    return [*best.values()]


def _scores(record: Record, boards: Path) -> Scores | None:
    try:
        return scores_of(record, boards)
    except UserError:
        return None


def _curves(ranked: Sequence[Entry], scores: dict[int, list[Scores | None]]) -> Iterator[Figure]:
    best = _best_of_each_method(ranked)
    for name, (x_label, y_label) in WORDS.items():
        having = [entry for entry in best if entry.newest.curves.get(name)]
        drawn: list[Series] = []
        for number, entry in enumerate(having[:CURVES]):
            one = mean_curve(entry.records, name, scores.get(id(entry), []), entry.newest.method, number)
            drawn += [one] if one else []
        if drawn and max(len(each.x) for each in drawn) > 1:
            more = f", the best {CURVES} methods" if len(having) > CURVES else ""
            yield lines(
                f"{TITLES[name]} (the best entry of each method{more})", x_label, y_label, drawn, bounds=(0, 100)
            )


def _costs(ranked: Sequence[Entry], names: dict[int, str], by: str) -> list[Figure]:
    per = "GFLOP per query" if by == "query_accuracy" else "GFLOP per step"
    costs: list[tuple[str, str, Callable[[Record], float | None]]] = [
        ("parameters", "parameters", lambda record: record.cost.parameters),
        ("state", "bytes of state", lambda record: record.cost.state_bytes),
        (
            "computation",
            per,
            lambda record: record.cost.gflop_per_query if "query" in per else record.cost.gflop_per_step,
        ),
        ("training", "training episodes", lambda record: record.train_episodes + record.init_episodes),
    ]
    drawn = []
    for name, label, cost in costs:
        points = [
            Point(names[id(entry)], float(value), summary.mean)
            for entry in ranked
            if (summary := entry.summary(by)) and (value := cost(entry.newest)) is not None
        ]
        if len(points) > 1:
            drawn.append(scatter(f"{by} against {name}", label, f"{by}, %", points))
    return drawn


def _pairs(ranked: Sequence[Entry], metric: str) -> Pairs | None:
    """The best entry of each method whose scores of single episodes are stored, compared on the same episodes."""
    best = [(entry, entry.by_episode(metric)) for entry in _best_of_each_method(ranked)]
    every = [(entry.newest.method, values) for entry, values in best if values is not None]
    found, without = every[:PAIRS], [entry.newest.method for entry, values in best if values is None]
    if len(found) < 2:
        return None
    episodes = min(values.shape[1] for _, values in found)

    def cell(i: int, j: int) -> tuple[str, str, str] | None:
        if i == j:
            return None
        (first, mine), (second, theirs) = found[i], found[j]
        change = intervals.paired(mine[:, :episodes], theirs[:, :episodes])
        style, words = "open", "one episode has no interval" if change.half is None else "the interval includes zero"
        if change.excludes_zero:
            style, words = "better" if change.mean > 0 else "worse", "the interval excludes zero"
        return change.text(1), style, f"{first} less {second}: {words}"

    numbers = range(len(found))
    return Pairs([name for name, _ in found], [[cell(i, j) for j in numbers] for i in numbers], episodes, without,
                 len(every) - len(found))  # fmt: skip


def _rows(view: View, names: dict[int, str], boards: Path, word: str) -> Iterator[Row]:
    lines_of = {id(record): line for line, record in view.board.records}
    for _, entry in view.standings.ranked:
        for record in entry.records:
            label = names[id(entry)] + (f", seed {record.seed}" if len(entry.records) > 1 else "")
            line = lines_of[id(record)]
            verify = verify_command(view, word, line, boards) if view.protocol else ""
            yield Row(label, record.run, line, record.command, verify, _state(record, boards))


def _state(record: Record, boards: Path) -> str:
    """How far the row's claim can be checked with what is kept; its line was found unchanged when it was read."""
    if record.checkpoint is None:
        weights = "it has no weights: verify scores it again"
    elif record.kept:
        weights = f"weights kept ({record.kept}): verify scores them again"
    else:
        weights = "weights not kept: the command makes them again"
    there = record.scores is not None and (boards / "scores" / f"{record.scores}.npz").is_file()
    return f"{weights}; scores of single episodes {'kept' if there else 'not kept'}"
