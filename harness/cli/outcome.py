"""The last lines of a run: each metric with its interval, the rank, the difference to the best of the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.text_table import terminal_width, wrap
from harness.util.quantities import counted
from harness.util.shown_text import in_line

if TYPE_CHECKING:
    from harness.boards.entries import Entry
    from harness.boards.outcome import Outcome
    from harness.evaluation.summary import Summary
    from harness.protocol.models import AnyProtocol
    from harness.records.record import Record


def outcome_lines(
    protocol: AnyProtocol,
    records: Sequence[Record],
    outcome: Outcome | None,
    board: Path | None,
    folders: list[Path],
    baselines: Mapping[str, Summary],
) -> str:
    """The text for people; `outcome` and `board` are None for a run that went to no board, `baselines` what is earned
    on the same test episodes without a look at the images."""
    from harness.boards.columns import budget_of, marks_of
    from harness.boards.outcome import entry_of_runs

    entry = outcome.entry if outcome else entry_of_runs(protocol, records, folders)
    last = records[-1]
    budget = budget_of(last)
    head = f"{last.method} on {last.protocol}, data {last.data.name}" + (f", budget {budget}" if budget else "")
    rows = [*_metric_rows(protocol, entry)]
    if baselines:
        named = ", ".join(f"{name} {summary.text(2)} %" for name, summary in baselines.items())
        rows.append(("without images", f"{named} ({protocol.ranking} of baselines that see labels alone)"))
    rows.append(("seeds", _seeds(protocol, entry, records)))
    if any(each.run not in {record.run for record in records} for each in entry.records):
        rows.append(("this run" if len(records) == 1 else "these runs", _alone(protocol, records)))
    if marks := marks_of(entry):
        rows.append(("marks", ", ".join(marks)))
    if outcome:
        rows += [("rank", _rank(outcome, board)), *_against(outcome)]
    rows += [("record", str(folder / "record.json")) for folder in folders]
    width, room = max(len(name) for name, _ in rows), terminal_width()
    lines = (wrap(f"  {name:<{width}}  {in_line(text)}", room, " " * (width + 4)) for name, text in rows)
    return "\n".join([wrap(in_line(head), room), *lines])


def outcome_as_json(
    protocol: AnyProtocol,
    records: Sequence[Record],
    outcome: Outcome | None,
    folders: list[Path],
    baselines: Mapping[str, Summary],
) -> dict[str, Any]:
    """The same as plain data, with the records themselves."""
    from harness.boards.outcome import entry_of_runs

    entry = outcome.entry if outcome else entry_of_runs(protocol, records, folders)
    found: dict[str, Any] = {
        "records": [record.model_dump(mode="json") for record in records],
        "folders": [str(folder) for folder in folders],
        "metrics": {name: each.as_json() for name in sorted(entry.newest.metrics) if (each := entry.summary(name))},
        "seeds": [record.seed for record in entry.records],
        "baselines": {name: each.as_json() for name, each in baselines.items()},
    }
    if outcome:
        found |= {
            "rank": outcome.rank,
            "ranked": outcome.ranked,
            "reasons": [f"{heading}: {detail}" for heading, detail in outcome.entry.reasons],
            "rival": [record.run for record in outcome.rival.records] if outcome.rival else None,
            "difference": outcome.difference.as_json() if outcome.difference else None,
        }
    return found


def _metric_rows(protocol: AnyProtocol, entry: Entry) -> list[tuple[str, str]]:
    rows = []
    for name in dict.fromkeys((protocol.ranking, *protocol.reported)):
        summary = entry.summary(name)
        if summary is not None:
            episodes = entry.newest.metrics[name].episodes
            rows.append((name, f"{summary.text(2)} %, {counted(episodes, 'test episode')}"))
    return rows


def _seeds(protocol: AnyProtocol, entry: Entry, records: Sequence[Record]) -> str:
    summary = entry.summary(protocol.ranking)
    spread = summary.spread if summary else None
    said = "" if spread is None else f" (standard deviation of {protocol.ranking} {spread:.2f})"
    asked = {record.run for record in records}
    before = [str(record.seed) for record in entry.records if record.run not in asked]
    if before:
        said += f"; seed{'s' if len(before) > 1 else ''} {', '.join(before)} from other runs on the board"
    return ", ".join(str(record.seed) for record in entry.records) + said


def _alone(protocol: AnyProtocol, records: Sequence[Record]) -> str:
    """What was just scored, where the means above are of other runs too."""
    means = ((record.seed, record.metrics.get(protocol.ranking)) for record in records)
    return ", ".join(f"seed {seed}: {protocol.ranking} {mean.mean:.2f} %" for seed, mean in means if mean)


def _rank(outcome: Outcome, board: Path | None) -> str:
    where = f" on {board}" if board else ""
    if outcome.rank is None:
        return f"none{where}: {'; '.join(detail for _, detail in outcome.entry.reasons)}"
    return f"{outcome.rank} of {outcome.ranked}{where}"


def _against(outcome: Outcome) -> list[tuple[str, str]]:
    if outcome.rival is None:
        return []
    name = f"{outcome.rival.newest.method}, the best of the other rows"
    if outcome.difference is None:
        return [("against", f"{name}: no paired difference ({outcome.without_difference})")]
    change, episodes = outcome.difference.difference, outcome.difference.episodes
    if change.half is None:
        return [("against", f"{name}: {change.text()}, on the same single episode, which has no interval")]
    says = "" if change.excludes_zero else "; the interval holds zero"
    return [("against", f"{name}: {change.text()}, paired on the same {episodes} episodes{says}")]
