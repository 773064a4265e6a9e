"""The page of one run, finished or not: how it was trained, how its scores are distributed, what it cost."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from harness.evaluation.summary import of_metrics
from harness.protocol.models import AnyProtocol
from harness.records.record import Record
from harness.report.curves import curve_figures
from harness.report.figure import Figure
from harness.report.histogram import histogram
from harness.report.page import render
from harness.report.run_episodes import NO_EPISODES, RunEpisodes, episode_scores
from harness.report.run_log import RunFolder
from harness.report.training_figures import training_figures
from harness.util.quantities import clock


def run_page(
    run: RunFolder,
    protocol: AnyProtocol | None,
    episodes: RunEpisodes = NO_EPISODES,
    live: bool = False,
) -> str:
    """HTML of a run of `protocol` (None if it is not at hand); a live page of a running one fetches itself again."""
    values = None if protocol is None else episode_scores(run, protocol)
    record = run.record
    return render(
        "run.html",
        up="../",
        live=live and run.running,
        run=run,
        record=record,
        title=f"{run.identity.get('method', run.name)} on {run.protocol or 'a protocol'}",
        state=_state(run),
        facts=[*_facts(run)],
        training=[*training_figures({"": run.log})],
        metrics=[] if record is None else [(name, each.text(2)) for name, each in of_metrics(record.metrics).items()],
        curves=[] if record is None else [*curve_figures([(record, run.scores, record.method)])],
        distribution=_distribution(protocol, values),
        episodes=episodes,
        cost=[] if record is None else [*_cost(record)],
    )


def _state(run: RunFolder) -> str:
    """What there is to know of a run that is not done."""
    if run.running:
        return "The run goes on, or was killed: this is what it noted last, and how far its log has come."
    if run.status != "done":
        return "The run can go on from its last checkpoint: give its command again with --resume."
    return ""


def _facts(run: RunFolder) -> Iterator[tuple[str, str]]:
    yield "state", run.status
    yield "last note", run.when
    for name, key in (("protocol", "protocol"), ("method", "method"), ("budget", "budget"), ("seed", "seed")):
        if run.identity.get(key) not in (None, ""):
            yield name, str(run.identity[key])
    if run.identity.get("budget_cut"):
        yield "cut short by", str(run.identity["budget_cut"])
    if run.log:
        yield "training episodes", f"{run.log[-1].episodes:,.0f}"
        yield "training time", clock(run.log[-1].seconds)


def _distribution(protocol: AnyProtocol | None, values: np.ndarray | None) -> Figure | None:
    if protocol is None or values is None or protocol.supervised or len(values) < 2:
        return None
    return histogram(f"{protocol.ranking} of single test episodes", f"{protocol.ranking}, %", values)


def _cost(record: Record) -> Iterator[tuple[str, str]]:
    cost, machine = record.cost, record.hardware
    yield "parameters", f"{cost.parameters:,}"
    yield "GFLOP per step", "not counted" if cost.gflop_per_step is None else f"{cost.gflop_per_step:.3g}"
    if cost.gflop_per_query is not None:
        yield "GFLOP per query", f"{cost.gflop_per_query:.3g}"
    growth = cost.state_growth if cost.state_growth == "constant" else f"growing {cost.state_growth}"
    yield "bytes of state", f"{cost.state_bytes:,}, {growth}"
    yield (
        "training",
        f"{record.train_episodes:,} episodes, {record.train_updates:,} updates, {clock(record.train_seconds)}",
    )
    yield "scoring", f"{record.test_episodes:,} episodes, {clock(record.score_seconds)}"
    yield "machine", machine.gpu or f"{machine.cpu}, {machine.threads} threads"
