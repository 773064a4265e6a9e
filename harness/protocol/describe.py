"""Protocols in words: a line for lists, and what is given, shown, revealed, asked and scored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.protocol.models import (
    AnyProtocol,
    Continual,
    DelayedLabel,
    NWayKShot,
    OnlineFewShot,
    SegmentationDistractors,
    StreamEpisode,
    Supervised,
    digest,
    ranking,
)

_EXAMPLE = 12


def summary(protocol: AnyProtocol) -> str:
    """One line: data set, shape of an episode, label timing, scoring."""
    return f"on {protocol.data_name}, {_shape(protocol)}, {_scoring(protocol)}"


def heading(name: str, protocol: AnyProtocol) -> str:
    """What the protocol is, what a learner is given and told when, and what is scored, in sentences."""
    return "\n".join(
        [
            f"{name}: {protocol.title}",
            f"Kind {protocol.kind}, digest {digest(protocol)[:12]}.",
            f"Data: {protocol.data_name} ({protocol.card.title}).",
            f"An episode: {_shape(protocol)}.",
            *_course(protocol),
            f"Test: {_scoring(protocol)}; ranked by {ranking(protocol)}.",
        ]
    )


def timing(delay: int, steps: int) -> str:
    """When labels are revealed in a stream of `steps` steps, with an example."""
    if delay >= steps:
        return f"Labels would be revealed {delay} steps late: never, as an episode has {steps} steps."
    example = min(max(_EXAMPLE, delay), steps - 1)
    never = _labels(range(steps - delay, steps))
    return (
        f"The label of step t is revealed before step t + {delay}: "
        f"at step {example} {_labels(range(example - delay + 1))} known.\n"
        f"{never[0].upper()}{never[1:]} never revealed."
    )


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


def legend(protocol: AnyProtocol) -> str:
    """What a step asks of the learner, and what the columns of its timeline mean."""
    if isinstance(protocol, Supervised):
        return "The learner is shown an image of a class and must answer its number."
    if isinstance(protocol, Continual):
        return (
            "At each step of the stream the learner receives the feedback and is shown an image of a class; its answer "
            "is not scored.\nsubtask: place of the class in the stream, from 0."
        )
    if isinstance(protocol, NWayKShot):
        return "The learner is given the support pairs; of each query it must answer the number of the class."
    asked = "an image of a class, and must answer its number"
    known = "label"
    if isinstance(protocol, SegmentationDistractors):
        asked, known = "an image, and must mark the object of the target class", "mask"
    return (
        f"At each step the learner receives the feedback, is shown {asked}.\n"
        "k-shot: k earlier presentations of the class (* a shot that the protocol reports); revealed: how many "
        f"of them have a known {known}."
    )


def _labels(steps: range) -> str:
    return f"the labels of steps {ranges(steps)} are" if len(steps) > 1 else f"the label of step {steps[0]} is"


def _shape(protocol: AnyProtocol) -> str:
    if isinstance(protocol, OnlineFewShot | DelayedLabel):
        late = "one step" if protocol.label_delay == 1 else f"{protocol.label_delay} steps"
        return f"{_stream(protocol.episode, protocol.steps)}, labels {late} late"
    if isinstance(protocol, Continual):
        continual = protocol.episode
        return (
            f"{continual.subtasks} classes one after another, {continual.shots} samples each, "
            f"then {continual.queries} queries of each"
        )
    if isinstance(protocol, SegmentationDistractors):
        masks = protocol.episode
        return f"{masks.presentations} images of a target class" + (
            f" and {masks.presentations} of a distractor class in random order" if masks.distractor else ""
        )
    if isinstance(protocol, NWayKShot):
        support = protocol.episode
        return f"{support.ways} classes, {support.shots} labelled and {support.queries} query samples of each"
    return "one image, classes as in training"


def _stream(shape: StreamEpisode, steps: int) -> str:
    if shape.order == "iid":
        return f"{steps} steps, each of a class drawn anew from {shape.ways}"
    order = "taking turns in one random order" if shape.order == "cyclic" else "in random order"
    return f"{shape.ways} classes x {shape.presentations} presentations {order} = {steps} steps"


def _course(protocol: AnyProtocol) -> Iterator[str]:
    """What happens in an episode beside its shape."""
    if isinstance(protocol, OnlineFewShot | DelayedLabel):
        yield timing(protocol.label_delay, protocol.steps)
    elif isinstance(protocol, Continual):
        shape = protocol.episode
        steps, queries = shape.subtasks * shape.shots, shape.subtasks * shape.queries
        yield "The label of step t of the stream is revealed before step t + 1; no class comes back."
        yield (
            f"Then {queries} queries come in random order. Each is asked as the step that would follow the stream, "
            f"when {_labels(range(steps))} known: from the same state, which no query changes."
        )
    elif isinstance(protocol, NWayKShot):
        support = protocol.episode
        pairs, queries = support.ways * support.shots, support.ways * support.queries
        yield f"The learner is given {pairs} pairs of an image and its label, one after another in random order."
        yield f"Then {queries} queries come in random order, each asked from the same state, which no query changes."
    elif isinstance(protocol, SegmentationDistractors):
        yield "The mask of step t is revealed before step t + 1; before step 0 the feedback is a plane of -1."
        if protocol.episode.distractor:
            yield (
                "The mask of the distractor is all background. Which class is the target can be learned from revealed "
                "masks alone."
            )
    else:
        yield "No label is revealed. Training shows every training image once in each pass, in a new order."


def _scoring(protocol: AnyProtocol) -> str:
    scoring = protocol.scoring
    count = getattr(scoring, "test_episodes", None)
    if count is None:
        return "scored by accuracy on the whole test split"
    shots = getattr(scoring, "shots", None)
    if shots is None:
        return f"scored by query accuracy over {count} episodes"
    which = f"{'shots' if len(shots) > 1 else 'shot'} {', '.join(map(str, shots))}"
    if isinstance(protocol, SegmentationDistractors):
        what = "IoU of the target and masking of the distractor" if protocol.episode.distractor else "IoU"
        return f"scored by {what} at {which} over {count} episodes"
    return f"scored at {which} over {count} episodes"
