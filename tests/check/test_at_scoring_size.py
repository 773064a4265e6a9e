"""Methods that behave while tasks are small and cheat where it pays off, and honest ones that tell sizes apart."""

from __future__ import annotations

from threading import Lock

import numpy as np
import pytest
from torch import Tensor

from harness.check import Report, check_method
from harness.check.at_scoring_size import CALLS
from harness.check.pictures import Pictures, generated, pictures_of
from harness.method.interface import Method, State, Task
from harness.testing import tiny_dataset
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


class InWholeBatches(WalksUpTheStack):
    """Looks for targets only where there are as many episodes as scoring has at once."""

    def found(self, x: Tensor, step: int) -> Tensor | None:
        return super().found(x, step) if len(x) >= 100 else None


class OnRealImages(WalksUpTheStack):
    """Looks for targets only where images have as few values as decoded ones."""

    def found(self, x: Tensor, step: int) -> Tensor | None:
        return super().found(x, step) if x.unique().numel() <= 256 else None


class OnSmoothImages(WalksUpTheStack):
    """Looks for targets only where pixels are like those beside them, as in pictures of things."""

    def found(self, x: Tensor, step: int) -> Tensor | None:
        return super().found(x, step) if x.diff(dim=-1).abs().mean() < x.std() / 2 else None


MEAN = float(pictures_of(tiny_dataset("omniglot")).x.mean())


class OnImagesThatItKnows(WalksUpTheStack):
    """Looks for targets only where images have the mean of the data set that it is scored on."""

    def found(self, x: Tensor, step: int) -> Tensor | None:
        return super().found(x, step) if abs(float(x.mean()) - MEAN) < 0.02 else None


@pytest.mark.parametrize(
    "cls", [InLargeBatches, InWholeBatches, SearchesInLargeBatches, AfterManyCalls, OnRealImages, OnSmoothImages]
)
def test_one_that_behaves_while_tasks_are_small_is_found(cls: type[Method]) -> None:
    report = checked(cls)
    assert "as scored" in {each.name for each in report.failures}, report.text()
    assert f"after {CALLS} others" in report.result("as scored").reason


def checked(cls: type[Method], pictures: Pictures | None = None) -> Report:
    return check_method(cls, kinds=["online_few_shot"], delays=[1], pictures=pictures)


def test_one_that_behaves_on_stand_ins_is_found_where_the_data_are_given() -> None:
    assert checked(OnImagesThatItKnows).passed
    report = checked(OnImagesThatItKnows, pictures_of(tiny_dataset("omniglot")))
    assert [each.name for each in report.failures] == ["as scored"], report.text()
    assert report.tried_on.endswith("and on images of omniglot")


def test_pictures_are_test_images_as_scoring_has_them_with_their_masks() -> None:
    data = tiny_dataset("scenes", turned=True)
    pictures = pictures_of(data)
    assert data.masks is not None
    assert pictures.objects is not None
    members, rotations = data.tables["test"].members, data.tables["test"].rotations
    image = data.images[members[6]] / 255.0
    mean, std = (np.array(each).reshape(-1, 1, 1) for each in (data.card.mean, data.card.std))
    assert rotations[1] == 1
    assert np.allclose(pictures.x[1, 0], np.rot90((image - mean) / std, 1, (-2, -1)), atol=1e-5)
    assert np.array_equal(pictures.objects[1, 0], np.rot90(data.masks[members[6]], 1, (-2, -1)))


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 84, 84), (3, 9, 17), (2, 32, 32)])
@pytest.mark.parametrize("masks", [False, True])
def test_stand_ins_are_shown_in_the_shape_of_the_data(shape: tuple[int, int, int], masks: bool) -> None:
    pictures = generated(shape, masks)
    assert pictures.x.shape[2:] == shape
    assert all(each.unique().numel() <= 256 for each in pictures.x.unbind(2))
    assert (pictures.objects is not None) == masks
    if pictures.objects is not None:
        assert pictures.objects.shape[2:] == (1, *shape[1:])
        assert set(pictures.objects.unique().tolist()) == {0.0, 1.0}


class InParts(Honest):
    """Takes large batches apart, as one does who is short of memory."""

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        logits, after = super().predict(state, x)
        return logits.clone() if len(x) > 16 else logits, after


@pytest.mark.slow
def test_an_honest_method_that_tells_sizes_apart_is_not_accused() -> None:
    report = check_method(InParts, kinds=["online_few_shot", "continual", "n_way_k_shot"], delays=[1, 3])
    assert report.passed, report.text()


class KeepsALock(Honest):
    """Makes what cannot be copied once it is used."""

    def start(self, episodes: int) -> State:
        self.__dict__.setdefault("lock", Lock())
        return super().start(episodes)


def test_an_honest_method_that_cannot_be_copied_once_used_is_not_accused() -> None:
    report = check_method(KeepsALock, kinds=["online_few_shot"], delays=[1])
    assert report.result("as scored").outcome == "passed", report.text()
