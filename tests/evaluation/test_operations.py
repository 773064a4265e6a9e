"""Operations counted by hand, whichever operators this version of torch lowers a layer to."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from harness.evaluation.cost import prediction_gflop
from harness.evaluation.operations import Operations
from harness.method.interface import Method, Task


def counted(run: object, grad: bool = False) -> int:
    with torch.set_grad_enabled(grad), torch.backends.mkldnn.flags(enabled=False), Operations() as counter:
        run()
    return counter.total


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("queries", "keys", "width", "values"), [(3, 5, 8, 8), (1, 40, 16, 16), (4, 4, 8, 6)])
def test_attention_is_two_matrix_products(
    queries: int, keys: int, width: int, values: int, masked: bool, grad: bool
) -> None:
    batch, heads = 2, 3
    query, key = torch.randn(batch, heads, queries, width), torch.randn(batch, heads, keys, width)
    value = torch.randn(batch, heads, keys, values)
    mask = torch.zeros(queries, keys) if masked else None
    wanted = 2 * batch * heads * queries * keys * (width + values)
    assert counted(lambda: F.scaled_dot_product_attention(query, key, value, attn_mask=mask), grad) == wanted


def test_the_gradient_of_attention_is_four_matrix_products_whatever_kernel_runs() -> None:
    query, key, value = (torch.randn(2, 3, 6, 8, requires_grad=True) for _ in range(3))
    wanted = 3 * 2 * 2 * 3 * 6 * 6 * (8 + 8)

    def run() -> None:
        torch.autograd.grad(F.scaled_dot_product_attention(query, key, value).sum(), (query, key, value))

    assert counted(run, grad=True) == wanted


@pytest.mark.parametrize("layers", [1, 2])
def test_an_lstm_is_the_products_of_its_gates(layers: int) -> None:
    lstm, x = nn.LSTM(7, 5, layers).eval(), torch.randn(4, 2, 7)
    inputs = 7 + 5 * (layers - 1)
    assert counted(lambda: lstm(x)) == 2 * 4 * 2 * 4 * 5 * (inputs + 5 * layers)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("transposed", [False, True])
def test_convolutions_and_their_gradients_agree_with_the_counter_of_torch(groups: int, transposed: bool) -> None:
    """All versions have the same formula; with groups, the gradient of the weights pairs all channels."""
    kind = F.conv_transpose2d if transposed else F.conv2d
    shape = (4, 6 // groups) if transposed else (6, 4 // groups)
    weight, x = torch.randn(*shape, 3, 3, requires_grad=True), torch.randn(2, 4, 9, 9, requires_grad=True)

    def run() -> None:
        torch.autograd.grad(kind(x, weight, stride=2, padding=1, groups=groups).sum(), (x, weight))

    with torch.backends.mkldnn.flags(enabled=False), FlopCounterMode(display=False) as theirs:
        run()
    assert counted(run, grad=True) == theirs.get_total_flops()


def test_products_with_vectors_count_as_those_with_one_column() -> None:
    matrix, vector = torch.randn(3, 5), torch.randn(5)
    assert counted(lambda: matrix @ vector) == counted(lambda: matrix @ vector[:, None]) == 30
    assert counted(lambda: torch.addmv(torch.zeros(3), matrix, vector)) == 30
    assert counted(lambda: vector @ vector) == 10


class _Attending(Method):
    """Whose attention torch would run as one kernel that no counter knows."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def start(self, episodes: int) -> torch.Tensor:
        return torch.zeros(episodes, 1)

    def predict(self, state: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        tokens = x.flatten(1).unflatten(1, (4, 8))
        return self.attention(tokens, tokens, tokens, need_weights=False)[0].sum((1, 2))[:, None], state


def test_torchs_own_attention_layer_is_counted_in_evaluation() -> None:
    method = _Attending(Task(1, (1, 4, 8), "online_few_shot")).eval()
    assert prediction_gflop(method) * 1e9 == pytest.approx(2 * 4 * 8 * 24 + 2 * 2 * 4 * 4 * 8 + 2 * 4 * 8 * 8)
