"""A folder with small protocols, a recipe and a method of one's own, as a user of the Python API has them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.runs import written

OWN = """
import torch
from harness import Feedback, Method, Task

class Bias(Method):
    kinds = ("online_few_shot", "delayed_label")

    def __init__(self, task: Task, start_at: float = 0.0) -> None:
        super().__init__(task)
        self.bias = torch.nn.Parameter(torch.full((task.ways,), start_at))

    def start(self, episodes):
        return {"steps": self.bias.new_zeros(episodes)}

    def observe(self, state, feedback: Feedback):
        return state

    def predict(self, state, x):
        return self.bias + 0 * x.flatten(1)[:, :1], {"steps": state["steps"] + 1}
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> Path:
    monkeypatch.chdir(written(tmp_path))
    monkeypatch.setenv("HARNESS_CACHE", str(cache))
    (tmp_path / "own_bias.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path
