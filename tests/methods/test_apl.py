"""APL against a plain list as its memory, one episode and one step at a time, and its decoder against NumPy."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.method.interface import Feedback, Task, state_bytes
from methods.apl import APL
from methods.nn.relational import RelationalDecoder
from tests.helpers.stepping import noise_stream, seeded, stream_batch

WAYS, EPISODES, NEIGHBOURS = 4, 5, 3


def stream(delay: int, steps: int = 16) -> tuple[Tensor, Tensor, Tensor]:
    """Images x [T, B, C, H, W] of which some are equal, targets and feedback [T, B]."""
    x, target, feedback = noise_stream(delay, steps, WAYS, EPISODES)
    x[5] = x[2]
    x[9] = x[2]
    return x, target, feedback


def built(delay: int | None = 1, kind: str = "delayed_label", **options: Any) -> APL:
    small = {"channels": 4, "neighbours": NEIGHBOURS, "label": 3, "blocks": 2, "heads": 2, "key": 4, "value": 5}
    with seeded(7):
        return APL(Task(WAYS, (1, 16, 16), kind, delay), **{**small, **options}).double().eval()


@dataclass
class Plain:
    """One episode's memory as a list of (embedding, label) by slot, and decoder inputs by hand."""

    net: APL
    size: int
    entries: list[tuple[np.ndarray, int]] = field(default_factory=list)
    written: int = 0

    def inputs(self, query: np.ndarray) -> np.ndarray:
        empty = [(np.zeros(len(query)), WAYS)] * max(0, NEIGHBOURS - len(self.entries))
        ranked = sorted(self.entries + empty, key=lambda entry: float(((entry[0] - query) ** 2).sum()))[:NEIGHBOURS]
        near = np.array([((each - query) ** 2).sum() for each, _ in ranked])
        weights = np.exp(-near) / np.exp(-near).sum()
        table = self.net.decode.labels.weight.detach().numpy()
        return np.stack([[*e, *table[y], *query, w] for (e, y), w in zip(ranked, weights, strict=True)])

    def answer(self, query: np.ndarray) -> np.ndarray:
        decode = self.net.decode
        with torch.no_grad():
            inputs = torch.from_numpy(self.inputs(query)).unsqueeze(0)
            return decode.classify(decode.read(inputs))[0].numpy()

    def learn(self, embedding: np.ndarray, label: int, answer: np.ndarray) -> bool:
        chance = np.exp(answer[label]) / np.exp(answer).sum()
        if -math.log(chance) > 0.75 * math.log(WAYS):
            slot = self.written % self.size
            self.entries[slot : slot + 1] = [(embedding, label)]
            self.written += 1
            return True
        return False


def embedded(net: APL, x: Tensor) -> np.ndarray:
    with torch.no_grad():
        return net.encode(x.flatten(0, 1)).unflatten(0, x.shape[:2]).numpy()


def held(net: APL, state: dict[str, Tensor], b: int) -> list[tuple[list[float], int]]:
    """The entries of episode b's memory, by slot."""
    count = min(int(state["written"][b]), net.memory)
    return list(zip(state["embeddings"][b, :count].tolist(), state["labels"][b, :count].tolist(), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("surprise", ["current", "cached"])
@pytest.mark.parametrize(("delay", "memory"), [(1, 10_000), (3, 10_000), (3, 4), (20, 10_000)])
def test_memory_and_answers_are_those_of_a_plain_list(delay: int, memory: int, surprise: str) -> None:
    net = built(delay, surprise=surprise, memory=memory)
    x, target, feedback = stream(delay)
    features = embedded(net, x)
    plain = [Plain(net, memory) for _ in range(EPISODES)]
    given: list[list[np.ndarray]] = [[] for _ in range(EPISODES)]
    stored = []
    with torch.no_grad():
        fast = net.rollout(x, Feedback(feedback)).numpy()
        state = net.start(EPISODES)
        for t in range(len(x)):
            logits, state = net.predict(net.observe(state, Feedback(feedback[t])), x[t])
            for b, own in enumerate(plain):
                if t >= delay:
                    late = features[t - delay, b]
                    answer = own.answer(late) if surprise == "current" else given[b][t - delay]
                    stored.append(own.learn(late, int(target[t - delay, b]), answer))
                expected = own.answer(features[t, b])
                given[b].append(expected)
                np.testing.assert_allclose(logits[b].numpy(), expected, rtol=1e-9, atol=1e-9)
                np.testing.assert_allclose(fast[t, b], expected, rtol=1e-9, atol=1e-9)
                entries = held(net, state, b)
                assert [label for _, label in entries] == [label for _, label in own.entries]
                for (embedding, _), (wanted, _) in zip(entries, own.entries, strict=True):
                    np.testing.assert_allclose(embedding, wanted, rtol=1e-9, atol=1e-12)
    if stored:
        assert 0.1 < np.mean(stored) < 0.9  # the gate is neither open nor shut throughout


def test_support_pairs_are_stored_if_they_surprise_the_memory_before_them() -> None:
    net = built(None, "n_way_k_shot")
    x, target, _ = stream(1)
    features = embedded(net, x)
    with torch.no_grad():
        state = net.start(EPISODES)
        for images, label in zip(x, target, strict=True):
            state = net.observe(state, Feedback(label, images))
        answers = net.query(state, x.transpose(0, 1)).numpy()
    for b in range(EPISODES):
        own = Plain(net, 10_000)
        for t in range(len(x)):
            own.learn(features[t, b], int(target[t, b]), own.answer(features[t, b]))
        assert [label for _, label in held(net, state, b)] == [label for _, label in own.entries]
        for t in range(len(x)):
            np.testing.assert_allclose(answers[b, t], own.answer(features[t, b]), rtol=1e-9, atol=1e-9)


def test_decoder_computes_its_formulas() -> None:
    slots, key, value, heads, embedding = 3, 4, 5, 2, 6
    net = RelationalDecoder(WAYS, embedding, 3, slots, key, value, heads, 1).double()
    random = np.random.default_rng(0)
    with torch.no_grad():
        for each in net.parameters():
            each.copy_(torch.from_numpy(random.normal(size=tuple(each.shape))))
    w = {name: each.detach().numpy() for name, each in net.named_parameters()}
    query, near = random.normal(size=embedding), random.normal(size=(slots, embedding))
    labels, distances = np.array([1, WAYS, 1]), np.array([0.3, 0.5, 2.0])

    def normed(values: np.ndarray, name: str) -> np.ndarray:
        scaled = (values - values.mean()) / np.sqrt(values.var() + 1e-5)
        return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]

    def linear(values: np.ndarray, name: str) -> np.ndarray:
        return values @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    weights = np.exp(-distances) / np.exp(-distances).sum()
    fed = [[*near[i], *w["labels.weight"][labels[i]], *query, weights[i]] for i in range(slots)]
    x = linear(np.array(fed), "enter")
    projected = normed(linear(x, "blocks.0.project"), "blocks.0.norm")
    attended = np.zeros((slots, heads * value))
    for head in range(heads):
        own = projected[:, head * (2 * key + value) :][:, : 2 * key + value]
        q, k, v = own[:, :key], own[:, key : 2 * key], own[:, 2 * key :]
        for i in range(slots):
            scores = np.exp([q[i] @ k[j] / math.sqrt(key) for j in range(slots)])
            attended[i, head * value : (head + 1) * value] = scores / scores.sum() @ v
    x = x + attended
    mixed = linear(np.maximum(x, 0), "blocks.0.mix")
    x = x + np.stack([normed(row, "blocks.0.mix_norm") for row in mixed])
    expected = linear(weights @ x, "classify")
    given = (torch.from_numpy(each).unsqueeze(0) for each in (query, near, labels, distances))
    np.testing.assert_allclose(net(*given)[0].detach().numpy(), expected, rtol=1e-10)


def test_training_reaches_the_encoder_through_the_query_alone() -> None:
    net = built()
    x, _, feedback = stream(1)
    x.requires_grad_()
    slopes = torch.autograd.grad(net.rollout(x, Feedback(feedback))[7].square().sum(), x)[0]
    assert slopes[7].any()
    assert not slopes[:7].any()
    assert not slopes[8:].any()


def test_its_pretext_trains_the_encoder_and_nothing_else_of_it() -> None:
    net = built()
    x, target, feedback = stream(1)
    other = net.pretraining_method(Task(WAYS, (1, 16, 16), "online_few_shot", 1)).double().eval()
    logits = other.rollout(x, Feedback(feedback))
    assert logits is not None
    slopes = torch.autograd.grad(
        other.loss(logits, stream_batch(target)),
        list(net.parameters()),
        allow_unused=True,
    )
    reached = [name for (name, _), slope in zip(net.named_parameters(), slopes, strict=True) if slope is not None]
    assert reached == [f"encode.{name}" for name, _ in net.encode.named_parameters()]


@pytest.mark.parametrize("surprise", ["current", "cached"])
def test_rollout_gives_what_stepping_gives_in_gradient(surprise: str) -> None:
    net = built(2, surprise=surprise)
    x, _, feedback = stream(2)
    state, answers = net.start(EPISODES), []
    for images, label in zip(x, feedback, strict=True):
        logits, state = net.predict(net.observe(state, Feedback(label)), images)
        answers.append(logits)
    found = []
    for logits in (torch.stack(answers), net.rollout(x, Feedback(feedback))):
        weight = torch.linspace(-1, 2, logits.numel()).double().view_as(logits)
        found.append(torch.autograd.grad((logits * weight).sum(), list(net.parameters())))
    torch.testing.assert_close(found[0], found[1], rtol=1e-8, atol=1e-8)


def test_the_memory_stops_growing_at_its_size() -> None:
    net = built(memory=6)
    x, _, feedback = stream(1)
    state, sizes = net.start(EPISODES), []
    with torch.no_grad():
        for images, label in zip(x, feedback, strict=True):
            _, state = net.predict(net.observe(state, Feedback(label)), images)
            sizes.append(state_bytes(state))
    entry = net.dim * 8 + 8
    assert [after - before for before, after in pairwise(sizes)] == [entry, entry] + [0] * 13
    with pytest.raises(ValueError, match="at least the 3 neighbours"):
        built(memory=2)


@pytest.mark.parametrize(("shape", "size"), [((1, 28, 28), 64), ((3, 32, 32), 64), ((3, 84, 84), 576)])
def test_the_encoder_s_embeddings_are_of_the_source_s_size(shape: tuple[int, int, int], size: int) -> None:
    net = APL(Task(5, shape, "online_few_shot", 1), value=8, key=8)
    convs = [each for each in net.encode.modules() if isinstance(each, torch.nn.Conv2d)]
    assert (len(convs), net.dim) == (16, size)
    assert net.encode(torch.zeros(2, *shape)).shape == (2, size)


@pytest.mark.parametrize("surprise", ["current", "cached"])
def test_nothing_is_stored_on_a_null_label(surprise: str) -> None:
    net = built(2, surprise=surprise, sigma=0.0)  # any label would be a surprise
    x, _, _ = stream(2)
    state = net.start(EPISODES)
    with torch.no_grad():
        for images in x:
            state = net.observe(state, Feedback(torch.full((EPISODES,), -1)))
            _, state = net.predict(state, images)
    assert not state["written"].any()
    assert (state["labels"] == WAYS).all()
