"""The plot of a result, with matplotlib."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from harness.util.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_AXES = {"by_step": "step", "by_shot": "shot", "by_subtask": "subtask"}
"""What the horizontal axis of a curve counts."""


def plotted(title: str, curves: Mapping[str, list[float]], log: list[dict[str, Any]], ranking: str) -> Figure:
    """A panel for each kind of curve, and one for the training if the log has any. UserError without matplotlib.

    `curves` are in per cent; `log` holds the entries of logs of runs, each with its 'seed'; `ranking` is the metric of
    the validations in them.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise UserError("plots need matplotlib: pip install 'episode-harness[viz]'") from None
    groups: dict[str, dict[str, list[float]]] = {}
    for name, values in curves.items():
        groups.setdefault(_counted(name), {})[name] = values
    training = [each for each in log if each.get("loss") is not None or each["event"] == "validation"]
    panels = len(groups) + bool(training)
    figure = Figure(figsize=(4.5 * max(panels, 1), 3.4), layout="constrained")
    axes = list(figure.subplots(1, max(panels, 1), squeeze=False)[0])
    for panel, (counted, group) in zip(axes, groups.items(), strict=False):
        for name, values in group.items():
            panel.plot(range(len(values)), values, marker="." if len(values) < 30 else None, label=name)
        panel.set(xlabel=counted, ylabel="per cent", ylim=(0, 100))
        if len(group) > 1:
            panel.legend(fontsize="small")
    if training:
        _draw_training(axes[-1], training, ranking)
    figure.suptitle(title)
    return figure


def _counted(name: str) -> str:
    return next((word for ending, word in _AXES.items() if name.partition(",")[0].endswith(ending)), "")


def _draw_training(panel: Axes, entries: list[dict[str, Any]], ranking: str) -> None:
    """The smoothed loss of each seed, and its validation on an axis of its own."""
    other = None
    for seed in dict.fromkeys(each["seed"] for each in entries):
        own = [each for each in entries if each["seed"] == seed]
        updates = [each for each in own if each["event"] == "update" and each.get("loss") is not None]
        panel.plot([each["episodes"] for each in updates], [each["loss"] for each in updates], linewidth=1)
        looks = [each for each in own if each["event"] == "validation"]
        if looks:
            other = other or panel.twinx()
            other.plot([each["episodes"] for each in looks], [each["validation"] for each in looks], "k.--")
            other.set(ylabel=f"validation {ranking}, per cent", ylim=(0, 100))
    panel.set(xlabel="training episodes", ylabel="smoothed loss")
