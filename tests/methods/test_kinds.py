"""Support pairs, queries and single steps: what the trained methods do beyond streams, against plain loops."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils import _pytree as pytree

from harness.data.dataset import ClassTable, Dataset
from harness.episodes.source import Episodes, EpisodeSource
from harness.evaluation.evaluate import evaluate
from harness.evaluation.rollout import absorbed, step_through, training_logits
from harness.evaluation.score import metrics
from harness.method.interface import Feedback, Method, State, Task
from harness.method.registry import build_method, load_method, task_for
from harness.protocol.models import PROTOCOL, AnyProtocol
from harness.testing import tiny_dataset
from harness.training.episode_loss import episode_loss
from harness.training.interface import training_hooks
from harness.training.loop import train
from harness.training.recipe import Budget
from harness.training.state import Training
from methods.cl_lstm import CLLSTM
from methods.nn.sequence_learner import labels_with_images
from tests.helpers.stepping import seeded

SHAPES: dict[str, dict[str, Any]] = {
    "continual": {"subtasks": 3, "shots": 2, "queries": 2},
    "n_way_k_shot": {"ways": 3, "shots": 2, "queries": 2},
    "supervised": {},
}
NETS: dict[str, tuple[str, dict[str, Any]]] = {
    "cl_lstm": ("cl_lstm", {"channels": 4, "lstm": 8, "resolution": 8}),
    "cl_lstm, labels everywhere": ("cl_lstm", {"channels": 4, "lstm": 8, "resolution": 8, "labels": "all"}),
    "cl_lstm, added skip": ("cl_lstm", {"channels": 4, "lstm": 8, "resolution": 8, "skip": "add", "labels": "lstm"}),
    "lstm": ("lstm", {"channels": 4, "units": 8, "resolution": 16}),
    "lstm on pixels": ("lstm", {"features": "pixels", "units": 8, "resolution": 5}),
    "opn": ("opn", {"channels": 4}),
    "opn, cosine": ("opn", {"channels": 4, "similarity": "cosine"}),
    "ppa": ("ppa", {"channels": 4}),
    "cpm": ("cpm", {"channels": 4, "units": 8}),
    "cpm, gated": ("cpm", {"channels": 4, "units": 8, "fuse": "gate", "layer_norm": False, "write": "sparse"}),
    "matching_online": ("matching_online", {"channels": 4}),
    "matching_online, euclidean": ("matching_online", {"channels": 4, "similarity": "euclidean"}),
    "protonet": ("protonet", {"channels": 4}),
    "matching_net": ("matching_net", {"channels": 4}),
    "matching_net, full context": ("matching_net", {"channels": 4, "context": "full"}),
    "snail": ("snail", {"channels": 4, "length": 5, "width": 0.1}),
    "csn": ("csn", {"channels": 4, "key": 4}),
    "csn, shared keys": ("csn", {"channels": 4, "key": 4, "keys": "shared", "shifts": 2}),
    "apl": ("apl", {"channels": 4, "label": 3, "blocks": 1, "key": 4, "value": 4}),
    "ntm": ("ntm", {"channels": 4, "units": 8, "slots": 9, "width": 4, "heads": 2}),
    "ntm as in the source": ("ntm", {"features": "pixels", "resolution": 5, "units": 8, "sharpness": None}),
    "transformer": ("transformer", {"channels": 4, "width": 16, "layers": 2, "heads": 2}),
    "transformer, alibi": ("transformer", {"channels": 4, "width": 8, "layers": 2, "heads": 2, "positions": "alibi"}),
}
RECURRENT = [name for name in NETS if any(each in name for each in ("lstm", "ntm", "transformer"))]
QUERIED = ["continual", "n_way_k_shot"]


def protocol_of(kind: str) -> AnyProtocol:
    data = {"kind": kind, "title": "tiny", "dataset": "objects_supervised" if kind == "supervised" else "objects"}
    return PROTOCOL.validate_python({**data, "episode": SHAPES[kind]})


def life(kind: str, net: str, numbers: range = range(3)) -> tuple[Method, Episodes]:
    """A method in double precision, whose normalisation is fixed at something, and episodes of a kind."""
    name, options = NETS[net]
    protocol, source = protocol_of(kind), EpisodeSource(tiny_dataset("objects"))
    cls = load_method(name).cls
    method = build_method(cls, task_for(cls, protocol, (3, 32, 32), 8), options, seed=4)
    with seeded(5):
        for each in method.modules():
            if isinstance(each, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
                assert each.running_mean is not None
                assert each.running_var is not None
                torch.nn.init.uniform_(each.running_mean, -0.3, 0.1)
                torch.nn.init.uniform_(each.running_var, 0.5, 2)
    episodes = source.episodes(protocol, "test", 0, numbers)
    return method.double().eval(), replace(episodes, x=episodes.x.double())


def stepped(method: Method, episodes: Episodes) -> State:
    """The state after the last label, by a plain loop that knows the kinds by their phases alone."""
    plan, state = episodes.plan, method.start(episodes.target.shape[1])
    last = torch.full_like(episodes.target[0], -1)
    for t in range(plan.first_query):
        if plan.phase[t] == 0:
            state = method.observe(state, Feedback(episodes.target[t], episodes.x[t]))
        else:
            _, state = method.predict(method.observe(state, Feedback(last)), episodes.x[t])
            last = episodes.target[t]
    if plan.phase[0] != 0:
        state = method.observe(state, Feedback(last))
    return state


def one_by_one(method: Method, state: State, episodes: Episodes) -> Tensor:
    """Logits [Q, B, ways]: each query as the one step that follows the state."""
    queries = episodes.x[episodes.plan.first_query :]
    return torch.stack([method.predict(state, x)[0] for x in queries])


def assert_same(first: State, second: State) -> None:
    assert pytree.tree_structure(first) == pytree.tree_structure(second)
    for one, other in zip(pytree.tree_leaves(first), pytree.tree_leaves(second), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


# Absorbing equals stepping

# Which place of the NTM's memory is least used is the rounding's choice where two are used alike, as with the hard
# writes of "ntm as in the source": the states of two orders of computation are then each right, and not the same.
DETERMINED = [net for net in NETS if net != "ntm as in the source"]


@pytest.mark.parametrize("net", DETERMINED)
@pytest.mark.parametrize("kind", QUERIED)
def test_absorbing_leaves_the_state_that_stepping_leaves(kind: str, net: str) -> None:
    method, episodes = life(kind, net)
    state = absorbed(method, episodes)
    if kind == "continual":  # the label of the last step is still due
        state = method.observe(state, Feedback(episodes.target[episodes.plan.first_query - 1]))
    assert_same(state, stepped(method, episodes))


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("kind", QUERIED)
def test_training_is_by_what_plain_stepping_gives_in_value_and_gradient(kind: str, net: str) -> None:
    method, episodes = life(kind, net)
    weights = [each for each in method.parameters() if each.requires_grad]
    fast = episode_loss(method, episodes)
    got = torch.autograd.grad(fast, weights)
    logits = one_by_one(method, stepped(method, episodes), episodes)
    queried = episodes.target[episodes.plan.first_query :]
    plain = F.cross_entropy(logits.flatten(0, 1), queried.flatten(), reduction="sum") / 3
    # The methods' losses are in single precision.
    torch.testing.assert_close(fast.double(), plain, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(got, torch.autograd.grad(plain, weights), rtol=1e-4, atol=1e-5)
    assert all(each.any() for each in got)


@pytest.mark.parametrize("net", DETERMINED)
@pytest.mark.parametrize("pairs", [False, True])
def test_absorbing_goes_on_from_any_state(net: str, pairs: bool) -> None:
    method, episodes = life("n_way_k_shot" if pairs else "continual", net)
    x, labels = episodes.x[:6], episodes.target[:6]
    if not pairs:
        labels = torch.cat([torch.full_like(labels[:1], -1), labels[:-1]])

    def after(state: State, part: slice) -> State:
        return method.absorb(state, x[part], Feedback(labels[part], x[part] if pairs else None))

    whole = after(method.start(3), slice(0, 6))
    assert_same(after(after(method.start(3), slice(0, 2)), slice(2, 6)), whole)


# Features computed before


@pytest.mark.parametrize("net", [name for name in NETS if not name.startswith(("cl_lstm", "csn"))])
@pytest.mark.parametrize("kind", QUERIED)
def test_over_features_computed_before_the_loss_is_that_over_images(kind: str, net: str) -> None:
    method, episodes = life(kind, net)
    features = training_hooks(method).memoryless_features()
    assert features is not None
    assert features.rest is not None
    over = replace(episodes, x=features.net(episodes.x.flatten(0, 1)).unflatten(0, episodes.x.shape[:2]))
    torch.testing.assert_close(episode_loss(features.rest, over), episode_loss(method, episodes), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", QUERIED)
def test_over_features_cl_lstm_is_its_lstm_alone(kind: str) -> None:
    method, episodes = life(kind, "cl_lstm")
    assert isinstance(method, CLLSTM)
    parts = method.memoryless_features()
    assert parts.rest is not None
    features = parts.net(episodes.x.flatten(0, 1)).unflatten(0, episodes.x.shape[:2]).detach()
    loss = episode_loss(parts.rest, replace(episodes, x=features))
    moved = torch.autograd.grad(loss, list(method.parameters()), allow_unused=True)
    trained = {
        name.split(".")[0] for (name, _), each in zip(method.named_parameters(), moved, strict=True) if each is not None
    }
    assert trained == {"lstm", "classify"}
    first = episodes.plan.first_query
    before = torch.cat([torch.full_like(episodes.target[:1], -1), episodes.target[: first - 1]])
    labels = F.one_hot(before + 1, 4)[..., 1:].double()  # a label enters with the next image
    _, memory = method.lstm(torch.cat([features[:first], labels], -1))
    last = F.one_hot(episodes.target[first - 1], 3).double()
    expected = torch.zeros((), dtype=torch.float64)
    for query, target in zip(features[first:], episodes.target[first:], strict=True):
        hidden, _ = method.lstm(torch.cat([query, last], -1).unsqueeze(0), memory)
        expected += F.cross_entropy(method.classify(hidden[0]), target, reduction="sum") / 3
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-6)


def test_csn_needs_more_than_its_features() -> None:
    method, _ = life("n_way_k_shot", "csn")
    features = training_hooks(method).memoryless_features()
    assert features is not None
    assert features.rest is None


# Support pairs


@pytest.mark.parametrize("net", RECURRENT)
def test_support_pairs_are_the_stream_whose_labels_come_one_late(net: str) -> None:
    method, episodes = life("n_way_k_shot", net)
    state = method.start(3)
    for t in range(6):
        label = episodes.target[t - 1] if t else torch.full_like(episodes.target[0], -1)
        _, state = method.predict(method.observe(state, Feedback(label)), episodes.x[t])
    state = method.observe(state, Feedback(episodes.target[5]))
    assert_same(state, stepped(method, episodes))
    torch.testing.assert_close(step_through(method, episodes)[0], one_by_one(method, state, episodes))


def test_labels_of_pairs_enter_with_the_next_image() -> None:
    labels, pending = torch.tensor([[3], [1], [2]]), torch.tensor([7])
    x = torch.zeros(3, 1, 1, 2, 2)
    assert [each.tolist() for each in labels_with_images(Feedback(labels, x), pending)] == [[[7], [3], [1]], [2]]
    assert [each.tolist() for each in labels_with_images(Feedback(labels), pending)] == [[[3], [1], [2]], [-1]]


# Prototypes


@pytest.mark.parametrize(
    "path", [lambda *given: step_through(*given)[0][-6:], training_logits], ids=["stepping", "training"]
)
@pytest.mark.parametrize("net", ["opn", "opn, cosine"])
@pytest.mark.parametrize("kind", QUERIED)
def test_prototypes_are_the_plain_means_of_what_was_shown(kind: str, net: str, path: Any) -> None:
    """On support pairs a prototypical network; in continual learning the same means over the stream."""
    method, episodes = life(kind, net)
    with torch.no_grad():
        features = method.encode(episodes.x.flatten(0, 1)).unflatten(0, episodes.target.shape).numpy()
        logits = path(method, episodes)
    first, target = episodes.plan.first_query, episodes.target.numpy()
    for b in range(3):
        means = [features[:first, b][target[:first, b] == k].mean(0) for k in range(3)]
        for q, each in enumerate(features[first:, b]):
            if net == "opn":
                expected = [-((each - mean) ** 2).sum() for mean in means]
            else:
                expected = [10 * each @ mean / np.sqrt((each @ each) * (mean @ mean)) for mean in means]
            np.testing.assert_allclose(logits[q, b].numpy(), expected, rtol=1e-6, atol=1e-9)


def test_where_no_class_is_new_nothing_learns_to_tell_new_ones() -> None:
    streams, _ = life("continual", "opn")
    assert not any(each.requires_grad for each in (streams.beta, streams.gamma))
    online = build_method(load_method("opn").cls, Task(3, (3, 32, 32), "online_few_shot", 1), {"channels": 4}, 0)
    assert all(each.requires_grad for each in (online.beta, online.gamma))


# Queries


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("kind", QUERIED)
def test_a_query_is_one_more_step(kind: str, net: str) -> None:
    method, episodes = life(kind, net)
    state = stepped(method, episodes)
    copies = pytree.tree_map(torch.clone, state)
    queries = episodes.x[episodes.plan.first_query :].transpose(0, 1)
    answers = method.query(state, queries)
    torch.testing.assert_close(answers.transpose(0, 1), one_by_one(method, state, episodes))
    torch.testing.assert_close(answers, Method.query(method, state, queries))
    torch.testing.assert_close(step_through(method, episodes)[0][-6:], answers.transpose(0, 1))
    assert all(pytree.tree_leaves(pytree.tree_map(torch.equal, copies, state)))


@pytest.mark.parametrize("kind", QUERIED)
def test_queries_of_cl_lstm_are_normalised_alike_in_training_and_in_scoring(kind: str) -> None:
    """Else the net would train on queries that are normalised together, and be scored on others."""
    method, episodes = life(kind, "cl_lstm")
    state = stepped(method, episodes)
    queries = episodes.x[episodes.plan.first_query :].transpose(0, 1)
    scored, copies = method.query(state, queries), [each.clone() for each in method.buffers()]
    torch.testing.assert_close(method.train().query(state, queries), scored)
    assert all(map(torch.equal, copies, method.buffers()))


# Supervised: one step


@pytest.mark.parametrize("net", RECURRENT)
def test_a_single_step_is_the_same_at_once_and_stepped(net: str) -> None:
    method, episodes = life("supervised", net, range(16))
    weights = list(method.parameters())
    answers, gradients = [], []
    for logits in (step_through(method, episodes)[0], training_logits(method, episodes)):
        loss = F.cross_entropy(logits[0], episodes.target[0])
        answers.append(logits)
        # Weights that see only the empty memory are left out of the graph, or get zeros.
        found = torch.autograd.grad(loss, weights, allow_unused=True)
        gradients.append([torch.zeros_like(w) if g is None else g for g, w in zip(found, weights, strict=True)])
    torch.testing.assert_close(answers[0], answers[1])
    torch.testing.assert_close(gradients[0], gradients[1])


def test_cl_lstm_learns_ordinary_classification(tmp_path: Path) -> None:
    """Three classes that differ by brightness under noise, through the trainer, without a validation split."""
    card = replace(
        tiny_dataset("objects_supervised").card,
        classes={"train": 3, "test": 3},
        images_per_class={"train": 20, "test": 20},
        image_shape=(3, 8, 8),
    )
    random = np.random.default_rng(0)
    level = np.tile(np.repeat([40, 120, 200], 20), 2)[:, None, None, None]
    pixels = np.clip(level + random.normal(0, 30, (120, 3, 8, 8)), 0, 255).astype(np.uint8)
    tables = {
        split: ClassTable(
            ("dark", "grey", "bright"),
            np.arange(4, dtype=np.int64) * 20,
            np.arange(60, dtype=np.int32) + 60 * place,
            np.zeros(3, np.int8),
        )
        for place, split in enumerate(("train", "test"))
    }
    source = EpisodeSource(Dataset(card, pixels, tuple(map(str, range(120))), tables, "none", "noise"))
    protocol = protocol_of("supervised")
    method = build_method(CLLSTM, Task(3, (3, 8, 8), "supervised"), {"channels": 8, "lstm": 16, "labels": "lstm"}, 0)
    budget = Budget.model_validate(
        {"batch": 20, "optimizer": {"lr": 1e-2}, "stages": [{"name": "all", "episodes": 900, "schedule": "cosine"}]}
    )
    before = metrics(protocol, evaluate(method, source, protocol, "test", 60))["accuracy"][0]
    train(Training(method, source, protocol, budget, 0, tmp_path / "checkpoint.safetensors", {}))
    assert metrics(protocol, evaluate(method, source, protocol, "test", 60))["accuracy"][0] > before + 20
