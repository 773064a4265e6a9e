"""Protocols in words: a line for lists, and what is given, shown, revealed, asked and scored."""

from __future__ import annotations

from harness.protocol.models import AnyProtocol


def summary(protocol: AnyProtocol) -> str:
    """One line: data set, shape of an episode, label timing, scoring."""
    words = protocol.words
    return f"on {protocol.data_name}, {words.shape}, {words.scoring}"


def heading(name: str, protocol: AnyProtocol) -> str:
    """What the protocol is, what a learner is given and when, and what is scored, in sentences."""
    words = protocol.words
    return "\n".join(
        [
            f"{name}: {protocol.title}",
            f"Kind {protocol.kind}, digest {protocol.digest[:12]}.",
            f"Data: {protocol.data_name} ({protocol.card.title}).",
            f"An episode: {words.shape}.",
            *words.course,
            f"Test: {words.scoring}; ranked by {protocol.ranking}.",
        ]
    )
