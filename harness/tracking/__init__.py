"""Experiment trackers as callbacks: `harness run --log NAME`, `harness.run(log=NAME)`. Each is an optional package."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

from harness.tracking.guarded import Guarded
from harness.training.callbacks import Callback
from harness.util.errors import UserError, unknown

TRACKERS = {
    "tensorboard": ("tensorboard", "TensorBoard"),
    "wandb": ("wandb", "WandB"),
    "trackio": ("trackio", "Trackio"),
    "mlflow": ("mlflow", "MLflow"),
}
"""Name to the package that it needs, which is also the extra that installs it, and its class here."""


def tracker(name: str) -> Callback:
    """A new callback that logs to the tracker of this name.

    Raises UserError for a name that is not known, and where its package is not installed. The callback raises UserError
    where the tracker cannot be started; one that fails later does not end the run.
    """
    if name not in TRACKERS:
        raise unknown("tracker", name, TRACKERS)
    package, cls = TRACKERS[name]
    if find_spec(package) is None:
        raise UserError(f"logging to {name} needs the package {package}: pip install 'episode-harness[{name}]'")
    return Guarded(name, getattr(import_module(f"harness.tracking.to_{name}"), cls)())
