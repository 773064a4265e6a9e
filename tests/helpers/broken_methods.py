"""An honest little method, and what a real author could break in it, by mistake or on purpose."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from harness import Feedback, Method, State, Task
from harness.method.interface import one_hot
from harness.training.interface import Batch, Trainable


class Honest(Method):
    """Sums of features per class; the nearest mean answers. Told d, it keeps the last d features.

    `late` is how many steps before its reveal a label's input is looked for; 0 where it is given support pairs.
    """

    needs_label_delay = True
    kinds: ClassVar[tuple[str, ...]] = ("online_few_shot", "delayed_label", "continual", "n_way_k_shot")

    def __init__(self, task: Task, units: int = 6) -> None:
        super().__init__(task)
        self.late = task.label_delay or 0
        self.encode = nn.Linear(math.prod(task.image_shape), units)
        self.scale = nn.Parameter(torch.ones(()))

    def start(self, episodes: int) -> State:
        zeros, units = self.scale.new_zeros, self.encode.out_features
        return {
            "sums": zeros(episodes, self.task.ways, units),
            "counts": zeros(episodes, self.task.ways),
            "pending": zeros(episodes, self.late, units),
        }

    def observe(self, state: State, feedback: Feedback) -> State:
        hit = one_hot(feedback.target, self.task.ways).to(self.scale.dtype)
        shown = state["pending"][:, :1] if feedback.x is None else self.features(feedback.x).unsqueeze(1)
        return {**state, "sums": state["sums"] + hit.unsqueeze(-1) * shown, "counts": state["counts"] + hit}

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        features = self.features(x)
        pending = torch.cat([state["pending"], features.unsqueeze(1)], 1)[:, 1:]
        return self.logits(features, state["sums"], state["counts"]), {**state, "pending": pending}

    def rollout(self, x: Tensor, feedback: Feedback) -> Tensor | None:
        features = self.features(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        return self.answers(features, feedback.target)

    def absorb(self, state: State, x: Tensor, feedback: Feedback) -> State | None:
        features = self.features(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        seen = torch.cat([state["pending"].transpose(0, 1), features])
        hit = one_hot(feedback.target, self.task.ways).to(features.dtype)
        return {
            "sums": state["sums"] + torch.einsum("tbk,tbu->bku", hit, seen[: len(x)]),
            "counts": state["counts"] + hit.sum(0),
            "pending": seen[len(x) :].transpose(0, 1),
        }

    def features(self, x: Tensor) -> Tensor:
        return self.encode(x.flatten(1)).tanh()

    def answers(self, features: Tensor, label: Tensor) -> Tensor:
        hit = one_hot(label, self.task.ways).to(features.dtype)
        waiting = torch.cat([torch.zeros_like(features[: self.late]), features[: -self.late]])
        sums = (hit.unsqueeze(-1) * waiting.unsqueeze(-2)).cumsum(0)
        return self.logits(features, sums, hit.cumsum(0))

    def logits(self, features: Tensor, sums: Tensor, counts: Tensor) -> Tensor:
        apart = (features.unsqueeze(-2) - sums / counts.clamp(min=1).unsqueeze(-1)).square().sum(-1)
        return self.scale * -apart.masked_fill(counts == 0, 1e3)


class PeeksAtTheNextLabel(Honest):
    """Shifts the feedback the wrong way in its fast path."""

    def rollout(self, x: Tensor, feedback: Feedback) -> Tensor | None:
        return super().rollout(x, Feedback(torch.cat([feedback.target[1:], feedback.target[:1]])))


class NormalisesOverTime(Honest):
    """Scales the features of an episode in its fast path: by their spread over steps to come as well."""

    def answers(self, features: Tensor, label: Tensor) -> Tensor:
        return super().answers(features / features.std(0), label)


class CountsLabelsToCome(Honest):
    """Knows in its fast path how many of each class there are in the whole episode: what has not come is due."""

    def rollout(self, x: Tensor, feedback: Feedback) -> Tensor | None:
        logits, hit = super().rollout(x, feedback), one_hot(feedback.target, self.task.ways).to(x.dtype)
        return None if logits is None else logits + (hit.sum(0) - hit.cumsum(0))


class ShiftsItsRollout(Honest):
    """Puts an input a step too late in its fast path: it sees nothing early, and pairs labels with other inputs."""

    def answers(self, features: Tensor, label: Tensor) -> Tensor:
        late = torch.cat([features[:1], features[:-1]])
        hit = one_hot(label, self.task.ways).to(features.dtype)
        waiting = torch.cat([torch.zeros_like(late[: self.late]), late[: -self.late]])
        sums = (hit.unsqueeze(-1) * waiting.unsqueeze(-2)).cumsum(0)
        return self.logits(features, sums, hit.cumsum(0))


class BatchNormInTrainMode(Honest):
    """Switches its normalisation back to batch statistics whenever it answers."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.norm = nn.BatchNorm1d(self.encode.out_features)

    def features(self, x: Tensor) -> Tensor:
        self.norm.train()
        return self.norm(super().features(x))


class NormalisesOverTheBatch(Honest):
    """Divides by the largest feature of any episode."""

    def features(self, x: Tensor) -> Tensor:
        features = super().features(x)
        return features / features.abs().max()


class AveragesOverTheBatch(Honest):
    """Learns 1/B as fast in a batch of B: the mean of losses, where their sum belongs."""

    def logits(self, features: Tensor, sums: Tensor, counts: Tensor) -> Tensor:
        return super().logits(features, sums / counts.shape[-2], counts)


class PairsTooLate(Honest):
    """Told d, pairs a label with the input of d - 1 steps before (right only at d = 1)."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.late = max(1, self.late - 1)


class PairsTooEarly(Honest):
    """Told d, pairs a label with the input of d + 1 steps before."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.late += 1


class EditsItsState(Honest):
    """Saves a copy by counting in place."""

    def observe(self, state: State, feedback: Feedback) -> State:
        after = super().observe(state, feedback)
        after["counts"] = state["counts"].add_(after["counts"] - state["counts"])
        return after


class EditsItsInput(Honest):
    """Centres the image it was given."""

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        return super().predict(state, x.sub_(x.mean((1, 2, 3), keepdim=True)))

    def rollout(self, x: Tensor, feedback: Feedback) -> Tensor | None:
        return super().rollout(x.sub_(x.mean((2, 3, 4), keepdim=True)), feedback)


class IgnoresFeedback(Method):
    """An ordinary classifier."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.classify = nn.Linear(math.prod(task.image_shape), task.ways)

    def start(self, episodes: int) -> State:
        return torch.zeros(episodes, 0)

    def observe(self, state: State, feedback: Feedback) -> State:
        return state

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        return self.classify(x.flatten(1)), state


class DetachesInRollout(Honest):
    """Cuts the gradient to the stored features, but only in the fast path."""

    def logits(self, features: Tensor, sums: Tensor, counts: Tensor) -> Tensor:
        return super().logits(features, sums.detach() if features.dim() == 3 else sums, counts)


class HasAnUnusedParameter(Honest):
    """Forgot to connect a gate."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.gate = nn.Parameter(torch.ones(3))


class KeepsAnUnsavedTensor(Honest):
    """A random projection that no checkpoint holds."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.mix = torch.rand(self.encode.out_features)

    def features(self, x: Tensor) -> Tensor:
        return super().features(x) * self.mix


class RulesOutWithInfinity(Honest):
    """Minus infinity for classes without a label: the cross-entropy of the first step is infinite."""

    def logits(self, features: Tensor, sums: Tensor, counts: Tensor) -> Tensor:
        return super().logits(features, sums, counts).masked_fill(counts == 0, -math.inf)


class ExpectsALabelOnceTheyCome(Honest):
    """Weighs a label by one over the labels of the step: fine until one is missing."""

    def observe(self, state: State, feedback: Feedback) -> State:
        after = super().observe(state, feedback)
        counted = state["counts"].sum(1) > 0
        weight = torch.where(counted, 1 / (feedback.target >= 0).to(self.scale.dtype), 1.0)
        return {**after, "sums": after["sums"] * weight[:, None, None]}


class AnswersForOneClassMore(Honest):
    """A logit for "unknown", where only classes can be right."""

    def logits(self, features: Tensor, sums: Tensor, counts: Tensor) -> Tensor:
        logits = super().logits(features, sums, counts)
        return torch.cat([logits, logits[..., :1]], -1)


class Raises(Honest):
    """Takes the newest label for granted."""

    def observe(self, state: State, feedback: Feedback) -> State:
        if (feedback.target < 0).any():
            raise KeyError("no label")
        return super().observe(state, feedback)


class CannotBeBuilt(Method):
    def __init__(self, task: Task) -> None:
        super().__init__(task)
        raise LookupError("nothing to build")


class StartsAtZero(Honest):
    """Honest, with a head that starts at zero and hides everything until it is trained."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        nn.init.zeros_(self.scale)


class MeetsItsMargin(Trainable, Honest):
    """Honest, with a loss that is over where each right answer leads the others by a little."""

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        target = batch.target[-len(logits) :]
        right = logits.gather(-1, target.unsqueeze(-1))
        others = logits.masked_fill(one_hot(target, logits.shape[-1]).bool(), -1e9).amax(-1, keepdim=True)
        return (others - right + 1e-6).relu().mean()


class LearnsNothing(Trainable, Honest):
    """Its loss is zero whatever it answers."""

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        return (0 * logits).sum()


class PeeksBehindAZeroHead(PeeksAtTheNextLabel):
    """The leak is there, though no untrained answer shows it."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        nn.init.zeros_(self.scale)


class CachesAMask(Honest):
    """Honest, with a table made on first use."""

    def features(self, x: Tensor) -> Tensor:
        if not hasattr(self, "_ones"):
            self._ones = torch.ones(self.encode.out_features)
        return super().features(x) * self._ones


class RoundsWithTheFuture(Honest):
    """Honest up to rounding: adds and takes away a number that depends on the whole episode."""

    def answers(self, features: Tensor, label: Tensor) -> Tensor:
        whole = features.sum(0)
        return super().answers((features + whole) - whole, label)


class TiesItsWeights(Honest):
    """Honest, with one tensor under two names, and computed weights that torch refuses to deep-copy."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.same = self.scale
        self.encode = nn.utils.weight_norm(self.encode)


class ComputesInFloat32(Honest):
    """Honest, with an encoder that is fast in float32 only."""

    def features(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x.flatten(1).float(), self.encode.weight.float(), self.encode.bias.float()).tanh()


class LearnsByGradient(Method):
    """Honest: one step of gradient descent on the head, for each label that is revealed."""

    needs_label_delay = True
    learns_by_gradient = True
    kinds = ("online_few_shot", "delayed_label")

    def __init__(self, task: Task, units: int = 6, rate: float = 0.1) -> None:
        super().__init__(task)
        assert task.label_delay is not None
        self.late, self.rate = task.label_delay, rate
        self.encode = nn.Linear(math.prod(task.image_shape), units)
        self.head = nn.Parameter(torch.randn(task.ways, units) / 10)

    def start(self, episodes: int) -> State:
        return {
            "head": self.head.expand(episodes, -1, -1),
            "pending": self.head.new_zeros(episodes, self.late, self.encode.out_features),
        }

    def observe(self, state: State, feedback: Feedback) -> State:
        logits = torch.einsum("bku,bu->bk", state["head"], state["pending"][:, 0])
        known = feedback.target >= 0
        each = nn.functional.cross_entropy(logits, feedback.target.clamp(min=0), reduction="none")
        (slope,) = torch.autograd.grad((each * known).sum(), state["head"], create_graph=self.training)
        return {**state, "head": state["head"] - self.rate * slope}

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        features = self.encode(x.flatten(1)).tanh()
        pending = torch.cat([state["pending"][:, 1:], features.unsqueeze(1)], 1)
        return torch.einsum("bku,bu->bk", state["head"], features), {**state, "pending": pending}
