"""Methods that write down what they are handed, for tests of the gate for labels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from harness.episodes.plan import NULL
from harness.episodes.source import Episodes
from harness.method.interface import CLASSES, MASKS, Feedback, Method, State, Task
from harness.method.registry import task_for
from harness.testing import reference_timeline

Log = list[tuple[str, Any]]


class Probe(Method):
    """Writes down everything it is handed, in order; may scribble over it afterwards. All its logits are equal."""

    kinds = CLASSES + MASKS

    def __init__(self, task: Task, scribbles: bool = False) -> None:
        super().__init__(task)
        self.log: Log = []
        self.scribbles = scribbles

    def note(self, event: str, *seen: Tensor) -> None:
        self.log.append((event, tuple(each.clone() for each in seen)))
        if self.scribbles:
            for each in seen:
                each.fill_(0)

    def start(self, episodes: int) -> State:
        self.log.append(("start", (torch.tensor(episodes),)))
        return torch.zeros(episodes, 1)

    def observe(self, state: State, feedback: Feedback) -> State:
        if feedback.x is None:
            self.note("observe", feedback.target)
        else:
            self.note("pair", feedback.target, feedback.x)
        return state + 1

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        self.note("predict", x)
        return self.equal(x), state + 1

    def adapt(self, state: State) -> State:
        self.log.append(("adapt", (state.clone(),)))
        return state

    def query(self, state: State, x: Tensor) -> Tensor:
        self.note("query", x)
        return self.equal(x)

    def equal(self, x: Tensor) -> Tensor:
        """Logits of 0 for inputs [..., C, H, W]."""
        answer = (1, *x.shape[-2:]) if self.task.kind in MASKS else (self.task.ways,)
        return torch.zeros(*x.shape[:-3], *answer)


def probe(protocol: Any, episodes: Episodes, cls: type[Probe] = Probe, **options: Any) -> Any:
    """A probe of these episodes."""
    channels, height, width = episodes.x.shape[2:]
    return cls(task_for(cls, protocol, (channels, height, width), episodes.plan.classes.shape[1]), **options)


def handed(log: Log, row: int) -> list[tuple[Any, ...]]:
    """What one episode of the batch was handed, in the reference interpreter's words, with pixels for steps."""
    events: list[tuple[Any, ...]] = []
    for event, seen in log:
        if event == "pair":
            events.append(("pair", content(seen[1][row]), content(seen[0][row])))
        elif event == "observe" and not (seen[0][row] == NULL).all():
            events.append(("reveal", content(seen[0][row])))
        elif event == "predict":
            events.append(("show", content(seen[0][row])))
        elif event == "adapt":
            events.append(("adapt",))
        elif event == "query":
            events += [("ask", content(each)) for each in seen[0][row]]
    return events


def expected(protocol: Any, episodes: Episodes, row: int) -> list[tuple[Any, ...]]:
    """The same from the reference interpreter."""
    x, target = (each[:, row] for each in (episodes.x, episodes.target))
    events: list[tuple[Any, ...]] = []
    for name, *rest in reference_timeline(protocol, episodes.plan.target[row].tolist()):
        if name == "pair":
            events.append(("pair", content(x[rest[0]]), content(target[rest[0]])))
        elif name == "reveal":
            events.append(("reveal", content(target[rest[0]])))
        elif name == "adapt":
            events.append(("adapt",))
        else:
            events.append((name, content(x[rest[0]])))
    return events


def content(seen: Tensor) -> bytes:
    return seen.contiguous().numpy().tobytes()
