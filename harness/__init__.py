"""A declarative episode-protocol benchmark harness.

Everything public is an attribute of this package (`dir(harness)` lists it); the modules that define it may move.

    from harness import Feedback, Method, Task                    # to write a method
    harness.check_method(MyMethod)                                # to check it
    loaded = harness.load_protocol("cifarfs_delay5")              # to look into a protocol
    harness.run(harness.prepare(harness.Request("cifarfs_delay5", "mine.py:MyMethod", data="stand-in")))

Names are loaded on first use, so that `import harness` stays free of torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness import testing
    from harness.boards.store import read_board
    from harness.check import check_method
    from harness.data.open_dataset import load_dataset
    from harness.episodes.plan import EpisodePlan, plan_episodes
    from harness.episodes.source import Episodes, EpisodeSource
    from harness.evaluation.evaluate import evaluate
    from harness.evaluation.rollout import feedback_of, step_through
    from harness.evaluation.score import metrics
    from harness.method.interface import Feedback, Method, State, Task
    from harness.method.registry import build_method, load_method, method_names, task_for
    from harness.protocol.load import for_data, load_protocol
    from harness.records.record import Record
    from harness.runs.resolve import Request, prepare
    from harness.runs.run import run
    from harness.training.interface import Batch, Features, Trainable, features_of
    from harness.util.errors import HarnessError, UserError

__version__ = "0.1.0"

_HOME = {
    "Batch": "training.interface",
    "EpisodePlan": "episodes.plan",
    "EpisodeSource": "episodes.source",
    "Episodes": "episodes.source",
    "Features": "training.interface",
    "Feedback": "method.interface",
    "HarnessError": "util.errors",
    "Method": "method.interface",
    "Record": "records.record",
    "Request": "runs.resolve",
    "State": "method.interface",
    "Task": "method.interface",
    "Trainable": "training.interface",
    "UserError": "util.errors",
    "build_method": "method.registry",
    "check_method": "check",
    "evaluate": "evaluation.evaluate",
    "features_of": "training.interface",
    "feedback_of": "evaluation.rollout",
    "for_data": "protocol.load",
    "load_dataset": "data.open_dataset",
    "load_method": "method.registry",
    "load_protocol": "protocol.load",
    "method_names": "method.registry",
    "metrics": "evaluation.score",
    "plan_episodes": "episodes.plan",
    "prepare": "runs.resolve",
    "read_board": "boards.store",
    "run": "runs.run",
    "step_through": "evaluation.rollout",
    "task_for": "method.registry",
    "testing": "testing",
}
"""The module of each public name; `testing` is a package itself."""

__all__ = [
    "Batch",
    "EpisodePlan",
    "EpisodeSource",
    "Episodes",
    "Features",
    "Feedback",
    "HarnessError",
    "Method",
    "Record",
    "Request",
    "State",
    "Task",
    "Trainable",
    "UserError",
    "__version__",
    "build_method",
    "check_method",
    "evaluate",
    "features_of",
    "feedback_of",
    "for_data",
    "load_dataset",
    "load_method",
    "load_protocol",
    "method_names",
    "metrics",
    "plan_episodes",
    "prepare",
    "read_board",
    "run",
    "step_through",
    "task_for",
    "testing",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'harness' has no attribute '{name}'")
    module = import_module(f"harness.{_HOME[name]}")
    found = module if name == _HOME[name] else getattr(module, name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
