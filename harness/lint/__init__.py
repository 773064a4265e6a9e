"""What is allowed in a protocol and yet spoils it: scores without learning, shots without meaning, leaking splits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from harness.lint.finding import ERROR, NOTE, SEVERITIES, WARNING, Finding, gravest
from harness.lint.images import data_findings
from harness.lint.label_only import learner_findings
from harness.lint.repeats import repeat_findings
from harness.lint.shots import shot_findings

if TYPE_CHECKING:
    from harness.data.dataset import Dataset
    from harness.protocol.load import Loaded
    from harness.protocol.models import AnyProtocol

__all__ = ["ERROR", "NOTE", "SEVERITIES", "WARNING", "Finding", "gravest", "lint"]


def lint(loaded: Loaded, dataset: Dataset | None) -> tuple[Finding, ...]:
    """Everything found in a protocol, gravest first.

    Episodes are drawn from the data set where there is one. Without it (None) they are drawn from what is known of
    it, and nothing is said about its images and masks.
    """
    return tuple(sorted(_findings(loaded, dataset), key=lambda each: SEVERITIES.index(each.severity)))


def _findings(loaded: Loaded, dataset: Dataset | None) -> Iterator[Finding]:
    from harness.episodes.fixed import table_without_data

    protocol = loaded.protocol
    allowed = {protocol.ranking, *protocol.reported}
    for printed in protocol.published:
        for name in sorted(printed.metrics.keys() - allowed):
            yield Finding(
                WARNING,
                "published",
                f"published: {printed.method} has '{name}', which this protocol does not report "
                f"({', '.join(sorted(allowed))})",
            )
    if dataset is None and not protocol.card.images_per_class:
        yield Finding(NOTE, "data", f"{protocol.data_name} was not found; its episodes were not looked at")
        return
    table = dataset.tables["test"] if dataset else table_without_data(protocol, "test")
    yield from _few_to_select_by(
        protocol, {name: len(each.names) for name, each in dataset.tables.items()} if dataset else protocol.card.classes
    )
    yield from shot_findings(protocol, table)
    yield from repeat_findings(protocol, table)
    yield from learner_findings(protocol, table, dataset)
    if dataset is None:
        yield Finding(NOTE, "data", f"{protocol.data_name} was not found; its splits and images were not compared")
    else:
        yield from data_findings(dataset)


def _few_to_select_by(protocol: AnyProtocol, classes: Mapping[str, int]) -> Iterator[Finding]:
    there, needed = classes.get("validation"), protocol.needs.classes
    if there is not None and there < needed:
        yield Finding(
            NOTE,
            "splits",
            f"{protocol.needs.classes_key}: {needed} classes in an episode, but the validation split has {there}: "
            "weights are selected in fewer ways, or not at all, and rows say so",
        )
