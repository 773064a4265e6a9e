"""The reference interpreter: one episode, one event at a time, sharing nothing with plan.py and rollout.py."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from harness.protocol.models import AnyProtocol

StreamEvent = tuple[Literal["reveal"], int, int] | tuple[Literal["show"], int]
"""A target revealed, a step shown and answered."""

Event = StreamEvent | tuple[Literal["pair"], int, int] | tuple[Literal["adapt"]] | tuple[Literal["ask"], int]
"""And a support pair given, the one call of `adapt` before queries, a query asked."""


def reference_events(targets: Sequence[int], delay: int) -> Iterator[StreamEvent]:
    """What happens in a stream with these targets and label delay d, in order.

    ('reveal', i, target) when the target of step i becomes known, ('show', t) when step t is shown and
    answered. The order is that of river's `stream.simulate_qa` for d >= 1; targets still waiting after the
    last step are never revealed.
    """
    waiting: deque[tuple[int, int, int]] = deque()
    for t, target in enumerate(targets):
        while waiting and waiting[0][0] <= t:
            _, i, known = waiting.popleft()
            yield "reveal", i, known
        yield "show", t
        waiting.append((t + delay, t, target))


def reference_timeline(protocol: AnyProtocol, targets: Sequence[int]) -> Iterator[Event]:
    """What happens in an episode of any kind with these targets, in order.

    Beside the events of streams: ('pair', i, target) when sample i is given together with its target, ('adapt',)
    once before the first query, and ('ask', t) when step t is asked of the learner as it is then, which is the same
    for all of them.
    """
    from harness.protocol.models import Continual, NWayKShot

    if isinstance(protocol, NWayKShot):
        given = protocol.episode.ways * protocol.episode.shots
        for i in range(given):
            yield "pair", i, targets[i]
    elif isinstance(protocol, Continual):
        given = protocol.episode.subtasks * protocol.episode.shots
        yield from reference_events(targets[:given], 1)
        # A query is the step that would come next, so the last target of the stream is due.
        yield "reveal", given - 1, targets[given - 1]
    else:
        yield from reference_events(targets, protocol.label_delay or 1)
        return
    yield ("adapt",)
    for t in range(given, len(targets)):
        yield "ask", t


def reference_counts(targets: Sequence[int], delay: int) -> list[tuple[int, int]]:
    """(shot, revealed) of each step of a stream: earlier presentations, and revealed labels, of its class."""
    return _counted(reference_events(targets, delay), targets)


def reference_tally(protocol: AnyProtocol, targets: Sequence[int]) -> list[tuple[int, int]]:
    """(shot, revealed) of each step of an episode of any kind. Queries do not count as presentations."""
    return _counted(reference_timeline(protocol, targets), targets)


def _counted(events: Iterable[Event], targets: Sequence[int]) -> list[tuple[int, int]]:
    shown: Counter[int] = Counter()
    revealed: Counter[int] = Counter()
    counts = []
    for event in events:
        if event[0] == "reveal":
            revealed[event[2]] += 1
        elif event[0] != "adapt":
            target = targets[event[1]]
            counts.append((shown[target], revealed[target]))
            shown[target] += event[0] != "ask"
            revealed[target] += event[0] == "pair"
    return counts
