"""How a training went: loss, validation and throughput over its episodes, its stages shaded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from harness.report.figure import Figure
from harness.report.lines import Series, lines
from harness.report.run_log import Logged, stages, throughput


def training_figures(logs: Mapping[str, Sequence[Logged]]) -> Iterator[Figure]:
    """Figures of logs by what tells them apart (a seed; '' for one alone); stages are those of the longest."""
    shaded = stages(max(logs.values(), key=len, default=()))
    loss = [replace(each, broken=True) for each in _series(logs, "loss", 0, lambda each: each.loss)]
    if max((len(each.x) for each in loss), default=0) > 1:
        yield lines("Training loss, smoothed; stages shaded", "training episodes", "loss", loss,
                    stages=shaded)  # fmt: skip
    validation = [*_series(logs, "validation", 2, lambda each: each.validation)]
    if validation:
        yield lines("Validation on classes of its own; stages shaded", "training episodes", "score, %", validation,
                    stages=shaded, bounds=(0, 100))  # fmt: skip
    rates = [
        Series(_name("episodes a second", own), at, rate, number=4 + place, broken=True)
        for place, (own, log) in enumerate(logs.items())
        for at, rate in [throughput(log)]
        if len(at) > 1
    ]
    if rates:
        yield lines("Throughput, validation included", "training episodes", "episodes a second", rates, stages=shaded,
                    from_zero=True, height=240)  # fmt: skip


def _series(
    logs: Mapping[str, Sequence[Logged]], what: str, number: int, value: Callable[[Logged], float | None]
) -> Iterator[Series]:
    for place, (own, log) in enumerate(logs.items()):
        found = [(each.episodes, y) for each in log if (y := value(each)) is not None]
        if found:
            yield Series(_name(what, own), [x for x, _ in found], [y for _, y in found], number=number + place)


def _name(what: str, own: str) -> str:
    return f"{what}, {own}" if own else what
