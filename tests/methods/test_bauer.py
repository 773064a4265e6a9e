"""The most probable softmax weights against a general optimiser run to convergence, episode by episode."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from harness.method.interface import Feedback, Task
from methods.bauer import Bauer
from methods.nn.novelty import UNSEEN
from methods.nn.softmax_map import fitted
from tests.helpers.stepping import seeded


def minimised(features: Tensor, target: Tensor, ways: int, mean: Tensor, variance: float) -> Tensor:
    """Weights [ways, D] of one episode: L-BFGS on the objective as it is written down, the mean of the prior in it."""
    weights = mean.repeat(ways, 1).requires_grad_()
    seen = torch.zeros(ways, dtype=torch.bool)
    seen[target[target >= 0]] = True
    solver = torch.optim.LBFGS([weights], max_iter=2000, tolerance_grad=1e-12, tolerance_change=1e-16, history_size=50)
    solver.param_groups[0]["line_search_fn"] = "strong_wolfe"

    def objective() -> Tensor:
        solver.zero_grad()
        logits = (features @ weights.T).masked_fill(~seen, -torch.inf)
        fit = F.cross_entropy(logits[target >= 0], target[target >= 0], reduction="sum")
        value = fit + (weights - mean).square().sum() / (2 * variance)
        value.backward()
        return value

    solver.step(objective)
    return weights.detach()


def problem(episodes: int, count: int, ways: int, size: int) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(count)
    features = torch.randn(episodes, count, size, generator=random).double().relu()
    return features, torch.randint(0, ways, (episodes, count), generator=random)


@pytest.mark.parametrize(("count", "ways", "size"), [(5, 5, 12), (25, 5, 40), (40, 20, 16)])
@pytest.mark.parametrize("variance", [0.003, 0.05, 1.0])
def test_the_fit_is_the_minimum_that_a_general_optimiser_finds(
    count: int, ways: int, size: int, variance: float
) -> None:
    features, target = problem(3, count, ways, size)
    target[1, ::4] = -1
    mean = 0.3 * torch.randn(size, generator=torch.Generator().manual_seed(1)).double()
    found = fitted(features, target, ways, 1 / variance, 100) @ features
    for b in range(3):
        expected = minimised(features[b], target[b], ways, mean, variance) - mean
        torch.testing.assert_close(found[b], expected, rtol=2e-3, atol=2e-4)


@pytest.mark.slow
def test_the_solver_comes_as_near_as_its_steps_allow() -> None:
    features, target = problem(2, 25, 5, 30)
    exact = fitted(features, target, 5, 2.0, 2000)
    errors = [float((fitted(features, target, 5, 2.0, steps) - exact).abs().max()) for steps in (10, 40, 160)]
    assert errors[0] > 5 * errors[1] > 25 * errors[2]


def test_nothing_labelled_gives_no_weights() -> None:
    none = torch.zeros(2, 0, 7).double()
    assert fitted(none, torch.zeros(2, 0, dtype=torch.int64), 3, 1.0, 5).shape == (2, 3, 0)
    features, target = problem(2, 6, 3, 4)
    assert not fitted(features, torch.full_like(target, -1), 3, 1.0, 5).any()


def built(delay: int | None = 1, kind: str = "delayed_label", **options: Any) -> Bauer:
    with seeded(3):
        return Bauer(Task(4, (1, 16, 16), kind, delay, 30), channels=6, **options).double().eval()


def test_the_prior_is_fitted_to_the_layer_of_the_training_classes() -> None:
    net = built()
    rows = net.base.weight.detach().numpy()
    assert rows.shape == (30, 6)
    assert float(net.variance()) == pytest.approx(((rows - rows.mean(0)) ** 2).sum() / rows.size)
    assert built(variance=0.7).variance() == 0.7


@pytest.mark.slow
@pytest.mark.parametrize("delay", [1, 3])
def test_each_answer_of_a_stream_is_fitted_to_all_labels_so_far(delay: int) -> None:
    net = built(delay, variance=5.0, steps=400)
    random = torch.Generator().manual_seed(2)
    x = torch.rand(8, 2, 1, 16, 16, generator=random).double()
    target = torch.randint(0, 4, (8, 2), generator=random)
    with torch.no_grad():
        features = net.backbone(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        state = net.start(2)
        for t in range(8):
            label = target[t - delay] if t >= delay else torch.full((2,), -1)
            logits, state = net.predict(net.observe(state, Feedback(label)), x[t])
            for b in range(2):
                known = max(0, t - delay + 1)
                with torch.enable_grad():
                    mean = torch.zeros(net.dim).double()
                    weights = minimised(features[:known, b], target[:known, b], 4, mean, 5.0) if known else mean
                for k in range(4):
                    if k in target[:known, b]:
                        assert float(logits[b, k]) == pytest.approx(float(features[t, b] @ weights[k]), abs=2e-3)
                    else:
                        assert logits[b, k] == UNSEEN
