"""LLAMA against exact curvature, and against a plain loop over episodes, images and classes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from harness.evaluation.rollout import step_through
from harness.method.interface import Task
from harness.training.episode_loss import episode_loss
from harness.training.interface import Batch
from harness.util.errors import UserError
from methods.llama import LLAMA
from methods.maml import MAML
from methods.nn import inner_loop
from methods.nn.curvature import factors, log_determinant
from tests.helpers.maml import (
    EPISODES,
    WAYS,
    assert_nearly,
    k_shot_protocol,
    meta_gradients,
    plain_loss,
    plain_step,
    scale_and_shift,
    some_episodes,
    start_weights,
)
from tests.helpers.stepping import seeded

SMALL: dict[str, Any] = {"channels": 3, "inner_lr": 0.3, "inner_steps": 2, "resolution": 16, "eta": 0.01}
FEW = 6
"""Support images of an episode."""


def a_llama(**options: Any) -> LLAMA:
    """In double precision and training."""
    with seeded(4):
        return LLAMA(Task(WAYS, (1, 28, 28), "n_way_k_shot"), **{**SMALL, **options}).double().train()


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


def own(net: MAML) -> dict[str, Tensor]:
    return {name: each.detach()[None] for name, each in net.learner.named_parameters()}


def test_of_one_item_the_classifiers_factors_are_its_exact_curvature() -> None:
    net, x, label = a_llama(net="dense", norm="layer"), drawn(1, 1, 1, 16, 16), torch.tensor([[1]])
    ((inputs, outputs),) = factors(net.learner, own(net), x, label, "expected", True)
    features, _ = net.learner.body(x[0])

    def loss(flat: Tensor) -> Tensor:
        weight = flat.view(WAYS, -1)
        return F.cross_entropy(features @ weight[:, :-1].T + weight[:, -1], label[0])

    classify = net.learner.classify
    flat = torch.cat([classify.weight, classify.bias[:, None]], 1).flatten()
    exact = torch.func.hessian(loss)(flat.detach())
    torch.testing.assert_close(torch.kron(outputs[0], inputs[0]), exact)


@pytest.mark.parametrize("layer", range(4))
def test_of_one_item_every_dense_layers_factors_are_the_gauss_newton_matrix(layer: int) -> None:
    net, x = a_llama(net="dense", norm="layer"), drawn(1, 1, 1, 16, 16)
    name = f"body.maps.{layer}.weight"
    weights = {key: each[0] for key, each in own(net).items()}
    inputs, outputs = factors(net.learner, own(net), x, torch.zeros(1, 1, dtype=torch.int64), "expected", False)[layer]

    def logits(weight: Tensor) -> Tensor:
        return torch.func.functional_call(net.learner, {**weights, name: weight}, (x[0],))[0][0]

    # Of three outputs of the layer.
    jacobian = torch.func.jacrev(logits)(weights[name])[:, :3].flatten(1)
    probabilities = logits(weights[name]).softmax(0)
    middle = torch.diag(probabilities) - torch.outer(probabilities, probabilities)
    exact = jacobian.T @ middle @ jacobian
    torch.testing.assert_close(torch.kron(outputs[0, :3, :3], inputs[0]), exact, rtol=1e-6, atol=1e-12)


def test_the_log_determinant_is_that_of_the_damped_kronecker_products() -> None:
    layers, expected = [], torch.zeros(2, dtype=torch.float64)
    for into, out in ((4, 3), (2, 5)):
        pair = []
        for size in (into, out):
            root = drawn(2, size, 2)
            pair.append(root @ root.transpose(1, 2))
        layers.append((pair[0], pair[1]))
        for b in range(2):
            damped = [7**0.5 * each[b] + 0.6**0.5 * torch.eye(len(each[b])) for each in pair]
            expected[b] += torch.logdet(torch.kron(*damped))
    torch.testing.assert_close(log_determinant(layers, 7, 0.6), expected)


def plain_layers(net: LLAMA, weights: dict[str, Tensor], x: Tensor, labels: Tensor) -> list[tuple[Tensor, Tensor]]:
    """A and G of each layer for one episode, from gradients an image, a class and a place at a time."""
    x = F.adaptive_avg_pool2d(x, 16)
    dense = weights["body.maps.0.weight"].dim() == 2
    x = x.flatten(1) if dense else x
    entered, drives = [], []
    for layer in range(4):
        entered.append(x)
        drive = x @ weights[f"body.maps.{layer}.weight"].T if dense else None
        if drive is None:
            drive = F.conv2d(x, weights[f"body.maps.{layer}.weight"], padding=1)
        drives.append(drive)
        over = [0] if dense else [0, 2, 3]
        mean, variance = drive.mean(over, keepdim=True), drive.var(over, keepdim=True, correction=0)
        shape = mean.shape
        scale, shift = scale_and_shift(weights, layer, shape)
        x = ((drive - mean) / (variance + 1e-5).sqrt() * scale + shift).relu()
        x = x if dense else F.max_pool2d(x, 2)
    entered.append(torch.cat([x.flatten(1), x.new_ones(len(x), 1)], 1))
    logits = entered[-1] @ torch.cat([weights["classify.weight"], weights["classify.bias"][:, None]], 1).T
    probabilities, sure = logits.softmax(1), torch.eye(WAYS, dtype=torch.float64)
    if net.fisher == "empirical":
        seeds = [probabilities - sure[labels]]
    else:
        seeds = [probabilities[:, [way]].sqrt() * (probabilities - sure[way]) for way in range(WAYS)]
    found = []
    for entering, drive in zip(entered, [*drives, None], strict=True):
        if drive is None:
            outer = sum(torch.outer(row, row) for seed in seeds for row in seed) / len(entering)
            inputs = sum(torch.outer(row, row) for row in entering) / len(entering)
        else:
            outer = drive.new_zeros(drive.shape[1], drive.shape[1])
            for seed in seeds:
                (gradient,) = torch.autograd.grad(logits, drive, seed.detach(), retain_graph=True)
                places = gradient.movedim(1, -1).reshape(-1, drive.shape[1])
                outer += sum(torch.outer(row, row) for row in places) / len(places)
            rows = entering
            if entering.dim() == 4:
                padded = F.pad(entering, (1, 1, 1, 1))
                sides = [(i, j) for i in range(entering.shape[2]) for j in range(entering.shape[3])]
                rows = torch.cat([padded[:, :, i : i + 3, j : j + 3].flatten(1) for i, j in sides])
            inputs = rows.T @ rows / len(entering)
        found.append((inputs, outer))
    return found[-1:] if net.layers == "last" else found  # type: ignore[return-value]


CASES: dict[str, dict[str, Any]] = {
    "conv": {},
    "conv, true labels": {"fisher": "empirical", "rate": "layer"},
    "conv, the classifier alone": {"layers": "last", "precision": 0.3},
    "conv, as the source of MAML normalises": {"norm": "source"},
    "dense, first order": {"net": "dense", "first_order": True},
}


@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
def test_training_minimises_mamls_loss_and_the_weighed_log_determinant(options: dict[str, Any]) -> None:
    net, episodes = a_llama(**options), some_episodes(k_shot_protocol())
    wanted, flat = plain_loss(net, episodes, 2), torch.zeros((), dtype=torch.float64)
    for b in range(EPISODES):
        weights = start_weights(net)
        x, labels = episodes.x[:FEW, b], episodes.target[:FEW, b]
        for _ in range(2):
            weights = plain_step(net, weights, x, labels)
        for inputs, outer in plain_layers(net, weights, x, labels):
            for each, times in ((inputs, len(outer)), (outer, len(inputs))):
                damped = FEW**0.5 * each + net.precision**0.5 * torch.eye(len(each))
                flat = flat + times * torch.logdet(damped) / EPISODES
    found = episode_loss(net, episodes)
    assert_nearly(found.double(), wanted + net.eta * flat)
    assert abs(float((net.eta * flat).detach())) > 0.02
    assert_nearly(meta_gradients(net, found), meta_gradients(net, wanted + net.eta * flat))


def test_without_the_term_it_is_maml_and_its_answers_are_always() -> None:
    episodes = some_episodes(k_shot_protocol())
    net, plain = (
        a_llama(eta=0.0),
        MAML(Task(WAYS, (1, 28, 28), "n_way_k_shot"), channels=3, inner_lr=0.3, resolution=16),
    )
    plain.double().load_state_dict(net.state_dict())
    plain.steps = net.steps
    torch.testing.assert_close(episode_loss(net, episodes), episode_loss(plain, episodes))
    net = a_llama(eta=1.0)
    torch.testing.assert_close(step_through(net.eval(), episodes), step_through(plain.eval(), episodes))


def test_the_factors_of_an_episode_are_its_own() -> None:
    net, x, labels = a_llama(), drawn(3, 4, 1, 16, 16), torch.tensor([[0, 1, 2, 1]] * 3)
    weights = {
        name: each + 0.1 * drawn(*each.shape) for name, each in inner_loop.per_episode_weights(net.learner, 3).items()
    }
    whole = factors(net.learner, weights, x, labels, "expected", False)
    alone = factors(net.learner, {n: e[1:2] for n, e in weights.items()}, x[1:2], labels[1:2], "expected", False)
    for both, one in zip(whole, alone, strict=True):
        torch.testing.assert_close([each[1:2] for each in both], list(one))


def test_a_stage_without_queries_is_refused_in_a_sentence() -> None:
    batch = Batch(torch.rand(6, 2, 1, 16, 16), torch.zeros(6, 2).long(), torch.ones(6, 2).bool(), 6, torch.zeros(2, 3))
    with pytest.raises(UserError, match="the loss of LLAMA is over queries"):
        LLAMA(Task(3, (1, 16, 16), "n_way_k_shot"), channels=4).episode_loss(batch)


@pytest.mark.parametrize("last_only", [False, True])
def test_answers_that_are_certain_have_a_finite_gradient(last_only: bool) -> None:
    net, x, labels = a_llama().float(), drawn(1, 3, 1, 16, 16).float(), torch.tensor([[0, 1, 2]])
    with torch.no_grad():
        net.learner.classify.bias[0] = 200  # all other probabilities are 0 in single precision
    weights = {name: each.detach().requires_grad_() for name, each in own(net).items()}
    found = log_determinant(factors(net.learner, weights, x, labels, "expected", last_only), 3, 1.0)
    gradients = torch.autograd.grad(found.sum(), list(weights.values()), materialize_grads=True)
    assert all(each.isfinite().all() for each in gradients)
