"""A declarative episode-protocol benchmark harness.

Everything public is an attribute of this package (`dir(harness)` lists it); the modules that define it may move.

    import harness as h

    h.load_protocol("cifarfs_delay5")                          # a protocol, by name, file, mapping or model
    h.episodes("cifarfs_delay5", "train", batch=32)            # its episodes, for a training loop of one's own
    h.run("cifarfs_delay5", MyMethod, data="stand-in")         # train, score, compare: .metrics, .to_pandas(), .plot()
    h.check(MyMethod)                                          # does it keep the rules?
    h.sweep("norml_table2")                                    # the runs of a grid that are missing
    h.results().to_pandas()                                    # what is on the leaderboards

Names are loaded on first use, so that `import harness` stays free of torch.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness import testing
    from harness.api.conformance import check
    from harness.api.data import dataset, episodes, register_dataset
    from harness.api.leaderboards import Comparison, Results, compare, results
    from harness.api.methods import build_method, evaluate, task_for
    from harness.api.named import load_method, load_protocol
    from harness.api.result import Result
    from harness.api.run import run
    from harness.api.sweep import SweepResult, sweep
    from harness.api.verify import Verified, verify
    from harness.data.dataset import Dataset
    from harness.data.open_dataset import load_dataset
    from harness.episodes.fixed import with_episodes
    from harness.episodes.plan import EpisodePlan, plan_episodes
    from harness.episodes.source import Episodes, EpisodeSource
    from harness.episodes.stream import EpisodeStream
    from harness.evaluation.rollout import feedback_of, step_through
    from harness.evaluation.score import metrics
    from harness.method.interface import Feedback, Method, State, Task
    from harness.method.registry import method_names
    from harness.protocol.load import for_data
    from harness.records.record import Record
    from harness.training.callbacks import Callback, Event
    from harness.training.interface import Batch, Features, Trainable, features_of
    from harness.util.errors import HarnessError, RunError, UserError

__version__ = "0.1.0"

_HOME = {
    "Batch": "training.interface",
    "Callback": "training.callbacks",
    "Comparison": "api.leaderboards",
    "Dataset": "data.dataset",
    "EpisodePlan": "episodes.plan",
    "EpisodeSource": "episodes.source",
    "EpisodeStream": "episodes.stream",
    "Episodes": "episodes.source",
    "Features": "training.interface",
    "Event": "training.callbacks",
    "Feedback": "method.interface",
    "HarnessError": "util.errors",
    "Method": "method.interface",
    "Record": "records.record",
    "Result": "api.result",
    "Results": "api.leaderboards",
    "RunError": "util.errors",
    "State": "method.interface",
    "SweepResult": "api.sweep",
    "Task": "method.interface",
    "Trainable": "training.interface",
    "UserError": "util.errors",
    "Verified": "api.verify",
    "build_method": "api.methods",
    "check": "api.conformance",
    "compare": "api.leaderboards",
    "dataset": "api.data",
    "episodes": "api.data",
    "evaluate": "api.methods",
    "features_of": "training.interface",
    "feedback_of": "evaluation.rollout",
    "for_data": "protocol.load",
    "load_dataset": "data.open_dataset",
    "load_method": "api.named",
    "load_protocol": "api.named",
    "method_names": "method.registry",
    "metrics": "evaluation.score",
    "plan_episodes": "episodes.plan",
    "register_dataset": "api.data",
    "results": "api.leaderboards",
    "run": "api.run",
    "step_through": "evaluation.rollout",
    "sweep": "api.sweep",
    "task_for": "api.methods",
    "testing": "testing",
    "verify": "api.verify",
    "with_episodes": "episodes.fixed",
}
"""The module of each public name; `testing` is a package itself."""

__all__ = [
    "Batch",
    "Callback",
    "Comparison",
    "Dataset",
    "EpisodePlan",
    "EpisodeSource",
    "EpisodeStream",
    "Episodes",
    "Event",
    "Features",
    "Feedback",
    "HarnessError",
    "Method",
    "Record",
    "Result",
    "Results",
    "RunError",
    "State",
    "SweepResult",
    "Task",
    "Trainable",
    "UserError",
    "Verified",
    "__version__",
    "build_method",
    "check",
    "compare",
    "dataset",
    "episodes",
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
    "register_dataset",
    "results",
    "run",
    "step_through",
    "sweep",
    "task_for",
    "testing",
    "verify",
    "with_episodes",
]


class _Package(ModuleType):
    """This package. Of `harness.check`, `harness.episodes` and `harness.sweep` there is a public function and a package
    of modules: the attribute stays the function when Python binds the package, which imports reach by its full name all
    the same."""

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, ModuleType) and _HOME.get(name, name) != name:
            return
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


if not TYPE_CHECKING:  # type checkers know every name from above, and find one that is not there

    def __getattr__(name: str) -> Any:
        if name not in _HOME:
            raise AttributeError(f"module 'harness' has no attribute '{name}'")
        module = import_module(f"harness.{_HOME[name]}")
        found = module if name == _HOME[name] else getattr(module, name)
        globals()[name] = found
        return found


def __dir__() -> list[str]:
    return sorted(__all__)
