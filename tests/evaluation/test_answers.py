"""Answers: what may be one, and that a copy is scored which the method has no hand in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from harness.episodes.source import EpisodeSource
from harness.evaluation.answers import misshapen, plain
from harness.evaluation.rollout import score_batch
from harness.evaluation.score.credit import credit, overlap
from harness.method.interface import Feedback, Method, State, Task
from harness.method.registry import task_for
from harness.testing import tiny_dataset
from harness.util.errors import UserError
from tests.helpers.plans import of_kind

STREAM: Any = of_kind("online_few_shot", "glyphs", ways=3, presentations=3)
QUERIED: Any = of_kind("n_way_k_shot", "glyphs", ways=3, shots=2, queries=4)
SOURCE = EpisodeSource(tiny_dataset("glyphs"))
TASK = Task(3, (1, 28, 28), "online_few_shot")
IMAGES = torch.zeros(4, 1, 28, 28)


class AlwaysEqual(Tensor):
    """A tensor of a class of its own, which could bring its own comparisons."""


class Equal(Method):
    """All logits are equal; `form` makes something else of them."""

    form: Callable[[Tensor], Any] = staticmethod(lambda logits: logits)

    def start(self, episodes: int) -> State:
        return torch.zeros(episodes, self.task.ways)

    def observe(self, state: State, feedback: Feedback) -> State:
        return state

    def predict(self, state: State, x: Tensor) -> tuple[Any, State]:
        return type(self).form(torch.zeros(len(x), self.task.ways)), state

    def query(self, state: State, x: Tensor) -> Any:
        return type(self).form(torch.zeros(*x.shape[:2], self.task.ways))


def earned(cls: type[Method], protocol: Any = STREAM) -> np.ndarray:
    return score_batch(cls(task_for(cls, protocol, (1, 28, 28))), SOURCE.episodes(protocol, "test", 0, range(4)))


REFUSED: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "subclass": (lambda each: each.as_subclass(AlwaysEqual), "AlwaysEqual, a subclass of torch.Tensor; only plain"),
    "sparse": (lambda each: each.to_sparse(), "a sparse_coo tensor; only dense tensors are scored"),
    "rows of a sparse": (lambda each: each.flatten(0, -2).to_sparse_csr(), "a sparse_csr tensor"),
    "nested": (lambda each: torch.nested.nested_tensor(list(each)), "a nested tensor; only dense"),
    "meta": (lambda each: each.to("meta"), "on the device 'meta', which has no values"),
    "float8": (lambda each: each.to(torch.float8_e4m3fn), "float8_e4m3fn, not a tensor of floats"),
    "whole numbers": (lambda each: each.long(), "torch.int64, not a tensor of floats"),
    "complex": (lambda each: each.to(torch.complex64), "complex64, not a tensor of floats"),
    "NumPy": (lambda each: each.numpy(), "of type ndarray, not a tensor of floats"),
    "nothing": (lambda each: None, "of type NoneType"),
}


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support:UserWarning")
@pytest.mark.parametrize("protocol", [STREAM, QUERIED], ids=["stream", "queries"])
@pytest.mark.parametrize("form", REFUSED)
def test_what_is_no_plain_tensor_of_floats_is_refused_in_a_sentence(form: str, protocol: Any) -> None:
    make, said = REFUSED[form]
    cls = type("Answers", (Equal,), {"form": staticmethod(make)})
    with pytest.raises(UserError, match=r"^Answers\.(predict|query): the answer is") as refused:
        earned(cls, protocol)
    assert said in str(refused.value)


PAIRS: list[tuple[Callable[[Any, Any], Any], str]] = [
    (lambda logits, _: logits, "a Tensor"),
    (lambda logits, state: (logits, state, None), "a tuple of 3"),
    (lambda *_: None, "a NoneType"),
]


@pytest.mark.parametrize(("form", "returned"), PAIRS)
def test_what_is_no_pair_of_logits_and_state_is_refused_in_a_sentence(
    form: Callable[[Any, Any], Any], returned: str
) -> None:
    class Unpaired(Equal):
        def predict(self, state: State, x: Tensor) -> Any:
            return form(*super().predict(state, x))

    with pytest.raises(UserError, match=rf"Unpaired.predict returns {returned}; it must return \(logits, state\)"):
        earned(Unpaired)


def test_a_list_of_logits_and_state_is_a_pair() -> None:
    class Listed(Equal):
        def predict(self, state: State, x: Tensor) -> Any:
            return list(super().predict(state, x))

    assert np.array_equal(earned(Listed), earned(Equal), equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_precision_of_floats_is_scored_as_it_is(dtype: torch.dtype) -> None:
    logits = torch.tensor([[1.0, 1.0 + 2.0**-7, 0.0]] * 4, dtype=dtype)
    assert misshapen(TASK, logits, IMAGES) is None
    found = plain(logits)
    assert found.dtype == (np.float64 if dtype == torch.float64 else np.float32)
    assert (found == logits.double().numpy()).all()
    close = torch.tensor([[1.0, 1.0 + 1e-12, 0.0]], dtype=torch.float64)
    assert credit(plain(close), np.array([1])).tolist() == [1.0], "float64 that float32 would tie"


def test_parameters_and_views_are_plain_tensors() -> None:
    assert misshapen(TASK, nn.Parameter(torch.zeros(4, 3)), IMAGES) is None
    assert misshapen(TASK, torch.zeros(3).expand(4, 3), IMAGES) is None
    assert plain(nn.Parameter(torch.ones(4, 3)).T.T).tolist() == np.ones((4, 3)).tolist()


class CorrectsItsAnswers(Equal):
    """Writes the label into the answer it gave, when it comes."""

    def observe(self, state: State, feedback: Feedback) -> State:
        known = feedback.target >= 0
        if feedback.x is None and known.any():
            self.given.scatter_(1, feedback.target.clamp(min=0)[:, None], 9.0)
        return state

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        self.given = torch.zeros(len(x), self.task.ways)
        return self.given, state


class CorrectsItsQueries(Equal):
    """Gives one tensor for every part of the queries, and fills it in when it has seen the last."""

    buffer = torch.zeros(4, 12, 3)

    def query(self, state: State, x: Tensor) -> Tensor:
        self.buffer.add_(1.0)[..., 0] += 7
        return self.buffer[:, : x.shape[1]]


def test_an_answer_that_is_corrected_later_earns_what_it_earned_when_it_was_given() -> None:
    assert np.allclose(earned(CorrectsItsAnswers), 1 / 3)


def test_queries_are_copied_part_by_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.evaluation.rollout.QUERIES_AT_ONCE", 16)
    CorrectsItsQueries.buffer.zero_()
    once = earned(CorrectsItsQueries, QUERIED)
    assert np.nanmean(once) == pytest.approx(1 / 3), "class 0 is favoured, and right a third of the time"


def in_torch(logits: Tensor, target: Tensor) -> Tensor:
    """Credit as it was computed before it was plain NumPy."""
    best = logits == logits.amax(-1, keepdim=True)
    right = best.gather(-1, target.unsqueeze(-1)).squeeze(-1)
    return right.double() / best.sum(-1).clamp(min=1)


def test_credit_has_the_bits_that_torch_gave() -> None:
    random = torch.Generator().manual_seed(0)
    logits = torch.randint(-2, 3, (50, 40, 7), generator=random).float()
    logits[3, 4, 5], logits[6, 7], logits[8, 9, 1] = torch.nan, torch.inf, -torch.inf
    target = torch.randint(0, 7, (50, 40), generator=random)
    assert np.array_equal(credit(logits.numpy(), target.numpy()), in_torch(logits, target).numpy())


def test_overlap_of_nothing_earns_nothing() -> None:
    none = np.zeros((1, 1, 1, 2, 2), np.float32)
    assert overlap(none + 1, none, none).tolist() == [[0.0]]


class Ones(torch.overrides.TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in {"detach", "numpy", "to", "gather", "eq"}:
            return torch.full((4, 3), torch.nan)
        return func(*args, **(kwargs or {}))


def test_a_mode_of_the_methods_has_no_hand_in_the_copy() -> None:
    logits = torch.zeros(4, 3)
    with Ones():
        assert plain(logits).tolist() == np.zeros((4, 3)).tolist()
