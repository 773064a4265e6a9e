"""CPM: contextual prototypical memory (Ren, Iuzzolino, Mozer and Zemel, "Wandering within a world", ICLR 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.method.interface import Feedback, Method, State, Task, one_hot
from harness.method.option_types import Count, NotNegative
from harness.training.interface import Batch
from methods.nn import label_pairing
from methods.nn.backbones import Conv4
from methods.nn.feature_net import FeatureNet
from methods.nn.lstm_cell import recurrent
from methods.nn.novelty import UNSEEN, MeanOver, among_seen, loss_among_seen, nearest


@dataclass(frozen=True)
class _Seen:
    """What images look like in their context, [..., D] or [...]: g, the scale s, and beta and gamma."""

    features: Tensor
    scale: Tensor
    beta: Tensor
    gamma: Tensor


class CPM(FeatureNet, Method):
    """Prototypes of features in context: an LSTM that sees no labels says how to see, a gate how much to write.

    From features h_t of the image, z_t = LSTM(h_t, ...), and one linear readout of z_t gives

        m_t,   s_t = softplus(.),   beta_t,   gamma_t = softplus(. + 1)      (at the start beta is -10),
        g_t = h_t + m_t      (m_t is 0 at the start),
        logit_k = tau cos(s_t * g_t, s_t * p_k)  for classes seen, tau learned from 10.

    On the label y of a sample with g: a_k = sig(w . [e_k; p_k] + b), p_k <- (1 - a_k) p_k + a_k e_k, where e_y = g,
    e_k = 0 for the others (whose prototypes so get shorter, which changes later writes but no angle), and b starts
    at -2. The "unknown" logit u_t = (min_k -logit_k - beta_t) / gamma_t is trained to tell first presentations, as in
    `OPN`, and never answers. Logits are moved alike until the largest is -u_t; where queries follow, which is after
    every class was seen, there is no u_t and they are not moved. Writes by the model's own guesses (the source's
    semi-supervised mode) do not exist here.

    It needs the label delay d, and keeps g of the last d samples in its state beside the prototypes and the
    LSTM's memory: a constant size. On support pairs images enter the LSTM in turn, and a pair's label is written at
    once; each query is the LSTM's next step. The conv net's last ReLU is off, as in the source.

    Options
    -------
    channels : width of the conv net (`Conv4`).
    units, layer_norm : of the LSTM; normalised gates are the source's.
    fuse : 'add' (g = h + m, the released configuration), 'gate' (g = a h + b m, both read out by sigmoids whose
        biases start at 1 and -1: the paper's form) or 'context' (g = m, an ablation of theirs).
    write : 'dense' (as above, the source's) or 'sparse' (prototypes of other classes stay as they are).
    unknown_weight : weight of the "unknown" loss; 1 in the source.
    mean_over : what the loss is a mean over: 'episodes', of the sum over each one's steps, or 'steps', the source's:
        the mean over the steps of seen classes and, for the "unknown" loss, that over all, of all episodes together.
        The norm 5 at which the source has each parameter's gradient clipped (`clip_tensor_norm` in recipes), and the
        weight decay 1e-5 of matrices and kernels (`weight_decay_of: matrices`), belong to that scale. The loss in the
        training log is per scored step always, so that it is this one divided by the steps of an episode.
    """

    needs_label_delay = True
    kinds = ("online_few_shot", "delayed_label", "continual", "n_way_k_shot")
    feature_net = "encode"

    def __init__(
        self,
        task: Task,
        channels: Count = 64,
        units: Count = 256,
        layer_norm: bool = True,
        fuse: Literal["add", "gate", "context"] = "add",
        write: Literal["dense", "sparse"] = "dense",
        unknown_weight: NotNegative = 1.0,
        mean_over: MeanOver = "episodes",
    ) -> None:
        super().__init__(task)
        self.mean_over: MeanOver = mean_over
        self.fuse, self.write, self.unknown_weight = fuse, write, unknown_weight
        self.encode = Conv4(task.image_shape[0], channels, final_relu=False)
        self.dim = self.encode.features(task.image_shape)
        self.units = units
        self.recur = recurrent(self.dim, units, 1, layer_norm)
        self.readout = nn.Linear(units, 2 * self.dim + (4 if fuse == "gate" else 2))
        self.gate = nn.Linear(2 * self.dim, 1)
        self.tau = nn.Parameter(torch.tensor(10.0))
        with torch.no_grad():
            # Ours: from a random m_t, which changes slowly, untrained answers favour the newest label's class.
            self.readout.weight[: self.dim] = 0.0
            self.readout.bias.zero_()
            self.readout.bias[2 * self.dim] = -10.0
            if fuse == "gate":
                self.readout.bias[-2:] = torch.tensor([1.0, -1.0])
            self.gate.bias.fill_(-2.0)
        self.meets_new = task.kind in ("online_few_shot", "delayed_label")

    def start(self, episodes: int) -> State:
        """Prototypes [B, ways, D], their counts [B, ways], g [B, d, D] that await their labels, and h, c [B, units]."""
        zeros = self.tau.new_zeros
        return {
            "prototypes": zeros(episodes, self.task.ways, self.dim),
            "counts": zeros(episodes, self.task.ways),
            "pending": zeros(episodes, self.task.label_delay or 0, self.dim),
            "h": zeros(episodes, self.units),
            "c": zeros(episodes, self.units),
        }

    def observe(self, state: State, feedback: Feedback) -> State:
        """Writes the pair's g, which is first seen in its context, or the oldest pending one."""
        if feedback.x is None:
            shown = label_pairing.oldest(state["pending"]).squeeze(1)
        else:
            seen, memory = self._look(self.features(feedback.x.unsqueeze(0)), state)
            shown, state = seen.features[0], {**state, **memory}
        hit = one_hot(feedback.target, self.task.ways).to(shown.dtype)
        prototypes = self._write(state["prototypes"], shown, hit)
        return {**state, "prototypes": prototypes, "counts": state["counts"] + hit}

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        seen, memory = self._look(self.features(x.unsqueeze(0)), state)
        logits = self._logits(seen, state["prototypes"], state["counts"]).squeeze(0)
        pending = label_pairing.push(state["pending"], seen.features.transpose(0, 1))
        return logits, {**state, **memory, "pending": pending}

    def rollout(self, x: Tensor, feedback: Feedback) -> Tensor:
        """The conv net and the LSTM over all steps at once; only the writes of prototypes wait for each other."""
        state = self.start(x.shape[1])
        seen, _ = self._look(self.features(x), state)
        labelled, _ = label_pairing.pair(state["pending"], seen.features.transpose(0, 1))
        hit = one_hot(feedback.target, self.task.ways).to(labelled.dtype)
        prototypes = [state["prototypes"]]
        for shown, each in zip(labelled.unbind(1), hit, strict=True):
            prototypes.append(self._write(prototypes[-1], shown, each))
        return self._logits(seen, torch.stack(prototypes[1:]), hit.cumsum(0))

    def absorb(self, state: State, x: Tensor, feedback: Feedback) -> State:
        """The same, but only the last prototypes are looked at."""
        seen, memory = self._look(self.features(x), state)
        labelled, pending = label_pairing.pair(state["pending"], seen.features.transpose(0, 1))
        hit = one_hot(feedback.target, self.task.ways).to(labelled.dtype)
        prototypes, counts = state["prototypes"], state["counts"] + hit.sum(0)
        for shown, each in zip(labelled.unbind(1), hit, strict=True):
            prototypes = self._write(prototypes, shown, each)
        return {"prototypes": prototypes, "counts": counts, "pending": pending, **memory}

    def query(self, state: State, x: Tensor) -> Tensor:
        """Each query as the LSTM's next step, beside prototypes that need no copy for each."""
        episodes, queries = x.shape[:2]
        forked = {name: state[name].repeat_interleave(queries, 0) for name in ("h", "c")}
        seen, _ = self._look(self.encode(x.flatten(0, 1)).unsqueeze(0), forked)
        apart = _Seen(*(each[0].unflatten(0, (episodes, queries)) for each in vars(seen).values()))
        return self._logits(apart, state["prototypes"].unsqueeze(1), state["counts"].unsqueeze(1))

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy among seen classes at steps whose class was seen; in streams, the "unknown" loss at all."""
        logits = logits.float()
        unknown = -nearest(logits) if self.meets_new else None
        return loss_among_seen(logits, batch, unknown, self.unknown_weight, self.mean_over)

    def _look(self, features: Tensor, state: State) -> tuple[_Seen, State]:
        """Features [T, B, D] in their context, and the LSTM's memory after them."""
        z, (h, c) = self.recur(features, (state["h"].unsqueeze(0), state["c"].unsqueeze(0)))
        read = self.readout(z)
        context, scale, beta, gamma = read[..., : 2 * self.dim + 2].split([self.dim, self.dim, 1, 1], -1)
        if self.fuse == "add":
            context = features + context
        elif self.fuse == "gate":
            context = read[..., -2:-1].sigmoid() * features + read[..., -1:].sigmoid() * context
        seen = _Seen(context, F.softplus(scale), beta.squeeze(-1), F.softplus(gamma.squeeze(-1) + 1))
        return seen, {"h": h.squeeze(0), "c": c.squeeze(0)}

    def _write(self, prototypes: Tensor, shown: Tensor, hit: Tensor) -> Tensor:
        """Prototypes [B, ways, D] after g [B, D] was written where hit [B, ways] is 1; a null label writes nothing."""
        entering = hit.unsqueeze(-1) * shown.unsqueeze(1)
        rate = self.gate(torch.cat([entering, prototypes], -1)).sigmoid()
        passing = hit if self.write == "sparse" else hit.sum(-1, keepdim=True)
        return prototypes + passing.unsqueeze(-1) * rate * (entering - prototypes)

    def _logits(self, seen: _Seen, prototypes: Tensor, counts: Tensor) -> Tensor:
        """Logits [..., ways] of what is seen [...] from prototypes [..., ways, D] and counts [..., ways]."""
        # Prototypes that were not written for long are very short: their size must not meet an epsilon.
        size = prototypes.detach().abs().amax(-1, keepdim=True)
        direction = prototypes / torch.where(size > 0, size, 1.0)
        scale = seen.scale.unsqueeze(-2)
        near = self.tau * F.cosine_similarity(scale * seen.features.unsqueeze(-2), scale * direction, dim=-1)
        if not self.meets_new:
            return among_seen(near, counts > 0)
        unknown = (-near.masked_fill(counts == 0, UNSEEN).amax(-1) - seen.beta) / seen.gamma
        return among_seen(near, counts > 0, unknown.masked_fill((counts == 0).all(-1), 0.0))
