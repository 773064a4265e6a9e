"""NORML against a plain loop over episodes, steps, samples and layers, whose gradients are autograd's."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils import _pytree as pytree

from harness.episodes.source import EpisodeSource
from harness.evaluation.cost import measured_cost
from harness.method.interface import Feedback, Task, state_bytes
from harness.protocol.models import PROTOCOL
from harness.testing import tiny_dataset
from methods.nn.nodal import CellInputs, NodalCells
from methods.nn.passes import passes_over
from methods.norml import NORML
from tests.helpers.stepping import perturb, seeded

WAYS, EPISODES, PAIRS = 3, 2, 5
DENSE: dict[str, Any] = {"net": "dense", "hidden": [5, 4], "resolution": 4}
SUPPORT_SETS: dict[str, dict[str, Any]] = {
    "one layer": {},
    "zero hidden": {"zero_hidden": True},
    "zero cell": {"zero_cell": True},
    "both zero": {"zero_hidden": True, "zero_cell": True},
    "output gate, other width": {"output_gate": True, "units": 2},
    "zero cell, output gate": {"zero_cell": True, "output_gate": True},
    "one layer, whole set": {"batch": "whole"},
    "whole set, joint cell": {**DENSE, "batch": "whole", "cell": "joint", "units": 6},
    "whole set, queries by their own statistics": {**DENSE, "batch": "whole", "norm": "batch"},
    "whole set, a cell a layer": {**DENSE, "batch": "whole", "inputs": "log_sign"},
    "one by one, layers": {**DENSE, "inputs": "raw", "passes": 2},
    "one by one, no normalisation": {**DENSE, "norm": "none", "cell": "joint", "units": 4, "output_gate": True},
    "cells' inputs constant": {**DENSE, "batch": "whole", "differentiate": "update"},
    "first order": {**DENSE, "batch": "whole", "differentiate": "none"},
}


def built(kind: str = "n_way_k_shot", delay: int | None = None, **options: Any) -> NORML:
    """In double precision and training, with normalisation of the backbone fixed at something."""
    with seeded(3):
        settings = {"channels": 4, "inner_lr": 0.5, "passes": 3, "gate_bias": 0.3, **options}
        net = NORML(Task(WAYS, (1, 16, 16), kind, delay), **settings).double().train()
        perturb((*net.learner.scales, *net.learner.shifts, *net.cells.parameters()), 0.2)
    net.backbone.eval()
    return net


def noise(seed: int, steps: int = PAIRS) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(steps, EPISODES, 1, 16, 16, generator=random, dtype=torch.float64)
    return x, torch.randint(0, WAYS, (steps, EPISODES), generator=random)


def adapted(net: NORML, x: Tensor, target: Tensor) -> Any:
    state = net.start(EPISODES)
    for image, label in zip(x, target, strict=True):
        state = net.observe(state, Feedback(label, image))
    return net.adapt(state)


# The plain loop


def plain_forward(
    net: NORML, weights: Any, x: Tensor, statistics: Any = None
) -> tuple[Tensor, list[Tensor], list[Tensor], Any]:
    """Logits, inputs and pre-activations of every layer, and statistics, of vectors [N, D] of one episode."""
    inputs, before, used = [], [], []
    for layer, (weight, bias) in enumerate(weights):
        if layer:
            if net.learner.norm != "none":
                over = 0 if net.learner.norm in ("support", "batch") else 1
                mean, variance = x.mean(over, keepdim=True), x.var(over, keepdim=True, correction=0)
                if statistics is not None and net.learner.norm == "support":
                    mean, variance = statistics[layer - 1]
                used.append((mean, variance))
                x = (x - mean) / (variance + 1e-5).sqrt() * net.learner.scales[layer - 1] + net.learner.shifts[
                    layer - 1
                ]
            x = x.clamp(min=0)
        inputs.append(x)
        x = x @ weight.T + bias
        before.append(x)
    return x, inputs, before, used


def described(net: NORML, x: Tensor) -> list[Tensor]:
    """A vector as a cell takes it, a number at a time."""
    how = net.cells.inputs
    if how == "raw" or (how == "standard" and len(x) == 1):
        return list(x)
    if how == "standard":
        return list((x - x.mean()) / (x.var(correction=0) + 1e-6).sqrt())
    numbers = []
    for each in x:
        big = abs(float(each.detach())) >= torch.exp(torch.tensor(-10.0))
        numbers += [each.abs().log() / 10, each.sign()] if big else [each * 0 - 1, each * torch.exp(torch.tensor(10.0))]
    return numbers


def plain_factors(net: NORML, number: int, x: list[Tensor], c: Tensor, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Factors, cell and hidden state of one cell for one sample, by the gates' equations."""
    cells, units = net.cells, net.cells.units[number]
    names = ["i", "g", *([] if cells.zero_cell else ["f"]), *(["o"] if cells.output_gate else [])]
    drive = cells.drives[number].weight @ torch.stack(x) + cells.drives[number].bias
    if not cells.zero_hidden:
        drive = drive + cells.recurrences[number].weight @ h
    gate = {name: drive[n * units : (n + 1) * units] for n, name in enumerate(names)}
    new = gate["i"].sigmoid() * gate["g"].tanh()
    if not cells.zero_cell:
        new = new + gate["f"].sigmoid() * c
    out = gate["o"].sigmoid() * new.tanh() if cells.output_gate else new.tanh()
    return (cells.heads[number].weight @ new + cells.heads[number].bias).sigmoid(), new, out


def plain_step(net: NORML, weights: Any, memory: Any, x: Tensor, target: Tensor) -> Any:
    """Weights of one episode after one step on vectors [N, D]; `memory` is changed: (row, cell) -> (c, h)."""
    first_order = net.differentiate == "none"
    if any(not each.requires_grad for pair in weights for each in pair):
        weights = [tuple(each.requires_grad_() for each in pair) for pair in weights]
    logits, inputs, before, _ = plain_forward(net, weights, x)
    loss = F.cross_entropy(logits, target, reduction="none")
    gradients = list(torch.autograd.grad(loss.sum(), before, create_graph=True))
    if first_order:
        loss, inputs, gradients = loss.detach(), [e.detach() for e in inputs], [e.detach() for e in gradients]
    steps = [(torch.zeros_like(weight), torch.zeros_like(bias)) for weight, bias in weights]
    for row in range(len(x)):
        for number, group in enumerate(net.cells.groups):
            vectors = [loss[row, None], *(gradients[n][row] for n in group), *(inputs[n][row] for n in group)]
            if net.differentiate == "update":
                vectors = [each.detach() for each in vectors]
            numbers = [each for vector in vectors for each in described(net, vector)]
            zero = torch.zeros(net.cells.units[number], dtype=torch.float64)
            factors, *memory[row, number] = plain_factors(
                net, number, numbers, *memory.get((row, number), (zero, zero))
            )
            for n in group:
                width = gradients[n].shape[1]
                p, factors = factors[:width], factors[width:]
                steps[n] = (steps[n][0], steps[n][1] + p * gradients[n][row])
                memory["p", n] = p
            for n in group:
                width = inputs[n].shape[1]
                q, factors = factors[:width], factors[width:]
                outer = torch.outer(memory["p", n] * gradients[n][row], q * inputs[n][row])
                steps[n] = (steps[n][0] + outer, steps[n][1])
    rate = net.inner_lr / len(x)
    return [(w - rate * dw, b - rate * db) for (w, b), (dw, db) in zip(weights, steps, strict=True)]


def initial(net: NORML) -> Any:
    return [(layer.weight, layer.bias) for layer in net.learner.layers]


def plain_answers(net: NORML, x: Tensor, target: Tensor, queries: Tensor) -> Tensor:
    """Logits [B, Q, ways] after learning from support pairs, one episode at a time."""
    rows = []
    for b in range(EPISODES):
        memory: dict[Any, Any] = {}
        samples, labels, weights = net.backbone(x[:, b]), target[:, b], initial(net)
        if net.whole:
            for _ in range(net.passes):
                weights = plain_step(net, weights, memory, samples, labels)
        else:
            for each in [n for one in passes_over(len(samples), net.passes) for n in one]:
                weights = plain_step(net, weights, memory, samples[each, None], labels[each, None])
        statistics = plain_forward(net, weights, samples)[3]
        rows.append(plain_forward(net, weights, net.backbone(queries[:, b]), statistics)[0])
    return torch.stack(rows)


def gradients_of(net: NORML, logits: Tensor) -> tuple[Tensor | None, ...]:
    """Of a fixed weighting of the logits, by all that is trained."""
    weighing = torch.linspace(-1, 1, logits.numel(), dtype=torch.float64).sin().view_as(logits)
    learning = [*net.learner.parameters(), *net.cells.parameters()]
    return torch.autograd.grad((weighing * logits).sum(), learning, allow_unused=True)


@pytest.mark.parametrize("options", SUPPORT_SETS.values(), ids=SUPPORT_SETS)
def test_learning_from_a_support_set_and_the_gradient_through_it_are_those_of_a_plain_loop(
    options: dict[str, Any],
) -> None:
    net = built(**options)
    (x, target), (queries, _) = noise(1), noise(2)
    logits = net.query(adapted(net, x, target), queries.transpose(0, 1))
    expected = plain_answers(net, x, target, queries)
    torch.testing.assert_close(logits, expected)
    found, wanted = gradients_of(net, logits), gradients_of(net, expected)
    # Few samples have small deviations, which enlarge what is lost to rounding.
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    assert sum(each is not None and bool(each.any()) for each in wanted) > len(wanted) - 3


@pytest.mark.parametrize("options", [{}, {**DENSE, "cell": "joint", "units": 4}], ids=["one layer", "layers"])
@pytest.mark.parametrize("delay", [1, 3])
def test_in_a_stream_each_label_is_a_step_when_it_is_revealed(delay: int, options: dict[str, Any]) -> None:
    net = built("delayed_label", delay, **options)
    x, target = noise(3, 6)
    target[1, 0] = -1
    feedback = torch.cat([torch.full((delay, EPISODES), -1), target[:-delay]])
    state, stepped = net.start(EPISODES), []
    for image, label in zip(x, feedback, strict=True):
        logits, state = net.predict(net.observe(state, Feedback(label)), image)
        stepped.append(logits)
    expected = torch.zeros(len(x), EPISODES, WAYS, dtype=torch.float64)
    for b in range(EPISODES):
        memory: dict[Any, Any] = {}
        seen, weights = net.backbone(x[:, b]), initial(net)
        for t in range(len(x)):
            if feedback[t, b] >= 0:
                weights = plain_step(net, weights, memory, seen[t - delay, None], feedback[t, b, None])
            expected[t, b] = plain_forward(net, weights, seen[t, None])[0][0]
    wanted = gradients_of(net, expected)
    rolled = net.rollout(x, Feedback(feedback))
    assert rolled is not None
    for logits in (torch.stack(stepped), rolled):
        torch.testing.assert_close(logits, expected)
        torch.testing.assert_close(gradients_of(net, logits), wanted)
    whole = net.absorb(net.start(EPISODES), x, Feedback(feedback))
    half = net.absorb(net.start(EPISODES), x[:4], Feedback(feedback[:4]))
    torch.testing.assert_close(whole, state)
    torch.testing.assert_close(net.absorb(half, x[4:], Feedback(feedback[4:])), state)


@pytest.mark.parametrize(
    "options",
    [{}, {**DENSE, "batch": "whole"}, {**DENSE, "batch": "whole", "cell": "joint"}, {**DENSE, "passes": 2}],
    ids=["one layer, one by one", "layers, whole set", "joint cell", "layers, one by one"],
)
def test_with_gates_saturated_at_one_it_is_gradient_descent(options: dict[str, Any]) -> None:
    net = built(**options)
    with torch.no_grad():
        for head in net.cells.heads:
            head.weight.zero_()
            head.bias.fill_(1e4)
    (x, target), (queries, _) = noise(4), noise(5)
    logits = net.query(adapted(net, x, target), queries.transpose(0, 1))
    for b in range(EPISODES):
        samples = net.backbone(x[:, b])
        weights = [each for pair in initial(net) for each in pair]
        order = passes_over(PAIRS, net.passes)
        for step in [list(range(PAIRS))] * net.passes if net.whole else [[n] for one in order for n in one]:
            pairs = list(zip(weights[::2], weights[1::2], strict=True))
            loss = F.cross_entropy(plain_forward(net, pairs, samples[step])[0], target[step, b])
            gradients = torch.autograd.grad(loss, weights)
            weights = [each - net.inner_lr * gradient for each, gradient in zip(weights, gradients, strict=True)]
        pairs = list(zip(weights[::2], weights[1::2], strict=True))
        statistics = plain_forward(net, pairs, samples)[3]
        torch.testing.assert_close(logits[b], plain_forward(net, pairs, net.backbone(queries[:, b]), statistics)[0])


@pytest.mark.parametrize(
    "options", [{"passes": 4}, {**DENSE, "batch": "whole", "passes": 5}], ids=["one by one", "whole set"]
)
@pytest.mark.parametrize("segment", [1, 3])
def test_checkpointing_gives_equal_gradients_and_keeps_less(options: dict[str, Any], segment: int) -> None:
    (x, target), (queries, _) = noise(6), noise(7)
    found = []
    for checkpoint in (0, segment):
        net, saved = built(**options, checkpoint=checkpoint), [0]

        def pack(tensor: Tensor, saved: list[int] = saved) -> Tensor:
            saved[0] += 1
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            logits = net.query(adapted(net, x, target), queries.transpose(0, 1))
        found.append((logits, gradients_of(net, logits), saved[0]))
    torch.testing.assert_close(found[0][:2], found[1][:2], rtol=0, atol=0)
    assert found[1][2] < found[0][2] / 3
    streams = [built("online_few_shot", 1, **options, checkpoint=each) for each in (0, segment)]
    rolled = [each.rollout(x, Feedback(target)) for each in streams]
    assert all(each is not None for each in rolled)
    gradients = [gradients_of(net, logits) for net, logits in zip(streams, rolled, strict=True) if logits is not None]
    torch.testing.assert_close((rolled[0], gradients[0]), (rolled[1], gradients[1]), rtol=0, atol=0)


@pytest.mark.parametrize("options", [{}, {**DENSE, "batch": "whole"}], ids=["one by one", "whole set"])
def test_an_episode_learns_the_same_alone_as_in_a_batch(options: dict[str, Any]) -> None:
    net = built(**options)
    (x, target), (queries, _) = noise(8), noise(9)
    together = net.query(adapted(net, x, target), queries.transpose(0, 1))
    for b in range(EPISODES):
        state = net.absorb(net.start(1), x[:, b, None], Feedback(target[:, b, None], x[:, b, None]))
        torch.testing.assert_close(net.query(net.adapt(state), queries[:, b, None].transpose(0, 1))[0], together[b])


def sizes_of(net: torch.nn.Module) -> int:
    return sum(each.numel() for each in net.parameters())


def ratio(sizes: list[int], **options: Any) -> tuple[int, int]:
    """Parameters of a learner with these widths, and of its meta-learner."""
    pairs = list(pairwise(sizes))
    settings = {"joint": False, "units": None, "zero_hidden": False, "zero_cell": False, "output_gate": False}
    cells = NodalCells(pairs, **{**settings, "inputs": "standard", "gate_bias": 2.0, **options})
    return sum(m * n + n for m, n in pairs), sizes_of(cells)


@pytest.mark.parametrize("joint", [False, True])
def test_the_meta_learner_grows_linearly_with_the_learner(joint: bool) -> None:
    """Van Niekerk 2019, section 3.2: p times the parameters here are p times the parameters there, at most."""
    widths = [[inputs, 5] for inputs in (64, 128, 256, 512, 1024, 2048)]
    learner, meta = torch.tensor([ratio(each, joint=joint) for each in widths]).double().unbind(1)
    step = (meta[1:] - meta[:-1]) / (learner[1:] - learner[:-1])
    torch.testing.assert_close(step, step[:1].expand(5))
    deep = [[scale * each for each in (49, 16, 8, 4, 4, 2)] for scale in (1, 2, 4, 8, 16)]
    counts = torch.tensor([ratio(each, joint=joint) for each in deep]).double()
    shares = (counts[:, 1] / counts[:, 0])[1:]
    assert bool((shares[1:] < shares[:-1] * 1.02).all())
    # A quadratic meta-learner would have 256 times the share.
    assert counts[-1, 1] / counts[0, 1] < 1.1 * counts[-1, 0] / counts[0, 0]


def test_the_meta_learner_has_less_than_five_times_the_parameters_of_the_learner() -> None:
    """Section 4, for the two learners of the paper; 10 887 are the literal equations, over 512 features."""
    learner, meta = ratio([512, 5], zero_hidden=True)
    assert (learner, meta) == (2565, 10887)
    for sizes, joint in (([512, 5], False), ([640, 5], False), ([784, 256, 128, 64, 64, 20], True)):
        learner, meta = ratio(sizes, joint=joint)
        assert 3 < meta / learner < 5
    # Why there is no output gate unless an option says so.
    learner, meta = ratio([512, 5], output_gate=True)
    assert meta > 5 * learner


def test_passes_are_over_all_pairs_in_orders_that_change() -> None:
    passes = passes_over(7, 4)
    assert passes[0] == list(range(7))
    assert all(sorted(each) == list(range(7)) for each in passes)
    assert len({tuple(each) for each in passes}) == 4
    assert passes_over(3, 1) == [[0, 1, 2]]


def test_scoring_keeps_no_graph_and_the_state_is_weights_memories_and_what_awaits_labels() -> None:
    x, target = noise(10)
    net = built("delayed_label", 2).eval()
    state = net.start(EPISODES)
    for image, label in zip(x, target, strict=True):
        logits, state = net.predict(net.observe(state, Feedback(label)), image)
    assert not any(each.requires_grad for each in (logits, *pytree.tree_leaves(state)))
    assert state_bytes(state) == 8 * (3 * 4 + 3 + 3 + 3 + 2 * 4)
    assert not any(each.requires_grad for each in pytree.tree_leaves(net.start(2)))
    literal = built("delayed_label", 2, zero_hidden=True, zero_cell=True)
    assert state_bytes(literal.start(1)) == 8 * (3 * 4 + 3 + 2 * 4)


@pytest.mark.parametrize("kind", ["n_way_k_shot", "online_few_shot"])
def test_what_it_costs_can_be_counted(kind: str) -> None:
    """The counter hooks into modules, and wants no view of a parameter where there is no graph."""
    shape = {"ways": WAYS, **({"shots": 1, "queries": 1} if kind == "n_way_k_shot" else {"presentations": 2})}
    data = {"kind": kind, "title": "tiny", "dataset": "omniglot", "episode": shape}
    protocol = PROTOCOL.validate_python(data | {"scoring": {"shots": [1]} if "presentations" in shape else {}})
    table = tiny_dataset("omniglot", WAYS + 2, 4)
    plan = EpisodeSource(table).episodes(protocol, "test", 0, range(1)).plan
    net = built(kind, None if kind == "n_way_k_shot" else 1).float()
    assert measured_cost(net, plan).parameters == sizes_of(net)


def test_only_statistics_of_the_queries_are_transductive() -> None:
    def transductive(kind: str = "n_way_k_shot", **options: Any) -> bool:
        return built(kind, None if kind == "n_way_k_shot" else 1, **options).transductive

    assert transductive(**DENSE, batch="whole", norm="batch")
    assert not transductive(**DENSE, batch="whole")
    assert not transductive(**DENSE, norm="batch")
    assert not transductive("continual", **DENSE, batch="whole", norm="batch")
    assert not transductive(batch="whole", norm="batch")  # one layer, and so nothing that is normalised
    net = built(**DENSE, batch="whole", norm="batch").eval()
    (x, target), (queries, _) = noise(1), noise(2)
    state = adapted(net, x, target)
    assert not state["statistics"]
    alone, among = (net.query(state, queries[:count].transpose(0, 1))[:, :2] for count in (2, len(queries)))
    assert not torch.allclose(alone, among)


def test_one_sample_is_never_normalised_by_its_own_support_set() -> None:
    assert built(**DENSE).learner.norm == "layer"
    assert built(**DENSE, batch="whole").learner.norm == "support"
    assert built("continual", 1, **DENSE, batch="whole").learner.norm == "layer"


@pytest.mark.parametrize("inputs", ["standard", "log_sign", "raw"])
@pytest.mark.parametrize("joint", [False, True])
def test_samples_mapped_ahead_and_aligned_columns_change_nothing(joint: bool, inputs: CellInputs) -> None:
    with seeded(2):
        cells = NodalCells(
            [(6, 5), (5, 3)],
            joint=joint,
            units=4,
            zero_hidden=False,
            zero_cell=False,
            output_gate=False,
            inputs=inputs,
            gate_bias=2.0,
        ).double()
        loss, known = torch.randn(2, 7).double(), torch.rand(2, 7) < 0.8
        vectors, gradients = ([torch.randn(2, 7, n).double() for n in sizes] for sizes in ((6, 5), (5, 3)))
    whole = [(each.weight, each.bias) for each in cells.drives]
    with torch.no_grad():
        drives, samples = cells.shared_by_steps(vectors[0])
    assert samples is None
    assert [weight is other for (weight, _), (other, _) in zip(drives, whole, strict=True)] == [True] * len(whole)
    drives, samples = cells.shared_by_steps(vectors[0])
    assert samples is not None
    assert samples.shape == (2, 7, 3 * 4)
    assert all(weight.shape[1] % 16 == 0 for weight, _ in drives)
    step = loss, vectors, gradients, known
    found = [cells(cells.start(2, 7), *step, *given) for given in ((drives, samples), (whole, None))]
    torch.testing.assert_close(*found, rtol=1e-12, atol=1e-14)
    sums = [torch.stack([each.sum() for each in pytree.tree_leaves(one)]).sum() for one in found]
    ours, theirs = (torch.autograd.grad(each, list(cells.parameters())) for each in sums)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
