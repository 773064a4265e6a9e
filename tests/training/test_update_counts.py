"""What an update costs a GPU's host: numbers read from the device, copies to it, and launches, within a budget each.

Counted on the CPU, operation by operation, over one whole update: planning, gathering, forward, backward and
clipping. A GPU waits, or is waited for, at each read and copy; a launch takes the host longer than most kernels take.
The optimiser, one kernel on a GPU, is left out, and the gates of a ConvLSTM are one operation, as they are there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from harness.episodes import source as episode_source
from harness.episodes.source import EpisodeSource
from harness.method.options import resolved_options
from harness.method.registry import build_method, load_method, task_for
from harness.protocol.load import for_data, load_protocol
from harness.testing import tiny_dataset
from harness.training.optimizer import RunningOptimizer
from harness.training.recipe import Budget
from harness.training.recipe_file import load_budget, recipe_path
from harness.training.replay import waits
from harness.training.stages import RunningStage, begin_stage
from harness.training.state import Progress, Training
from methods.nn import conv_lstm_gates, conv_lstm_sequence, episode_conv
from tests.helpers.built_in import TRAINED

PROTOCOL_OF_KIND = {
    "online_few_shot": "omniglot_5way_online",
    "n_way_k_shot": "omniglot_20way_1shot",
    "segmentation_distractors": "fss1000_distractors",
    "supervised": "cifar100_supervised",
}
USUAL = (0, 2)
"""Nothing is read. One copy has images, targets, scored steps, classes and augmentation; one, when labels are due."""
BUDGETS: dict[str, tuple[int, int]] = {
    "deml": (0, 4),
    "meta_learner_lstm": (0, 3),
    "ntm": (102, 2),
}
"""Reads and copies of an update at most, of methods that need more than usual. What ntm reads, `F.one_hot` reads on a
CPU alone."""

LAUNCHES = {
    "anml": 7330,
    "apl": 2520,
    "bauer": 60,
    "cl_lstm": 1140,
    "cl_resnet20": 660,
    "cl_unet": 440,
    "cl_vgg11": 320,
    "cnn_lstm": 130,
    "cpm": 3020,
    "csn": 370,
    "deml": 2740,
    "finetuned_cnn": 1730,
    "gidaris": 170,
    "llama": 4590,
    "lstm": 3040,
    "maml": 1200,
    "matching_net": 150,
    "matching_online": 220,
    "meta_learner_lstm": 1230,
    "norml": 5210,
    "ntm": 5370,
    "oml": 3310,
    "opn": 140,
    "platipus": 3230,
    "ppa": 80,
    "protonet": 110,
    "reptile": 1510,
    "resnet20": 250,
    "snail": 660,
    "transformer": 250,
    "vgg11": 140,
}
"""Operations of an update at most, with torch 2.11 (which has most) to 2.15. Most are one kernel on a GPU, where those
of torch's LSTM, many on a CPU, are few."""
AT_FULL_LENGTH = [
    ("cl_lstm", "omniglot_5way_online", {}, 2000),
    ("oml", "omniglot_continual20", {"channels": 8, "hidden": 16}, 7000),
]
"""Method, protocol, options that make it narrow, and operations at most of an update at the budget 'full'."""


NO_KERNELS = ("_unsafe_view", "detach", "lift_fresh", "unsqueeze_")
"""Operations that only look at memory otherwise, beside those that return what their arguments alias."""


class Counted(TorchDispatchMode):
    """Counts, in `found`, operations that read from a device, copy values of the host to it, or compute something."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()
        self.inside_a_kernel = False

    def as_one(self, kernel: Callable[..., None]) -> Callable[..., None]:
        """What `kernel` does, counted as one operation."""

        def counted(*args: Tensor) -> None:
            self.inside_a_kernel = True
            kernel(*args)
            self.inside_a_kernel = False
            self.found["launches"] += 1

        return counted

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        if waits(name, args):
            self.found["reads"] += 1
        if name == "lift_fresh":
            self.found["copies"] += 1
        is_view = any(each.alias_info and not each.alias_info.is_write for each in func._schema.returns)
        if not (self.inside_a_kernel or is_view or "empty" in name or name in NO_KERNELS):
            self.found["launches"] += 1
        return func(*args, **kwargs or {})


@contextmanager
def counting(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    def on_the_device(self: EpisodeSource, images: int) -> Tensor:
        return torch.empty(images, *self.dataset.card.image_shape)

    with monkeypatch.context() as patched, Counted() as counter:
        patched.setattr(EpisodeSource, "_empty", on_the_device)
        patched.setattr(episode_source, "_CACHED", 2**40)  # as on a GPU, all images at once
        patched.setattr(episode_source.one_pass, "LEAST", 2**40)
        patched.setattr(RunningStage, "reads_late", property(lambda _: True))
        patched.setattr(RunningOptimizer, "step", lambda self, lr: None)  # on a GPU one kernel, which reads nothing
        patched.setattr(episode_conv, "_pays", lambda device: False)
        fused = [counter.as_one(kernel) for kernel in (conv_lstm_gates.forward, conv_lstm_gates.backward)]
        gates = SimpleNamespace(forward=fused[0], backward=fused[1])
        patched.setattr(conv_lstm_sequence, "_kernels", lambda device: gates)
        yield counter.found


def stage_of(
    method: str,
    folder: Path,
    protocol_name: str | None = None,
    amount: str = "smoke",
    options: Mapping[str, Any] | None = None,
) -> RunningStage:
    """The last stage of the method's recipe at a budget, with two episodes an update, on random pixels."""
    found = load_method(method)
    usual = next(PROTOCOL_OF_KIND[kind] for kind in found.cls.kinds if kind in PROTOCOL_OF_KIND)
    loaded = load_protocol(protocol_name or usual)
    protocol = for_data(loaded, "stand-in")
    dataset = tiny_dataset(protocol.data_name, 40, 25)
    budget: Budget = load_budget(recipe_path(method, found.own_file), loaded, amount)
    card = dataset.card
    task = task_for(found.cls, protocol, card.image_shape, card.classes["train"])
    built = build_method(found.cls, task, resolved_options(found.cls, {**budget.options, **(options or {})}), 0).train()
    budget = budget.model_copy(update={"batch": 2, "stages": [budget.stages[-1].model_copy(update={"batch": None})]})
    training = Training(built, EpisodeSource(dataset), protocol, budget, 0, folder / "checkpoint", {})
    return begin_stage(training, 0)


@pytest.mark.slow
@pytest.mark.parametrize("method", TRAINED)
def test_an_update_keeps_its_budget_of_reads_copies_and_launches(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, progress = stage_of(method, tmp_path), Progress()
    with counting(monkeypatch) as found:
        stage.advance(progress)
        found.clear()
        stage.advance(progress)
    reads, copies = BUDGETS.get(method, USUAL)
    assert found["reads"] <= reads + 1, dict(found)  # the loss of the update before
    assert found["copies"] <= copies, dict(found)
    assert found["launches"] <= LAUNCHES[method], dict(found)


@pytest.mark.slow
@pytest.mark.parametrize(("method", "protocol", "narrow", "most"), AT_FULL_LENGTH)
def test_an_update_of_whole_episodes_is_few_launches(
    method: str, protocol: str, narrow: dict[str, Any], most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = stage_of(method, tmp_path, protocol, "full", narrow)
    with counting(monkeypatch) as found:
        stage.advance(Progress())
    assert most / 2 < found["launches"] <= most, dict(found)
