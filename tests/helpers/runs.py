"""The smallest runs from the command line: protocols and recipes of a few episodes on random pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.runs import run
from harness.runs.resolve import limits_of

PROTOCOLS = {
    "late": "kind: delayed_label\ntitle: tiny\ndataset: cifar_fs\nstand_in: objects\n"
    "episode: {ways: 2, presentations: 3, label_delay: 2}\nscoring: {shots: [1, 2], test_episodes: 5}\n",
    "support": "kind: n_way_k_shot\ntitle: tiny\ndataset: cifar_fs\nstand_in: objects\n"
    "episode: {ways: 2, shots: 1, queries: 2}\nscoring: {test_episodes: 5}\n",
}
RECIPE = """\
method: {method}
parts:
  - smoke: &budget
      options: {options}
      batch: 2
      clip_norm: 5.0
      augment: [flip]
      stages:
        - {{name: classes, objective: classes, episodes: 6}}
        - {{name: head, objective: head, episodes: 4}}
        - {{name: all, episodes: 6, schedule: cosine}}
      validation: {{every: 4, episodes: 2}}
    quick: *budget
    full: *budget
"""
UPDATES = 8
RUNS = {
    "late": ("cl_lstm", "{channels: 4, lstm: 8, resolution: 8}"),
    "support": ("ppa", "{channels: 4, resolution: 16}"),  # its features are kept in a cache
}


def written(folder: Path) -> Path:
    """A new working directory with the protocols and recipes."""
    folder.mkdir(parents=True, exist_ok=True)
    for protocol, (method, options) in RUNS.items():
        (folder / f"{protocol}.yaml").write_text(PROTOCOLS[protocol])
        (folder / f"{method}.yaml").write_text(RECIPE.format(method=method, options=options))
    return folder


def words(protocol: str, *more: str) -> list[str]:
    """The command line of a run, for a working directory made by `written`; to check the method would take longer."""
    method = RUNS[protocol][0]
    own = ["run", f"{protocol}.yaml", "--method", method, "--recipe", f"{method}.yaml", "--budget", "smoke"]
    return [*own, "--threads", "1", "--cache", "cache", "--no-check", *more]


def run_folder(folder: Path = Path()) -> Path:
    """The one run folder below a working directory."""
    (found,) = [each for each in folder.glob("runs/*/*") if each.is_dir()]
    return found


def save_every(seconds: float, put: Callable[[Any, str, Any], None] = setattr) -> None:
    """Has runs of this process write a checkpoint so often; `put` sets the attribute, as MonkeyPatch.setattr does."""
    put(run, "limits_of", lambda *of: replace(limits_of(*of), checkpoint_seconds=seconds))
