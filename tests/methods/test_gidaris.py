"""The generator of classifier weights against NumPy loops, and what training is told."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from harness.episodes.source import EpisodeSource
from harness.evaluation.rollout import training_logits
from harness.method.interface import Feedback, Task
from harness.protocol.models import PROTOCOL
from harness.testing import tiny_dataset
from harness.training.episode_loss import batch_of, episode_loss
from methods.gidaris import Gidaris
from methods.nn.novelty import UNSEEN
from tests.helpers.stepping import noise_stream, perturb, seeded, stream_batch

WAYS, EPISODES, BASE = 3, 2, 6


def built(delay: int | None = 1, kind: str = "delayed_label", size: int = 16, **options: Any) -> Gidaris:
    with seeded(7):
        net = Gidaris(Task(WAYS, (1, size, size), kind, delay, BASE), channels=5, **options)
        perturb(net.parameters(), 0.2)
    return net.double().eval()


def stream(delay: int, steps: int = 9) -> tuple[Tensor, Tensor, Tensor]:
    """Noise x [T, B, C, H, W], targets and feedback [T, B]."""
    return noise_stream(delay, steps, WAYS, EPISODES)


def unit(v: np.ndarray) -> np.ndarray:
    return v / np.sqrt((v * v).sum())


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(unit(a) @ unit(b))


def generated(values: dict[str, np.ndarray], shown: list[np.ndarray], base: list[int]) -> np.ndarray:
    """The weights of a class with labelled features `shown`, attending to the training classes `base`."""
    total = np.zeros_like(shown[0])
    for feature in shown:
        total += values["average"] * unit(feature) / len(shown)
        if "keys" in values:
            query_features = values["ask.weight"] @ unit(feature) + values["ask.bias"]
            scores = np.array([values["sharpness"] * cosine(query_features, values["keys"][b]) for b in base])
            chance = np.exp(scores) / np.exp(scores).sum()
            for share, b in zip(chance, base, strict=True):
                total += values["attended"] * share * unit(values["base.weight"][b]) / len(shown)
    return total


def log_chances(net: Gidaris, query: np.ndarray, shown: list[list[np.ndarray]], base: list[int]) -> list[float]:
    """Log-probabilities of the new classes among themselves and the training classes; UNSEEN without labels."""
    values = {name: each.numpy() for name, each in net.state_dict().items()}
    tau = float(values["base.scale"])
    new = [tau * cosine(query, generated(values, each, base)) if each else None for each in shown]
    old = [tau * cosine(query, values["base.weight"][b]) for b in base]
    every = np.log(sum(np.exp(each) for each in [*old, *new] if each is not None))
    return [UNSEEN if each is None else each - every for each in new]


@pytest.mark.parametrize("delay", [1, 3])
@pytest.mark.parametrize("attention", [True, False])
def test_answers_are_those_of_generated_weights(delay: int, attention: bool) -> None:
    net = built(delay, attention=attention)
    x, target, feedback = stream(delay)
    with torch.no_grad():
        features = net.backbone(x.flatten(0, 1)).unflatten(0, x.shape[:2]).numpy()
        state, stepped = net.start(EPISODES), []
        for images, label in zip(x, feedback, strict=True):
            logits, state = net.predict(net.observe(state, Feedback(label)), images)
            stepped.append(logits.numpy())
        rolled = net.rollout(x, Feedback(feedback)).numpy()
    for t in range(len(x)):
        for b in range(EPISODES):
            past = range(t - delay + 1)
            shown = [[features[i, b] for i in past if target[i, b] == k] for k in range(WAYS)]
            wanted = log_chances(net, features[t, b], shown, list(range(BASE)))
            np.testing.assert_allclose(stepped[t][b], wanted, rtol=1e-8)
            np.testing.assert_allclose(rolled[t, b], wanted, rtol=1e-8)


def test_classes_that_pass_for_new_are_not_looked_up() -> None:
    net = built(None, "n_way_k_shot")
    x, target, _ = stream(1)
    queries = stream(2)[0].transpose(0, 1)
    net = net.without_classes(torch.tensor([[4, 0, 1], [2, 5, 3]]))
    with torch.no_grad():
        state = net.absorb(net.start(EPISODES), x, Feedback(target, x))
        logits = net.query(state, queries).numpy()
        features = net.backbone(x.flatten(0, 1)).unflatten(0, x.shape[:2]).numpy()
        query_features = net.backbone(queries.flatten(0, 1)).unflatten(0, queries.shape[:2]).numpy()
    for b, base in enumerate(([2, 3, 5], [0, 1, 4])):
        shown = [[features[i, b] for i in range(len(x)) if target[i, b] == k] for k in range(WAYS)]
        for q, query in enumerate(query_features[b]):
            np.testing.assert_allclose(logits[b, q], log_chances(net, query, shown, base), rtol=1e-8)


def test_training_tells_which_classes_an_episode_has_and_nothing_else_does() -> None:
    data = {"kind": "n_way_k_shot", "title": "tiny", "dataset": "objects"}
    protocol = PROTOCOL.validate_python({**data, "episode": {"ways": WAYS, "shots": 1, "queries": 2}})
    source = EpisodeSource(tiny_dataset("objects"))
    classes = len(source.dataset.tables["train"].names)
    net = Gidaris(Task(WAYS, (3, 32, 32), "n_way_k_shot", None, classes), channels=5)
    episodes = source.episodes(protocol, "train", 0, [3, 5])
    without = net.without_classes(torch.from_numpy(episodes.plan.classes))
    found, wanted = (episode_loss(net, episodes), net.loss(training_logits(without, episodes), batch_of(episodes)))
    torch.testing.assert_close(found, wanted)
    assert not torch.equal(found, net.loss(training_logits(net, episodes), batch_of(episodes)))


def test_the_loss_is_the_log_probability_among_all_classes() -> None:
    net = built()
    chances = torch.rand(4, 2, WAYS + 3).softmax(-1).log()
    logits = chances[..., :WAYS].clone()
    target = torch.randint(0, WAYS, (4, 2))
    logits[0, 0, target[0, 0]] = UNSEEN  # a first presentation
    scored = torch.ones(4, 2, dtype=torch.bool)
    scored[3] = False
    every = F.nll_loss(chances.flatten(0, 1), target.flatten(), reduction="none").view(4, 2)
    every[0, 0] = every[3] = 0
    torch.testing.assert_close(net.loss(logits, stream_batch(target, scored)), every.sum() / 2)


def test_episodes_leave_the_weights_of_the_training_classes_alone() -> None:
    net = built().train()
    x, target, feedback = stream(1)
    net.loss(net.rollout(x, Feedback(feedback)), stream_batch(target)).backward()
    assert net.base.weight.grad is None
    assert all(each.grad is not None for name, each in net.named_parameters() if name != "base.weight")
