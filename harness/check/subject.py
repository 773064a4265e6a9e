"""The method under test: fresh copies of it, run under controlled conditions."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.check.compare import AGREEMENT, ROUNDING, Change, first_change, same
from harness.check.conditions import POISON, jitter, random_states, scoring
from harness.check.copies import copier
from harness.check.pictures import Pictures
from harness.check.report import Finding
from harness.check.settings import Setting
from harness.check.tasks import draw, in_double
from harness.episodes.plan import QUERY, SUPPORT
from harness.episodes.source import Episodes
from harness.evaluation.rollout import before_queries, feedback_of, step_through, steps, training_logits
from harness.method.interface import Method, State, leaves

EVERY = slice(None)
Run = Callable[..., Tensor]
"""`Subject.stepped` or `Subject.rolled`: called without episodes, it answers the usual ones."""


@dataclass(frozen=True)
class Leak:
    """A change that is more than rounding (None if there is none), and whether any bit moved at all."""

    change: Change | None
    moved: bool


class Subject:
    """One method in one setting. `build` makes it from a seed; runs never share an instance unless asked to.

    `pictures` are images of the data that it is scored on, for the check that is like scoring (None: generated ones).

    The parameters are moved a little off their initial values, because a head or gate that starts at zero
    would hide everything that passes through it.

    Nothing here keeps episodes: they are drawn anew when nobody holds them. So while a method runs on episodes in
    which something was changed, the unchanged ones lie nowhere in memory, and a method that looks for targets on the
    stack or among all objects finds the changed ones or none; either way its answers show it.
    """

    def __init__(self, build: Callable[[int], Method], setting: Setting, pictures: Pictures | None = None) -> None:
        self.setting = setting
        self.pictures = pictures
        self.build = build
        self._pristine = build(0).eval()
        self._baseline: dict[tuple[str, bool], Tensor] = {}
        self._drawn: dict[str, weakref.ref[Episodes]] = {}
        self.advanced: dict[str, list[str]] = {}
        """Whose global random states the usual run of each path ('stepped', 'rolled') advanced."""
        self.sizes: list[int] | None = None
        """Bytes of one episode's state after each step before the queries, once some check has seen them all."""
        self.exercised: tuple[Method, dict[str, Any]] | None = None
        """An instance that has answered the usual episodes once by stepping, and what its module held before that."""
        jitter(self._pristine)

    def fresh(self, *, double: bool = False) -> Method:
        """An instance that has never run, in evaluation mode."""
        try:
            method = self._copy()
        except RuntimeError:  # torch refuses to copy tensors that were computed (old-style weight norm)
            method = self.build(0)
            method.load_state_dict(self._pristine.state_dict())
        method.eval()
        return method.double() if double else method

    @cached_property
    def _copy(self) -> Callable[[], Method]:
        return copier(self._pristine)

    @property
    def episodes(self) -> Episodes:
        """The random episodes that most checks start from."""
        return self._held("episodes")

    @property
    def others(self) -> Episodes:
        """Random episodes of the same shape, to replace parts of `episodes` with."""
        return self._held("others")

    def _held(self, name: str) -> Episodes:
        """The episodes of that name, drawn unless somebody still holds them."""
        found = self._drawn[name]() if name in self._drawn else None
        if found is None:
            found = draw(self.setting, name)
            self._drawn[name] = weakref.ref(found)
        return found

    def stepped(
        self,
        episodes: Episodes | None = None,
        method: Method | None = None,
        *,
        double: bool = False,
        poison: int = POISON,
    ) -> Tensor:
        """Answers [T, B, ...] from stepping as scoring does it; NaN at support pairs."""
        return self._run("stepped", evaluate, episodes, method, double, poison)

    def rolled(
        self,
        episodes: Episodes | None = None,
        method: Method | None = None,
        *,
        double: bool = False,
        poison: int = POISON,
    ) -> Tensor:
        """Answers [T, B, ...] by the method's `rollout`, or NaN up to the queries and those to queries by its `absorb`.

        In evaluation mode.
        """
        return self._run("rolled", training_logits, episodes, method, double, poison)

    def _run(
        self,
        name: str,
        path: Callable[[Method, Episodes], Tensor],
        episodes: Episodes | None,
        method: Method | None,
        double: bool,
        poison: int,
    ) -> Tensor:
        # Most checks compare with the unchanged episodes, so those answers are kept.
        usual = episodes is None and method is None and poison == POISON
        if usual and (name, double) in self._baseline:
            return self._baseline[name, double]
        episodes = self.episodes if episodes is None else episodes
        method = method or self.fresh(double=double)
        with scoring(method, poison):
            before = random_states()
            logits = _at_steps(path(method, self.given(episodes, double)).detach(), episodes)
            if usual and not double:
                self.advanced[name] = [owner for owner, state in random_states().items() if state != before[owner]]
        if usual:
            self._baseline[name, double] = logits
        return logits

    @staticmethod
    def given(episodes: Episodes, double: bool = False) -> Episodes:
        """The episodes in the precision of a run, with inputs of their own: a method may edit what it is given."""
        return in_double(episodes) if double else replace(episodes, x=episodes.x.clone())

    def states(self, episodes: Episodes) -> list[list[Tensor]]:
        """The tensors of the state after each step before the queries, from stepping as scoring does it."""
        method = self.fresh()
        with scoring(method):
            return [leaves(state) for _, state in steps(method, episodes)]

    @property
    def fast(self) -> str | None:
        """The method's own fast path for training on these episodes: 'rollout', 'absorb', or None without one."""
        return self._fast_path[0]

    @property
    def edited_by_fast(self) -> str | None:
        """What the fast path edits of what it is given: 'state', 'inputs', 'feedback', or None."""
        return self._fast_path[1]

    @cached_property
    def _fast_path(self) -> tuple[str | None, str | None]:
        name = "absorb" if self.setting.queries else "rollout"
        method = self.fresh()
        if getattr(type(method), name) is getattr(Method, name):
            return None, None
        given = self.given(self.episodes)
        with scoring(method):
            done: State = None
            if name == "absorb":
                x, feedback = before_queries(given)
                state = method.start(x.shape[1])
                handed = {"state": leaves(state), "inputs": [x], "feedback": [feedback.target]}
            else:
                x, feedback = given.x, feedback_of(given)
                handed = {"inputs": [x], "feedback": [feedback.target]}
            held = {part: [each.detach().clone() for each in tensors] for part, tensors in handed.items()}
            done = method.absorb(state, x, feedback) if name == "absorb" else method.rollout(x, feedback)
        if done is None:
            return None, None
        for part, tensors in handed.items():
            if not all(same(now.detach(), before) for now, before in zip(tensors, held[part], strict=True)):
                return name, part
        return name, None

    def paths(self) -> list[tuple[str, Run]]:
        """The ways to get answers: stepping, and the fast path where there is one; named for messages."""
        return [("", self.stepped), *([(f"in {self.fast}, ", self.rolled)] if self.fast else [])]

    def answer_mask(self, run: Run) -> np.ndarray:
        """The steps that a path answers, bool [T]."""
        phase = self.setting.timing.phase
        return phase == QUERY if run == self.rolled and self.setting.queries else phase != SUPPORT

    @cached_property
    def precision(self) -> torch.dtype:
        """float64 if the method computes in it throughout once converted with `.double()`, else float32.

        Types alone do not tell: a float32 step in between rounds, though the answers are float64 again. So
        inputs scaled by 1 + 1e-11, which float32 does not hold, must move the answers a little; unless inputs
        scaled by 1.5 do not move them either.
        """
        plain = in_double(self.episodes)
        method = self.fresh(double=True)
        types: set[torch.dtype] = set()

        def scaled_by(factor: float) -> Tensor:
            with scoring(method):
                logits, state = step_through(method, replace(plain, x=plain.x * factor))
            types.update(leaf.dtype for leaf in (logits, *leaves(state)) if leaf.is_floating_point())
            return _at_steps(logits.detach(), plain)

        try:
            usual, nudged = self.stepped(double=True), scaled_by(1 + 1e-11)
            if types != {torch.float64} or first_change(usual, nudged, 1e-7):
                return torch.float32
            sharp = first_change(usual, nudged) or not first_change(usual, scaled_by(1.5), AGREEMENT[torch.float64])
        except (RuntimeError, TypeError, ValueError):
            return torch.float32
        return torch.float64 if sharp else torch.float32

    @property
    def double(self) -> bool:
        return self.precision == torch.float64

    @property
    def agreement(self) -> float:
        """The share by which two ways of computing the same may differ, in this method's best precision."""
        return AGREEMENT[self.precision]

    def failure(self, change: Change, why: str, said: str = "", verb: str = "changed") -> Finding:
        """The finding that an answer moved as it must not; `change.step` counts the steps of the episode."""
        reason = f"{said}{self.setting.answer(change)} {verb} by {change.size:.3g} {why}"
        return Finding("failed", reason, change.step, change.episode, change.size)

    def leaked(self, run: Callable[..., Tensor], before: object, after: object, episodes: slice = EVERY) -> Leak:
        """How the answers of `episodes` of the batch differ between `run(before)` and `run(after)`, where rounding may.

        For comparisons in which kernels may round differently though nothing leaked: a rollout may use
        transforms whose rounding depends on later steps (FFT convolutions), a step may gather the episodes that
        have feedback and so change the shape of a matrix product. Rounding shrinks a billionfold from float32
        to float64; what a method really sees does not. So a change of bits counts only if the same
        comparison in float64 moves by more than ROUNDING; a method that cannot run in float64 must stay within
        the float32 value.
        """
        if first_change(run(before)[:, episodes], run(after)[:, episodes]) is None:
            return Leak(None, False)
        precise = run(before, double=self.double)[:, episodes], run(after, double=self.double)[:, episodes]
        return Leak(first_change(*precise, ROUNDING[self.precision]), True)


def score_batch(method: Method, episodes: Episodes) -> Tensor:
    """Answers from stepping, as `rollout.score_batch` gets them before it scores them."""
    return step_through(method, episodes)[0]


def evaluate(method: Method, batch: Episodes) -> Tensor:
    """The same, under the names that are on the stack where `evaluate.evaluate` scores a batch.

    A method that looks there for targets by the name of a function or a variable, or so many frames up, must find
    them here as well, or it would cheat only where it pays off.
    """
    return score_batch(method, batch)


def _at_steps(logits: Tensor, episodes: Episodes) -> Tensor:
    """Answers [T, B, ...] in the places of their steps; where they are to queries only, NaN before those."""
    plan = episodes.plan
    if len(logits) == plan.steps or plan.first_query == plan.steps:
        return logits
    return torch.cat([logits.new_full((plan.first_query, *logits.shape[1:]), torch.nan), logits])
