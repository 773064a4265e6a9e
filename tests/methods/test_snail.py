"""SNAIL against whole sequences through torch's own padded convolutions, and attention by a plain loop."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from harness.method.interface import Feedback, Task, state_bytes
from methods.nn.causal import Attention, Dense
from methods.snail import SNAIL
from tests.helpers.stepping import noise_stream, seeded, stepped_logits

WAYS, EPISODES = 3, 2


def built(delay: int | None = 1, kind: str = "delayed_label", **options: Any) -> SNAIL:
    with seeded(7):
        net = SNAIL(Task(WAYS, (1, 16, 16), kind, delay), **{"channels": 5, "length": 9, "width": 0.05, **options})
    return net.double().eval()


def stream(delay: int, steps: int = 11) -> tuple[Tensor, Tensor, Tensor]:
    """Noise x [T, B, C, H, W], targets and feedback [T, B]."""
    return noise_stream(delay, steps, WAYS, EPISODES)


def answered(net: SNAIL, shown: list[tuple[Tensor, int]], query: Tensor) -> Tensor:
    """Logits [ways] of one query after labelled features [D], by running all layers over the whole sequence."""
    eye = torch.eye(WAYS).double()
    rows = [torch.cat([each, eye[label]]) for each, label in shown]
    line = torch.stack([*rows, torch.cat([query, torch.zeros(WAYS).double()])])
    for layer in net.layers:
        if isinstance(layer, Attention):
            keys, values, asks = layer.key(line), layer.value(line), layer.query(line)
            read = []
            for t in range(len(line)):
                weights = torch.stack([asks[t] @ keys[i] / layer.keys**0.5 for i in range(t + 1)]).exp()
                read.append(sum(w * v for w, v in zip(weights / weights.sum(), values, strict=False)))
            line = torch.cat([line, torch.stack(read)], -1)
        else:
            assert isinstance(layer, Dense)
            earlier, now = layer.both.weight.split(layer.channels, 1)
            kernel = torch.stack([earlier, now], -1)
            padded = F.pad(line.T.unsqueeze(0), (layer.dilation, 0))
            signal, gate = F.conv1d(padded, kernel, layer.both.bias, dilation=layer.dilation)[0].T.chunk(2, -1)
            line = torch.cat([line, torch.tanh(signal) * torch.sigmoid(gate)], -1)
    return net.classify(line[-1])


@pytest.mark.parametrize("delay", [1, 3, 12])
def test_an_answer_in_a_stream_is_that_of_the_whole_sequence_up_to_it(delay: int) -> None:
    net = built(delay)
    x, target, feedback = stream(delay)
    with torch.no_grad():
        features = net.backbone(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        ways = [stepped_logits(net, x, feedback), net.rollout(x, Feedback(feedback))]
        for b in range(EPISODES):
            for t in range(len(x)):
                shown = [(features[i, b], int(target[i, b])) for i in range(t - delay + 1)]
                expected = answered(net, shown, features[t, b])
                for logits in ways:
                    torch.testing.assert_close(logits[t, b], expected, rtol=1e-9, atol=1e-9)


def test_queries_after_support_pairs_are_answered_likewise() -> None:
    net = built(None, "n_way_k_shot")
    x, target, _ = stream(1)
    queries = stream(2)[0].transpose(0, 1)
    with torch.no_grad():
        state = net.start(EPISODES)
        for images, label in zip(x, target, strict=True):
            state = net.observe(state, Feedback(label, images))
        logits = net.query(state, queries)
        features = net.backbone(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        query_features = net.backbone(queries.flatten(0, 1)).unflatten(0, queries.shape[:2])
        for b in range(EPISODES):
            shown = [(features[i, b], int(target[i, b])) for i in range(len(x))]
            for q, query in enumerate(query_features[b]):
                torch.testing.assert_close(logits[b, q], answered(net, shown, query), rtol=1e-9, atol=1e-9)


def test_rollout_gives_what_stepping_gives_in_gradient() -> None:
    net = built(2)
    x, _, feedback = stream(2)
    learning = list(net.parameters())
    found = []
    for logits in (stepped_logits(net, x, feedback), net.rollout(x, Feedback(feedback))):
        weight = torch.linspace(-1, 2, logits.numel()).double().view_as(logits)
        found.append(torch.autograd.grad((logits * weight).sum(), learning))
    torch.testing.assert_close(found[0], found[1], rtol=1e-8, atol=1e-9)
    assert all(each.any() for each in found[0])


@pytest.mark.parametrize(("length", "blocks"), [(2, 1), (6, 3), (21, 5), (26, 5), (64, 6), (65, 7), (101, 7)])
def test_blocks_are_the_logarithm_of_the_length(length: int, blocks: int) -> None:
    dilations = [each.dilation for each in built(length=length).layers if isinstance(each, Dense)]
    assert dilations == [2**i for i in range(blocks)] * 2


def test_sizes_are_those_of_the_source() -> None:
    net = SNAIL(Task(5, (1, 28, 28), "n_way_k_shot"), length=6)
    sizes = [(each.keys, each.values) for each in net.layers if isinstance(each, Attention)]
    assert sizes == [(64, 32), (256, 128), (512, 256)]
    assert {each.width - each.channels for each in net.layers if isinstance(each, Dense)} == {128}
    assert net.classify.in_features == 64 + 5 + 32 + 3 * 128 + 128 + 3 * 128 + 256


def test_the_state_grows_by_keys_and_values_alone() -> None:
    net = built(3)
    x, _, feedback = stream(3)
    state, sizes = net.start(EPISODES), []
    with torch.no_grad():
        for images, label in zip(x, feedback, strict=True):
            _, state = net.predict(net.observe(state, Feedback(label)), images)
            sizes.append(state_bytes(state))
    each_item = sum(layer.keys + layer.values for layer in net.layers if isinstance(layer, Attention))
    assert {after - before for before, after in pairwise(sizes[3:])} == {8 * each_item}
