"""The LSTM baseline against torch's own LSTM, plain formulas, counts by hand and its two ways of running."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils import _pytree as pytree

from harness.method.interface import Feedback, Task, leaves, state_bytes
from methods.lstm import LSTM
from methods.nn.lstm_cell import LayerNormLSTM
from tests.helpers.stepping import normal_stream, seeded, stepped_logits, stream_batch

GREY, COLOUR = (1, 28, 28), (3, 32, 32)
SMALL: dict[str, dict[str, Any]] = {
    "conv": {"features": "conv", "channels": 6, "units": 10},
    "conv, plain": {"features": "conv", "channels": 6, "units": 10, "layer_norm": False, "resolution": 16},
    "pixels": {"features": "pixels", "units": 10},
    "pixels, two normalised layers": {
        "features": "pixels",
        "units": 10,
        "layers": 2,
        "layer_norm": True,
        "resolution": 5,
    },
}


def built(shape: tuple[int, int, int], ways: int = 5, **options: Any) -> LSTM:
    with seeded(3):
        return LSTM(Task(ways, shape, "online_few_shot"), **options)


def count(method: torch.nn.Module) -> int:
    return sum(each.numel() for each in method.parameters())


def sigmoid(value: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-value))


def pooled_by_hand(image: np.ndarray, side: int) -> np.ndarray:
    """[side, side] means of the pixels that each cell of a `side` x `side` grid touches."""
    size = len(image)
    out = np.empty((side, side))
    for i in range(side):
        for j in range(side):
            rows = slice(i * size // side, -(-(i + 1) * size // side))
            columns = slice(j * size // side, -(-(j + 1) * size // side))
            out[i, j] = image[rows, columns].mean()
    return out


@pytest.mark.parametrize("shape", [GREY, COLOUR])
def test_pixels_are_pooled_flattened_and_fed_with_the_label_to_torch_s_lstm(
    shape: tuple[int, int, int],
) -> None:
    method = built(shape, features="pixels").double()
    x, _, feedback = normal_stream(shape, 4, 2, delay=2)
    oracle = torch.nn.LSTM(shape[0] * 400 + 5, 200).double()
    oracle.load_state_dict(method.recur.state_dict())
    state: tuple[Tensor, Tensor] | None = None
    answers = []
    for t in range(4):
        rows = []
        for b in range(2):
            planes = [pooled_by_hand(plane.numpy(), 20).ravel() for plane in x[t, b].double()]
            label = [float(feedback[t, b] == number) for number in range(5)]
            rows.append(np.concatenate([*planes, label]))
        out, state = oracle(torch.from_numpy(np.stack(rows))[None], state)
        answers.append(out[0] @ method.classify.weight.T + method.classify.bias)
    torch.testing.assert_close(stepped_logits(method, x.double(), feedback), torch.stack(answers))


def test_layer_normalised_cell_computes_its_formulas() -> None:
    stack = LayerNormLSTM(3, 4, layers=2).double()
    random = np.random.default_rng(0)
    with torch.no_grad():
        for each in stack.parameters():
            each.copy_(torch.from_numpy(random.normal(size=tuple(each.shape))))
    x, h, c = random.normal(size=(5, 2, 3)), random.normal(size=(2, 2, 4)), random.normal(size=(2, 2, 4))
    got, (last_h, last_c) = stack(torch.from_numpy(x), (torch.from_numpy(h), torch.from_numpy(c)))

    expected = np.empty((5, 2, 4))
    weights = [{name: each.detach().numpy() for name, each in cell.named_parameters()} for cell in stack.cells]
    for b in range(2):
        for t in range(5):
            below = x[t, b]
            for layer, w in enumerate(weights):
                gates = [
                    sum(w["inputs.weight"][n] * below) + sum(w["hidden.weight"][n] * h[layer, b]) for n in range(16)
                ]
                mean = sum(gates) / 16
                spread = (sum((gate - mean) ** 2 for gate in gates) / 16 + 1e-5) ** 0.5
                z = np.array([(gate - mean) / spread for gate in gates]) * w["norm.weight"] + w["norm.bias"]
                i, f, o, g = sigmoid(z[0:4]), sigmoid(z[4:8]), sigmoid(z[8:12]), np.tanh(z[12:16])
                c[layer, b] = f * c[layer, b] + i * g
                h[layer, b] = o * np.tanh(c[layer, b])
                below = h[layer, b]
            expected[t, b] = below
    np.testing.assert_allclose(got.detach().numpy(), expected, rtol=1e-10)
    np.testing.assert_allclose(last_h.detach().numpy(), h, rtol=1e-10)
    np.testing.assert_allclose(last_c.detach().numpy(), c, rtol=1e-10)


@pytest.mark.parametrize("layer_norm", [False, True])
def test_forget_gates_start_open(layer_norm: bool) -> None:
    method = built(GREY, features="pixels", layers=2, layer_norm=layer_norm)
    for layer in range(2):
        if layer_norm:
            biases = method.recur.cells[layer].norm.bias
        else:
            biases = getattr(method.recur, f"bias_ih_l{layer}") + getattr(method.recur, f"bias_hh_l{layer}")
        gates = biases.detach().unflatten(0, (4, 200)).mean(1)
        torch.testing.assert_close(gates, torch.tensor([0.0, 1.0, 0.0, 0.0]), atol=0.02, rtol=0)


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


@pytest.mark.parametrize(("shape", "features"), [(GREY, 64), (COLOUR, 256)])
def test_parameters_with_conv_are_those_counted_by_hand(shape: tuple[int, int, int], features: int) -> None:
    convs = 9 * shape[0] * 64 + 3 * 9 * 64 * 64 + 4 * (64 + 2 * 64)
    lower = 4 * 256 * (features + 5 + 256) + 2 * 4 * 256
    upper = 4 * 256 * (256 + 256) + 2 * 4 * 256
    assert count(built(shape)) == convs + lower + upper + 256 * 5 + 5


@pytest.mark.parametrize("shape", [GREY, COLOUR])
def test_parameters_with_pixels_are_those_counted_by_hand(shape: tuple[int, int, int]) -> None:
    recurrent = 4 * 200 * (400 * shape[0] + 5 + 200) + 2 * 4 * 200
    assert count(built(shape, features="pixels")) == recurrent + 200 * 5 + 5


@pytest.mark.parametrize("options", SMALL.values(), ids=SMALL)
def test_the_state_keeps_its_size_and_is_never_edited(options: dict[str, Any]) -> None:
    method = built(GREY, **options).eval()
    layers = options.get("layers", 2 if options["features"] == "conv" else 1)
    x, _, feedback = normal_stream(GREY, 6, 3)
    state = method.start(3)
    with torch.no_grad():
        for images, target in zip(x, feedback, strict=True):
            observed = method.observe(state, Feedback(target))
            before = pytree.tree_map(torch.clone, (state, observed))
            _, after = method.predict(observed, images)
            assert all(pytree.tree_leaves(pytree.tree_map(torch.equal, before, (state, observed))))
            assert state_bytes(after) == 2 * layers * 10 * 4 + 8
            assert all(len(leaf) == 3 for leaf in leaves(after))
            state = after


@pytest.mark.parametrize("options", SMALL.values(), ids=SMALL)
def test_a_label_enters_with_the_next_image_once(options: dict[str, Any]) -> None:
    method = built(GREY, **options).eval()
    x, _, _ = normal_stream(GREY, 2, 3)
    null, label = torch.full((3,), -1), torch.tensor([0, 1, 2])
    with torch.no_grad():
        fresh = method.start(3)
        silent, _ = method.predict(fresh, x[0])
        with_label, after = method.predict(method.observe(fresh, Feedback(label)), x[0])
        explicit, _ = method.predict(method.observe(fresh, Feedback(null)), x[0])
        assert torch.equal(silent, explicit)
        assert (silent != with_label).any(1).all()
        unheard, _ = method.predict(after, x[1])
        null_again, _ = method.predict(method.observe(after, Feedback(null)), x[1])
        assert torch.equal(unheard, null_again)


def test_every_query_hears_the_pending_label() -> None:
    method = built(GREY, **SMALL["conv"]).eval()
    x, _, _ = normal_stream(GREY, 4, 3)
    with torch.no_grad():
        _, state = method.predict(method.start(3), x[0])
        state = method.observe(state, Feedback(torch.tensor([4, 0, 2])))
        answers = method.query(state, x[1:].transpose(0, 1))
        for q in range(3):
            torch.testing.assert_close(answers[:, q], method.predict(state, x[1 + q])[0])


@pytest.mark.parametrize("options", SMALL.values(), ids=SMALL)
def test_one_batch_of_episodes_can_be_learned_by_heart(options: dict[str, Any]) -> None:
    method = built(GREY, **{**options, "units": 32}).train()
    x, target, feedback = normal_stream(GREY, 8, 4)
    optimiser = torch.optim.Adam(method.parameters(), 1e-2)
    for _ in range(60):
        optimiser.zero_grad()
        logits = method.rollout(x, Feedback(feedback))
        method.loss(logits, stream_batch(target)).backward()
        optimiser.step()
    assert F.cross_entropy(logits.flatten(0, 1), target.flatten()) < 0.1
    assert (logits.argmax(-1) == target).all()


def test_the_delay_is_not_told() -> None:
    assert not LSTM.needs_label_delay
    assert not LSTM.learns_by_gradient


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"features": "convs"}, "'conv' or 'pixels', not 'convs'"),
        ({"resolution": 15}, "15x15"),
    ],
)
def test_impossible_options_are_refused_with_the_reason(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        built(GREY, **options)
