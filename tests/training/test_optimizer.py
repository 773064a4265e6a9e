"""The optimisers of stages against those of torch, step by step, and as they come back from a checkpoint."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from harness.training.optimizer import RunningOptimizer, running_optimizer
from harness.training.recipe import Optimizer
from harness.util.errors import UserError

SETTINGS: dict[str, dict[str, Any]] = {
    "adam": {"name": "adam"},
    "adam with decay": {"name": "adam", "weight_decay": 0.1},
    "adamw": {"name": "adamw", "weight_decay": 0.1},
    "adamw of matrices": {"name": "adamw", "weight_decay": 0.1, "weight_decay_of": "matrices"},
    "sgd": {"name": "sgd"},
    "sgd with momentum": {"name": "sgd", "momentum": 0.9, "weight_decay": 0.01},
    "sgd of matrices": {"name": "sgd", "momentum": 0.9, "weight_decay": 0.01, "weight_decay_of": "matrices"},
}
every = pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)


def net() -> nn.Module:
    torch.manual_seed(0)
    conv = nn.Conv2d(1, 3, 3)
    conv.weight.data = conv.weight.data.contiguous(memory_format=torch.channels_last)
    return nn.Sequential(conv, nn.Flatten(), nn.Linear(3 * 4, 2))


def torchs(settings: Optimizer, net: nn.Module) -> torch.optim.Optimizer:
    """torch's optimiser of the same settings."""
    kind: Callable[..., torch.optim.Optimizer] = {
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
        "sgd": torch.optim.SGD,
    }[settings.name]
    groups: Any = list(net.parameters())
    if settings.weight_decay_of == "matrices":
        groups = [
            {"params": [each for each in groups if each.dim() > 1]},
            {"params": [each for each in groups if each.dim() <= 1], "weight_decay": 0.0},
        ]
    more = {"momentum": settings.momentum} if settings.name == "sgd" else {}
    return kind(groups, lr=settings.lr, weight_decay=settings.weight_decay, **more)


def backward(net: nn.Module, number: int) -> None:
    """A loss of this number; every other does not depend on the last bias."""
    x = torch.randn(4, 1, 4, 4, generator=torch.Generator().manual_seed(number))
    last = list(net.children())[-1]
    assert isinstance(last, nn.Linear)
    last.bias.requires_grad_(number % 2 == 1)
    net(x).square().sum().backward()
    last.bias.requires_grad_(True)


def step(optimizer: RunningOptimizer, net: nn.Module, number: int) -> None:
    optimizer.zero_grad()
    backward(net, number)
    optimizer.step(lr=0.1 / (1 + number))


def state_of(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    state = optimizer.state_dict()["state"]
    return {f"{number}.{name}": each for number, found in state.items() for name, each in found.items()}


def assert_same(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert found.keys() == wanted.keys()
    for name, each in found.items():
        assert torch.equal(each, wanted[name]), name


@every
def test_steps_and_state_are_torchs_to_the_last_bit(settings: dict[str, Any]) -> None:
    described = Optimizer.model_validate(settings)
    mine, theirs = net(), net()
    optimizer, expected = running_optimizer(described, list(mine.parameters())), torchs(described, theirs)
    for number in range(5):
        step(optimizer, mine, number)
        expected.zero_grad(set_to_none=True)
        backward(theirs, number)
        for group in expected.param_groups:
            group["lr"] = 0.1 / (1 + number)
        expected.step()
        assert_same(mine.state_dict(), theirs.state_dict())
        assert_same(optimizer.tensors(), {k: v for k, v in state_of(expected).items() if v is not None})


@every
def test_an_optimiser_goes_on_as_if_nothing_had_happened(settings: dict[str, Any]) -> None:
    described = Optimizer.model_validate(settings)
    first, second = net(), net()
    optimizer = running_optimizer(described, list(first.parameters()))
    for number in range(3):
        step(optimizer, first, number)
    second.load_state_dict(first.state_dict())
    resumed = running_optimizer(described, list(second.parameters()))
    saved = {name: each.contiguous().clone() for name, each in optimizer.tensors().items()}
    resumed.restore(saved)
    for number in range(3, 6):
        step(optimizer, first, number)
        step(resumed, second, number)
    assert_same(second.state_dict(), first.state_dict())
    assert_same(resumed.tensors(), optimizer.tensors())


def test_a_restored_state_is_a_copy() -> None:
    settings, module = Optimizer(), net()
    optimizer = running_optimizer(settings, list(module.parameters()))
    step(optimizer, module, 1)
    saved = {name: each.clone() for name, each in optimizer.tensors().items()}
    resumed = running_optimizer(settings, list(module.parameters()))
    resumed.restore(saved)
    kept = {name: each.clone() for name, each in saved.items()}
    step(resumed, module, 2)
    assert_same(saved, kept)


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"9.exp_avg": torch.zeros(2)}, "a state of parameter 9; 4 are trained"),
        ({"x.exp_avg": torch.zeros(2)}, "a state of parameter x; 4 are trained"),
        (
            {"3.exp_avg": torch.zeros(5)},
            r"its state of parameter 3 has the shape \(5,\), the parameter \(2,\); set the run folder aside",
        ),
    ],
)
def test_the_state_of_other_parameters_is_refused(tensors: dict[str, Tensor], said: str) -> None:
    optimizer = running_optimizer(Optimizer(), list(net().parameters()))
    with pytest.raises(UserError, match=said):
        optimizer.restore(tensors)
    assert not optimizer.tensors()


def test_nothing_to_train_is_no_error() -> None:
    optimizer = running_optimizer(Optimizer(), [])
    optimizer.zero_grad()
    optimizer.step(0.1)
    assert not optimizer.tensors()
    assert not optimizer.fused


COMMAND = """
import sys
from harness.cli import main
code = main("run omniglot_5way_online --method protonet --budget smoke --data stand-in --threads 1".split()
            + "--test-episodes 2 --no-check --no-board --cache cache".split())
print(code, "torch._dynamo" in sys.modules)
"""


@pytest.mark.slow
def test_a_whole_run_does_without_torchs_compiler(tmp_path: Any) -> None:
    done = subprocess.run([sys.executable, "-c", COMMAND], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.endswith("0 False\n"), done.stdout + done.stderr
