"""APL: adaptive posterior learning (Ramalho and Garnelo, "Adaptive posterior learning: few-shot learning with a
surprise-based memory module", ICLR 2019)."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.method.interface import Feedback, Method, State, Task
from harness.method.option_types import Count, Positive
from methods.nn import label_pairing
from methods.nn.feature_net import FeatureNet
from methods.nn.maps import channels_last
from methods.nn.relational import RelationalDecoder
from methods.opn import OPN

Nearest = tuple[Tensor, Tensor, Tensor]
"""Embeddings [..., k, E], labels [..., k] and squared distances [..., k] of the k nearest entries, nearest first."""


class APL(FeatureNet, Method):
    """A memory of surprising samples; a relational decoder answers from those nearest to the image.

    With the embedding e of the image, its k nearest entries of the memory by squared distance go through
    `RelationalDecoder`. When the label y arrives, (e, y) is stored if it was surprising:

        -log p(y) > sigma ln(ways),    p being the answer for e from the memory as it is then.

    With fewer than k entries, empty ones (a zero embedding, a label of their own) are in their place. Stored embeddings
    and distances are detached, as in the source: training reaches the encoder through the query's embedding alone.
    (Pretraining, a stage that recipes may have, trains the encoder under prototypes, which do reach it by distances.)
    Of equal distances that of the first slot comes first.

    It needs the label delay d, and keeps the last d embeddings in its state. The memory begins with k slots and
    gets one more a step, whether something is stored or not (episodes of a batch store different things), up to
    `memory`; then the oldest entry makes room. So nothing is lost before, and the state grows with t up to that size.

    The encoder is the source's: a convolution, then five stages of three pre-activation blocks (batch normalisation,
    ReLU, 3x3 convolution), the first of each halving the side, the others residual, and layer normalisation.

    Options
    -------
    channels : width of the encoder; 64 in the source, as is then the embedding of images of up to 32x32.
    neighbours : k.
    sigma : the threshold of surprise, in parts of ln(ways); 0.75 in the source. Whoever can tell a new class from those
        before it gives the last c classes of an episode 1/c each; they are stored if sigma is below ln(c) / ln(ways).
    memory : entries at most.
    surprise : 'current' (as above) or 'cached' (p is the answer that was given for the image). At a delay of 1 both
        are the same. On support pairs there was no answer, and p is always from the current memory.
    label : size of a label's embedding.
    blocks, heads, key, value : of the relational self-attention.
    """

    needs_label_delay = True
    kinds = ("online_few_shot", "delayed_label", "continual", "n_way_k_shot")
    feature_net = "encode"

    def __init__(
        self,
        task: Task,
        channels: Count = 64,
        neighbours: Count = 5,
        sigma: Positive = 0.75,
        memory: Count = 10_000,
        surprise: Literal["current", "cached"] = "current",
        label: Count = 32,
        blocks: Count = 5,
        heads: Count = 2,
        key: Count = 256,
        value: Count = 256,
    ) -> None:
        super().__init__(task)
        if memory < neighbours:
            raise ValueError(f"memory must have at least the {neighbours} neighbours that are read, found {memory}")
        self.neighbours, self.memory, self.delay = neighbours, memory, task.label_delay or 0
        self.threshold = sigma * math.log(task.ways)
        self.caches = surprise == "cached" or self.delay == 1
        self.encode = Encoder(task.image_shape, channels)
        self.dim = self.encode.dim
        self.decode = RelationalDecoder(task.ways, self.dim, label, neighbours, key, value, heads, blocks)

    def start(self, episodes: int) -> State:
        """The k empty slots, how many entries were `written` [B], and what awaits its label.

        Slots are embeddings [B, M, E] and labels [B, M]; `pending` are embeddings [B, d, E], `answers` log p
        [B, d, ways] if they are needed (else [B, 0, ways]). M begins at k.
        """
        weight = self.decode.classify.weight
        count = torch.zeros(episodes, dtype=torch.int64, device=weight.device)
        return {
            "embeddings": weight.new_zeros(episodes, self.neighbours, self.dim),
            "labels": torch.full_like(count, self.task.ways).unsqueeze(1).repeat(1, self.neighbours),
            "written": count,
            "pending": weight.new_zeros(episodes, self.delay, self.dim),
            "answers": weight.new_zeros(episodes, self.delay if self.caches else 0, self.task.ways),
        }

    def observe(self, state: State, feedback: Feedback) -> State:
        """Stores the label with the pair's embedding, or the oldest pending one, if it was surprising."""
        if feedback.x is not None:
            return self._stored(state, self.encode(feedback.x).detach(), feedback.target, None)
        answer = label_pairing.oldest(state["answers"]).squeeze(1) if self.caches else None
        return self._stored(state, label_pairing.oldest(state["pending"]).squeeze(1), feedback.target, answer)

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        embedding = self.encode(x)
        logits = self._answer(state, embedding)
        return logits, self._awaiting(state, embedding, logits)

    def rollout(self, x: Tensor, feedback: Feedback) -> Tensor:
        """All images are encoded at once. The episode is lived through without gradients, to learn what is near at each
        step; then it is decoded at once."""
        features = self.features(x)
        state, found = self.start(features.shape[1]), []
        with torch.no_grad():
            for embedding, target in zip(features, feedback.target, strict=True):
                state = self.observe(state, Feedback(target))
                found.append(self._nearest(state, embedding))
                answer = self._decoded(embedding, found[-1]) if self.caches else None
                state = self._awaiting(state, embedding, answer)
            embeddings, labels, distances = (torch.stack(each) for each in zip(*found, strict=True))
        return self._decoded(features, (embeddings, labels, distances))

    def absorb(self, state: State, x: Tensor, feedback: Feedback) -> State:
        """All images are encoded at once; what is stored carries no gradient, so that none is kept."""
        with torch.no_grad():
            features = self.features(x)
            for embedding, target in zip(features, feedback.target, strict=True):
                if feedback.x is not None:
                    state = self._stored(state, embedding, target, None)
                else:
                    state = self.observe(state, Feedback(target))
                    answer = self._answer(state, embedding) if self.caches else None
                    state = self._awaiting(state, embedding, answer)
        return state

    def query(self, state: State, x: Tensor) -> Tensor:
        """All queries beside the same memory, which needs no copy for each."""
        embedding = self.features(x)
        return self._answer({name: each.unsqueeze(1) for name, each in state.items()}, embedding)

    def pretraining_method(self, task: Task) -> Method:
        """Prototypes over the same encoder, with squared distances: what makes near embeddings mean one class."""
        other = OPN(task, channels=1)
        other.encode, other.dim = self.encode, self.dim
        return other

    def _answer(self, state: State, embedding: Tensor) -> Tensor:
        """Logits [..., ways] for embeddings [..., E] from memories of the same leading dimensions."""
        return self._decoded(embedding, self._nearest(state, embedding.detach()))

    def _decoded(self, embedding: Tensor, near: Nearest) -> Tensor:
        shape = embedding.shape[:-1]
        flat = (each.flatten(0, len(shape) - 1) for each in near)
        return self.decode(embedding.flatten(0, -2), *flat).unflatten(0, shape)

    def _nearest(self, state: State, embedding: Tensor) -> Nearest:
        """The k nearest entries to embeddings [..., E]; empty slots count only as far as k are wanted."""
        embeddings, labels = state["embeddings"], state["labels"]
        # Differences rather than the expanded square: equal images are at exactly 0, whatever the batch.
        distance = (embeddings - embedding.unsqueeze(-2)).square().sum(-1)
        slot = torch.arange(labels.shape[-1], device=labels.device)
        usable = slot < state["written"].clamp(min=self.neighbours).unsqueeze(-1)
        distance, order = distance.masked_fill(~usable, torch.inf).sort(dim=-1, stable=True)
        distance, order = distance[..., : self.neighbours], order[..., : self.neighbours]
        near = embeddings.expand(*order.shape[:-1], *embeddings.shape[-2:])
        near = near.gather(-2, order.unsqueeze(-1).expand(*order.shape, self.dim))
        return near, labels.expand(*order.shape[:-1], labels.shape[-1]).gather(-1, order), distance

    def _stored(self, state: State, embedding: Tensor, target: Tensor, answer: Tensor | None) -> State:
        """The memory after labels [B] of embeddings [B, E], answers log p [B, ways] (None: to be computed now)."""
        with torch.no_grad():
            if answer is None:
                answer = self._answer(state, embedding).log_softmax(-1)
            right = answer.gather(-1, target.clamp(min=0).unsqueeze(-1)).squeeze(-1)
            surprising = (-right > self.threshold) & (target >= 0)
            written, embeddings, labels = state["written"], state["embeddings"], state["labels"]
            slots = labels.shape[1]
            if slots < self.memory:
                embeddings = F.pad(embeddings, (0, 0, 0, 1))
                labels = F.pad(labels, (0, 1), value=self.task.ways)
                slots += 1
            place = torch.arange(slots, device=labels.device) == (written % self.memory).unsqueeze(-1)
            here = place & surprising.unsqueeze(-1)
            return {
                **state,
                "embeddings": torch.where(here.unsqueeze(-1), embedding.unsqueeze(1), embeddings),
                "labels": torch.where(here, target.unsqueeze(-1), labels),
                "written": written + surprising,
            }

    def _awaiting(self, state: State, embedding: Tensor, logits: Tensor | None) -> State:
        """The state with one more embedding [B, E] (and its answer) that awaits its label."""
        after = {**state, "pending": label_pairing.push(state["pending"], embedding.detach().unsqueeze(1))}
        if logits is not None and self.caches:
            answer = logits.detach().log_softmax(-1)
            after["answers"] = label_pairing.push(state["answers"], answer.unsqueeze(1))
        return after


class Encoder(nn.Module):
    """Embeddings [N, channels * H' * W'] of images [N, C, H, W]: sides are halved five times, each time rounded up."""

    def __init__(self, image_shape: tuple[int, int, int], channels: int) -> None:
        super().__init__()
        depth, height, width = image_shape
        self.enter = nn.Conv2d(depth, channels, 3, padding=1)
        # Three blocks a stage, one after another.
        self.blocks = nn.ModuleList(_block(channels, 1 if number % 3 else 2) for number in range(15))
        self.dim = channels * math.ceil(height / 32) * math.ceil(width / 32)
        self.norm = nn.LayerNorm(self.dim)
        for each in self.modules():
            if isinstance(each, nn.Conv2d) and each.bias is not None:
                nn.init.xavier_normal_(each.weight)
                nn.init.zeros_(each.bias)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.enter(channels_last(x))
        for number, block in enumerate(self.blocks):
            maps = maps + block(maps) if number % 3 else block(maps)
        return self.norm(maps.flatten(1))


def _block(channels: int, stride: int) -> nn.Module:
    return nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, channels, 3, stride, padding=1))
