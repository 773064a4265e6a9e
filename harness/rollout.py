"""The one gate for labels: the only place where targets and methods are in the same function.

A method is handed feedback and inputs, one step at a time; targets and the future stay here.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from harness.episodes import Episodes
from harness.method import Feedback, Method, State
from harness.plan import NULL
from harness.score import credit


def feedback_of(episodes: Episodes) -> Feedback:
    """What is revealed before each step, [T, B]: the target of step `plan.reveals[t]`, or null."""
    source = torch.as_tensor(episodes.plan.reveals, device=episodes.target.device)
    shown = episodes.target[source.clamp(min=0)]
    return Feedback(torch.where(source[:, None] >= 0, shown, NULL))


def step_through(method: Method, episodes: Episodes) -> tuple[Tensor, State]:
    """Logits [T, B, ways] from stepping, one observe and one predict a step, and the last state."""
    feedback = feedback_of(episodes).target
    state = method.start(episodes.target.shape[1])
    answers = []
    for t in range(len(feedback)):
        # Clones: a method that edits its inputs in place must not reach the harness's own copy.
        state = method.observe(state, Feedback(feedback[t].clone()))
        logits, state = method.predict(state, episodes.x[t].clone())
        answers.append(logits)
    return torch.stack(answers), state


def answered(method: Method, episodes: Episodes) -> np.ndarray:
    """Credit [T, B] that a method earns on episodes, by stepping: what reaches a board."""
    return credit(step_through(method, episodes)[0], episodes.target)


def training_logits(method: Method, episodes: Episodes) -> Tensor:
    """Logits [T, B, ways] for training: the method's own `rollout` where it has one, else stepping."""
    fast = method.rollout(episodes.x, feedback_of(episodes))
    return step_through(method, episodes)[0] if fast is None else fast


def training_loss(method: Method, episodes: Episodes) -> Tensor:
    """The scalar that one update of training minimises."""
    return method.loss(training_logits(method, episodes), episodes.target, episodes.scored)


def class_loss(method: Method, head: nn.Module, x: Tensor, rows: Tensor) -> Tensor:
    """Mean cross-entropy of `head` over a method's memoryless features, for images x [N, ...] of classes [N]."""
    features = method.memoryless_features(x)
    assert features is not None
    return nn.functional.cross_entropy(head(features).float(), rows)


def head_loss(method: Method, episodes: Episodes) -> Tensor:
    """The loss of a method's head over frozen features: `episodes.x` is [T, B, D]."""
    logits = method.answer_features(episodes.x, feedback_of(episodes))
    assert logits is not None
    return method.loss(logits, episodes.target, episodes.scored)
