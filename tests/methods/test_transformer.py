"""The in-context learner against explicit loops over episodes, steps, heads and pairs of tokens."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from harness.evaluation.operations import Operations
from harness.method.interface import Feedback, Method, Task, leaves, state_bytes
from methods.transformer import Transformer, _rotated
from tests.helpers.stepping import normal_stream, seeded, stepped, stream_batch

GREY, COLOUR = (1, 28, 28), (3, 32, 32)
TINY: dict[str, Any] = {"width": 16, "layers": 2, "heads": 2}
POSITIONS = ["rotary", "alibi", "none"]


def built(shape: tuple[int, int, int] = GREY, **options: Any) -> Transformer:
    with seeded(3):
        return Transformer(Task(5, shape, "online_few_shot"), **options)


def tiny(positions: str = "rotary", shape: tuple[int, int, int] = GREY, **options: Any) -> Transformer:
    return built(shape, **{"features": "pixels", "resolution": 5, **TINY, "positions": positions, **options}).eval()


def normalised(x: np.ndarray, w: dict[str, np.ndarray], name: str) -> np.ndarray:
    return (x - x.mean()) / np.sqrt(x.var() + 1e-5) * w[f"{name}.weight"] + w[f"{name}.bias"]


def turned(x: np.ndarray, step: int) -> np.ndarray:
    """The first half of x [D], read as D / 4 complex numbers, times exp(i step 100^(-j / (D / 4)))."""
    pairs = len(x) // 4
    out = np.array(x)
    for j in range(pairs):
        number = complex(x[j], x[pairs + j]) * np.exp(1j * step * 100.0 ** (-j / pairs))
        out[j], out[pairs + j] = number.real, number.imag
    return out


def gelu(x: np.ndarray) -> np.ndarray:
    return torch.nn.functional.gelu(torch.from_numpy(x)).numpy()


def answers_of_one(method: Transformer, features: np.ndarray, labels: list[int]) -> np.ndarray:
    """Logits [T, ways] of one episode with features [T, D], one token, head and earlier token at a time."""
    w = {name: each.detach().numpy() for name, each in method.named_parameters()}
    heads, (layers, width) = method.heads, method.memory
    share = width // heads
    tokens = [
        w["enter.weight"] @ f + w["enter.bias"] + w["label.weight"][k + 1]
        for f, k in zip(features, labels, strict=True)
    ]
    for layer in range(layers):
        p, after = f"blocks.{layer}", []
        qkv = [w[f"{p}.project.weight"] @ normalised(t, w, f"{p}.before") + w[f"{p}.project.bias"] for t in tokens]
        for t, token in enumerate(tokens):
            mixed = np.zeros(width)
            for n in range(heads):
                mine = slice(n * share, (n + 1) * share)
                scores = []
                for s in range(t + 1):
                    query, key = qkv[t][:width][mine], qkv[s][width : 2 * width][mine]
                    if method.positions == "rotary":
                        query, key = turned(query, t), turned(key, s)
                    scores.append(query @ key / np.sqrt(share))
                    if method.positions == "alibi":
                        scores[-1] -= 2.0 ** (-8 * (n + 1) / heads) * (t - s)
                weights = np.exp(scores) / np.exp(scores).sum()
                mixed[mine] = sum(a * qkv[s][2 * width :][mine] for s, a in enumerate(weights))
            token = token + w[f"{p}.merge.weight"] @ mixed + w[f"{p}.merge.bias"]
            hidden = gelu(w[f"{p}.widen.weight"] @ normalised(token, w, f"{p}.between") + w[f"{p}.widen.bias"])
            after.append(token + w[f"{p}.narrow.weight"] @ hidden + w[f"{p}.narrow.bias"])
        tokens = after
    return np.stack([w["classify.weight"] @ normalised(t, w, "norm") + w["classify.bias"] for t in tokens])


@pytest.mark.parametrize("positions", POSITIONS)
def test_answers_are_causal_attention_token_by_token(positions: str) -> None:
    method = tiny(positions, COLOUR).double()
    with torch.no_grad():
        for each in method.parameters():
            each.add_(0.3 * torch.randn(each.shape, generator=torch.Generator().manual_seed(each.numel())).double())
        x, _, feedback = normal_stream(COLOUR, 7, 2, delay=2)
        features = method.encode(x.flatten(0, 1).double()).unflatten(0, (7, 2)).numpy()
        answers = method.rollout(x.double(), Feedback(feedback)).numpy()
    for b in range(2):
        expected = answers_of_one(method, features[:, b], feedback[:, b].tolist())
        np.testing.assert_allclose(answers[:, b], expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("features", ["conv", "pixels"])
def test_rollout_gives_what_stepping_with_the_cache_gives_in_value_and_gradient(positions: str, features: str) -> None:
    resolution = 16 if features == "conv" else 5
    method = tiny(positions, COLOUR, features=features, channels=4, resolution=resolution).double()
    x, target, feedback = normal_stream(COLOUR, 7, 3, delay=2)
    gradients, values = [], []
    for logits in (stepped(method, x.double(), feedback)[0], method.rollout(x.double(), Feedback(feedback))):
        loss = method.loss(logits, stream_batch(target))
        values.append(logits)
        gradients.append(torch.autograd.grad(loss, list(method.parameters())))
    torch.testing.assert_close(values[0], values[1])
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-6)  # the loss is in single precision
    assert all(gradient.abs().sum() > 0 for gradient in gradients[0])


@pytest.mark.parametrize("positions", POSITIONS)
def test_a_query_sees_the_cache_and_itself_alone(positions: str) -> None:
    method = tiny(positions).double()
    x, _, feedback = normal_stream(GREY, 9, 3)
    with torch.no_grad():
        _, state = stepped(method, x[:5].double(), feedback[:5])
        state = method.observe(state, Feedback(torch.tensor([4, 0, 2])))
        queries = x[5:].transpose(0, 1).double()
        answers = method.query(state, queries)
        for q in range(4):
            torch.testing.assert_close(answers[:, q], method.predict(state, queries[:, q])[0])
        torch.testing.assert_close(answers, Method.query(method, state, queries))


def test_queries_do_not_copy_the_cache() -> None:
    """A query's operations beyond its own token are two products with the cache, and nothing is Q caches large."""
    method = tiny(width=32, layers=1)
    largest = 0

    class Watch(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            if isinstance(out, Tensor):
                largest = max(largest, out.untyped_storage().nbytes())
            return out

    random = torch.Generator().manual_seed(0)
    keys, values = (torch.randn(2, 1, 100, 32, generator=random) for _ in range(2))
    state = {**method.start(2), "keys": keys, "values": values}
    with torch.no_grad(), Watch():
        method.query(state, torch.randn(2, 50, *GREY, generator=random))
    assert 0 < largest < 4 * 2 * 50 * 100 * 32 / 2


@pytest.mark.parametrize("positions", POSITIONS)
def test_only_distances_between_steps_count(positions: str) -> None:
    """The attention of the same tokens is the same however far the episode has gone: nothing is unknown later."""
    method = tiny(positions).double()
    tokens = torch.randn(1, 4, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    scores = []
    for past in (0, 37, 1000):
        query, key, _ = method.blocks[0].projected(tokens, method._rotations(past, 4, tokens))
        scores.append(query @ key.transpose(-1, -2) + method._bias(past, 4, tokens)[..., past:])
    torch.testing.assert_close(scores[0], scores[1])
    torch.testing.assert_close(scores[0], scores[2])
    moved = (query[..., 1:, :] @ key[..., :-1, :].transpose(-1, -2)).diagonal(dim1=-2, dim2=-1)
    assert bool((moved.std() > 0).all())


def test_rotary_positions_can_pick_out_one_distance_and_alibi_cannot() -> None:
    """Equal tokens, so that position alone decides: a query can peak at any distance it wants."""
    rotary = tiny("rotary", width=32).double()
    query = torch.zeros(1, 1, 1, 16, dtype=torch.float64)
    query[..., :4] = 1
    for wanted in (1, 2, 5):
        past, now = rotary._rotations(0, 30, query), rotary._rotations(29 - wanted, 1, query)
        assert past is not None
        assert now is not None
        keys, at = _rotated(query.expand(1, 1, 30, 16), past), _rotated(query, now)
        assert int((at @ keys.transpose(-1, -2)).argmax()) == 29 - wanted
    bias = tiny("alibi")._bias(29, 1, query)[0, :, 0]
    assert (bias.diff(dim=-1) > 0).all()


def test_parameters_are_those_counted_by_hand() -> None:
    convs = 9 * 64 + 3 * 9 * 64 * 64 + 4 * (64 + 2 * 64)
    block = 2 * 2 * 128 + (128 + 1) * 3 * 128 + (128 + 1) * 128 + (128 + 1) * 512 + (512 + 1) * 128
    total = convs + (64 + 1) * 128 + 6 * 128 + 4 * block + 2 * 128 + (128 + 1) * 5
    assert sum(each.numel() for each in built(GREY).parameters()) == total


def test_the_state_grows_by_two_vectors_a_layer_and_step_and_is_never_edited() -> None:
    method = tiny()
    x, _, feedback = normal_stream(GREY, 6, 3)
    state = method.start(3)
    with torch.no_grad():
        for t, (images, target) in enumerate(zip(x, feedback, strict=True)):
            observed = method.observe(state, Feedback(target))
            copies = pytree.tree_map(torch.clone, (state, observed))
            _, after = method.predict(observed, images)
            assert all(pytree.tree_leaves(pytree.tree_map(torch.equal, copies, (state, observed))))
            assert state_bytes(after) == 8 + (t + 1) * 2 * 2 * 16 * 4
            assert all(len(leaf) == 3 for leaf in leaves(after))
            state = after


def test_a_step_costs_little_more_than_its_own_token() -> None:
    """With the cache a step does not go through the past tokens again."""
    method = tiny(width=32)
    x, _, feedback = normal_stream(GREY, 40, 1)
    costs = []
    with torch.no_grad():
        state = method.start(1)
        for images, target in zip(x, feedback, strict=True):
            with Operations() as counter:
                _, state = method.predict(method.observe(state, Feedback(target)), images)
            costs.append(counter.total)
    attended = 2 * 2 * 2 * 32  # two layers, two products, two operations each
    assert all(after - before == attended for before, after in itertools.pairwise(costs))


def test_one_batch_of_episodes_can_be_learned_by_heart() -> None:
    method = tiny(width=32).train()
    x, target, feedback = normal_stream(GREY, 8, 4)
    optimiser = torch.optim.Adam(method.parameters(), 3e-3)
    for _ in range(80):
        optimiser.zero_grad()
        logits = method.rollout(x, Feedback(feedback))
        method.loss(logits, stream_batch(target)).backward()
        optimiser.step()
    assert (logits.argmax(-1) == target).all()


def test_the_delay_is_not_told() -> None:
    assert not Transformer.needs_label_delay
    assert not Transformer.learns_by_gradient


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"features": "convs"}, "'conv' or 'pixels', not 'convs'"),
        ({"heads": 3}, "with 3 heads and positions=rotary, width must be a multiple of 12"),
        ({"heads": 3, "positions": "alibi"}, "with 3 heads and positions=alibi, width must be a multiple of 3"),
        ({"positions": "learned"}, "'rotary', 'alibi' or 'none', not 'learned'"),
        ({"resolution": 15}, "15x15"),
    ],
)
def test_impossible_options_are_refused_with_the_reason(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        built(GREY, **options)
