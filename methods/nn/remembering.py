"""The meta-loss of OML and ANML: an episode's queries, and a random batch of all training classes to remember."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.method.interface import State, Task
from harness.training.interface import Batch
from harness.util.errors import UserError
from methods.nn.functional_linear import Weights
from methods.nn.gradient_learner import GradientLearner
from methods.nn.needs_queries import check_queries

MetaLoss = Literal["episode", "remember"]


class ClassRows(nn.Module):
    """A row of the last layer for each training class, which training learns and scoring does not look at.

    Raises ValueError for a task without queries after its labelled samples.
    """

    def __init__(self, task: Task, inputs: int) -> None:
        super().__init__()
        if task.kind not in ("continual", "n_way_k_shot"):
            raise ValueError(
                f"meta_loss=remember is a loss of queries after the labelled samples, which {task.kind} has none of; "
                "it is for the kinds continual and n_way_k_shot"
            )
        classes = task.classes or task.ways
        self.weight = nn.Parameter(nn.init.kaiming_normal_(torch.empty(classes, inputs)))
        self.bias = nn.Parameter(torch.zeros(classes))

    def beside(self, layers: Weights, class_rows: Tensor) -> Weights:
        """The layers with the rows of all training classes in the last one, [B, classes, in] and [B, classes].

        Those of an episode's own classes, `class_rows` [B, ways], begin as the `layers` have them: the episode must
        learn them as it would new ones. A stage of training may have fewer ways than the layers.
        """
        *below, (weight, bias) = layers
        episodes, ways = class_rows.shape
        weight, bias = weight[:, :ways], bias[:, :ways]
        own = class_rows.unsqueeze(-1).expand_as(weight)
        every = self.weight.expand(episodes, -1, -1).scatter(1, own, weight)
        return [*below, (every, self.bias.expand(episodes, -1).scatter(1, class_rows, bias))]


def remember_loss(method: GradientLearner, state: State, batch: Batch, images: int) -> Tensor:
    """Cross-entropy among all training classes after an episode's labelled samples: of its queries, and of `images` of
    other episodes; the mean over both, times the number of queries, averaged over episodes.

    `state` has the initial weights with a row for each training class (`ClassRows.beside`). What is to be remembered is
    drawn from the images of the other episodes of the update, without replacement (all of them where they are fewer);
    some may be of the episode's own classes.
    Raises UserError for an update of a single episode, and for episodes without queries.
    """
    check_queries(batch, "meta_loss=remember")
    first, episodes = batch.first_query, batch.target.shape[1]
    if episodes < 2:
        raise UserError(
            "meta_loss=remember draws what is to be remembered from the other episodes of an update, of which there "
            "are none; train with batch 2 or more"
        )
    samples, target = method.encode_stream(batch.x), batch.class_rows.gather(1, batch.target.T)
    state = method.learn_all(state, samples[:, :first], target[:, :first])
    which, step = drawn_from_others(episodes, target.shape[1], images, target.device)
    logits = method.answer(state, torch.cat([samples[:, first:], samples[which, step]], 1))
    wanted = torch.cat([target[:, first:], target[which, step]], 1)
    each = F.cross_entropy(logits.flatten(0, 1).float(), wanted.flatten(), reduction="none").view_as(wanted)
    scored = batch.scored[first:].T
    counted = torch.cat([scored, torch.ones_like(which, dtype=torch.bool)], 1)
    return ((each * counted).sum(1) / counted.sum(1) * scored.sum(1)).mean()


def drawn_from_others(episodes: int, steps: int, images: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Episode and step [B, n] of n = min(images, (B - 1) T) images for each of B episodes of T steps.

    They are drawn evenly, without replacement, from those of the other episodes.
    """
    place = torch.rand(episodes, (episodes - 1) * steps, device=device).argsort(1)[:, :images]
    own = torch.arange(episodes, device=device).unsqueeze(1)
    return (own + 1 + place // steps) % episodes, place % steps
