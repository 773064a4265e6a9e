"""Words that the kinds describe themselves with: their parts, ranges of steps, label timing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_EXAMPLE = 12


def queries_come(queries: int) -> str:
    """'75 queries come in random order', or that one does."""
    return "one query comes" if queries == 1 else f"{queries} queries come in random order"


@dataclass(frozen=True)
class Words:
    """A protocol in words: the shape of an episode, what happens in it (sentences), how it is scored, what a step and
    the columns of its timeline mean, and what to know of the metrics on its board ('' where the README says it)."""

    shape: str
    course: tuple[str, ...]
    scoring: str
    legend: str
    board: str = ""


def timing(delay: int, steps: int) -> str:
    """When labels are revealed in a stream of `steps` steps, with an example."""
    if delay >= steps:
        return f"Labels would be revealed {delay} steps late: never, as an episode has {steps} steps."
    example = min(max(_EXAMPLE, delay), steps - 1)
    never = labels(range(steps - delay, steps))
    return (
        f"The label of step t is revealed before step t + {delay}: "
        f"at step {example} {labels(range(example - delay + 1))} known.\n"
        f"{never[0].upper()}{never[1:]} never revealed."
    )


def labels(steps: range) -> str:
    """'the labels of steps 0..7 are', to be followed by what they are."""
    return f"the labels of steps {ranges(steps)} are" if len(steps) > 1 else f"the label of step {steps[0]} is"


def ranges(steps: Sequence[int] | range) -> str:
    """Numbers with runs drawn together: '0..7', '0..3, 5'; '' for none."""
    numbers = sorted(steps)
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}..{last}" for first, last in runs)


def stream_legend(shown: str, known: str) -> str:
    """What a step of a stream asks, and what `k-shot` and `revealed` mean."""
    return (
        f"At each step the learner receives the feedback, is shown {shown}.\n"
        "k-shot: k earlier presentations of the class (* a shot that the protocol reports); revealed: how many "
        f"of them have a known {known}."
    )


def at_shots(shots: Sequence[int]) -> str:
    """'shots 1, 5, 8', 'shot 1'."""
    return f"{'shots' if len(shots) > 1 else 'shot'} {', '.join(map(str, shots))}"
