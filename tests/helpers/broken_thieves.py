"""Methods that look for labels and images where nobody gave them: on the stack, and in memory."""

from __future__ import annotations

import gc
import sys
import traceback
from collections.abc import Iterator
from types import FrameType

import torch
from torch import Tensor

from harness import Feedback, State
from harness.episodes.source import Episodes
from harness.method.interface import one_hot
from tests.helpers.broken_methods import Honest


class ReadsTheCallersFrame(Honest):
    """Looks for the targets on the stack."""

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        logits, after = super().predict(state, x)
        caller = sys._getframe(1).f_locals
        if "episodes" in caller and "t" in caller:
            logits = logits + one_hot(caller["episodes"].target[caller["t"]], self.task.ways)
        return logits, after


class _Cheat(Honest):
    """Adds the target of the step it is asked, wherever it `finds` it; counts the steps in its state."""

    def start(self, episodes: int) -> State:
        return {**super().start(episodes), "step": torch.zeros(episodes, dtype=torch.long)}

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        logits, after = super().predict(state, x)
        found = self.found(x, int(state["step"][0]))
        if found is not None:
            logits = logits + one_hot(found, self.task.ways).to(logits.dtype)
        return logits, {**after, "step": state["step"] + 1}

    def absorb(self, state: State, x: Tensor, feedback: Feedback) -> State | None:
        after = super().absorb(state, x, feedback)
        return None if after is None else {**after, "step": state["step"] + len(x)}

    def found(self, x: Tensor, step: int) -> Tensor | None:
        """The targets [B] of the step, or None where they are not found (here: nowhere)."""
        return None


def _frames() -> Iterator[FrameType]:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        yield frame
        frame = frame.f_back


class WalksUpTheStack(_Cheat):
    """Takes the first episodes in any caller's frame, whatever they are called there."""

    def found(self, x: Tensor, step: int) -> Tensor | None:
        for frame in _frames():
            for each in list(frame.f_locals.values()):
                if isinstance(each, Episodes):
                    return each.target[step]
        return None


class KnowsTheScorersNames(_Cheat):
    """Looks for the frame of the function that scores, and there for the variable that holds the episodes."""

    def found(self, x: Tensor, step: int) -> Tensor | None:
        for frame in _frames():
            if frame.f_code.co_name == "evaluate" and "batch" in frame.f_locals:
                return frame.f_locals["batch"].target[step]
        return None


class InspectsItsCallers(_Cheat):
    """Looks the fixed number of frames up at which scoring has its plan."""

    def found(self, x: Tensor, step: int) -> Tensor | None:
        for frame, _ in traceback.walk_stack(None):  # inspect.stack looks for the source of every frame, which is slow
            if "episodes" in frame.f_locals and frame.f_code.co_name == "score_batch":
                return torch.from_numpy(frame.f_locals["episodes"].plan.target[:, step])
        return None


class SearchesAllObjects(_Cheat):
    """Asks the garbage collector for episodes in which its input is shown."""

    def found(self, x: Tensor, step: int) -> Tensor | None:
        for each in gc.get_objects():
            if type(each) is Episodes and step < len(each.x) and torch.equal(each.x[step].to(x.dtype), x):
                return each.target[step]
        return None


class SearchesAllTensors(_Cheat):
    """Takes any tensor in memory for targets that looks like them: whole numbers, none of them null, one a step."""

    def found(self, x: Tensor, step: int) -> Tensor | None:
        for each in gc.get_objects():
            if type(each) is not Tensor or each.dtype != torch.int64 or each.dim() != 2 or each.shape[1] != len(x):
                continue
            if step < len(each) <= 50 and int(each.min()) >= 0 and int(each.max()) < self.task.ways:
                return each[step]
        return None


class ReadsFeedbackToCome(_Cheat):
    """Reads on the stack what will be revealed later."""

    def found(self, x: Tensor, step: int) -> Tensor | None:
        for frame in _frames():
            if "feedback" in frame.f_locals and "episodes" in frame.f_locals:
                stolen, later = frame.f_locals["feedback"], step + self.late
                return stolen[later] if later < len(stolen) else None
        return None


class ReadsTheNextImage(_Cheat):
    """Reads on the stack what will be shown next, and takes its brightness for a hint."""

    def found(self, x: Tensor, step: int) -> Tensor | None:
        for frame in _frames():
            if "episodes" in frame.f_locals:
                shown = frame.f_locals["episodes"].x
                return (shown[min(step + 1, len(shown) - 1)].mean((1, 2, 3)) > 0).long()
        return None
