"""What a real author could break where queries follow; all but the first are otherwise honest."""

from __future__ import annotations

import gc
import sys
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness import Feedback, Method, State, Task
from harness.episodes.source import Episodes
from harness.method.interface import one_hot
from tests.helpers.broken_methods import Honest


class AdaptsByGradient(Method):
    """Honest: keeps the support pairs, and takes one step of gradient descent on the head before the queries."""

    learns_by_gradient = True
    kinds = ("n_way_k_shot",)

    def __init__(self, task: Task, rate: float = 0.5) -> None:
        super().__init__(task)
        self.rate = rate
        self.encode = nn.Linear(task.image_shape[1] * task.image_shape[2], 6)
        self.head = nn.Parameter(torch.randn(task.ways, 6) / 10)

    def start(self, episodes: int) -> State:
        none = self.head.new_zeros(episodes, 0, 6)
        return {
            "head": self.head.expand(episodes, -1, -1),
            "features": none,
            "labels": none[..., 0].long(),
        }

    def observe(self, state: State, feedback: Feedback) -> State:
        assert feedback.x is not None
        features = self.encode(feedback.x.flatten(1)).tanh()
        return {
            **state,
            "features": torch.cat([state["features"], features.unsqueeze(1)], 1),
            "labels": torch.cat([state["labels"], feedback.target.unsqueeze(1)], 1),
        }

    def adapt(self, state: State) -> State:
        assert torch.is_grad_enabled(), "a method that learns by gradient must be given autograd"
        logits = torch.einsum("bku,bnu->bnk", state["head"], state["features"])
        loss = F.cross_entropy(logits.flatten(0, 1), state["labels"].flatten(), reduction="sum")
        (slope,) = torch.autograd.grad(loss, state["head"], create_graph=self.training)
        return {**state, "head": state["head"] - self.rate * slope}

    def query(self, state: State, x: Tensor) -> Tensor:
        return torch.einsum("bku,bqu->bqk", state["head"], self.encode(x.flatten(2)).tanh())


class CentresTheQueries(Honest):
    """Takes the mean answer of all queries from each: batch statistics over queries."""

    def query(self, state: State, x: Tensor) -> Tensor:
        logits = super().query(state, x)
        return logits - logits.mean(1, keepdim=True)


class SharesTheClassesOut(Honest):
    """Gives each class to the query that likes it most."""

    def query(self, state: State, x: Tensor) -> Tensor:
        logits = super().query(state, x)
        return logits + (logits == logits.amax(1, keepdim=True)).to(logits.dtype)


class SortsTheQueries(Honest):
    """Answers in order of confidence."""

    def query(self, state: State, x: Tensor) -> Tensor:
        return super().query(state, x).sort(1).values


class CountsTheQueries(Honest):
    """Weighs a query by its place, as though classes came in turns."""

    def query(self, state: State, x: Tensor) -> Tensor:
        place = torch.arange(x.shape[1], dtype=x.dtype).view(-1, 1)
        return super().query(state, x) + place * one_hot(torch.tensor(0), self.task.ways)


class RemembersTheLastQuery(Honest):
    """Adds what it was asked before."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.last: Tensor | None = None

    def query(self, state: State, x: Tensor) -> Tensor:
        before, self.last = self.last, x.mean()
        return super().query(state, x) * (1 if before is None else 1 + before)


class KeepsFastWeightsOnTheModule(Honest):
    """Works out the means in adapt, and keeps them beside the state."""

    def adapt(self, state: State) -> State:
        self.means = state["sums"] / state["counts"].clamp(min=1).unsqueeze(-1)
        return state

    def query(self, state: State, x: Tensor) -> Tensor:
        return super().query({**state, "sums": self.means * state["counts"].unsqueeze(-1)}, x)


class AdaptsLessEachTime(Honest):
    """A learning rate that falls over all the episodes of its life."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.adapted = 0

    def adapt(self, state: State) -> State:
        self.adapted += 1
        return {**state, "sums": state["sums"] / self.adapted}


class AdaptsInPlace(Honest):
    """Saves a copy of the sums."""

    def adapt(self, state: State) -> State:
        state["sums"] /= 2
        return state


class EditsTheStateItIsAskedFrom(Honest):
    """Counts the queries in the state."""

    def query(self, state: State, x: Tensor) -> Tensor:
        logits = super().query(state, x)
        state["counts"] += 1
        return logits


class AnswersQueriesOneByOne(Honest):
    """Puts the queries first."""

    def query(self, state: State, x: Tensor) -> Tensor:
        return super().query(state, x).transpose(0, 1)


def _on_the_stack() -> dict[str, Any]:
    """The locals of the nearest of the callers' frames that has episodes, or nothing."""
    frame = sys._getframe(2)
    for _ in range(3):
        if "episodes" in frame.f_locals:
            return frame.f_locals
        assert frame.f_back is not None
        frame = frame.f_back
    return {}


class ReadsTheTargetsOfQueries(Honest):
    """Looks for them on the stack."""

    def query(self, state: State, x: Tensor) -> Tensor:
        logits = super().query(state, x)
        found = _on_the_stack()
        if "method" not in found:
            return logits
        episodes = found["episodes"]
        queried = episodes.target[episodes.plan.first_query :]
        return logits + one_hot(queried, self.task.ways).transpose(0, 1)


class ReadsTheNextPair(Honest):
    """Looks on the stack for the pair after the one it is given."""

    def observe(self, state: State, feedback: Feedback) -> State:
        after, found = super().observe(state, feedback), _on_the_stack()
        if feedback.x is None or "t" not in found or found["t"] + 1 >= found["episodes"].plan.first_query:
            return after
        return super().observe(after, Feedback(found["episodes"].target[found["t"] + 1], feedback.x))

    def absorb(self, state: State, x: Tensor, feedback: Feedback) -> State | None:
        return None


class IgnoresTheLabelOfAPair(Honest):
    """Learns what images look like, and not what they are called."""

    kinds = ("n_way_k_shot",)

    def observe(self, state: State, feedback: Feedback) -> State:
        return super().observe(state, Feedback(torch.zeros_like(feedback.target), feedback.x))

    def absorb(self, state: State, x: Tensor, feedback: Feedback) -> State | None:
        return None


class PairsWithTheImageBefore(Honest):
    """Treats support pairs as a stream whose labels come one step late."""

    kinds = ("n_way_k_shot",)

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.late = 1

    def observe(self, state: State, feedback: Feedback) -> State:
        after = super().observe(state, Feedback(feedback.target))
        assert feedback.x is not None
        return self.predict(after, feedback.x)[1]


class AbsorbsAllButTheLast(Honest):
    """Stops one step early in its fast path."""

    def absorb(self, state: State, x: Tensor, feedback: Feedback) -> State | None:
        whole, early = super().absorb(state, x, feedback), super().absorb(state, x[:-1], Feedback(feedback.target[:-1]))
        assert whole is not None
        assert early is not None
        return {**early, "pending": whole["pending"]}


class AbsorbsWithoutGradient(Honest):
    """Cuts the gradient to the sums, but only in the fast path."""

    def absorb(self, state: State, x: Tensor, feedback: Feedback) -> State | None:
        after = super().absorb(state, x, feedback)
        assert after is not None
        return {**after, "sums": after["sums"].detach()}


class AbsorbsPairsAsAStream(Honest):
    """Ignores feedback.x in its fast path."""

    def absorb(self, state: State, x: Tensor, feedback: Feedback) -> State | None:
        if feedback.x is not None:
            state = {**state, "pending": state["sums"][:, :1]}
        after = super().absorb(state, x, Feedback(feedback.target))
        assert after is not None
        return after if feedback.x is None else {**after, "pending": after["pending"][:, :0]}


class AbsorbsInPlace(Honest):
    """Centres the images it was given."""

    def features(self, x: Tensor) -> Tensor:
        return super().features(x - x.mean((1, 2, 3), keepdim=True))

    def absorb(self, state: State, x: Tensor, feedback: Feedback) -> State | None:
        return super().absorb(state, x.sub_(x.mean((2, 3, 4), keepdim=True)), feedback)


class NormalisesOverWhatItAbsorbs(Honest):
    """Scales the features of a stream in its fast path by their spread over all of it, as no step can."""

    def absorb(self, state: State, x: Tensor, feedback: Feedback) -> State | None:
        after = super().absorb(state, x, feedback)
        assert after is not None
        spread = self.features(x.flatten(0, 1)).unflatten(0, x.shape[:2]).std(0)
        return {**after, "sums": after["sums"] / spread.unsqueeze(1)}


class SearchesForItsQueries(Honest):
    """Looks among all objects for episodes that have the queries it is asked."""

    def query(self, state: State, x: Tensor) -> Tensor:
        logits = super().query(state, x)
        for each in gc.get_objects():
            if type(each) is Episodes and torch.equal(each.x[-x.shape[1] :].transpose(0, 1), x):
                return logits + one_hot(each.target[-x.shape[1] :], self.task.ways).transpose(0, 1)
        return logits
