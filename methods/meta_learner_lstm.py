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

from harness.method.interface import State, Task
from harness.method.option_types import Count
from methods.nn import episode_conv, inner_loop
from methods.nn.functional_nets import NetName, Statistics, build_learner
from methods.nn.gradient_learner import GradientLearner, pool
from methods.nn.passes import passes_over
from methods.nn.preprocess import log_sign

_NUMBERS_AT_ONCE = 20_000_000
"""Memory cells of the optimiser over all weights of all episodes that are adapted together while scored."""

Optimizer = dict[str, Tensor]
"""'cell' and 'hidden' [B, P, units] of the first LSTM, and the 'forget' and 'input' gates [B, P] of the step before."""


class MetaLearnerLSTM(GradientLearner):
    """A conv net whose every weight is updated by the same small recurrent net, from a start that is trained with it.

    The P weights of the net are the cell state c of an LSTM, and minus its gradient is the candidate (equation 2 of the
    paper): a step is

        c <- f c - i grad,    f = sig(W_f . [m, c, f'] + b_f),    i = sig(W_i . [m, c, i'] + b_i)

    for every weight on its own and with the same W and b, where f' and i' are the gates of the step before and m is
    the output of an LSTM cell over the gradient and the loss L, both as size and sign (`log_sign`). With f = 1 and i
    constant it is gradient descent. c begins at learned values, f' and i' at zero. Training minimises the loss of later
    answers over all of this; grad and L count as constants in it, as in the source.

    A support set is learned from before the queries, in `passes` of batches; each batch is normalised by itself, and
    queries by the statistics of the adapted net over the support set (the source has running statistics for each
    episode, in which the newest batch counts for 0.95). In streams every revealed label is one step on the image it
    belongs to, so that the label delay d must be given; the state is the weights, the memory of every weight and the
    last d images.

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
    checkpoint : in training, recompute the intermediate values of a step for the gradient, instead of storing them.
    resolution : side in pixels to which images are average-pooled first, or None for their own size.
    """

    kinds = ("online_few_shot", "delayed_label", "continual", "n_way_k_shot")

    def __init__(
        self,
        task: Task,
        *,
        net: NetName = "conv",
        channels: Count = 32,
        norm: Literal["support", "instance", "layer"] = "support",
        passes: Count = 8,
        batch: Count | None = None,
        units: Count = 20,
        start_rate: float = 0.01,
        checkpoint: bool = False,
        resolution: Count | None = None,
    ) -> None:
        super().__init__(task)
        if not 0 < start_rate < 1:
            raise ValueError(f"start_rate must be between 0 and 1, found {start_rate}")
        self.passes, self.batch, self.units, self.recompute = passes, batch, units, checkpoint
        self.fits_support_set = task.kind == "n_way_k_shot"
        depth, height, width = task.image_shape
        self.shape = (depth, resolution or height, resolution or width)
        norm = "instance" if norm == "support" and not self.fits_support_set else norm
        self.learner, self.over = build_learner(net, self.shape, task.ways, channels, norm), norm
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

    @property
    def sample_shape(self) -> tuple[int, ...]:
        return self.shape

    def encode(self, x: Tensor) -> Tensor:
        """Images as the net sees them."""
        return pool(x, self.resolution)

    def initial(self, episodes: int) -> State:
        """The initial weights [B, P] and an empty memory."""
        flat = torch.cat([each.flatten() for each in self.learner.parameters()])
        wide, narrow = flat.new_zeros(episodes, len(flat), self.units), flat.new_zeros(episodes, len(flat))
        memory = {"cell": wide, "hidden": wide, "forget": narrow, "input": narrow}
        return {"weights": flat.expand(episodes, -1), "memory": memory}

    def learn(self, state: State, samples: Tensor, target: Tensor) -> State:
        """One step on n samples [B, n, ...] of each episode; where all labels are null (-1) nothing changes."""
        weights, memory = state["weights"], state["memory"]
        with torch.enable_grad():
            leaves = inner_loop.detach(self._by_name(weights))
            loss = inner_loop.loss_by_episode(episode_conv.forward(self.learner, leaves, samples)[0], target)
            found = inner_loop.gradients(leaves, loss, create_graph=False)
        gradient = torch.cat([each.flatten(1) for each in found.values()], 1)
        known = (target >= 0).any(1)
        with self.outer_graph():
            step = partial(recomputed, self._step, use_reentrant=False, preserve_rng_state=False)
            if not (self.recompute and torch.is_grad_enabled()):
                step = self._step  # type: ignore[assignment]
            after: tuple[Tensor, Optimizer] = step(weights, memory, gradient, loss.detach())

            def where_known(new: Tensor, old: Tensor) -> Tensor:
                return torch.where(known.view(-1, *(1,) * (new.dim() - 1)), new, old)

            weights, memory = pytree.tree_map(where_known, after, (weights, memory))
        return {"weights": weights, "memory": memory}

    def fit(self, samples: Tensor, labels: Tensor) -> State:
        """The weights after all steps, and the statistics that queries are normalised by."""
        pairs = samples.shape[1]
        with self.outer_graph():
            state = self.initial(len(samples))
            for order in passes_over(pairs, self.passes):
                for first in range(0, pairs, self.batch or pairs):
                    rows = order[first : first + (self.batch or pairs)]
                    state = self.learn(state, samples[:, rows], labels[:, rows])
            statistics = self._logits(state["weights"], samples)[1] if self.over == "support" else ()
            return {"weights": state["weights"], "statistics": statistics}

    def episodes_at_once(self, images: int) -> int | None:
        return None if self.training else max(1, _NUMBERS_AT_ONCE // (sum(self.sizes) * self.units))

    def answer(self, state: State, samples: Tensor) -> Tensor:
        return self._logits(state["weights"], samples, state.get("statistics", ()))[0]

    def _step(self, weights: Tensor, memory: Optimizer, gradient: Tensor, loss: Tensor) -> tuple[Tensor, Optimizer]:
        """One step of the LSTM on every weight [B, P], given its gradient [B, P] and the loss [B]."""
        inputs = torch.cat([log_sign(gradient), log_sign(loss).unsqueeze(1).expand(-1, gradient.shape[1], -1)], -1)
        before = (memory["hidden"].flatten(0, 1), memory["cell"].flatten(0, 1))
        hidden, cell = (each.view_as(memory["cell"]) for each in self.first(inputs.flatten(0, 1), before))

        def gate(layer: nn.Linear, last: Tensor) -> Tensor:
            # As three products: the widest tensor is not copied to concatenate two numbers to it.
            own = layer.weight[0]
            drive = F.linear(hidden, own[None, : self.units], layer.bias).squeeze(-1)
            return (drive + own[self.units] * weights + own[self.units + 1] * last).sigmoid()

        f, i = gate(self.forget, memory["forget"]), gate(self.input, memory["input"])
        return f * weights - i * gradient, {"cell": cell, "hidden": hidden, "forget": f, "input": i}

    def _by_name(self, weights: Tensor) -> inner_loop.Weights:
        shapes = [each.shape for each in self.learner.parameters()]
        parts = zip(weights.split(self.sizes, 1), shapes, strict=True)
        return dict(zip(self.names, (part.unflatten(1, shape) for part, shape in parts), strict=True))

    def _logits(self, weights: Tensor, x: Tensor, statistics: Statistics = ()) -> tuple[Tensor, Statistics]:
        """Logits [B, n, ways] of images under each episode's weights [B, P], and the statistics of their net."""
        return episode_conv.forward(self.learner, self._by_name(weights), x, statistics)
