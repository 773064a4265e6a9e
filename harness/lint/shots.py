"""Shots and sizes that mean nothing: labels that never come, ways without a choice, episodes that are all alike."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from harness.data.dataset import ClassTable
from harness.episodes.plan import NULL
from harness.lint.finding import ERROR, NOTE, WARNING, Finding
from harness.lint.planned import planned
from harness.protocol.models import AnyProtocol, DelayedLabel, OnlineFewShot, SegmentationDistractors, StreamProtocol

FEW = 100
"""With fewer test episodes, a 95 % interval of accuracy is wider than the differences that boards are for."""


def shot_findings(protocol: AnyProtocol, table: ClassTable) -> Iterator[Finding]:
    """What is wrong with the sizes of an episode and the shots that are scored."""
    count = protocol.test_episodes
    if count is not None and count < FEW:
        key = "test_episodes" if protocol.episode_file is None else "episodes"
        yield Finding(WARNING, "shots", f"scoring.{key}: {count} episodes leave wide intervals; {FEW} or more")
    if protocol.supervised:
        return
    classes = protocol.needs.classes
    if len(table.names) == classes and classes > 1 and protocol.card.disjoint:
        yield Finding(
            WARNING,
            "shots",
            f"{protocol.needs.classes_key}: every test episode has the same {classes} classes, all that the split has; "
            "intervals over episodes say nothing about other classes",
        )
    if isinstance(protocol, OnlineFewShot | DelayedLabel):
        yield from _of_stream(protocol, table)
    elif isinstance(protocol, SegmentationDistractors) and 0 in protocol.scoring.shots:
        yield _zero_shot("nothing has said yet which class is the target")


def _of_stream(protocol: StreamProtocol, table: ClassTable) -> Iterator[Finding]:
    plans = list(planned(protocol, table))
    if (plans[0].feedback_step == NULL).all():
        yield Finding(
            ERROR,
            "shots",
            f"episode.label_delay: no label is ever revealed, since labels are {protocol.label_delay} steps late and "
            f"an episode has {protocol.steps} steps",
        )
        return
    shot, revealed = (
        np.concatenate(parts) for parts in zip(*((each.shot, each.revealed) for each in plans), strict=True)
    )
    for k in protocol.scoring.shots:
        at = shot == k
        share = float(at.any(1).mean())
        if k == 0:
            yield _zero_shot("what it measures is telling new classes from old ones and counting")
        elif not at.any():
            yield Finding(ERROR, "shots", f"scoring.shots: {k}-shot did not occur in {len(shot)} episodes")
        elif share < 0.5:
            yield Finding(WARNING, "shots", f"scoring.shots: {k}-shot occurs in only {100 * share:.0f} % of episodes")
        elif not (known := revealed[at]).any():
            yield Finding(
                ERROR,
                "shots",
                f"scoring.shots: at {k}-shot no label of the class is ever known (labels are "
                f"{protocol.label_delay} steps late)",
            )
        elif (unknown := float(np.mean(known == 0))) > 0.05:
            yield Finding(
                WARNING if unknown > 0.5 else NOTE,
                "shots",
                f"scoring.shots: at {k}-shot, {100 * unknown:.0f} % of answers are asked before any label of the "
                "class is known",
            )


def _zero_shot(why: str) -> Finding:
    return Finding(WARNING, "shots", f"scoring.shots: 0-shot is scored at a first presentation, where {why}")
