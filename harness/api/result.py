"""What `harness.run` returns: metrics, curves and records over seeds, as numbers, a table or a plot."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.boards.entries import Entry
from harness.boards.outcome import Outcome, entry_of_runs
from harness.evaluation.summary import Summary, of_metrics
from harness.protocol.models import AnyProtocol
from harness.records.record import Record
from harness.runs.folder import SCORES, read_log_entries, read_scores

if TYPE_CHECKING:
    import pandas as pd

    from harness.report.plot import Plot


@dataclass(frozen=True, repr=False)
class Result:
    """Runs of one method on one protocol that differ in their seed alone, in the order in which they were run.

    `records` and `folders` are one a seed; `boards` is the folder of the board that the rows went to and `outcome` the
    place they have there, both None for runs that went to none.
    """

    protocol: AnyProtocol
    records: tuple[Record, ...]
    folders: tuple[Path, ...]
    boards: Path | None = None
    outcome: Outcome | None = None

    @property
    def record(self) -> Record:
        """The record of the last seed: everything there is to know of that run."""
        return self.records[-1]

    @property
    def metrics(self) -> dict[str, Summary]:
        """Every metric in per cent, the one that the board is ranked by first: its mean over the seeds of this result,
        its 95 % interval as boards have it (`.interval` is half its width), and its standard deviation over seeds."""
        entry = self._entry
        names = dict.fromkeys((self.protocol.ranking, *self.protocol.reported, *sorted(self.record.metrics)))
        found = {name: entry.summary(name) for name in names}
        return {name: each for name, each in found.items() if each is not None}

    @cached_property
    def _entry(self) -> Entry:
        """The entry that these runs are by themselves; on the board other seeds may belong to it."""
        return entry_of_runs(self.protocol, self.records, self.folders)

    @property
    def curves(self) -> dict[str, list[float]]:
        """Means in per cent, over test episodes and seeds: 'by_shot', 'by_step', 'by_subtask', as the kind has them."""
        shared = [name for name in self.record.curves if all(name in each.curves for each in self.records)]
        return {name: np.mean([each.curves[name] for each in self.records], axis=0).tolist() for name in shared}

    @property
    def rank(self) -> str | None:
        """The rank on the board, as '1' or '2='; None where the row is not ranked (`outcome.entry.reasons`)."""
        return self.outcome.rank if self.outcome else None

    def log(self) -> list[dict[str, Any]]:
        """The log of every run, in order, each entry with its 'seed': updates, validations, stages, test metrics. Lines
        that a kill has cut short are left out."""
        return [
            {"seed": record.seed, **entry}
            for record, folder in zip(self.records, self.folders, strict=True)
            for entry in read_log_entries(folder)
        ]

    def to_pandas(self) -> pd.DataFrame:
        """A row for each seed and metric: protocol, data, method, budget, seed, metric, mean, half the width of the
        interval, episodes."""
        import pandas as pd

        return pd.DataFrame(
            {
                "protocol": record.protocol,
                "data": record.data.name,
                "method": record.method,
                "budget": record.budget,
                "seed": record.seed,
                "metric": name,
                "mean": metric.mean,
                "interval": metric.interval,
                "episodes": record.metrics[name].episodes,
            }
            for record in self.records
            for name, metric in of_metrics(record.metrics).items()
        )

    def plot(self) -> Plot:
        """The curves with their intervals over test episodes, and the training where there was one: loss, validation
        and throughput, stages shaded; a line a seed. Notebooks show it, `plot().save('x.svg')` writes it."""
        from harness.report.curves import curve_figures
        from harness.report.plot import Plot
        from harness.report.run_log import read_log
        from harness.report.training_figures import training_figures

        last, several = self.record, len(self.records) > 1
        seeds = [f"seed {record.seed}" if several else "" for record in self.records]
        runs = [
            (record, read_scores(folder / SCORES) if (folder / SCORES).is_file() else None, seed or record.method)
            for record, folder, seed in zip(self.records, self.folders, seeds, strict=True)
        ]
        logs = {seed: read_log(folder) for seed, folder in zip(seeds, self.folders, strict=True)}
        title = f"{last.method} on {last.protocol} ({last.data.name})"
        return Plot(title, (*curve_figures(runs), *training_figures(logs)))

    def __repr__(self) -> str:
        """The last lines of a run, short enough for a notebook."""
        last = self.record
        lines = [f"{last.method} on {last.protocol}, data {last.data.name}"]
        rows = [(name, f"{each.text(2)} %") for name, each in self.metrics.items()]
        if len(self.records) > 1:
            rows.append(("seeds", ", ".join(str(record.seed) for record in self.records)))
        if self.outcome:
            why_not = "; ".join(detail for _, detail in self.outcome.entry.reasons)
            rows.append(("rank", f"{self.rank} of {self.outcome.ranked}" if self.rank else f"none: {why_not}"))
        width = max((len(name) for name, _ in rows), default=0)
        return "\n".join([*lines, *(f"  {name:<{width}}  {text}" for name, text in rows)])
