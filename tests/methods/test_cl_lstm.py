"""CL+LSTM against independent computations, and against the sizes that the paper's own numbers fix."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from harness.data.dataset import card_table
from harness.episodes.plan import plan_episodes
from harness.episodes.source import EpisodeSource
from harness.evaluation.cost import measured_cost
from harness.method.interface import Feedback, Task, one_hot
from harness.method.registry import build_method
from harness.protocol.models import PROTOCOL
from harness.testing import tiny_dataset
from harness.training.recipe import Budget
from harness.training.stages import begin_stage
from harness.training.state import Training
from harness.util.errors import UserError
from methods.cl_lstm import CLLSTM
from methods.nn.conv_lstm import ConvLSTM
from tests.helpers.plans import of_kind
from tests.helpers.stepping import stepped_logits, stream_batch

OMNIGLOT = Task(5, (1, 28, 28), "online_few_shot")
CIFAR = Task(5, (3, 32, 32), "online_few_shot")


def test_conv_lstm_on_one_pixel_is_torchs_lstm() -> None:
    torch.manual_seed(0)
    steps, episodes, inputs, units = 6, 3, 4, 5
    conv, lstm = ConvLSTM(inputs, units, kernel=1).double(), nn.LSTM(inputs, units).double()
    with torch.no_grad():
        # torch orders its gates i, f, g, o; ours are i, f, o, g.
        order = torch.cat([torch.arange(units) + units * gate for gate in (0, 1, 3, 2)])
        lstm.weight_ih_l0.copy_(conv.inputs.weight[order, :, 0, 0])
        lstm.weight_hh_l0.copy_(conv.hidden.weight[order, :, 0, 0])
        lstm.bias_ih_l0.copy_(conv.inputs.bias[order])
        lstm.bias_hh_l0.zero_()
    x = torch.randn(steps, episodes, inputs, dtype=torch.float64)
    ours, (h, c) = conv.sequence(x.flatten(0, 1)[:, :, None, None], conv.start(episodes, 1, 1))
    theirs, (their_h, their_c) = lstm(x)
    torch.testing.assert_close(ours[:, :, 0, 0].unflatten(0, (steps, episodes)), theirs)
    torch.testing.assert_close(h[:, :, 0, 0], their_h[0])
    torch.testing.assert_close(c[:, :, 0, 0], their_c[0])


def test_conv_lstm_follows_the_papers_equations() -> None:
    """Equations 1 to 5, gate by gate with a plain convolution each."""
    torch.manual_seed(1)
    layer = ConvLSTM(2, 3).double()
    x, h, c = (torch.randn(2, n, 4, 4, dtype=torch.float64) for n in (2, 3, 3))

    def drive(gate: int) -> torch.Tensor:
        part = slice(3 * gate, 3 * gate + 3)
        return nn.functional.conv2d(
            x, layer.inputs.weight[part], layer.inputs.bias[part], padding=1
        ) + nn.functional.conv2d(h, layer.hidden.weight[part], padding=1)

    i, f, o, g = drive(0).sigmoid(), drive(1).sigmoid(), drive(2).sigmoid(), drive(3).tanh()
    new_c = f * c + i * g
    out, (got_h, got_c) = layer.sequence(x, (h, c))
    torch.testing.assert_close(got_c, new_c)
    torch.testing.assert_close(got_h, o * new_c.tanh())
    torch.testing.assert_close(out, got_h)


def test_flops_are_those_of_the_papers_cost_paragraph() -> None:
    """0.40 GFLOP a step at 28x28: the four layers alone are 0.403 with an added skip, 0.405 with a joined one."""

    def convolutions(skip: str, s: int, colour: int) -> float:
        total = 0
        for layer, inputs in enumerate((colour + 5, 64, 64, 128 if skip == "concat" else 64)):
            total += 2 * 9 * (s >> layer) ** 2 * (inputs + 64) * 4 * 64
        return total / 1e9

    assert convolutions("add", 28, 1) == pytest.approx(0.403, abs=5e-4)
    assert convolutions("concat", 28, 1) == pytest.approx(0.405, abs=5e-4)
    protocol = PROTOCOL.validate_python(
        {
            "kind": "online_few_shot",
            "title": "x",
            "dataset": "omniglot",
            "episode": {"ways": 5, "presentations": 1},
            "scoring": {"shots": [0]},
        }
    )
    plan = plan_episodes(protocol, card_table(protocol.card, "test"), "test", 0, [0])
    for skip in ("add", "concat"):
        head = 2 * (4 * 256 * (576 + 5 + 256) + 256 * 5) / 1e9
        measured = measured_cost(CLLSTM(OMNIGLOT, skip=skip), plan).gflop_per_step
        assert measured == pytest.approx(convolutions(skip, 28, 1) + head, rel=1e-6)
    assert convolutions("add", 32, 3) == pytest.approx(0.538, abs=5e-4)


def test_parameters_are_those_derived_from_the_paper() -> None:
    """1.91 M with an added skip and 2.05 M with a joined one: a third of ANML's 6.04 M, about the CNN's 1.77 M."""

    def count(**options: Any) -> int:
        return sum(each.numel() for each in CLLSTM(OMNIGLOT, norm="none", **options).parameters())

    assert count(skip="add") == pytest.approx(1.91e6, rel=2e-3)
    assert count(skip="concat") == pytest.approx(2.05e6, rel=3e-3)
    assert count(labels="all") - count(labels="first") == 3 * 5 * 9 * 4 * 64
    assert count(labels="first") - count(labels="lstm") == 5 * 9 * 4 * 64
    with_norm = sum(each.numel() for each in CLLSTM(OMNIGLOT).parameters())
    assert with_norm - count() == 4 * 2 * 64


@pytest.mark.parametrize("labels", ["lstm", "first", "all"])
@pytest.mark.parametrize("skip", ["concat", "add", "none"])
def test_whole_net_against_a_plain_loop_over_layers(labels: Any, skip: Any) -> None:
    """The net written again, step by step and layer by layer, in double precision."""
    torch.manual_seed(2)
    net = CLLSTM(CIFAR, channels=6, lstm=7, labels=labels, skip=skip).double().eval()
    for norm in net.norms:
        nn.init.uniform_(norm.get_buffer("running_mean"))
        nn.init.uniform_(norm.get_buffer("running_var"), 0.5, 2)
    steps, episodes = 4, 2
    x = torch.randn(steps, episodes, 3, 32, 32, dtype=torch.float64)
    given = torch.tensor([[-1, -1], [2, 0], [4, 4], [1, 3]])
    memories = [cell.start(episodes, 32 >> n, 32 >> n) for n, cell in enumerate(net.cells)]
    h = c = torch.zeros(1, episodes, 7, dtype=torch.float64)
    for t in range(steps):
        label, maps = one_hot(given[t], 5).double(), x[t]
        second: Any = None
        for n, (cell, norm) in enumerate(zip(net.cells, net.norms, strict=True)):
            if n:
                maps = nn.functional.max_pool2d(maps, 2)
            if n == 3 and skip != "none":
                short = nn.functional.max_pool2d(nn.functional.max_pool2d(second, 2), 2)
                maps = maps + short if skip == "add" else torch.cat([maps, short], 1)
            if labels == "all" or (labels == "first" and n == 0):
                maps = torch.cat([maps, label[:, :, None, None] * torch.ones(1, 1, *maps.shape[2:])], 1)
            gates = cell.inputs(maps) + cell.hidden(memories[n][0])
            i, f, o, g = gates.chunk(4, 1)
            cell_state = f.sigmoid() * memories[n][1] + i.sigmoid() * g.tanh()
            memories[n] = (o.sigmoid() * cell_state.tanh(), cell_state)
            maps = norm(memories[n][0])
            second = maps if n == 1 else second
        out, (h, c) = net.lstm(torch.cat([maps.flatten(1), label], 1)[None], (h, c))
        expected = net.classify(out[0])
        torch.testing.assert_close(stepped_logits(net, x[: t + 1], given[: t + 1])[t], expected)
        torch.testing.assert_close(net.rollout(x[: t + 1], Feedback(given[: t + 1]))[t], expected)


def test_resolution_is_average_pooling_of_the_image() -> None:
    torch.manual_seed(3)
    small = CLLSTM(Task(5, (1, 14, 14), "online_few_shot"), channels=4, lstm=8).eval()
    large = CLLSTM(OMNIGLOT, channels=4, lstm=8, resolution=14).eval()
    large.load_state_dict(small.state_dict())
    x = torch.rand(3, 2, 1, 28, 28)
    pooled = x.unflatten(-1, (14, 2)).unflatten(-3, (14, 2)).mean((-1, -3))
    labels = torch.tensor([[-1, -1], [0, 1], [2, 3]])
    torch.testing.assert_close(large.rollout(x, Feedback(labels)), small.rollout(pooled, Feedback(labels)))


def test_a_label_is_consumed_by_one_step_only() -> None:
    net = CLLSTM(OMNIGLOT, channels=4, lstm=8, resolution=14).eval()
    state = net.observe(net.start(2), Feedback(torch.tensor([3, 1])))
    assert state["label"].tolist() == [3, 1]
    _, after = net.predict(state, torch.rand(2, 1, 28, 28))
    assert after["label"].tolist() == [-1, -1]


@pytest.mark.slow
def test_it_overfits_one_batch() -> None:
    """Four short episodes are learned by heart: gradients reach whatever is needed for that."""
    torch.manual_seed(0)
    net = CLLSTM(Task(3, (1, 14, 14), "online_few_shot"), channels=8, lstm=32)
    x, target = torch.rand(6, 4, 1, 14, 14), torch.randint(0, 3, (6, 4))
    feedback = Feedback(torch.cat([torch.full((1, 4), -1), target[:-1]]))
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    first = None
    for _ in range(40):
        loss = net.loss(net.rollout(x, feedback), stream_batch(target))
        first = first or loss.item()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.3 * first  # the trajectory depends on the version of torch


def test_starting_weights_are_scaled_where_an_option_says_so_and_nowhere_else() -> None:
    """`memory_init` has those of h in each layer and of labels in the first, `label_init` the labels' in the LSTM."""
    plain, changed = (
        dict(build_method(CLLSTM, OMNIGLOT, {"channels": 6, "lstm": 7, **options}, seed=0).named_parameters())
        for options in ({}, {"memory_init": 0.25, "label_init": 30.0})
    )
    expected = {name: each.detach().clone() for name, each in plain.items()}
    for layer in range(4):
        expected[f"cells.{layer}.hidden.weight"] *= 0.25
    expected["cells.0.inputs.weight"][:, 1:] *= 0.25  # planes of labels, after that of the image
    expected["lstm.weight_ih_l0"][:, -5:] *= 30.0
    assert changed.keys() == expected.keys()
    for name, each in changed.items():
        torch.testing.assert_close(each.detach(), expected[name], rtol=0, atol=0)


def test_impossible_options_are_refused_with_what_is_allowed() -> None:
    with pytest.raises(UserError, match="layer 2 to layer 4"):
        build_method(CLLSTM, OMNIGLOT, {"layers": 3}, seed=0)
    with pytest.raises(UserError, match="vanish"):
        build_method(CLLSTM, OMNIGLOT, {"resolution": 4}, seed=0)
    with pytest.raises(UserError, match="'first'"):
        build_method(CLLSTM, OMNIGLOT, {"labels": "everywhere"}, seed=0)
    with pytest.raises(UserError, match="Did you mean 'channels'"):
        build_method(CLLSTM, OMNIGLOT, {"chanels": 3}, seed=0)


def test_a_loss_on_classes_leaves_the_gradient_of_queries_as_it_is(tmp_path: Any) -> None:
    # Queries are normalised by statistics that the loss on classes, computed after theirs, goes on to change.
    protocol = of_kind("n_way_k_shot", "objects", ways=3, shots=1, queries=2)
    source = EpisodeSource(tiny_dataset("objects"))

    def gradient(weight: float | None) -> Tensor:
        net = build_method(CLLSTM, Task(3, (3, 32, 32), "n_way_k_shot", None, 8), {"channels": 4, "lstm": 8}, 0).train()
        stage = {"name": "all", "episodes": 8, **({"classes_weight": weight, "classes_batch": 6} if weight else {})}
        training = Training(
            net, source, protocol, Budget.model_validate({"batch": 2, "stages": [stage]}), 0, tmp_path / "none", {}
        )
        objective = begin_stage(training, 0).objective
        loss = objective.loss(objective.drawn(np.arange(2))).minimised
        parameters = [each for _, each in sorted(net.named_parameters())]
        found = torch.autograd.grad(loss, parameters, allow_unused=True)
        return torch.cat([each.flatten() for each in found if each is not None]).double()

    alone, beside = gradient(None), gradient(1e-9)
    assert (beside - alone).norm() < 1e-5 * alone.norm()
