"""What an update makes the host wait for: numbers read from the device, and copies to it, within a budget each.

Counted on the CPU, operation by operation, over one whole update: planning, gathering, forward, backward and
clipping. A GPU would wait, or be waited for, at each of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
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
from harness.training.stages import RunningStage, begin_stage
from harness.training.state import Progress, Training
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
    "reptile": (0, 9),
}
"""Reads and copies of an update at most, of methods that need more than usual. What ntm reads, `F.one_hot` reads on a
CPU alone."""

READS = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "_unique2", "unique_dim")


class Counted(TorchDispatchMode):
    """Counts, in `found`, operations that read from a device or copy values of the host to it."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        by_mask = name in ("index", "index_put", "index_put_") and any(
            isinstance(each, Tensor) and each.dtype in (torch.bool, torch.uint8) for each in args[1] if each is not None
        )
        if name in READS or by_mask:
            self.found["reads"] += 1
        if name == "lift_fresh":
            self.found["copies"] += 1
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
        yield counter.found


def stage_of(method: str, folder: Path) -> RunningStage:
    """The last stage of the method's recipe at the budget 'smoke', on random pixels."""
    found = load_method(method)
    name = next(PROTOCOL_OF_KIND[kind] for kind in found.cls.kinds if kind in PROTOCOL_OF_KIND)
    loaded = load_protocol(name)
    protocol = for_data(loaded, "stand-in")
    dataset = tiny_dataset(protocol.data_name, 20, 25)
    budget: Budget = load_budget(recipe_path(method, found.own_file), loaded, "smoke")
    card = dataset.card
    task = task_for(found.cls, protocol, card.image_shape, card.classes["train"])
    built = build_method(found.cls, task, resolved_options(found.cls, budget.options), 0).train()
    budget = budget.model_copy(update={"batch": 2, "stages": [budget.stages[-1].model_copy(update={"batch": None})]})
    training = Training(built, EpisodeSource(dataset), protocol, budget, 0, folder / "checkpoint", {})
    return begin_stage(training, 0)


@pytest.mark.slow
@pytest.mark.parametrize("method", TRAINED)
def test_an_update_keeps_its_budget_of_reads_and_copies(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, progress = stage_of(method, tmp_path), Progress()
    monkeypatch.setattr(RunningOptimizer, "step", lambda self, lr: None)  # on a GPU one kernel, which reads nothing
    with counting(monkeypatch) as found:
        stage.advance(progress)
        found.clear()
        stage.advance(progress)
    reads, copies = BUDGETS.get(method, USUAL)
    assert found["reads"] <= reads + 1, dict(found)  # the loss of the update before
    assert found["copies"] <= copies, dict(found)
