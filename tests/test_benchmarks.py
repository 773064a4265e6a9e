"""The training benchmark compares like with like: harness, stepping and plain loop have one loss and one gradient."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

pytestmark = pytest.mark.slow

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture(scope="module")
def training() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmarks_training", BENCHMARKS / "training.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)  # as for a script, which finds what lies beside it
        spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["opn", "cl_lstm", "oml", "anml", "maml", "norml"])
def test_the_three_ways_have_one_loss_and_one_gradient(name: str, training: ModuleType) -> None:
    bench = training.bench_of(name, "smoke", "cpu")
    ways = [training.episode_loss, training.stepped, training.WRITTEN_OUT.get(bench.method_name, training.loop)]
    found = []
    for way in ways:
        _, value = training.seconds(bench, way)
        slopes = [each.grad.flatten() for each in bench.method.parameters() if each.grad is not None]
        found.append((value, torch.cat(slopes)))
    for value, slope in found[1:]:
        assert value == pytest.approx(found[0][0], rel=1e-4)
        torch.testing.assert_close(slope, found[0][1], rtol=1e-2, atol=1e-4)
