"""Precision: bf16 is of convolutions alone, states stay fp32, and what a machine has not is refused in a sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils import _pytree as pytree

from harness.cli import main
from harness.episodes.source import EpisodeSource
from harness.evaluation.rollout import steps
from harness.method.registry import build_method, load_method, task_for
from harness.protocol.load import for_data, load_protocol
from harness.testing import tiny_dataset
from harness.training.episode_loss import episode_loss
from harness.training.recipe_file import load_budget, recipe_path
from harness.util.arithmetic import arithmetic, available, check_precision, convolution_dtype
from harness.util.errors import UserError
from harness.util.precision import Precision
from harness.util.seeding import seeded
from tests.helpers import training as small

CPU = torch.device("cpu")
PLAYED = (
    ("omniglot_5way_online", ("cl_lstm", "ntm", "protonet", "lstm", "cnn_lstm", "opn")),
    ("omniglot_continual5", ("oml",)),
    ("omniglot_20way_1shot", ("norml", "maml")),
)


def test_convolutions_round_and_nothing_else_does() -> None:
    torch.manual_seed(0)
    conv, norm, dense = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2)
    x = torch.randn(2, 3, 8, 8)
    with arithmetic("bf16", CPU):
        assert convolution_dtype(x) == torch.bfloat16
        maps = conv(x)
        rest = dense(norm(maps).mean((2, 3)))
        rest.square().sum().backward()
    assert conv.bias is not None
    expected = F.conv2d(x.bfloat16(), conv.weight.bfloat16(), conv.bias.bfloat16()).float()
    assert torch.equal(maps, expected)
    assert torch.equal(rest, dense(norm(expected).mean((2, 3))))
    assert conv.weight.grad is not None
    assert conv.weight.grad.dtype == torch.float32
    assert convolution_dtype(x) == torch.float32
    assert not torch.equal(conv(x), maps)


@pytest.mark.parametrize(("protocol", "name"), [(protocol, name) for protocol, names in PLAYED for name in names])
def test_states_and_gradients_stay_in_float32(protocol: str, name: str) -> None:
    loaded, found = load_protocol(protocol), load_method(name)
    own = for_data(loaded, "stand-in")
    source = EpisodeSource(tiny_dataset(own.data_name, 20, 25))
    budget = load_budget(recipe_path(name, found.own_file), loaded, "smoke")
    task = task_for(found.cls, own, source.dataset.card.image_shape)
    method = build_method(found.cls, task, budget.options, 0).train()
    episodes = source.episodes(own, "train", 0, np.arange(2))
    gradients = []
    precisions: tuple[Precision, ...] = ("fp32", "bf16")
    for precision in precisions:
        method.zero_grad()
        with arithmetic(precision, CPU):
            loss = seeded(lambda: episode_loss(method, episodes), "test")
        assert loss.dtype == torch.float32
        loss.backward()
        gradients.append(torch.cat([each.grad.flatten() for each in method.parameters() if each.grad is not None]))
        assert gradients[-1].dtype == torch.float32
    exact, rounded = gradients
    assert F.cosine_similarity(exact, rounded, 0) > 0.85
    with arithmetic("bf16", CPU), torch.set_grad_enabled(method.learns_by_gradient):
        *_, (_, state) = steps(method.eval(), episodes)
    types = {each.dtype for each in pytree.tree_leaves(state) if isinstance(each, Tensor)}
    assert {each for each in types if each.is_floating_point} <= {torch.float32}


def test_what_a_processor_has_not_is_refused_with_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    assert available(CPU) == ["fp32", "bf16"]
    check_precision("bf16", CPU)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})
    with pytest.raises(UserError, match=r"'bf16' cannot be used on device 'cpu': .* AMX; it has fp32$"):
        check_precision("bf16", CPU)


def test_the_command_ends_with_one_sentence_where_a_precision_is_not_there(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ["run", "omniglot_5way_online", "--method", "protonet", "--data", "stand-in", "--device", "cpu"]
    assert main([*words, "--precision", "tf32", "--out", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "precision 'tf32' cannot be used on device 'cpu': tf32 is a mode of GPUs; it has fp32" in said
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_updates_round_as_the_recipe_says_and_validation_is_in_fp32(tmp_path: Path) -> None:
    from harness.training.loop import train

    precisions: tuple[Precision, ...] = ("fp32", "bf16")
    for precision in precisions:
        seen: set[tuple[bool, torch.dtype]] = set()

        def note(own: nn.Module, inputs: tuple[Tensor, ...], seen: set[tuple[bool, torch.dtype]] = seen) -> None:
            seen.add((own.training, convolution_dtype(inputs[0])))

        folder = tmp_path / precision
        folder.mkdir()
        each = small.training(folder, precision=precision)
        for module in each.method.modules():
            if isinstance(module, nn.Linear):
                module.register_forward_pre_hook(note)
        train(each)
        assert seen == {(True, torch.float32 if precision == "fp32" else torch.bfloat16), (False, torch.float32)}
