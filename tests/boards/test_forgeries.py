"""Records that were edited everywhere alike: in the record, in what the folder notes, and in the weights' header.

docs/scoring.md says which of these are found by `submit`, which by `verify`, and which by training again alone.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.boards import submit
from harness.evaluation import evaluate
from harness.method.registry import load_method
from harness.protocol.load import load_protocol
from harness.runs.folder import NOTED, read_record
from harness.training.recipe import budget_hash
from harness.training.recipe_file import resolve_for
from harness.util.tensor_files import WEIGHTS, load_tensors, save_tensors, sha256_of
from tests.helpers.submissions import BOARD, finished, raise_scores, rewritten, rows, submitted, verify

pytestmark = pytest.mark.usefixtures("tiny_board")


def forged(folder: Path, header: dict[str, Any] | None = None, **changes: Any) -> None:
    """Changes of the record made in the folder's note and in the weights as well, and every hash made to fit."""
    noted = json.loads((folder / NOTED).read_text())
    identity = {**noted["identity"], **{name: value for name, value in changes.items() if name in noted["identity"]}}
    (folder / NOTED).write_text(json.dumps({**noted, "identity": identity}))
    tensors, before = load_tensors(folder / WEIGHTS)
    save_tensors(folder / WEIGHTS, tensors, {**before, "identity": identity, **(header or {})})
    rewritten(folder, checkpoint=sha256_of(folder / WEIGHTS), **changes)


def full_hash() -> str:
    """The hash of the recipe of budget 'full', which anybody can compute."""
    return budget_hash(resolve_for(load_method("opn"), load_protocol("tiny.yaml"), "full").budget)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (lambda: {"budget": "full"}, "recipe: that of budget full has the hash"),
        (lambda: {"budget": "full", "recipe_hash": full_hash()}, "in budget full"),
        (lambda: {"recipe_hash": "ab" * 32}, "recipe: that of budget smoke has the hash"),
        (lambda: {"budget": "day"}, "recipe"),
        (lambda: {"train_episodes": 10**7, "header": {"train_episodes": 10**7}}, "in budget smoke"),
        (lambda: {"train_episodes": 1, "header": {"train_episodes": 1}}, "in budget smoke"),
        (lambda: {"test_episodes": 13}, "13 test episodes were scored; the board asks for 12"),
        (lambda: {"options": {"channels": 3}}, "parameters: "),
    ],
)
def test_what_does_not_fit_recipe_scores_or_weights_is_not_taken(
    changes: Any, message: str, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(submit, "_conforms", lambda *_: None)
    forged(run, **changes())
    assert submitted(run) in {2, 3}
    assert message in capsys.readouterr().err
    assert not BOARD.exists()


def test_another_seed_is_found_by_training_again_alone(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Weights do not say which seed they were trained from."""
    monkeypatch.setattr(submit, "_conforms", lambda *_: None)
    forged(run, seed=7)
    assert submitted(run) == 0
    assert verify("--row", "1") == 0
    again = finished("opn", "--seed", "7", "--out", "again")
    assert verify("--row", "1", "--run", str(again)) == 3
    assert "differs" in capsys.readouterr().out


@pytest.mark.parametrize("looked_at", [0, -1])
def test_scores_that_submit_does_not_draw_are_found_by_verify(
    looked_at: int, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of six batches `submit` draws one: that of the raised scores, or another."""
    monkeypatch.setattr(submit, "_conforms", lambda *_: None)
    monkeypatch.setattr(evaluate, "BATCH", 2)
    monkeypatch.setattr(submit, "SAMPLE", 2)
    monkeypatch.setattr(evaluate.random, "SystemRandom", lambda: Chance(looked_at))
    raise_scores(run, slice(2))
    if looked_at == 0:
        assert submitted(run) == 3
        assert "the weights do not give the scores" in capsys.readouterr().err
        return
    assert submitted(run) == 0
    assert verify() == 3
    assert "differs: accuracy" in capsys.readouterr().out
    assert verify("--episodes", "2") == 3


class Chance:
    """Chance that always falls on one batch."""

    def __init__(self, number: int) -> None:
        self.number = number

    def sample(self, population: Any, count: int) -> list[int]:
        return [list(population)[self.number]]


def test_an_honest_run_is_taken(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submit, "_conforms", lambda *_: None)
    record = read_record(run)
    forged(run)
    assert submitted(run) == 0
    assert [each.seed for each in rows()] == [record.seed]
