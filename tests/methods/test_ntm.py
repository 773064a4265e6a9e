"""The memory-augmented network against explicit loops over episodes, heads and slots."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils import _pytree as pytree

from harness.method.interface import Feedback, Task, leaves, state_bytes
from methods.ntm import NTM, Access
from tests.helpers.stepping import normal_stream, seeded, stepped_logits, stream_batch

GREY, COLOUR = (1, 28, 28), (3, 32, 32)
TINY: dict[str, Any] = {"units": 6, "slots": 7, "width": 3, "heads": 2}
SMALL: dict[str, dict[str, Any]] = {
    "conv": {"channels": 4, **TINY},
    "pixels, as in the source": {"features": "pixels", "resolution": 5, "sharpness": None, **TINY},
    "reads before writes": {"features": "pixels", "resolution": 5, "reads": "before", **TINY},
    "values apart from keys": {"features": "pixels", "resolution": 5, "writes": "value", **TINY},
}


def built(shape: tuple[int, int, int] = GREY, **options: Any) -> NTM:
    with seeded(3):
        return NTM(Task(5, shape, "online_few_shot"), **options)


def sigmoid(value: Any) -> Any:
    return 1 / (1 + np.exp(-value))


def numbers(module: torch.nn.Module) -> dict[str, np.ndarray]:
    return {name: each.detach().numpy() for name, each in module.named_parameters()}


def accessed(access: Access, h: np.ndarray, rows: Any, weights: Any, usage: Any) -> tuple[Any, Any, Any, Any]:
    """One access of one episode, cell by cell: rows [N, W], weights [H, N], usage [N] -> the new ones, and reads."""
    w, heads, slots, width = numbers(access), access.heads, access.slots, access.width
    keys, values, gates, sharp = np.zeros((heads, width)), np.zeros((heads, width)), np.zeros(heads), np.ones(heads)
    wrote = "value" if "value.weight" in w else "key"
    for n in range(heads):
        for j in range(width):
            keys[n, j] = np.tanh(w["key.weight"][n * width + j] @ h + w["key.bias"][n * width + j])
            values[n, j] = np.tanh(w[f"{wrote}.weight"][n * width + j] @ h + w[f"{wrote}.bias"][n * width + j])
        gates[n] = sigmoid(w["gate.weight"][n] @ h + w["gate.bias"][n])
        if access.sharpness is not None:
            sharp[n] = 1 + np.log1p(np.exp(w["sharpness.weight"][n] @ h + w["sharpness.bias"][n]))
    ranked = sorted(range(slots), key=lambda i: (usage[i], i))
    written, new = np.zeros((heads, slots)), np.array(rows)
    new[ranked[0]] = 0
    for n in range(heads):
        for i in range(slots):
            written[n, i] = gates[n] * weights[n, i] + (1 - gates[n]) * (i == ranked[n])
            for j in range(width):
                new[i, j] += written[n, i] * values[n, j]
    seen = new if access.reads == "after" else rows
    found, reads = np.zeros((heads, slots)), np.zeros((heads, width))
    for n in range(heads):
        for i in range(slots):
            lengths = np.sqrt((keys[n] @ keys[n] + 1e-6) * (seen[i] @ seen[i] + 1e-6))
            found[n, i] = np.exp(sharp[n] * (keys[n] @ seen[i]) / lengths)
        found[n] /= sum(found[n])
        for i in range(slots):
            reads[n] += found[n, i] * seen[i]
    after = [access.decay * usage[i] + sum(found[:, i]) + sum(written[:, i]) for i in range(slots)]
    return new, found, np.array(after), reads


# The memory


@pytest.mark.parametrize("sharpness", [None, 4.0])
@pytest.mark.parametrize("reads", ["after", "before"])
@pytest.mark.parametrize("writes", ["key", "value"])
def test_an_access_computes_its_equations(sharpness: float | None, reads: Any, writes: Any) -> None:
    random = np.random.default_rng(1)
    access = Access(6, 9, 4, 3, 0.9, sharpness, reads, writes).double()
    with torch.no_grad():
        for each in access.parameters():
            each.copy_(torch.from_numpy(random.normal(size=tuple(each.shape))))
    h, rows = random.normal(size=(2, 6)), random.normal(size=(2, 9, 4))
    weights, usage = random.dirichlet(np.ones(9), (2, 3)), random.uniform(size=(2, 9))
    before = {"rows": rows, "weights": weights, "usage": usage, "reads": np.zeros((2, 3, 4))}
    after, _ = access(torch.from_numpy(h), {name: torch.from_numpy(each) for name, each in before.items()})
    for b in range(2):
        expected = accessed(access, h[b], rows[b], weights[b], usage[b])
        for name, each in zip(("rows", "weights", "usage", "reads"), expected, strict=True):
            np.testing.assert_allclose(after[name][b].detach().numpy(), each, rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("options", SMALL.values(), ids=SMALL)
def test_whole_episodes_are_the_equations_step_by_step(options: dict[str, Any]) -> None:
    method = built(COLOUR, **options).double().eval()
    x, _, feedback = normal_stream(COLOUR, 8, 2, delay=2)
    with torch.no_grad():
        features = method.encode(x.flatten(0, 1).double()).unflatten(0, (8, 2)).numpy()
        answers = method.rollout(x.double(), Feedback(feedback)).numpy()
    w, units = numbers(method), 6
    for b in range(2):
        h, c, reads = np.zeros(units), np.zeros(units), np.zeros((2, 3))
        rows, weights, usage = np.full((7, 3), 1e-6), np.zeros((2, 7)), np.zeros(7)
        weights[:, 0], usage[0] = 1, 1
        for t in range(8):
            label = [float(feedback[t, b] == k) for k in range(5)]
            gates = w["inputs.weight"] @ [*features[t, b], *label] + w["inputs.bias"]
            gates = gates + w["recur.weight"] @ [*h, *reads.ravel()]
            i, f, o, g = sigmoid(gates[:6]), sigmoid(gates[6:12]), sigmoid(gates[12:18]), np.tanh(gates[18:])
            c = f * c + i * g
            h = o * np.tanh(c)
            rows, weights, usage, reads = accessed(method.access, h, rows, weights, usage)
            expected = w["classify.weight"] @ [*h, *reads.ravel()] + w["classify.bias"]
            np.testing.assert_allclose(answers[t, b], expected, rtol=1e-7, atol=1e-9)


def test_each_head_writes_to_a_slot_of_its_own_the_least_used_ones() -> None:
    """With gates shut, writes go nowhere else; only the least used slot loses what it held."""
    access = Access(5, 6, 3, 2, 0.95, None, "after", "key").double()
    with torch.no_grad():
        access.gate.weight.zero_()
        access.gate.bias.fill_(-40)
    rows = torch.randn(1, 6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    before = {**access.start(1), "rows": rows, "usage": torch.tensor([[3.0, 0.5, 2.0, 0.1, 1.0, 4.0]]).double()}
    h = torch.ones(1, 5, dtype=torch.float64)
    keys = access.key(h).tanh().view(2, 3)
    after = access(h, before)[0]["rows"][0]
    torch.testing.assert_close(after[3], keys[0])
    torch.testing.assert_close(after[1], rows[0, 1] + keys[1])
    torch.testing.assert_close(after[[0, 2, 4, 5]], rows[0, [0, 2, 4, 5]])


def test_what_is_written_is_found_by_content_later() -> None:
    """Gradient reaches keys through what is read of them steps later, and usage lets a written slot rest."""
    access = Access(5, 6, 3, 1, 0.95, 20.0, "after", "key").double()
    random = torch.Generator().manual_seed(2)
    first, other = (torch.randn(1, 5, dtype=torch.float64, generator=random) for _ in range(2))
    first.requires_grad_()
    memory = access.start(1)
    slots = []
    for each in (first, other, first.detach()):
        slots.append(int(memory["usage"].argsort(stable=True)[0, 0]))
        memory, _ = access(each, memory)
    assert len(set(slots)) == 3
    gradients = torch.autograd.grad(memory["reads"].square().sum(), [first, access.key.weight, access.gate.weight])
    assert all(each.abs().max() > 1e-6 for each in gradients)


@pytest.mark.parametrize("start", [1.5, 10.0])
def test_sharpness_starts_where_it_is_said_and_stays_above_1(start: float) -> None:
    access = Access(5, 6, 3, 2, 0.95, start, "after", "key")
    assert access.sharpness is not None
    torch.testing.assert_close(1 + torch.nn.functional.softplus(access.sharpness.bias), torch.full((2,), start))


def test_an_empty_memory_is_similar_to_nothing_and_has_finite_gradients() -> None:
    access = Access(5, 6, 3, 2, 0.95, None, "before", "key")
    h = torch.randn(2, 5, requires_grad=True, generator=torch.Generator().manual_seed(2))
    memory = access.start(2)
    for rows in (memory["rows"], torch.zeros_like(memory["rows"], requires_grad=True)):
        weights = access(h, {**memory, "rows": rows})[0]["weights"]
        torch.testing.assert_close(weights, torch.full_like(weights, 1 / 6), atol=5e-3, rtol=0)
        found = torch.autograd.grad(weights[..., 0].sum(), [h, *([rows] if rows.requires_grad else [])])
        assert all(each.isfinite().all() for each in found)


# The method


@pytest.mark.parametrize("options", SMALL.values(), ids=SMALL)
def test_rollout_gives_what_stepping_gives_in_value_and_gradient(options: dict[str, Any]) -> None:
    method = built(COLOUR, **options).double().eval()
    x, target, feedback = normal_stream(COLOUR, 7, 3, delay=2)
    gradients, values = [], []
    for logits in (stepped_logits(method, x.double(), feedback), method.rollout(x.double(), Feedback(feedback))):
        loss = method.loss(logits, stream_batch(target))
        values.append(logits)
        gradients.append(torch.autograd.grad(loss, list(method.parameters())))
    torch.testing.assert_close(values[0], values[1])
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-6)  # the loss is in single precision
    assert all(gradient.abs().sum() > 0 for gradient in gradients[0])


@pytest.mark.parametrize(("shape", "size"), [(GREY, 400), (COLOUR, 1200)])
def test_parameters_of_the_source_are_those_counted_by_hand(shape: tuple[int, int, int], size: int) -> None:
    controller = 4 * 200 * (size + 5 + 4 * 40 + 200) + 4 * 200
    heads = 4 * (40 + 1) * (200 + 1)
    method = built(shape, features="pixels", sharpness=None)
    assert sum(each.numel() for each in method.parameters()) == controller + heads + (200 + 160) * 5 + 5


@pytest.mark.parametrize("options", SMALL.values(), ids=SMALL)
def test_the_state_keeps_its_size_and_is_never_edited(options: dict[str, Any]) -> None:
    method = built(GREY, **options).eval()
    x, _, feedback = normal_stream(GREY, 6, 3)
    state = method.start(3)
    with torch.no_grad():
        for images, target in zip(x, feedback, strict=True):
            observed = method.observe(state, Feedback(target))
            copies = pytree.tree_map(torch.clone, (state, observed))
            _, after = method.predict(observed, images)
            assert all(pytree.tree_leaves(pytree.tree_map(torch.equal, copies, (state, observed))))
            # h and c, rows, read weights, usage, reads, and the label
            assert state_bytes(after) == 4 * (2 * 6 + 7 * 3 + 2 * 7 + 7 + 2 * 3) + 8
            assert all(len(leaf) == 3 for leaf in leaves(after))
            state = after


def test_a_label_enters_with_the_next_image_once() -> None:
    method = built(GREY, **SMALL["conv"]).eval()
    x, _, _ = normal_stream(GREY, 2, 3)
    null, label = torch.full((3,), -1), torch.tensor([0, 1, 2])
    with torch.no_grad():
        fresh = method.start(3)
        silent, _ = method.predict(fresh, x[0])
        labelled, after = method.predict(method.observe(fresh, Feedback(label)), x[0])
        explicit, _ = method.predict(method.observe(fresh, Feedback(null)), x[0])
        assert torch.equal(silent, explicit)
        assert (silent != labelled).any(1).all()
        unheard, _ = method.predict(after, x[1])
        null_again, _ = method.predict(method.observe(after, Feedback(null)), x[1])
        assert torch.equal(unheard, null_again)


def test_one_batch_of_episodes_can_be_learned_by_heart() -> None:
    method = built(GREY, features="pixels", resolution=5, units=32, slots=16, width=8).train()
    x, target, feedback = normal_stream(GREY, 6, 3)
    optimiser = torch.optim.Adam(method.parameters(), 1e-2)
    for _ in range(60):
        optimiser.zero_grad()
        logits = method.rollout(x, Feedback(feedback))
        method.loss(logits, stream_batch(target)).backward()
        optimiser.step()
    assert (logits.argmax(-1) == target).all()


def test_the_delay_is_not_told() -> None:
    assert not NTM.needs_label_delay
    assert not NTM.learns_by_gradient


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"features": "convs"}, "'conv' or 'pixels', not 'convs'"),
        ({"slots": 3}, "each of 4 heads writes to a slot of its own, but there are 3 slots"),
        ({"sharpness": 1.0}, "sharpness must be above 1"),
        ({"decay": 1.5}, "decay must be from 0 to 1, found 1.5"),
        ({"reads": "during"}, "'after' or 'before', not 'during'"),
        ({"writes": "both"}, "'key' or 'value', not 'both'"),
        ({"resolution": 15}, "15x15"),
    ],
)
def test_impossible_options_are_refused_with_the_reason(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        built(GREY, **options)
