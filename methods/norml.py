"""NORML: nodal optimization for recurrent meta-learning (van Niekerk, 2019, submitted to ICLR 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recomputed

from harness.method.interface import Feedback, State, Task
from harness.method.option_types import Count, NotNegative, Whole
from harness.training.interface import Features, Trainable, features_of
from methods.nn import label_pairing
from methods.nn.affine import apply_weight
from methods.nn.backbones import Backbone, Net
from methods.nn.dense import DenseLearner, DenseNorm, Statistics, UnappliedSteps, Weights, sgd_step
from methods.nn.gradient_learner import GradientLearner
from methods.nn.nodal import CellInputs, Drives, Memory, NodalCells
from methods.nn.passes import passes_over

Samples = tuple[Tensor, Tensor, Tensor | None]
"""Vectors [B, R, D] that are learned from together, their labels [B, R], and what they add to the first cell's input
[B, R, gates x units] if that is known."""
Step = tuple[Samples, Tensor | None]
"""Samples, and a vector [B, 1, D] then to be answered."""


@dataclass(frozen=True)
class Steps:
    """What is learned from, and in which order.

    Samples [B, S, D] with labels `target` [B, S] are divided into parts of `size`; `order` is the number of the part
    that each step learns from. `queries` [B, S, D] are answered one by one, each after the step of its number.
    """

    samples: Tensor
    target: Tensor
    size: int
    order: Sequence[int]
    queries: Tensor | None = None

    def in_order(self, sample_drives: Tensor | None) -> list[Step]:
        """One after another, given what all samples add to the first cell's input [B, S, gates x units]."""
        count = len(self.order)
        samples, target = self.samples.split(self.size, 1), self.target.split(self.size, 1)
        drives = [None] * len(samples) if sample_drives is None else sample_drives.split(self.size, 1)
        queries = [None] * count if self.queries is None else self.queries.split(1, 1)
        parts = list(zip(samples, target, drives, strict=True))
        return [(parts[n], query) for n, query in zip(self.order, queries, strict=True)]


class NORML(Trainable, GradientLearner):
    """A learner whose steps an LSTM scales, for each node of each layer: its input and its gradient.

    The learner has weights W_l, b_l, pre-activations a_l = W_l h_(l-1) + b_l and gradients g_l = dL/da_l on a labelled
    sample. The meta-learner m (`methods.nn.nodal.NodalCells`) is fed L, g_l and h_(l-1), and its cell state is carried
    from step to step of an episode, from zero (equations 8 to 19 of the paper):

        (p_l, q_l) = m(L, g_l, h_(l-1)) in (0, 1);   W_l <- W_l - inner_lr (p_l g_l) (q_l h_(l-1))^T,
        b_l <- b_l - inner_lr p_l g_l.

    W_l and b_l begin at learned values; they and m are trained by the exact gradient of the loss of later answers
    through all steps. With p = q = 1 it is gradient descent. The factors cannot enlarge a step or change its sign,
    hence `inner_lr` is to be chosen generously.

    A support set is learned from before the queries; in a stream each label is a step of its own when it is revealed.
    The label delay d must be given; the state is the weights, the memory of m and the features (or pixels) of the last
    d samples.

    Where the paper leaves things open or contradicts itself: the step is subtracted; g and h are those of the layer
    below and above the same weights throughout; the loss is the softmax cross-entropy. The text has a hidden state, the
    equations have none, and name three gates: here the gates also take tanh(c) of the step before, and `zero_hidden`
    gives the equations to the letter. With a fourth, output gate, the meta-learner is 5.3 times the size of one layer
    of 512 inputs and 5 classes, without it 4.3 times; the paper says that it is below 5.

    Options
    -------
    net : 'features' (one linear layer over the features of a backbone, which its recipe trains and freezes) or 'dense'
        (256-128-64-64 units over the pixels, as in table 2).
    hidden : other widths of the learner's hidden layers than those ([] and [256, 128, 64, 64]).
    norm : normalisation of hidden layers: 'support' (by mean and variance over the support set, by which queries are
        normalised too), 'batch' (likewise, but queries by those over the queries, as the source of MAML has it, which
        makes the row transductive), 'layer' (each sample by itself) or 'none'. Where samples are learned from one at a
        time, in streams or by `batch`, 'support' and 'batch' are 'layer': one sample has no variance.
    batch : how a support set is learned from: 'one' sample after another, or the 'whole' set in every step, with a cell
        state for each sample and the mean of the samples' steps.
    passes : passes over it; from the second on in another order.
    inner_lr : as above, on the loss of one sample or the mean loss of the set.
    cell : 'per_layer' (one cell a layer) or 'joint' (one that sees all layers).
    units : width of a cell; by default as many as its layer has outputs, and 128 if joint.
    zero_hidden, zero_cell : the hidden or cell state that is carried from step to step is set to zero.
    output_gate : whether the hidden state passes an output gate.
    inputs : how g and h are scaled for the meta-learner: 'standard' (each vector less its mean, over the root of its
        variance + 1e-6: of gradients that are all far below 1e-3, as of a single well-fitted sample, little is left),
        'log_sign' (size and sign of each number, as Ravi and Larochelle do) or 'raw'.
    gate_bias : where the bias of p and q begins; 2 is a factor of 0.88.
    differentiate : where training differentiates through g and h: in 'all' their uses, in the 'update' alone (they are
        constants to the meta-learner), or in 'none' (first order).
    checkpoint : in training, store intermediate values of this many inner steps at a time and recompute the others:
        for n, memory grows with the number of steps / n + n. 0 stores all. Gradients are the same.
    backbone, channels, widths, resolution : the net under 'features' (`Backbone`); under 'dense' `resolution` is the
        side to which images are average-pooled.
    """

    kinds = ("online_few_shot", "delayed_label", "continual", "n_way_k_shot")

    def __init__(
        self,
        task: Task,
        *,
        net: Literal["features", "dense"] = "features",
        hidden: list[Count] | None = None,
        norm: DenseNorm = "support",
        batch: Literal["one", "whole"] = "one",
        passes: Count = 10,
        inner_lr: NotNegative = 0.05,
        cell: Literal["per_layer", "joint"] = "per_layer",
        units: Count | None = None,
        zero_hidden: bool = False,
        zero_cell: bool = False,
        output_gate: bool = False,
        inputs: CellInputs = "standard",
        gate_bias: float = 2.0,
        differentiate: Literal["all", "update", "none"] = "all",
        checkpoint: Whole = 0,
        backbone: Net = "conv4",
        channels: Count = 64,
        widths: list[Count] | None = None,
        resolution: Count | None = None,
    ) -> None:
        super().__init__(task)
        self.passes, self.inner_lr, self.differentiate, self.segment = passes, inner_lr, differentiate, checkpoint
        self.fits_support_set = task.kind == "n_way_k_shot"
        self.whole = self.fits_support_set and batch == "whole"
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
        if norm in ("support", "batch") and not self.whole:
            norm = "layer"
        self.transductive = norm == "batch" and bool(hidden)
        self.learner = DenseLearner(self.dim, hidden, task.ways, norm)
        self.cells = NodalCells(
            self.learner.sizes,
            joint=cell == "joint",
            units=units,
            zero_hidden=zero_hidden,
            zero_cell=zero_cell,
            output_gate=output_gate,
            inputs=inputs,
            gate_bias=gate_bias,
        )

    def memoryless_features(self) -> Features | None:
        return features_of(self, "backbone", shared=True) if isinstance(self.backbone, Backbone) else None

    @property
    def sample_shape(self) -> tuple[int, ...]:
        return (self.dim,)

    def encode(self, x: Tensor) -> Tensor:
        """Features, or pixels, [B, N, D]."""
        return self.backbone(x.flatten(0, 1)).unflatten(0, x.shape[:2])

    def encode_stream(self, x: Tensor) -> Tensor:
        """In the order of time: sums over images, in gradients and batch statistics, round by their order."""
        return self.encode(x).transpose(0, 1)

    def initial(self, episodes: int) -> State:
        weights, memory = self._start(episodes, 1)
        return {"weights": weights, "memory": memory}

    def learn(self, state: State, samples: Tensor, target: Tensor) -> State:
        steps = Steps(samples, target, 1, range(samples.shape[1]))
        with self.outer_graph():
            weights, memory, *_ = self._trajectory(state["weights"], state["memory"], steps)
        return {"weights": weights, "memory": memory}

    def learn_all(self, state: State, samples: Tensor, target: Tensor) -> State:
        return {**state, **self.learn(state, samples, target)}

    def fit(self, samples: Tensor, labels: Tensor) -> State:
        """The weights after all steps, and the statistics that queries are normalised by.

        In training on whole sets the steps of the first layer stay unapplied. Scored numbers stay what they were.
        """
        pairs = samples.shape[1]
        if self.whole:
            steps = Steps(samples, labels, pairs, [0] * self.passes)
        else:
            order = [n for one in passes_over(pairs, self.passes) for n in one]
            steps = Steps(samples, labels, 1, order)
        with self.outer_graph():
            weights, memory = self._start(len(samples), pairs if self.whole else 1)
            unapplied = None
            if self.whole and torch.is_grad_enabled():
                unapplied = UnappliedSteps(apply_weight(weights[0][0], samples, weights[0][1]))
            weights, _, unapplied, _ = self._trajectory(weights, memory, steps, unapplied)
            statistics: Statistics = ()
            if self.learner.norm == "support":
                statistics = self.learner(weights, samples, (), unapplied and unapplied.output).statistics
        state = {"weights": weights, "statistics": statistics}
        return state if unapplied is None else {**state, "unapplied": unapplied}

    def answer(self, state: State, samples: Tensor) -> Tensor:
        weights: Weights = state["weights"]
        unapplied: UnappliedSteps | None = state.get("unapplied")
        first = None if unapplied is None else unapplied.apply(*weights[0], samples)
        logits: Tensor = self.learner(weights, samples, state.get("statistics", ()), first).logits
        return logits

    def rollout(self, x: Tensor, feedback: Feedback) -> Tensor | None:
        """All images through the net at once, then the labels one by one."""
        if self.fits_support_set:
            return None
        target = feedback.target
        with self.outer_graph():
            state, samples = self.start(x.shape[1]), self.encode_stream(x)
            labelled, _ = label_pairing.pair(state["pending"], samples)
            steps = Steps(labelled, target.transpose(0, 1), 1, range(len(x)), samples)
            logits = self._trajectory(state["weights"], state["memory"], steps)[-1]
        return torch.cat(logits, 1).transpose(0, 1)

    def _step(
        self,
        weights: Weights,
        memory: Memory,
        unapplied: UnappliedSteps | None,
        samples: Samples,
        drives: Drives,
    ) -> tuple[Weights, Memory, UnappliedSteps | None]:
        """Weights and memory after one step on vectors [B, R, D] with labels [B, R], beside what they add to the first
        cell's input; null (-1) is masked out."""
        x, target, sample_drive = samples
        known = target >= 0
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.differentiate != "none"):
            passed = self.learner(weights, x, (), unapplied and unapplied.output)
            loss, gradients = self.learner.gradients(weights, passed, target)
        h, seen = passed.inputs, (loss, passed.inputs, gradients)
        if self.differentiate == "update":
            seen = (loss.detach(), [each.detach() for each in h], [each.detach() for each in gradients])
        memory, q, p = self.cells(memory, *seen, known, drives, sample_drive)
        rate = self.inner_lr / known.sum(1).clamp(min=1).view(-1, 1, 1)
        scaled_h = [each * factor for each, factor in zip(h, q, strict=True)]
        scaled_gradients = [each * factor for each, factor in zip(gradients, p, strict=True)]
        if unapplied is None:
            return sgd_step(weights, scaled_h, scaled_gradients, rate), memory, None
        after = [weights[0], *sgd_step(weights[1:], scaled_h[1:], scaled_gradients[1:], rate)]
        return after, memory, unapplied.and_one(x, scaled_h[0], rate * scaled_gradients[0])

    def _trajectory(
        self, weights: Weights, memory: Memory, steps: Steps, unapplied: UnappliedSteps | None = None
    ) -> tuple[Weights, Memory, UnappliedSteps | None, list[Tensor]]:
        """Weights and memory after all steps, and the logits [B, 1, ways] of what is answered on the way.

        Those of the first layer stay as they are where its steps are collected in `unapplied`. With `checkpoint`, in
        bounded memory.
        """
        shown = steps.samples.detach() if self.differentiate == "update" else steps.samples
        drives, sample_drives = self.cells.shared_by_steps(shown)
        one_by_one = steps.in_order(sample_drives)
        size = self.segment or max(len(one_by_one), 1)
        logits: list[Tensor] = []
        run: Any = self._segment_of
        if self.segment and torch.is_grad_enabled():
            run = partial(recomputed, run, use_reentrant=False, preserve_rng_state=False)
        for first in range(0, len(one_by_one), size):
            part = one_by_one[first : first + size]
            weights, memory, unapplied, found = run(weights, memory, unapplied, part, drives)
            logits += found
        return weights, memory, unapplied, logits

    def _segment_of(
        self, weights: Weights, memory: Memory, unapplied: UnappliedSteps | None, steps: list[Step], drives: Drives
    ) -> tuple[Weights, Memory, UnappliedSteps | None, list[Tensor]]:
        logits = []
        for samples, query in steps:
            weights, memory, unapplied = self._step(weights, memory, unapplied, samples, drives)
            if query is not None:
                logits.append(self.learner(weights, query).logits)
        return weights, memory, unapplied, logits

    def _start(self, episodes: int, rows: int) -> tuple[Weights, Memory]:
        return self.learner.start(episodes), self.cells.start(episodes, rows)
