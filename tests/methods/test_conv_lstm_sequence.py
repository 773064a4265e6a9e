"""The steps of a convolutional LSTM as one operation: equations, gradients, precision, and the fused kernels."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from harness.util.arithmetic import arithmetic
from harness.util.precision import Precision
from methods.nn.conv_lstm_sequence import steps


def arguments(
    steps: int = 3, kernel: int = 3, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=dtype).requires_grad_()

    return normal(steps, 2, 4, 5, 12), normal(2, 4, 5, 3), normal(2, 4, 5, 3), normal(12, 3, kernel, kernel)


def stepped(driven: Tensor, h: Tensor, c: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Babu et al. 2021, equations 1 to 5, a step at a time, with gradients by automatic differentiation."""
    outputs = []
    for drive in driven:
        hidden = F.conv2d(h.permute(0, 3, 1, 2), weight, padding=weight.shape[-1] // 2)
        i, f, o, g = (drive + hidden.permute(0, 2, 3, 1)).chunk(4, -1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        outputs.append(h)
    return torch.stack(outputs), c


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("count", [1, 4])
def test_it_is_what_the_equations_give_a_step_at_a_time(count: int, kernel: int) -> None:
    inputs = arguments(count, kernel)
    found = []
    for function in (steps, stepped):
        outputs, cell = function(*inputs)
        weighed = (outputs * torch.linspace(-1, 1, outputs.numel()).view_as(outputs)).sum() + cell.square().sum()
        found.append((outputs, cell, *torch.autograd.grad(weighed, inputs)))
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("count", [1, 3])
def test_an_empty_state_is_one_of_zeros(count: int) -> None:
    driven, h, c, weight = arguments(count)
    zeros = torch.zeros_like(h), torch.zeros_like(c)
    found = []
    for empty in (False, True):
        outputs, cell = steps(driven, *zeros, weight, empty)
        gradients = torch.autograd.grad(outputs.square().sum() + cell.sum(), (driven, weight))
        found.append((outputs, cell, *gradients))
    torch.testing.assert_close(*found)


@pytest.mark.slow
def test_its_gradient_is_that_of_finite_differences() -> None:
    driven, h, c, weight = (each.detach() for each in arguments())
    # Six places suffice to see neighbours and borders, two steps to see the state carried.
    few = driven[:2, :1, :2, :3], h[:1, :2, :3], c[:1, :2, :3], weight
    assert torch.autograd.gradcheck(steps, [each.clone().requires_grad_() for each in few])


@pytest.mark.parametrize("wanted", range(4))
def test_each_gradient_can_be_asked_for_alone(wanted: int) -> None:
    inputs = arguments()
    together = torch.autograd.grad(steps(*inputs)[0].square().sum(), inputs)
    single = [each.detach().requires_grad_(number == wanted) for number, each in enumerate(inputs)]
    driven, h, c, weight = single
    (alone,) = torch.autograd.grad(steps(driven, h, c, weight)[0].square().sum(), single[wanted])
    torch.testing.assert_close(alone, together[wanted])


def test_a_second_derivative_is_refused() -> None:
    inputs = arguments()
    (first,) = torch.autograd.grad(steps(*inputs)[0].square().sum(), inputs[0], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


def test_convolutions_in_bfloat16_leave_states_and_gradients_in_float32() -> None:
    inputs = arguments(6, dtype=torch.float32)
    found = []
    precisions: tuple[Precision, ...] = ("fp32", "bf16")
    for precision in precisions:
        with arithmetic(precision, torch.device("cpu")):
            outputs, cell = steps(*inputs)
        gradients = torch.autograd.grad(outputs.square().sum() + cell.sum(), inputs)
        assert {each.dtype for each in (outputs, cell, *gradients)} == {torch.float32}
        found.append((outputs, *gradients))
    for exact, rounded in zip(*found, strict=True):
        assert not torch.equal(exact, rounded) or exact is inputs[0]
        assert F.cosine_similarity(exact.flatten(), rounded.flatten(), 0) > 0.999


INTERPRETED = """
import torch
from methods.nn import conv_lstm_gates, conv_lstm_triton

generator = torch.Generator().manual_seed(0)
shape, gate_shape = (2, 5, 7, 3), (2, 5, 7, 12)
normal = lambda *size: torch.randn(*size, generator=generator)
driven, hidden = normal(*gate_shape), normal(*gate_shape)
c, d_h, d_cell = normal(*shape), normal(*shape), normal(*shape)
results = []
for module in (conv_lstm_gates, conv_lstm_triton):
    gates, cell, tanh, h = torch.empty(gate_shape), torch.empty(shape), torch.empty(shape), torch.empty(shape)
    module.forward(driven, hidden, c, gates, cell, tanh, h)
    d_c, d_gates = d_cell.clone(), torch.empty(gate_shape)
    module.backward(d_h, d_c, gates, c, tanh, d_gates)
    results.append((gates, cell, tanh, h, d_c, d_gates))
torch.testing.assert_close(*results)
"""

COMPILED = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from methods.nn import conv_lstm_triton

for kernel, pointers in ((conv_lstm_triton.forward_kernel, 7), (conv_lstm_triton.backward_kernel, 6)):
    names = kernel.arg_names
    signature = {name: "*fp32" for name in names[:pointers]}
    signature |= {"count": "i32", "channels": "constexpr", "block": "constexpr"}
    source = ASTSource(kernel, signature, constexprs={"channels": 64, "block": conv_lstm_triton.BLOCK})
    assert triton.compile(source, target=GPUTarget("cuda", 90, 32)).asm["cubin"]
"""


@pytest.mark.slow
@pytest.mark.parametrize(("script", "interpret"), [(INTERPRETED, "1"), (COMPILED, "0")], ids=["computes", "compiles"])
def test_the_fused_kernels_are_the_plain_operations(script: str, interpret: str, tmp_path: Path) -> None:
    """In Triton's interpreter, value by value; and compiled for an H100 (sm_90), which needs none."""
    pytest.importorskip("triton", reason="Triton comes with the CUDA builds of torch only")
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env={**os.environ, "TRITON_INTERPRET": interpret, "TRITON_CACHE_DIR": str(tmp_path)},
        cwd=Path(__file__).parents[2],
    )
    assert not done.returncode, done.stderr
