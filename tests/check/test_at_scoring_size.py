"""Methods that behave while tasks are small and cheat where it pays off, and honest ones that tell sizes apart."""

from __future__ import annotations

import pytest
from torch import Tensor

from harness.check import check_method
from harness.check.at_scoring_size import CALLS
from harness.method.interface import Method, State, Task
from tests.helpers.broken_methods import Honest
from tests.helpers.broken_thieves import SearchesAllObjects, WalksUpTheStack


class InLargeBatches(WalksUpTheStack):
    """Looks for targets only where there are more episodes than in a check."""

    def found(self, x: Tensor, step: int) -> Tensor | None:
        return super().found(x, step) if len(x) > 16 else None


class SearchesInLargeBatches(SearchesAllObjects):
    """The same, in memory."""

    def found(self, x: Tensor, step: int) -> Tensor | None:
        return super().found(x, step) if len(x) > 16 else None


class AfterManyCalls(WalksUpTheStack):
    """Behaves in its first batches."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.__dict__["started"] = 0

    def start(self, episodes: int) -> State:
        self.__dict__["started"] += 1
        return super().start(episodes)

    def found(self, x: Tensor, step: int) -> Tensor | None:
        return super().found(x, step) if self.__dict__["started"] > 7 else None


class OnRealImages(WalksUpTheStack):
    """Looks for targets only where images have as few values as decoded ones."""

    def found(self, x: Tensor, step: int) -> Tensor | None:
        return super().found(x, step) if x.unique().numel() <= 256 else None


@pytest.mark.parametrize("cls", [InLargeBatches, SearchesInLargeBatches, AfterManyCalls, OnRealImages])
def test_one_that_behaves_while_tasks_are_small_is_found(cls: type[Method]) -> None:
    report = check_method(cls, kinds=["online_few_shot"], delays=[1])
    assert "as scored" in {each.name for each in report.failures}, report.text()
    assert f"after {CALLS} others" in report.result("as scored").reason


class InParts(Honest):
    """Takes large batches apart, as one does who is short of memory."""

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        logits, after = super().predict(state, x)
        return logits.clone() if len(x) > 16 else logits, after


def test_an_honest_method_that_tells_sizes_apart_is_not_accused() -> None:
    report = check_method(InParts, kinds=["online_few_shot", "continual", "n_way_k_shot"], delays=[1, 3])
    assert report.passed, report.text()
