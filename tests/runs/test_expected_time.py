"""The time of a run: from the log of a finished one, or measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from harness.runs.expected_time import measured_time, recorded_time, validations_of
from harness.runs.folder import TRAINING_LOG
from harness.runs.resolve import Request, prepare
from harness.runs.run import run
from harness.training.recipe import Budget, Stage, Validation
from harness.util.errors import UserError

REQUEST = Request("cifarfs_delay5", "lstm", "smoke", data="stand-in", test_episodes=4, device="cpu", threads=1)


def test_a_finished_run_tells_what_each_stage_took(tmp_path: Path) -> None:
    prepared = prepare(Request(**{**vars(REQUEST), "out": tmp_path}))
    record, budget = run(prepared, quiet=True), prepared.budget
    identity = {**prepared.identity, "test_episodes": 40}
    found = recorded_time(tmp_path, identity, budget, record.hardware)
    assert found is not None
    assert [each.name for each in found.stages] == [each.name for each in budget.stages]
    assert sum(each.updates for each in found.stages) == record.train_updates
    assert sum(each.seconds for each in found.stages) <= record.train_seconds
    assert found.scoring == pytest.approx(10 * record.score_seconds)
    log = prepared.folder / TRAINING_LOG
    events = [json.loads(line)["event"] for line in log.read_text().splitlines()]
    assert validations_of(budget) == events.count("validation")
    other = record.hardware.model_copy(update={"cpu": "another"})
    assert recorded_time(tmp_path, identity, budget, other) is None
    assert recorded_time(tmp_path, {**identity, "recipe_hash": "0"}, budget, record.hardware) is None
    log.write_text("\n".join(log.read_text().splitlines()[:2]) + "\n{")
    assert recorded_time(tmp_path, identity, budget, record.hardware) is None


def test_a_run_is_measured_by_its_stages_and_a_batch_of_scoring(tmp_path: Path) -> None:
    prepared = prepare(Request(**{**vars(REQUEST), "out": tmp_path, "threads": 2}))
    said: list[str] = []
    threads: list[int] = []

    def say(text: str) -> None:
        said.append(text)
        threads.append(torch.get_num_threads())

    found = measured_time(prepared, 0.01, say)
    assert set(threads) == {2}
    assert torch.get_num_threads() == 1, "they are as before"
    assert said == [*(f"timing stage '{each.name}'" for each in prepared.budget.stages), "timing a batch of scoring"]
    assert found.validations is not None
    assert found.seconds == sum(each.seconds for each in found.stages) + found.validations + found.scoring
    assert min(each.seconds for each in found.stages) > 0
    assert not prepared.folder.exists()


def test_validations_are_counted_as_training_makes_them() -> None:
    def budget(*stages: Stage) -> Budget:
        return Budget(batch=4, stages=list(stages), validation=Validation(every=10, episodes=5))

    classes = Stage(name="classes", objective="classes", episodes=100)
    head = Stage(name="head", objective="head", episodes=100)
    assert validations_of(budget(classes)) == 1  # at the end, where the present weights were not looked at
    assert validations_of(budget(classes, head, head)) == 2
    assert validations_of(budget(classes, Stage(name="all", episodes=20))) == 2
    assert validations_of(Budget(stages=[head])) == 0


def test_there_is_nothing_to_time_where_nothing_is_trained() -> None:
    with pytest.raises(UserError, match="count has no parameters: nothing is trained"):
        measured_time(prepare(Request(**{**vars(REQUEST), "method": "count"})), 0.01, lambda _: None)
