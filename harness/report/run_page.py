"""The page of one run, finished or not: how it was trained, how its scores are distributed, what it cost."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from harness.boards.columns import NOTHING
from harness.evaluation.summary import of_metrics
from harness.protocol.models import AnyProtocol
from harness.records.record import Record
from harness.report.commands import resume_command
from harness.report.curves import curve_figures
from harness.report.figure import Figure
from harness.report.histogram import histogram
from harness.report.marks import explained
from harness.report.page import render
from harness.report.run_episodes import NO_EPISODES, RunEpisodes, episode_scores
from harness.report.run_log import RunFolder, stages
from harness.report.training_figures import training_figures
from harness.runs.status import TRAINED
from harness.util.quantities import clock, counted


def run_page(
    run: RunFolder,
    protocol: AnyProtocol | None,
    episodes: RunEpisodes = NO_EPISODES,
    live: bool = False,
    links: Sequence[tuple[str, str]] = (),
) -> str:
    """HTML of a run of `protocol` (None if it is not at hand); a live page of a running one fetches itself again.

    `links` are other pages about it: their names, and their addresses from the index's folder.
    """
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
        stages=[*_stages(run)],
        marks=[] if record is None else [explained(mark) for mark in record.marks],
        stand_in=protocol is not None and protocol.card.stand_in,
        links=links,
        metrics=[] if record is None else [*_metrics(record, protocol)],
        curves=[] if record is None else [*curve_figures([(record, run.scores, record.method)])],
        distribution=_distribution(protocol, values),
        episodes=episodes,
        by=protocol.ranking if protocol else "",
        single=protocol is not None and protocol.supervised,
        cost=[] if record is None else [*_cost(record)],
        key="" if protocol is None else _key(protocol),
        setting=[(key, _setting(value)) for key, value in sorted(run.identity.items())],
        resume="" if run.status == "done" else resume_command(run),
    )


def _metrics(record: Record, protocol: AnyProtocol | None) -> Iterator[tuple[str, str]]:
    """Metrics with their intervals, the one that the board is ranked by first."""
    found = of_metrics(record.metrics)
    first = [protocol.ranking] if protocol is not None and protocol.ranking in found else []
    for name in dict.fromkeys([*first, *found]):
        yield name, found[name].text(2)


def _state(run: RunFolder) -> str:
    """What there is to know of a run that is not done."""
    if run.running:
        said = f"; its log was written last at {run.logged}" if run.logged else ""
        return f"The run goes on, or was killed{said}. This is how far its log has come."
    if run.status == TRAINED:
        return "The run is trained, and has scored no test episode yet."
    return "" if run.status == "done" else "The run can go on from its last checkpoint, by the command below."


def _key(protocol: AnyProtocol) -> str:
    """What stands in the pictures of episodes, and which answers the score of one is made of."""
    found = (
        "Blue is what was called the target's object, orange are pixels of the distractor's object that are masked out."
        if protocol.masks
        else "Below each image is the answer: ✓ right, ✗ wrong."
    )
    if protocol.supervised:
        return "A frame is whole where the answer is right, and broken where it is wrong."
    if not protocol.shots:
        return found
    mean = f", over which {protocol.ranking} is the mean" if protocol.ranking_is_mean else ""
    return f"{found} A star marks the shots that the protocol reports ({', '.join(map(str, protocol.shots))}){mean}."


def _setting(value: Any) -> str:
    """A value of the run's identity in words; '' for none."""
    if isinstance(value, dict):
        return ", ".join(
            f"{name}={each if isinstance(each, str) else json.dumps(each)}" for name, each in value.items()
        )
    return "" if value is None else str(value)


def _stages(run: RunFolder) -> Iterator[tuple[str, str, str, str]]:
    """Stages, where there are several: name, training episodes, the last loss, the best validation."""
    found = stages(run.log)
    for stage in found if len(found) > 1 else ():
        inside = [each for each in run.log if each.stage == stage.name and stage.begin < each.episodes <= stage.end]
        losses = [each.loss for each in inside if each.loss is not None]
        validations = [each.validation for each in inside if each.validation is not None]
        yield (
            stage.name,
            f"{stage.begin:,.0f} to {stage.end:,.0f}",
            f"{losses[-1]:.3f}" if losses else NOTHING,
            f"{max(validations):.2f}" if validations else NOTHING,
        )


def _facts(run: RunFolder) -> Iterator[tuple[str, str]]:
    yield "state", run.status
    yield ("finished" if run.status == "done" else f"{run.status} since"), run.when
    for name, key in (("protocol", "protocol"), ("method", "method"), ("budget", "budget"), ("seed", "seed")):
        if run.identity.get(key) not in (None, ""):
            yield name, str(run.identity[key])
    if run.identity.get("budget_cut"):
        yield "limited to", str(run.identity["budget_cut"])
    if run.log:
        yield "training episodes", f"{run.log[-1].episodes:,.0f}"
        yield "training time", clock(run.record.train_seconds if run.record else run.log[-1].seconds)


def _distribution(protocol: AnyProtocol | None, values: np.ndarray | None) -> Figure | None:
    if protocol is None or values is None or protocol.supervised or len(values) < 2:
        return None
    return histogram(f"Single test episodes by their {protocol.ranking}", f"{protocol.ranking}, %", values)


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
    yield (
        "machine",
        machine.gpu or f"{machine.cpu}, {counted(machine.threads, 'thread')}",
    )
