"""Cheats that take targets from the process they run in: from frames, from memory, by replacing what scores."""

from __future__ import annotations

import atexit
import builtins
import gc
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, GeneratorType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.episodes.source import Episodes, EpisodeSource
from harness.method.interface import Feedback, State
from tests.check.cheats.base import Cheat


def frames() -> Iterator[FrameType]:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        yield frame
        frame = frame.f_back


def on_the_stack(step: int) -> Tensor | None:
    for frame in frames():
        for each in list(frame.f_locals.values()):
            if isinstance(each, Episodes):
                return each.target[step]
    return None


# Frames


class WalksTheStack(Cheat):
    """Takes the first episodes in any caller's frame."""

    def found(self, x: Tensor, step: int) -> Tensor | None:
        return on_the_stack(step)


class ReadsFeedbackToCome(Cheat):
    """Takes from the stack what is revealed at the next step."""

    def found(self, x: Tensor, step: int) -> Tensor | None:
        for frame in frames():
            told = frame.f_locals.get("feedback")
            if isinstance(told, Tensor) and told.dim() == 2 and step + 1 < len(told):
                return told[step + 1]
        return None


class OpensATraceback(Cheat):
    """Raises and catches, and follows the traceback to its callers."""

    def found(self, x: Tensor, step: int) -> Tensor | None:
        try:
            raise LookupError
        except LookupError as error:
            frame: Any = error.__traceback__
            frame = frame.tb_frame
        while frame is not None:
            if isinstance(frame.f_locals.get("episodes"), Episodes):
                return frame.f_locals["episodes"].target[step]
            frame = frame.f_back
        return None


class WakesAGenerator(Cheat):
    """Looks into the suspended frames of generators, which are on no stack."""

    def found(self, x: Tensor, step: int) -> Tensor | None:
        for each in gc.get_objects():
            if isinstance(each, GeneratorType) and each.gi_frame is not None:
                episodes = each.gi_frame.f_locals.get("episodes")
                if isinstance(episodes, Episodes) and step < len(episodes.target):
                    return episodes.target[step]
        return None


class LooksIntoOtherThreads(Cheat):
    """Looks at the frames of all threads."""

    def found(self, x: Tensor, step: int) -> Tensor | None:
        for top in sys._current_frames().values():
            frame: FrameType | None = top
            while frame is not None:
                if isinstance(frame.f_locals.get("batch"), Episodes):
                    return frame.f_locals["batch"].target[step]
                frame = frame.f_back
        return None


# Memory


class SearchesForEpisodes(Cheat):
    """Asks the garbage collector for episodes in which its input is shown."""

    def found(self, x: Tensor, step: int) -> Tensor | None:
        for each in gc.get_objects():
            if type(each) is Episodes and step < len(each.x) and torch.equal(each.x[step], x):
                return each.target[step]
        return None


class ReadsThePlan(Cheat):
    """Takes the plan of the episodes from the stack, which holds the targets as well."""

    def found(self, x: Tensor, step: int) -> Tensor | None:
        for frame in frames():
            for value in frame.f_locals.values():
                if isinstance(value, Episodes):
                    return torch.from_numpy(value.plan.target[:, step].copy())
        return None


class SearchesForTensors(Cheat):
    """Takes any tensor of small whole numbers for the targets."""

    def found(self, x: Tensor, step: int) -> Tensor | None:
        for each in gc.get_objects():
            numbers = type(each) is Tensor and each.dtype == torch.int64 and each.dim() == 2
            fits = numbers and each.shape[1] == len(x) and step < len(each) <= 50
            if fits and int(each.min()) >= 0 and int(each.max()) < self.task.ways:
                return each[step]
        return None


class ReachesBehindItsInput(Cheat):
    """Takes its input for a view, and reads the brightness of the next image behind it."""

    def found(self, x: Tensor, step: int) -> Tensor | None:
        storage = x.untyped_storage().nbytes() // x.element_size()
        if storage <= x.numel():
            return None
        rest = torch.as_strided(x, (storage,), (1,), 0)[-x.numel() :]
        return (rest.view_as(x).mean((1, 2, 3)) > 0).long()


class ReachesBehindItsFeedback(Cheat):
    """Takes its feedback for a view of all of it."""

    def observe(self, state: State, feedback: Feedback) -> State:
        self.whole = feedback.target._base
        return state

    def found(self, x: Tensor, step: int) -> Tensor | None:
        return None if self.whole is None or self.whole.dim() != 2 else self.whole[min(step + 1, len(self.whole) - 1)]


# What scores, replaced


class ReplacesCredit(Cheat):
    """Puts a function in the place of the one that gives credit: wherever that is held."""

    def start(self, episodes: int) -> State:
        for module in [each for name, each in list(sys.modules.items()) if name.startswith("harness.evaluation")]:
            if hasattr(module, "credit") and callable(module.credit):
                setattr(module, "credit", lambda logits, target: np.ones(target.shape))  # noqa: B010
        return super().start(episodes)


class ReplacesTheScorer(Cheat):
    """Puts a function in the place of the one that plays and scores a batch."""

    def start(self, episodes: int) -> State:
        for name in ("harness.evaluation.evaluate", "harness.evaluation.rollout"):
            module: Any = sys.modules.get(name)
            for function in ("answered", "score_batch"):
                if hasattr(module, function):
                    setattr(module, function, lambda method, episodes: np.ones(episodes.plan.target.T.shape))
        return super().start(episodes)


class RewritesCode(Cheat):
    """Leaves every function where it is and replaces its code."""

    def start(self, episodes: int) -> State:
        module: Any = sys.modules.get("harness.evaluation.score.credit")
        if module is not None:
            module.credit.__code__ = (lambda logits, target: logits.max(-1) * 0.0 + 1.0).__code__
        return super().start(episodes)


class ReplacesNumPy(Cheat):
    """Puts a function in the place of the one by which NumPy looks up what was right."""

    def start(self, episodes: int) -> State:
        np.take_along_axis = lambda values, at, axis: np.ones_like(values[..., :1])  # type: ignore[misc, assignment]
        return super().start(episodes)


class ReplacesGather(Cheat):
    """Does the same to torch."""

    def start(self, episodes: int) -> State:
        tensors: Any = torch.Tensor
        tensors.gather = lambda self, dim, index: torch.ones_like(index, dtype=torch.bool)
        return super().start(episodes)


class EntersAMode(Cheat):
    """Leaves a mode behind through which every function of torch goes."""

    class Mode(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            found = func(*args, **(kwargs or {}))
            return torch.ones_like(found) if getattr(func, "__name__", "") == "gather" else found

    def start(self, episodes: int) -> State:
        self.mode = self.Mode()
        self.mode.__enter__()
        return super().start(episodes)


class ReplacesTheSource(Cheat):
    """Has episodes drawn in which every target is 0, and always answers 0."""

    def start(self, episodes: int) -> State:
        draw = EpisodeSource.episodes

        def easy(self: EpisodeSource, *args: Any, **options: Any) -> Episodes:
            found = draw(self, *args, **options)
            found.target.zero_()
            return found

        EpisodeSource.episodes = easy  # type: ignore[method-assign]
        return super().start(episodes)


class ReplacesOpen(Cheat):
    """Has whatever is written afterwards say 100."""

    def start(self, episodes: int) -> State:
        write = builtins.open
        builtins.open = lambda *args, **options: write(*args, **options)  # type: ignore[assignment]
        return super().start(episodes)


# Answers that change


class CorrectsItsAnswers(Cheat):
    """Writes a label into the answer it gave before, when it comes."""

    def observe(self, state: State, feedback: Feedback) -> State:
        if int(state["step"][0]):
            self.given.scatter_(1, feedback.target.clamp(min=0)[:, None], 9.0)
        return state

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        self.given, after = super().predict(state, x)
        return self.given, after


class AnswersWithItsState(Cheat):
    """Does the same through its state, of which its answer is a view."""

    def start(self, episodes: int) -> State:
        return {**super().start(episodes), "given": torch.zeros(episodes, self.task.ways)}

    def observe(self, state: State, feedback: Feedback) -> State:
        if int(state["step"][0]):
            state["given"].scatter_(1, feedback.target.clamp(min=0)[:, None], 9.0)
        return state

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        given = torch.zeros(len(x), self.task.ways)
        return given[:], {"step": state["step"] + 1, "given": given}


class CorrectsFromAThread(Cheat):
    """Has a thread write a label into the answer it gave before, soon after the label came."""

    def observe(self, state: State, feedback: Feedback) -> State:
        if int(state["step"][0]):
            given, label = self.given, feedback.target.clamp(min=0)[:, None]
            threading.Timer(0.001, lambda: given.scatter_(1, label, 9.0)).start()
        return state

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        self.given, after = super().predict(state, x)
        return self.given, after


# Records


class RewritesAtExit(Cheat):
    """Rewrites every record below its folder when the process ends."""

    folder = Path(__file__).parent

    def start(self, episodes: int) -> State:
        atexit.register(rewrite, self.folder)
        return super().start(episodes)


class RewritesAtOnce(Cheat):
    """Rewrites them at once."""

    def start(self, episodes: int) -> State:
        rewrite(Path(__file__).parent)
        return super().start(episodes)


def rewrite(folder: Path) -> None:
    for path in folder.glob("*.jsonl"):
        try:
            path.write_text("100")
        except OSError:
            continue


# Behaving while it is checked


class _Wary(Cheat):
    """Steals from the stack unless it thinks that it is being checked, which this one never does."""

    def found(self, x: Tensor, step: int) -> Tensor | None:
        return None if self.checked(x) else on_the_stack(step)

    def checked(self, x: Tensor) -> bool:
        return False


class KnowsTheStackOfCheck(_Wary):
    def checked(self, x: Tensor) -> bool:
        return any("harness/check/" in frame.f_code.co_filename.replace(os.sep, "/") for frame in frames())


class KnowsTheModulesOfCheck(_Wary):
    def checked(self, x: Tensor) -> bool:
        return (
            "harness.check.subject" in sys.modules
            and "harness.boards" not in sys.modules
            and "pytest" not in sys.modules
        )


class KnowsTheArguments(_Wary):
    def checked(self, x: Tensor) -> bool:
        return "check" in sys.argv


class KnowsTheBatchSize(_Wary):
    def checked(self, x: Tensor) -> bool:
        return len(x) in (3, 4, 6, 8, 16)


class KnowsTheClasses(_Wary):
    def checked(self, x: Tensor) -> bool:
        return self.task.classes == 40


class KnowsTheLookOfImages(_Wary):
    def checked(self, x: Tensor) -> bool:
        return len(x[0].unique()) > 256


class WaitsForItsSecondBatch(_Wary):
    calls = 0

    def start(self, episodes: int) -> State:
        type(self).calls += 1
        return super().start(episodes)

    def checked(self, x: Tensor) -> bool:
        return self.calls < 2
