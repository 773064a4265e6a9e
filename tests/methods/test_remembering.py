"""OML and ANML as their sources train and score them, against plain loops: a batch to remember in the meta-loss, and
Adam in scoring."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from harness.method.interface import Feedback, Task, leaves
from harness.training.interface import Batch
from harness.util.errors import UserError
from methods.anml import ANML
from methods.nn.remembering import drawn_from_others
from methods.oml import OML
from tests.helpers.stepping import delayed, seeded, stepped

WAYS, CLASSES, EPISODES, SUPPORT, QUERIES = 3, 11, 3, 5, 4
OPTIONS: dict[str, dict[str, Any]] = {
    "oml": {"net": "text", "channels": 5, "rate": 0.3, "learned_rate": True, "hidden": 0},
    "oml, hidden layer": {"net": "text", "channels": 5, "rate": 0.3, "learned_rate": True, "hidden": 6},
    "oml, first order, random rows": {"net": "text", "channels": 5, "hidden": 0, "rows": "random", "first_order": True},
    "anml": {"channels": 4, "modulator": 3, "rate": 0.3, "learned_rate": True},
    "anml, head": {"channels": 4, "modulator": 3, "adapts": "head"},
    "anml, as the source": {"channels": 4, "modulator": 3, "rate": 0.3, "adapts": "source", "first_order": True},
}
Answer = Callable[[list[Tensor], Tensor], Tensor]


def a_net(which: str, kind: str = "n_way_k_shot", **options: Any) -> Any:
    cls, side = (OML, 16) if which.startswith("oml") else (ANML, 22)
    with seeded(4):
        task = Task(WAYS, (1, side, side), kind, 1 if kind != "n_way_k_shot" else None, CLASSES)
        net = cls(task, **{**OPTIONS[which], **options}).double().train()
    if isinstance(net, OML):
        net.represent.eval()  # one image's features are then no matter of the others
    return net


def parts(net: Any) -> tuple[list[Tensor], list[Tensor], Answer]:
    """What episodes adapt below the last layer, its rates and the last one's, and logits of images [N, ...] under it.

    The answer takes all weights: those below, and the weight and the bias of the last layer.
    """
    if isinstance(net, OML):
        *below, _ = net.learner.layers
        weights = [each for layer in below for each in (layer.weight, layer.bias)]
        rates = [rate for rate in net.learner.log_rates.exp() for _ in range(2)]

        def answer(own: list[Tensor], images: Tensor) -> Tensor:
            features = net.represent(images)
            for number, (weight, bias) in enumerate(pairwise(own)):
                if number % 2 == 0:
                    features = (features.relu() if number else features) @ weight.T + bias
            return features

        return weights, rates, answer
    names = [name for name, _ in net.trunk.named_parameters()] if net.adapts_trunk else []
    rates = [*net.log_rates.exp()[: len(names)], *[net.head.log_rates.exp()[0]] * 2]

    def gated(own: list[Tensor], images: Tensor) -> Tensor:
        adapted = dict(zip(names, own, strict=False))
        features = functional_call(net.trunk, adapted, (images,)) if names else net.trunk(images)
        return (features * net.gate(images)) @ own[-2].T + own[-1]

    return [net.trunk.get_parameter(name) for name in names], rates, gated


def last_layer(net: Any) -> tuple[Tensor, Tensor]:
    *_, layer = (net.learner if isinstance(net, OML) else net.head).layers
    return layer.weight, layer.bias


def takes_first_order(net: Any) -> bool:
    return bool(net.learner.first_order if isinstance(net, OML) else net.first_order)


def a_batch(net: Any, ways: int = WAYS) -> Batch:
    random = torch.Generator().manual_seed(6)
    steps = SUPPORT + QUERIES
    x = torch.randn(steps, EPISODES, *net.task.image_shape, dtype=torch.float64, generator=random)
    target = torch.randint(0, ways, (steps, EPISODES), generator=random)
    rows = torch.stack([torch.randperm(CLASSES, generator=random)[:ways] for _ in range(EPISODES)])
    scored = torch.ones_like(target, dtype=torch.bool)
    scored[SUPPORT + 1, 0] = False
    return Batch(x, target, scored, SUPPORT, rows)


def plain_loss(net: Any, batch: Batch, remembered: tuple[Tensor, Tensor]) -> Tensor:
    """One episode after another, by autograd over the rows of all training classes."""
    below, rates, answer = parts(net)
    weight, bias = last_layer(net)
    total = torch.zeros((), dtype=torch.float64)
    for b in range(EPISODES):
        rows, shifts = list(net.class_rows.weight), list(net.class_rows.bias)
        for number, row in enumerate(batch.class_rows[b].tolist()):
            rows[row], shifts[row] = weight[number], bias[number]
        own = [*below, torch.stack(rows), torch.stack(shifts)]
        own = [each if each.requires_grad else each.requires_grad_() for each in own]
        label = [int(batch.class_rows[b, batch.target[t, b]]) for t in range(len(batch.target))]
        for t in range(SUPPORT):
            loss = F.cross_entropy(answer(own, batch.x[t, b, None]), torch.tensor(label[t : t + 1]))
            gradients = torch.autograd.grad(loss, own, create_graph=True)
            if takes_first_order(net):
                gradients = tuple(each.detach() for each in gradients)
            own = [each - rate * gradient for each, rate, gradient in zip(own, rates, gradients, strict=True)]
        losses, queries = [], 0
        for t in range(SUPPORT, len(label)):
            if batch.scored[t, b]:
                losses.append(F.cross_entropy(answer(own, batch.x[t, b, None]), torch.tensor(label[t : t + 1])))
                queries += 1
        for other, t in zip(remembered[0][b].tolist(), remembered[1][b].tolist(), strict=True):
            wanted = batch.class_rows[other, batch.target[t, other]]
            losses.append(F.cross_entropy(answer(own, batch.x[t, other, None]), wanted[None]))
        total = total + queries * torch.stack(losses).mean() / EPISODES
    return total


@pytest.mark.parametrize(("which", "ways"), [*((which, WAYS) for which in OPTIONS), ("oml", 2), ("anml", 2)])
def test_the_meta_loss_and_its_gradient_are_those_of_a_plain_loop(which: str, ways: int) -> None:
    """Also in a stage of fewer ways."""
    net = a_net(which, meta_loss="remember", remember=7)
    batch, trained = a_batch(net, ways), [each for each in net.parameters() if each.requires_grad]
    with seeded(9):
        found = net.episode_loss(batch)
    with seeded(9):
        remembered = drawn_from_others(EPISODES, SUPPORT + QUERIES, 7, torch.device("cpu"))
    wanted = plain_loss(net, batch, remembered)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-6)  # the loss itself is in single precision
    gradients = [torch.autograd.grad(each, trained, allow_unused=True) for each in (found, wanted)]
    for one, other in zip(*gradients, strict=True):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_what_is_remembered_is_of_other_episodes_and_drawn_once_each_and_evenly() -> None:
    with seeded(1):
        which, step = drawn_from_others(3, 4, 100, torch.device("cpu"))
        few = [drawn_from_others(3, 4, 2, torch.device("cpu")) for _ in range(400)]
    for b in range(3):
        found = sorted(zip(which[b].tolist(), step[b].tolist(), strict=True))
        assert found == [(other, t) for other in range(3) if other != b for t in range(4)]
    counts = torch.zeros(3, 4)
    for others, steps in few:
        assert others.shape == (3, 2)
        counts[others[0], steps[0]] += 1
    assert not counts[0].any()
    assert counts[1:].min() > 60  # 100 on average, of which the spread is 9
    assert counts[1:].max() < 140


@pytest.mark.parametrize("which", ["oml, hidden layer", "anml"])
def test_rows_of_training_classes_are_new_weights_that_scoring_does_not_look_at(which: str) -> None:
    plain, net = a_net(which).eval(), a_net(which, meta_loss="remember").eval()
    own = plain.state_dict()
    assert net.state_dict().keys() - own.keys() == {"class_rows.weight", "class_rows.bias"}
    assert all(torch.equal(each, net.state_dict()[name]) for name, each in own.items())
    batch = a_batch(net)
    pairs = batch.x[:SUPPORT], Feedback(batch.target[:SUPPORT], batch.x[:SUPPORT])
    queries = batch.x[SUPPORT:].transpose(0, 1)
    answers = [each.query(each.absorb(each.start(EPISODES), *pairs), queries) for each in (plain, net)]
    assert torch.equal(*answers)


def plain_adam(net: Any, pairs: list[tuple[Tensor, int]], queries: Tensor, rate: float) -> Tensor:
    """Logits of images [Q, ...] after torch's Adam has taken a step on each (image, label) of one episode."""
    below, _, answer = parts(net)
    own = [each.detach().clone().requires_grad_() for each in (*below, *last_layer(net))]
    optimizer = torch.optim.Adam(own, lr=rate)
    for image, label in pairs:
        optimizer.zero_grad()
        F.cross_entropy(answer(own, image[None]), torch.tensor([label])).backward()
        optimizer.step()
    return answer(own, queries).detach()


@pytest.mark.parametrize("which", OPTIONS)
def test_scoring_by_adam_is_by_that_of_torch(which: str) -> None:
    net = a_net(which, "delayed_label", test_optimizer="adam", test_rate=0.02).eval()
    batch = a_batch(net)
    feedback = delayed(batch.target, 1)
    feedback[4, 1] = -1  # one label is never revealed
    assert net.rollout(batch.x, Feedback(feedback)) is None  # stepping alone
    logits, state = stepped(net, batch.x, feedback)
    assert all(len(leaf) == EPISODES and not leaf.requires_grad for leaf in leaves(state))
    for b in range(EPISODES):
        for t in (0, 3, len(feedback) - 1):
            pairs = [(batch.x[s - 1, b], int(feedback[s, b])) for s in range(1, t + 1) if feedback[s, b] >= 0]
            torch.testing.assert_close(logits[t, b], plain_adam(net, pairs, batch.x[t, b, None], 0.02)[0])


@pytest.mark.parametrize("which", ["oml", "anml", "anml, as the source"])
def test_support_pairs_by_adam_are_learned_in_turn_and_training_is_by_sgd(which: str) -> None:
    net = a_net(which, test_optimizer="adam", test_rate=0.02).eval()
    batch = a_batch(net)
    queries = batch.x[SUPPORT:].transpose(0, 1)
    pairs = batch.x[:SUPPORT], Feedback(batch.target[:SUPPORT], batch.x[:SUPPORT])
    logits = net.query(net.absorb(net.start(EPISODES), *pairs), queries)
    for b in range(EPISODES):
        own = [(batch.x[s, b], int(batch.target[s, b])) for s in range(SUPPORT)]
        torch.testing.assert_close(logits[b], plain_adam(net, own, queries[b], 0.02))
    net.train()
    if isinstance(net, OML):
        net.represent.eval()
    by_sgd = a_net(which)
    found = [each.query(each.absorb(each.start(EPISODES), *pairs), queries) for each in (net, by_sgd)]
    assert torch.equal(*found)


def test_what_cannot_be_is_refused_in_a_sentence() -> None:
    with pytest.raises(ValueError, match="continual and n_way_k_shot"):
        a_net("oml", "online_few_shot", meta_loss="remember")
    net = a_net("oml", meta_loss="remember")
    batch = a_batch(net)
    one = Batch(batch.x[:, :1], batch.target[:, :1], batch.scored[:, :1], SUPPORT, batch.class_rows[:1])
    with pytest.raises(UserError, match="batch 2 or more"):
        net.episode_loss(one)
    for which in ("oml", "anml"):  # as in a stage of streams of a continual protocol
        net = a_net(which, "continual", meta_loss="remember")
        batch = a_batch(net)
        stream = Batch(batch.x, batch.target, batch.scored, len(batch.target), batch.class_rows)
        with pytest.raises(UserError, match=r"meta_loss=remember is over queries .* of which .* this stage have none"):
            net.episode_loss(stream)
