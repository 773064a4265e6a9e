"""Contextual prototypes against a plain dictionary of prototypes, one episode and one step at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from harness.method.interface import Feedback, Task, leaves, state_bytes
from methods.cpm import CPM
from methods.nn.novelty import UNSEEN
from tests.helpers.stepping import noise_stream, perturb, seeded, stepped_logits, stream_batch

WAYS, EPISODES = 4, 3


def stream(delay: int, steps: int = 10) -> tuple[Tensor, Tensor, Tensor]:
    """Noise x [T, B, C, H, W], targets and feedback [T, B]."""
    return noise_stream(delay, steps, WAYS, EPISODES)


def built(delay: int | None = 1, kind: str = "delayed_label", **options: Any) -> CPM:
    """In double precision, with weights large enough that every gate and every context differs."""
    with seeded(7):
        net = CPM(Task(WAYS, (1, 16, 16), kind, delay), channels=6, units=5, **options)
        perturb((*net.readout.parameters(), *net.gate.parameters()), 1.0)
    return net.double().eval()


def sigmoid(value: float) -> float:
    return float(1 / (1 + np.exp(-value)))


def softplus(value: np.ndarray) -> np.ndarray:
    return np.log1p(np.exp(value))


def answers_of(net: CPM, x: Tensor, labels: list[int], delay: int) -> list[tuple[dict[int, float], float | None]]:
    """Cosines times tau by class seen, and the "unknown" logit, at each step of one episode x [T, C, H, W]."""
    with torch.no_grad():
        h = net.encode(x).numpy()
        zero = torch.zeros(1, 1, net.units).double()
        z = net.recur(torch.from_numpy(h).unsqueeze(1), (zero, zero))[0].squeeze(1).numpy()
    head = z @ net.readout.weight.detach().numpy().T + net.readout.bias.detach().numpy()
    gate, bias = net.gate.weight.detach().numpy()[0], net.gate.bias.item()
    size, tau = net.dim, net.tau.item()
    seen: list[np.ndarray] = []
    prototypes: dict[int, np.ndarray] = {}
    answers: list[tuple[dict[int, float], float | None]] = []
    for t in range(len(x)):
        if t >= delay:
            shown, label = seen[t - delay], labels[t - delay]
            prototypes.setdefault(label, np.zeros(size))
            for k in list(prototypes):
                if k == label or net.write == "dense":
                    entering = shown if k == label else np.zeros(size)
                    rate = sigmoid(gate @ np.concatenate([entering, prototypes[k]]) + bias)
                    prototypes[k] = (1 - rate) * prototypes[k] + rate * entering
        m, s, beta, gamma = (
            head[t, :size],
            softplus(head[t, size : 2 * size]),
            head[t, 2 * size],
            head[t, 2 * size + 1],
        )
        if net.fuse == "add":
            g = h[t] + m
        elif net.fuse == "gate":
            g = sigmoid(head[t, -2]) * h[t] + sigmoid(head[t, -1]) * m
        else:
            g = m
        near = {}
        for k, prototype in prototypes.items():
            a, b = s * g, s * prototype
            near[k] = tau * float(a @ b / np.sqrt((a @ a) * (b @ b)))
        unknown = (min(-each for each in near.values()) - beta) / softplus(gamma + 1) if near else None
        answers.append((near, unknown))
        seen.append(g)
    return answers


@pytest.mark.parametrize("delay", [1, 3, 12])
@pytest.mark.parametrize(
    "options", [{}, {"write": "sparse"}, {"fuse": "gate"}, {"fuse": "context", "layer_norm": False}]
)
def test_answers_are_those_of_a_dictionary_of_prototypes(delay: int, options: dict[str, Any]) -> None:
    net = built(delay, **options)
    x, target, feedback = stream(delay)
    ways = [stepped_logits(net, x, feedback).detach().numpy(), net.rollout(x, Feedback(feedback)).detach().numpy()]
    for b in range(EPISODES):
        for t, (near, unknown) in enumerate(answers_of(net, x[:, b], target[:, b].tolist(), delay)):
            for logits in ways:
                assert all(logits[t, b, k] == UNSEEN for k in range(WAYS) if k not in near)
                if unknown is not None:
                    expected = {k: each - max(near.values()) - unknown for k, each in near.items()}
                    got = {k: logits[t, b, k] for k in near}
                    assert got == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_with_a_fixed_gate_and_no_context_prototypes_are_moving_means() -> None:
    """w = 0 fixes the gate at sig(b); without context g is h and all directions count alike."""
    net = built(2, write="sparse")
    with torch.no_grad():
        net.gate.weight.zero_()
        net.readout.weight.zero_()
        net.readout.bias[: 2 * net.dim] = 0.0
        x, target, feedback = stream(2)
        logits = net.rollout(x, Feedback(feedback))
        features = net.encode(x.flatten(0, 1)).unflatten(0, x.shape[:2])
    rate = sigmoid(net.gate.bias.item())
    for b in range(EPISODES):
        means: dict[int, Tensor] = {}
        for t in range(2, len(x)):
            label = int(target[t - 2, b])
            means[label] = (1 - rate) * means.get(label, torch.zeros(net.dim).double()) + rate * features[t - 2, b]
            known = sorted(means)
            expected = torch.stack([10 * F.cosine_similarity(features[t, b], means[k], dim=0) for k in known])
            torch.testing.assert_close(logits[t, b, known].log_softmax(0), expected.log_softmax(0))


@pytest.mark.parametrize("write", ["dense", "sparse"])
def test_rollout_gives_what_stepping_gives_in_value_and_gradient(write: str) -> None:
    net = built(2, write=write)
    x, _, feedback = stream(2)
    found = []
    for logits in (stepped_logits(net, x, feedback), net.rollout(x, Feedback(feedback))):
        weight = torch.linspace(-1, 2, logits.numel()).double().view_as(logits)
        found.append((logits, *torch.autograd.grad((logits * weight).sum(), list(net.parameters()))))
    torch.testing.assert_close(found[0], found[1], rtol=1e-8, atol=1e-8)
    assert all(each.any() for each in found[0])


def test_loss_is_the_two_terms_of_the_source() -> None:
    """Logits carry the "unknown" logit as minus the largest; cross-entropy does not see where they are moved to."""
    net = built()
    logits = torch.tensor([[[UNSEEN] * 4], [[2.0, UNSEEN, UNSEEN, UNSEEN]], [[-1.0, -3.0, UNSEEN, UNSEEN]]])
    target = torch.tensor([[0], [1], [1]])
    new, old = torch.tensor(-2.0), torch.tensor(1.0)  # the "unknown" logits of the second and third steps
    unknown = -F.logsigmoid(new) - F.logsigmoid(-old)
    known = -torch.log_softmax(torch.tensor([-1.0, -3.0]), 0)[1]
    torch.testing.assert_close(net.loss(logits, stream_batch(target)), known + unknown)
    queries = built(None, "n_way_k_shot")
    torch.testing.assert_close(queries.loss(logits[1:], stream_batch(target[1:])), known)


def test_the_context_hears_no_labels() -> None:
    net = built()
    x, _, feedback = stream(1)
    other = torch.where(feedback >= 0, (feedback + 1) % WAYS, feedback)
    states = []
    for labels in (feedback, other):
        state = net.start(EPISODES)
        for images, label in zip(x, labels, strict=True):
            _, state = net.predict(net.observe(state, Feedback(label)), images)
        states.append(state)
    for name in ("h", "c", "pending"):
        assert torch.equal(states[0][name], states[1][name])
    assert not torch.equal(states[0]["prototypes"], states[1]["prototypes"])


def test_prototypes_that_were_long_not_written_keep_their_direction() -> None:
    """A hundred thousandth of a thousandth of a millionth of their size, in single precision."""
    net = built().float()
    with torch.no_grad():
        x, _, _ = stream(1)
        seen, _ = net._look(net.encode(x[0].float()).unsqueeze(0), net.start(EPISODES))
        prototypes, counts = torch.randn(1, EPISODES, WAYS, net.dim), torch.ones(1, EPISODES, WAYS)
        torch.testing.assert_close(net._logits(seen, prototypes * 1e-14, counts), net._logits(seen, prototypes, counts))


def test_the_state_is_of_constant_size_and_counts_the_pending_features() -> None:
    x, _, feedback = stream(1)
    sizes = []
    for delay in (1, 5):
        net = built(delay)
        state = net.start(EPISODES)
        sizes.append(state_bytes(state))
        for images, label in zip(x, feedback, strict=True):
            _, state = net.predict(net.observe(state, Feedback(label)), images)
            assert state_bytes(state) == sizes[-1]
            assert all(len(leaf) == EPISODES for leaf in leaves(state))
    assert sizes[1] - sizes[0] == 4 * net.dim * 8
