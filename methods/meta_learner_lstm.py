"""Meta-learner LSTM: the weights of a learner as the cell state of an LSTM (Ravi and Larochelle, "Optimization as a
model for few-shot learning", ICLR 2017)."""

from __future__ import annotations

import math
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils import _pytree as pytree
from torch.utils.checkpoint import checkpoint as recomputed

from harness.method.interface import Feedback, Method, State, Task
from methods.nn import inner
from methods.nn.learners import Learner, Moments, PlasticConv, PlasticDense
from methods.nn.passes import passes_over
from methods.nn.preprocess import log_sign

_NUMBERS_AT_ONCE = 20_000_000
"""Memory cells of the optimiser over all weights of all episodes that are adapted together while scored."""

Optimizer = dict[str, Tensor]
"""'cell' and 'hidden' [B, P, units] of the first LSTM, and the 'forget' and 'input' gates [B, P] of the step before."""


class MetaLearnerLSTM(Method):
    """A conv net whose every weight is moved by the same small recurrent net, from a start that is trained with it.

    The P weights of the net are the cell state c of an LSTM, and its gradient is what enters the cell: a step is

        c <- f c - i grad,    f = sig(W_f . [m, c, f'] + b_f),    i = sig(W_i . [m, c, i'] + b_i)

    for every weight on its own and with the same W and b, where f' and i' are the gates of the step before and m is
    the output of an LSTM cell over the gradient and the loss L, both as size and sign (`log_sign`). With f = 1 and i
    constant it is gradient descent. c begins at learned values, f' and i' at zero. Training minimises the loss of later
    answers over all of this; grad and L count as constants in it, as in the source.

    A support set is learned from before the queries, in `passes` of batches; each batch is normalised by itself, and
    queries by the support set as the adapted net sees it (the source keeps running statistics for each episode, in
    which the newest batch counts for 0.95). In streams every revealed label is one step on the image it belongs to, so
    that the label delay d must be told; the state is the weights, the memory of every weight and the last d images.

    Options
    -------
    net : 'conv' (four layers of `channels`; 32 in the source) or 'dense' (256-128-64-64 units).
    norm : what normalisation takes its mean and variance over: 'support' (the images of a batch), 'instance' (each
        image by itself, a channel at a time) or 'layer' (likewise, all channels together). In streams, where
        images come alone, 'support' is 'instance'.
    passes : how often the support set is gone through: 8 for 5 shots and 12 for 1 in the source; from the second time
        on in another order.
    batch : images a step, None for the whole support set: 25 of 5 x 5 and 5 of 5 x 1 in the source.
    units : width of the first LSTM.
    start_rate : what i begins at, but for the first LSTM's small outputs; the source has 0.0067 to 0.018.
    checkpoint : in training, compute what is within a step again for the gradient, instead of keeping it.
    resolution : side to which images are average-pooled first, or None for their own size.
    """

    needs_label_delay = True
    learns_by_gradient = True
    kinds = ("online_few_shot", "delayed_label", "continual", "n_way_k_shot")

    def __init__(
        self,
        task: Task,
        net: Literal["conv", "dense"] = "conv",
        channels: int = 32,
        norm: Literal["support", "instance", "layer"] = "support",
        passes: int = 8,
        batch: int | None = None,
        units: int = 20,
        start_rate: float = 0.01,
        checkpoint: bool = False,
        resolution: int | None = None,
    ) -> None:
        super().__init__(task)
        if passes < 1 or (batch is not None and batch < 1):
            raise ValueError(f"passes and batch must be at least 1, found {passes} and {batch}")
        if not 0 < start_rate < 1:
            raise ValueError(f"start_rate must be between 0 and 1, found {start_rate}")
        self.passes, self.batch, self.units, self.recompute = passes, batch, units, checkpoint
        self.collects = task.kind == "n_way_k_shot"
        if norm == "support" and not self.collects:
            norm = "instance"
        depth, height, width = task.image_shape
        self.shape = (depth, resolution or height, resolution or width)
        body = PlasticConv(self.shape, channels, norm) if net == "conv" else PlasticDense(self.shape, norm)
        self.learner = Learner(body, task.ways)
        self.names = [name for name, _ in self.learner.named_parameters()]
        self.sizes = [each.numel() for each in self.learner.parameters()]
        self.first = nn.LSTMCell(4, units)
        self.forget, self.input = nn.Linear(units + 2, 1), nn.Linear(units + 2, 1)
        with torch.no_grad():
            for each in (*self.first.parameters(), self.forget.weight, self.input.weight):
                each.uniform_(-0.01, 0.01)
            self.forget.bias.fill_(5.0)
            self.input.bias.fill_(math.log(start_rate / (1 - start_rate)))
        self.resolution = resolution

    def start(self, episodes: int) -> State:
        """No pairs yet; in streams weights [B, P], empty memories, and images [B, d, C, H, W] that await labels."""
        pending = self.forget.bias.new_zeros(episodes, self.task.label_delay or 0, *self.shape)
        if self.collects:
            return {"images": pending, "labels": torch.zeros(episodes, 0, dtype=torch.int64, device=pending.device)}
        with self._graph():
            weights, memory = self._begun(episodes)
        return {"weights": weights, "memory": memory, "pending": pending}

    def observe(self, state: State, feedback: Feedback) -> State:
        """Keeps the pair; or one step on it, or on the oldest pending image."""
        target = feedback.target.unsqueeze(1)
        seen = state["pending"][:, :1] if feedback.x is None else self._seen(feedback.x.unsqueeze(1))
        if self.collects:
            return _kept(state, seen, target)
        with self._graph():
            weights, memory = self.learned(state["weights"], state["memory"], seen, target)
        return {**state, "weights": weights, "memory": memory}

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        seen = self._seen(x.unsqueeze(1))
        with self._graph():
            logits = self._answers(state["weights"], seen)[0].squeeze(1)
        return logits, {**state, "pending": torch.cat([state["pending"][:, 1:], seen], 1)}

    def adapt(self, state: State) -> State:
        """The weights after all steps on the support set, and the moments that queries are normalised by."""
        if "images" not in state:
            return state
        images, labels = state["images"], state["labels"]
        at_once = len(images)
        if not self.training:
            at_once = max(1, _NUMBERS_AT_ONCE // (sum(self.sizes) * self.units))
        with self._graph():
            parts = [self._adapted(*pair) for pair in zip(images.split(at_once), labels.split(at_once), strict=True)]
        moments = tuple(torch.cat(layer) for layer in zip(*(part[1] for part in parts), strict=True))
        return {"weights": torch.cat([part[0] for part in parts]), "moments": moments}

    def query(self, state: State, x: Tensor) -> Tensor:
        """All queries under the same weights, which need no copy for each."""
        with self._graph():
            return self._answers(state["weights"], self._seen(x), state.get("moments", ()))[0]

    def absorb(self, state: State, x: Tensor, feedback: Feedback) -> State:
        """Support pairs are stacked; in streams a step a label, and no answers."""
        seen, target = self._seen(x.transpose(0, 1)), feedback.target.T
        if self.collects:
            return _kept(state, seen, target)
        fed = torch.cat([state["pending"], seen], 1) if feedback.x is None else seen
        weights, memory = state["weights"], state["memory"]
        with self._graph():
            for step in range(len(x)):
                weights, memory = self.learned(weights, memory, fed[:, step, None], target[:, step, None])
        pending = fed[:, len(x) :] if feedback.x is None else state["pending"]
        return {"weights": weights, "memory": memory, "pending": pending}

    def learned(self, weights: Tensor, memory: Optimizer, x: Tensor, target: Tensor) -> tuple[Tensor, Optimizer]:
        """Weights and memory after one step on images [B, n, C, H, W] with labels [B, n]; null (-1) has no say."""
        with torch.enable_grad():
            free = inner.free(self._by_name(weights))
            loss = inner.loss_by_episode(inner.answers(self.learner, free, x, ())[0], target)
            slopes = inner.gradients(free, loss, through=False)
        slope = torch.cat([each.flatten(1) for each in slopes.values()], 1)
        known = (target >= 0).any(1)
        step = partial(recomputed, self._step, use_reentrant=False, preserve_rng_state=False)
        if not (self.recompute and torch.is_grad_enabled()):
            step = self._step  # type: ignore[assignment]
        after: tuple[Tensor, Optimizer] = step(weights, memory, slope, loss.detach())
        before = (weights, memory)

        def chosen(new: Tensor, old: Tensor) -> Tensor:
            return torch.where(known.view(-1, *(1,) * (new.dim() - 1)), new, old)

        moved: tuple[Tensor, Optimizer] = pytree.tree_map(chosen, after, before)
        return moved

    def _step(self, weights: Tensor, memory: Optimizer, slope: Tensor, loss: Tensor) -> tuple[Tensor, Optimizer]:
        """One step of the LSTM on every weight [B, P], given its gradient [B, P] and the loss [B]."""
        given = torch.cat([log_sign(slope), log_sign(loss).unsqueeze(1).expand(-1, slope.shape[1], -1)], -1)
        before = (memory["hidden"].flatten(0, 1), memory["cell"].flatten(0, 1))
        hidden, cell = (each.view_as(memory["cell"]) for each in self.first(given.flatten(0, 1), before))

        def gate(layer: nn.Linear, last: Tensor) -> Tensor:
            # As three products: no copy of the widest tensor is made to put two numbers beside it.
            own = layer.weight[0]
            drive = F.linear(hidden, own[None, : self.units], layer.bias).squeeze(-1)
            return (drive + own[self.units] * weights + own[self.units + 1] * last).sigmoid()

        forget, entering = gate(self.forget, memory["forget"]), gate(self.input, memory["input"])
        after = {"cell": cell, "hidden": hidden, "forget": forget, "input": entering}
        return forget * weights - entering * slope, after

    def _adapted(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Moments]:
        weights, memory = self._begun(len(images))
        pairs = images.shape[1]
        for order in passes_over(pairs, self.passes):
            for first in range(0, pairs, self.batch or pairs):
                rows = order[first : first + (self.batch or pairs)]
                weights, memory = self.learned(weights, memory, images[:, rows], labels[:, rows])
        return weights, self._answers(weights, images)[1]

    def _begun(self, episodes: int) -> tuple[Tensor, Optimizer]:
        flat = torch.cat([each.flatten() for each in self.learner.parameters()])
        wide, narrow = flat.new_zeros(episodes, len(flat), self.units), flat.new_zeros(episodes, len(flat))
        return flat.expand(episodes, -1), {"cell": wide, "hidden": wide, "forget": narrow, "input": narrow}

    def _by_name(self, weights: Tensor) -> inner.Weights:
        shapes = [each.shape for each in self.learner.parameters()]
        parts = zip(weights.split(self.sizes, 1), shapes, strict=True)
        return dict(zip(self.names, (part.unflatten(1, shape) for part, shape in parts), strict=True))

    def _answers(self, weights: Tensor, x: Tensor, given: Moments = ()) -> tuple[Tensor, Moments]:
        """Logits [B, n, ways] of images under each episode's weights [B, P], and the moments of that."""
        found: tuple[Tensor, Moments] = inner.answers(self.learner, self._by_name(weights), x, given)
        return found

    def _seen(self, x: Tensor) -> Tensor:
        """Images [B, n, C, H, W] as the net sees them."""
        if self.resolution is None:
            return x
        return F.adaptive_avg_pool2d(x.flatten(0, 1), self.resolution).unflatten(0, x.shape[:2])

    def _graph(self) -> torch.autograd.grad_mode.set_grad_enabled:
        """While it is scored nothing is trained: a graph is needed for the learner's own gradient only."""
        return torch.set_grad_enabled(self.training and torch.is_grad_enabled())


def _kept(state: State, images: Tensor, target: Tensor) -> State:
    """The state with further support pairs: images [B, n, C, H, W] and labels [B, n]."""
    return {"images": torch.cat([state["images"], images], 1), "labels": torch.cat([state["labels"], target], 1)}
