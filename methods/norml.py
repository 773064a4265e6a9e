"""NORML: nodal optimization for recurrent meta-learning (van Niekerk, 2019, submitted to ICLR 2020)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recomputed

from harness.method.interface import Feedback, Method, State, Task
from harness.training.interface import Features, Trainable, features_of
from methods.nn.backbones import Backbone, Net
from methods.nn.dense import DenseLearner, DenseNorm, Moments, Weights, moved
from methods.nn.nodal import CellInputs, Memory, NodalCells
from methods.nn.passes import passes_over

Step = tuple[Tensor, Tensor, Tensor | None]
"""Vectors [B, R, D] that are learned from together, their labels [B, R], and vectors [B, 1, D] then to be answered."""


class NORML(Trainable, Method):
    """A learner whose steps an LSTM scales, for each node of each layer: what comes in and what goes back.

    The learner has weights W_l, b_l, pre-activations a_l = W_l h_(l-1) + b_l and slopes s_l = dL/da_l on a labelled
    sample. The meta-learner m (`methods.nn.nodal.NodalCells`) sees L, s_l and h_(l-1), and its cell state goes from
    step to step of an episode, from zero:

        (p_l, q_l) = m(L, s_l, h_(l-1)) in (0, 1);   W_l <- W_l - inner_lr (p_l s_l) (q_l h_(l-1))^T,
        b_l <- b_l - inner_lr p_l s_l.

    W_l and b_l begin at learned values; they and m are trained by the exact gradient of the loss of later answers
    through all steps. With p = q = 1 it is gradient descent. The factors cannot enlarge a step or turn it around, hence
    `inner_lr` is to be chosen generously.

    A support set is learned from before the queries; in a stream each label is a step of its own when it is revealed.
    It must be told the label delay d, and keeps the features (or pixels) of the last d samples in its state.

    Where the paper leaves things open or contradicts itself: the step is subtracted; s and h are those of the layer
    below and above the same weights throughout; the loss is the usual cross-entropy. The text has a hidden state, the
    equations have none, and name three gates: here the gates also take h' = tanh(c) of the step before, and
    `zero_hidden` gives the equations to the letter. With a fourth, output gate, the meta-learner is 5.3 times the size
    of one layer of 512 inputs and 5 classes, without it 4.3 times; the paper says that it is below 5.

    Options
    -------
    net : 'features' (one linear layer over the features of a backbone, which its recipe trains and freezes) or 'dense'
        (256-128-64-64 units over the pixels, as in table 2).
    hidden : other widths of the learner's hidden layers than those ([] and [256, 128, 64, 64]).
    norm : normalisation of hidden layers: 'support' (by mean and variance over the support set, by which queries are
        normalised too), 'layer' (each sample by itself) or 'none'. Where samples come one at a time, in streams
        or by `batch`, 'support' is 'layer': one sample has no variance.
    batch : how a support set is learned from: 'one' sample after another, or the 'whole' set in every step, with a cell
        state for each sample and the mean of the samples' steps.
    passes : how often it is gone through; from the second time on in another order.
    inner_lr : as above, on the loss of one sample or the mean loss of the set.
    cell : 'per_layer' (one cell a layer) or 'joint' (one that sees all layers).
    units : width of a cell; by default as many as its layer has outputs, and 128 if joint.
    zero_hidden, zero_cell : what goes from step to step is set to zero.
    output_gate : whether the hidden state passes an output gate.
    inputs : how the meta-learner is given s and h: 'standard' (each vector less its mean, by its deviation),
        'log_sign' (size and sign of each number, as Ravi and Larochelle do) or 'raw'.
    gate_bias : where the bias of p and q begins; 2 is a factor of 0.88.
    differentiate : what training differentiates s and h through: 'all' that they are used for, the 'update' (they are
        constants to the meta-learner), or 'none' (first order).
    checkpoint : in training, keep what is needed for the gradient of so many inner steps at a time and compute the
        rest again: memory is then bounded by the number of steps / n + n. 0 keeps all. Gradients are the same.
    backbone, channels, widths, resolution : the net under 'features' (`Backbone`); under 'dense' `resolution` is the
        side to which images are average-pooled.
    """

    needs_label_delay = True
    learns_by_gradient = True
    kinds = ("online_few_shot", "delayed_label", "continual", "n_way_k_shot")

    def __init__(
        self,
        task: Task,
        net: Literal["features", "dense"] = "features",
        hidden: list[int] | None = None,
        norm: DenseNorm = "support",
        batch: Literal["one", "whole"] = "one",
        passes: int = 10,
        inner_lr: float = 0.05,
        cell: Literal["per_layer", "joint"] = "per_layer",
        units: int | None = None,
        zero_hidden: bool = False,
        zero_cell: bool = False,
        output_gate: bool = False,
        inputs: CellInputs = "standard",
        gate_bias: float = 2.0,
        differentiate: Literal["all", "update", "none"] = "all",
        checkpoint: int = 0,
        backbone: Net = "conv4",
        channels: int = 64,
        widths: list[int] | None = None,
        resolution: int | None = None,
    ) -> None:
        super().__init__(task)
        for name, value, least in (("passes", passes, 1), ("checkpoint", checkpoint, 0)):
            if value < least:
                raise ValueError(f"{name} must be at least {least}, found {value}")
        self.passes, self.inner_lr, self.differentiate, self.segment = passes, inner_lr, differentiate, checkpoint
        self.collects = task.kind == "n_way_k_shot"
        self.whole = self.collects and batch == "whole"
        self.backbone: nn.Module
        if net == "features":
            self.backbone = Backbone(task.image_shape, backbone, channels, widths, resolution)
            self.dim = self.backbone.dim
        else:
            depth, height, width = task.image_shape
            pool = nn.Identity() if resolution is None else nn.AdaptiveAvgPool2d(resolution)
            self.backbone = nn.Sequential(pool, nn.Flatten())
            self.dim = depth * (resolution or height) * (resolution or width)
        if hidden is None:
            hidden = [] if net == "features" else [256, 128, 64, 64]
        self.learner = DenseLearner(self.dim, hidden, task.ways, norm if self.whole or norm != "support" else "layer")
        self.cells = NodalCells(
            self.learner.sizes, cell == "joint", units, zero_hidden, zero_cell, output_gate, inputs, gate_bias
        )
        self.delay = task.label_delay or 0

    def memoryless_features(self) -> Features | None:
        return features_of(self, "backbone", shared=True) if isinstance(self.backbone, Backbone) else None

    def start(self, episodes: int) -> State:
        """No pairs yet; in streams initial weights, empty memories, and vectors [B, d, D] that await their labels."""
        none = next(self.learner.parameters()).new_zeros(episodes, self.delay, self.dim)
        if self.collects:
            return {"shown": none, "labels": torch.zeros(episodes, 0, dtype=torch.int64, device=none.device)}
        with self._graph():
            weights, memory = self._begun(episodes, 1)
        return {"weights": weights, "memory": memory, "pending": none}

    def observe(self, state: State, feedback: Feedback) -> State:
        """Keeps a support pair; in a stream, one step on the oldest pending vector."""
        target = feedback.target.unsqueeze(1)
        with self._graph():
            shown = state["pending"][:, :1] if feedback.x is None else self.backbone(feedback.x).unsqueeze(1)
            if self.collects:
                return _kept(state, shown, target)
            weights, memory = self.learned(state["weights"], state["memory"], shown, target)
        return {**state, "weights": weights, "memory": memory}

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        with self._graph():
            seen = self.backbone(x).unsqueeze(1)
            logits = self.learner(state["weights"], seen).logits.squeeze(1)
        return logits, {**state, "pending": torch.cat([state["pending"][:, 1:], seen], 1)}

    def adapt(self, state: State) -> State:
        """The weights after all steps on the support set, and the moments that queries are normalised by."""
        if "shown" not in state:
            return state
        shown, labels = state["shown"], state["labels"]
        steps: list[Step]
        if self.whole:
            steps = [(shown, labels, None)] * self.passes
        else:
            order = passes_over(shown.shape[1], self.passes)
            steps = [(shown[:, n, None], labels[:, n, None], None) for one in order for n in one]
        with self._graph():
            begun = self._begun(len(shown), shown.shape[1] if self.whole else 1)
            weights = self._trajectory(*begun, steps)[0]
            moments: Moments = ()
            if self.learner.norm == "support":
                moments = self.learner(weights, shown).moments
        return {"weights": weights, "moments": moments}

    def query(self, state: State, x: Tensor) -> Tensor:
        """All queries under the same weights, which need no copy for each."""
        with self._graph():
            passed = self.learner(state["weights"], self._seen(x), state.get("moments", ()))
        logits: Tensor = passed.logits
        return logits

    def rollout(self, x: Tensor, feedback: Feedback) -> Tensor | None:
        """All images through the net at once, then the labels one by one."""
        if self.collects:
            return None
        with self._graph():
            seen, target = self._seen(x).transpose(0, 1), feedback.target
            fed = torch.cat([seen.new_zeros(seen.shape[0], self.delay, self.dim), seen], 1)
            steps: list[Step] = [(fed[:, t, None], target[t, :, None], seen[:, t, None]) for t in range(len(x))]
            logits = self._trajectory(*self._begun(x.shape[1], 1), steps)[2]
        return torch.cat(logits, 1).transpose(0, 1)

    def absorb(self, state: State, x: Tensor, feedback: Feedback) -> State:
        """All images through the net at once; the labels of a stream then one by one."""
        with self._graph():
            seen, target = self._seen(x).transpose(0, 1), feedback.target.T
            if self.collects:
                return _kept(state, seen, target)
            fed = torch.cat([state["pending"], seen], 1) if feedback.x is None else seen
            steps: list[Step] = [(fed[:, t, None], target[:, t, None], None) for t in range(len(x))]
            weights, memory, _ = self._trajectory(state["weights"], state["memory"], steps)
        pending = fed[:, len(x) :] if feedback.x is None else state["pending"]
        return {"weights": weights, "memory": memory, "pending": pending}

    def learned(self, weights: Weights, memory: Memory, x: Tensor, target: Tensor) -> tuple[Weights, Memory]:
        """Weights and memory after one step on vectors [B, R, D] with labels [B, R]; null labels (-1) have no say."""
        known = target >= 0
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.differentiate != "none"):
            passed = self.learner(weights, x)
            loss, slopes = self.learner.slopes(weights, passed, target)
        inputs = passed.inputs
        told = (loss, inputs, slopes)
        if self.differentiate == "update":
            told = (loss.detach(), [each.detach() for each in inputs], [each.detach() for each in slopes])
        memory, of_inputs, of_slopes = self.cells(memory, *told, known)
        rate = self.inner_lr / known.sum(1).clamp(min=1).view(-1, 1, 1)
        scaled = [each * factor for each, factor in zip(inputs, of_inputs, strict=True)]
        return moved(
            weights, scaled, [each * factor for each, factor in zip(slopes, of_slopes, strict=True)], rate
        ), memory

    def _trajectory(self, weights: Weights, memory: Memory, steps: list[Step]) -> tuple[Weights, Memory, list[Tensor]]:
        """Weights and memory after all steps, and the answers [B, 1, ways] on the way, in bounded memory if asked."""
        size = self.segment or max(len(steps), 1)
        answers: list[Tensor] = []
        for first in range(0, len(steps), size):
            part = steps[first : first + size]
            if self.segment and torch.is_grad_enabled():
                found = recomputed(
                    self._segment_of, weights, memory, part, use_reentrant=False, preserve_rng_state=False
                )
            else:
                found = self._segment_of(weights, memory, part)
            weights, memory, told = found
            answers += told
        return weights, memory, answers

    def _segment_of(self, weights: Weights, memory: Memory, steps: list[Step]) -> tuple[Weights, Memory, list[Tensor]]:
        answers = []
        for x, target, asked in steps:
            weights, memory = self.learned(weights, memory, x, target)
            if asked is not None:
                answers.append(self.learner(weights, asked).logits)
        return weights, memory, answers

    def _begun(self, episodes: int, rows: int) -> tuple[Weights, Memory]:
        return self.learner.start(episodes), self.cells.start(episodes, rows)

    def _seen(self, x: Tensor) -> Tensor:
        return self.backbone(x.flatten(0, 1)).unflatten(0, x.shape[:2])

    def _graph(self) -> torch.autograd.grad_mode.set_grad_enabled:
        """While it is scored nothing is trained, and slopes are written out: no graph is needed at all."""
        return torch.set_grad_enabled(self.training and torch.is_grad_enabled())


def _kept(state: State, shown: Tensor, target: Tensor) -> State:
    """The state with further support pairs: vectors [B, n, D] and labels [B, n]."""
    return {"shown": torch.cat([state["shown"], shown], 1), "labels": torch.cat([state["labels"], target], 1)}
