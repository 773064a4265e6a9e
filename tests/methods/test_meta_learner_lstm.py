"""The meta-learner LSTM against a plain loop over episodes, steps and single weights."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils import _pytree as pytree

from harness.method.interface import Feedback, Task, state_bytes
from methods import meta_learner_lstm
from methods.meta_learner_lstm import MetaLearnerLSTM
from methods.nn.passes import passes_over
from methods.nn.preprocess import log_sign
from tests.helpers.stepping import perturb, seeded

WAYS, EPISODES, PAIRS = 3, 2, 4
SUPPORT_SETS: dict[str, dict[str, Any]] = {
    "whole set": {},
    "batches": {"batch": 3},
    "batches, recomputed": {"batch": 3, "checkpoint": True},
    "each image alone": {"norm": "instance", "batch": 1, "passes": 1},
}


def built(kind: str = "n_way_k_shot", delay: int | None = None, **options: Any) -> MetaLearnerLSTM:
    """In double precision and training, with recurrent weights that are not small."""
    with seeded(3):
        settings = {"channels": 1, "passes": 2, "units": 2, "start_rate": 0.3, **options}
        net = MetaLearnerLSTM(Task(WAYS, (1, 16, 16), kind, delay), **settings).double().train()
        perturb((*net.first.parameters(), *net.forget.parameters(), *net.input.parameters()), 0.3)
    return net


def noise(seed: int, steps: int = PAIRS) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(steps, EPISODES, 1, 16, 16, generator=random, dtype=torch.float64)
    return x, torch.randint(0, WAYS, (steps, EPISODES), generator=random)


def adapted(net: MetaLearnerLSTM, x: Tensor, target: Tensor) -> Any:
    state = net.start(x.shape[1])
    for image, label in zip(x, target, strict=True):
        state = net.observe(state, Feedback(label, image))
    return net.adapt(state)


# The plain loop


def plain_forward(net: MetaLearnerLSTM, weights: list[Tensor], x: Tensor, statistics: Any = None) -> tuple[Tensor, Any]:
    """Logits of images [N, 1, 16, 16] under the weights of one episode, a tensor at a time, and statistics."""
    convolutions, norms, last = weights[:4], weights[4:12], weights[12:]
    used: list[Any] = []
    for layer, weight in enumerate(convolutions):
        x = F.conv2d(x, weight, padding=1)
        over = (0, 2, 3) if next(iter(net.learner.body.norms)).norm == "support" else (2, 3)
        mean, variance = x.mean(over, keepdim=True), x.var(over, keepdim=True, correction=0)
        if statistics and len(over) == 3:
            mean, variance = statistics[layer]
        used.append((mean, variance))
        scale, shift = (each.view(1, -1, 1, 1) for each in norms[2 * layer : 2 * layer + 2])
        x = F.max_pool2d(((x - mean) / (variance + 1e-5).sqrt() * scale + shift).clamp(min=0), 2)
    return x.flatten(1) @ last[0].T + last[1], used


def described(number: float) -> list[float]:
    if abs(number) >= math.exp(-10):
        return [math.log(abs(number)) / 10, math.copysign(1, number)]
    return [-1.0, math.exp(10) * number]


def initial(net: MetaLearnerLSTM) -> tuple[list[Tensor], dict[Any, Any]]:
    names = [name for name, _ in net.learner.named_parameters()]
    assert [name.split(".")[1] for name in names] == [*["maps"] * 4, *["norms"] * 8, "weight", "bias"]
    return list(net.learner.parameters()), {}


def plain_step(net: MetaLearnerLSTM, weights: list[Tensor], memory: Any, x: Tensor, target: Tensor) -> list[Tensor]:
    """The weights of one episode after one step; `memory` is changed: (tensor, number) -> (h, c, f, i)."""
    leaves = [each.detach().requires_grad_() for each in weights]
    loss = F.cross_entropy(plain_forward(net, leaves, x)[0], target)
    gradients = torch.autograd.grad(loss, leaves)
    units, first, after = net.units, net.first, []
    for which, (weight, gradient) in enumerate(zip(weights, gradients, strict=True)):
        numbers = []
        for n, (own, push) in enumerate(zip(weight.flatten(), gradient.flatten(), strict=True)):
            zero, none = torch.zeros(units, dtype=torch.float64), torch.zeros((), dtype=torch.float64)
            h, c, f, i = memory.get((which, n), (zero, zero, none, none))
            inputs = torch.tensor([*described(float(push)), *described(float(loss.detach()))], dtype=torch.float64)
            drive = first.weight_ih @ inputs + first.bias_ih + first.weight_hh @ h + first.bias_hh
            entering, forget, candidate, out = drive.split(units)
            c = forget.sigmoid() * c + entering.sigmoid() * candidate.tanh()
            h = out.sigmoid() * c.tanh()
            f = (net.forget.weight[0] @ torch.cat([h, torch.stack([own, f])]) + net.forget.bias[0]).sigmoid()
            i = (net.input.weight[0] @ torch.cat([h, torch.stack([own, i])]) + net.input.bias[0]).sigmoid()
            memory[which, n] = h, c, f, i
            numbers.append(f * own - i * push)
        after.append(torch.stack(numbers).view_as(weight))
    return after


def plain_answers(net: MetaLearnerLSTM, x: Tensor, target: Tensor, queries: Tensor) -> Tensor:
    """Logits [B, Q, ways] after learning from support pairs, one episode at a time."""
    rows = []
    for b in range(EPISODES):
        weights, memory = initial(net)
        for order in passes_over(len(x), net.passes):
            for first in range(0, len(x), net.batch or len(x)):
                some = order[first : first + (net.batch or len(x))]
                weights = plain_step(net, weights, memory, x[some, b], target[some, b])
        rows.append(plain_forward(net, weights, queries[:, b], plain_forward(net, weights, x[:, b])[1])[0])
    return torch.stack(rows)


def gradients_of(net: MetaLearnerLSTM, logits: Tensor) -> tuple[Tensor, ...]:
    """Of a fixed weighting of the logits, by all parameters."""
    weighing = torch.linspace(-1, 1, logits.numel(), dtype=torch.float64).sin().view_as(logits)
    return torch.autograd.grad((weighing * logits).sum(), list(net.parameters()))


def assert_nearly(found: Any, wanted: Any) -> None:
    """Equal but for rounding, which few places to normalise over enlarge: the last layer has one an image."""
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("options", SUPPORT_SETS.values(), ids=SUPPORT_SETS)
def test_learning_from_a_support_set_and_the_gradient_through_it_are_those_of_a_loop_over_single_weights(
    options: dict[str, Any],
) -> None:
    net = built(**options)
    (x, target), (queries, _) = noise(1), noise(2)
    logits = net.query(adapted(net, x, target), queries.transpose(0, 1))
    expected = plain_answers(net, x, target, queries)
    assert_nearly(logits, expected)
    found, wanted = gradients_of(net, logits), gradients_of(net, expected)
    assert_nearly(found, wanted)
    assert all(bool(each.any()) for each in wanted[-8:])


@pytest.mark.parametrize("delay", [1, 3])
def test_in_a_stream_each_label_is_a_step_on_the_image_it_belongs_to(delay: int) -> None:
    net = built("delayed_label", delay)
    x, target = noise(3, 5)
    target[1, 0] = -1
    feedback = torch.cat([torch.full((delay, EPISODES), -1), target[:-delay]])
    state, stepped = net.start(EPISODES), []
    for image, label in zip(x, feedback, strict=True):
        logits, state = net.predict(net.observe(state, Feedback(label)), image)
        stepped.append(logits)
    expected = torch.zeros(len(x), EPISODES, WAYS, dtype=torch.float64)
    for b in range(EPISODES):
        weights, memory = initial(net)
        for t in range(len(x)):
            if feedback[t, b] >= 0:
                weights = plain_step(net, weights, memory, x[t - delay, b, None], feedback[t, b, None])
            expected[t, b] = plain_forward(net, weights, x[t, b, None])[0][0]
    assert_nearly(torch.stack(stepped), expected)
    assert_nearly(gradients_of(net, torch.stack(stepped)), gradients_of(net, expected))
    whole = net.absorb(net.start(EPISODES), x, Feedback(feedback))
    half = net.absorb(net.start(EPISODES), x[:4], Feedback(feedback[:4]))
    torch.testing.assert_close(whole, state)
    torch.testing.assert_close(net.absorb(half, x[4:], Feedback(feedback[4:])), state)


@pytest.mark.parametrize("norm", ["support", "layer"])
def test_with_an_open_forget_gate_and_a_constant_input_gate_it_is_gradient_descent(norm: str) -> None:
    net = built(norm=norm, channels=4, passes=3)
    with torch.no_grad():
        for layer, bias in ((net.forget, 1e4), (net.input, math.log(0.2 / 0.8))):
            layer.weight.zero_()
            layer.bias.fill_(bias)
    (x, target), (queries, _) = noise(4), noise(5)
    logits = net.query(adapted(net, x, target), queries.transpose(0, 1))
    for b in range(EPISODES):
        weights = {name: each.detach().requires_grad_() for name, each in net.learner.named_parameters()}
        for _ in range(3):
            answers, _ = torch.func.functional_call(net.learner, weights, (x[:, b], ()))
            gradients = torch.autograd.grad(F.cross_entropy(answers, target[:, b]), list(weights.values()))
            moved = zip(weights.items(), gradients, strict=True)
            weights = {name: (each - 0.2 * gradient).detach().requires_grad_() for (name, each), gradient in moved}
        _, statistics = torch.func.functional_call(net.learner, weights, (x[:, b], ()))
        torch.testing.assert_close(
            logits[b], torch.func.functional_call(net.learner, weights, (queries[:, b], statistics))[0]
        )


def test_the_learners_own_gradient_is_a_constant_of_training() -> None:
    """Where only the gradient depends on a parameter, nothing comes back: the source drops what would."""
    net = built(passes=1)
    with torch.no_grad():
        net.forget.weight.zero_()
        net.input.weight.zero_()
        net.forget.bias.fill_(-1e4)
    (x, target), _ = noise(6), None
    weights = adapted(net, x, target)["weights"]
    # c is now -i grad: through grad the initial weights would matter, and only so.
    gradients = torch.autograd.grad(weights.square().sum(), list(net.learner.parameters()), allow_unused=True)
    assert bool(weights.any())
    assert not any(each is not None and bool(each.any()) for each in gradients)


def test_sizes_and_signs_are_those_of_the_source() -> None:
    numbers = [0.0, 1e-5, -1e-5, 2e-4, -0.5, 1.0, 30.0]
    found = log_sign(torch.tensor(numbers, dtype=torch.float64))
    torch.testing.assert_close(found, torch.tensor([described(each) for each in numbers], dtype=torch.float64))
    assert bool((found.abs() <= 1).all())


@pytest.mark.parametrize("batch", [None, 2])
def test_an_episode_learns_the_same_alone_as_in_a_batch_and_a_part_at_a_time(
    batch: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = built(batch=batch).eval()
    (x, target), (queries, _) = noise(8), noise(9)
    together = net.query(adapted(net, x, target), queries.transpose(0, 1))
    assert not together.requires_grad
    for b in range(EPISODES):
        state = adapted(net, x[:, b, None], target[:, b, None])
        torch.testing.assert_close(net.query(state, queries[:, b, None].transpose(0, 1))[0], together[b])
    monkeypatch.setattr(meta_learner_lstm, "_NUMBERS_AT_ONCE", 1)
    torch.testing.assert_close(net.query(adapted(net, x, target), queries.transpose(0, 1)), together)


def test_the_state_is_weights_what_the_meta_learner_remembers_of_each_and_pending_images() -> None:
    net = built("delayed_label", 2).eval()
    x, target = noise(10)
    state = net.start(EPISODES)
    for image, label in zip(x, target, strict=True):
        _, state = net.predict(net.observe(state, Feedback(label)), image)
    weights = 4 * 9 + 4 * 2 + 3 + 3
    assert state_bytes(state) == 8 * (weights * (1 + 2 + 2 * 2) + 2 * 16 * 16)
    assert not any(each.requires_grad for each in pytree.tree_leaves(state))
    pairs = built().eval()
    state = adapted(pairs, x, target)
    assert state_bytes(state) == 8 * (weights + 4 * 2)


def test_a_rate_of_forgetting_all_is_refused() -> None:
    with pytest.raises(ValueError, match="start_rate must be between 0 and 1, found 1"):
        built(start_rate=1.0)
