"""Shared features are trained on the training classes once: kept in the cache by what they are a function of.

An entry is `<cache>/pretrained/<key>.safetensors`: the features and the layer over them that tells the classes apart,
as they are at the end of one stage with the objective on classes. The key is a hash of everything that the stage is a
function of, its starting weights among them, so that a run that reuses an entry ends as one that trains: with the same
weights, and with the same count of episodes.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from harness.checkpoint import content_of, load_tensors, save_tensors, with_prefix, without_prefix
from harness.errors import HarnessError, UserError

if TYPE_CHECKING:
    from harness.stages import Running
    from harness.train import Progress, Training

VERSION = 1
"""Raised when the same settings come to give other features."""


def _silent(_: str) -> None:
    return


@dataclass(frozen=True)
class FeatureCache:
    """The folder of features trained before, and who is told in words what becomes of them."""

    folder: Path
    say: Callable[[str], None] = _silent

    def path(self, key: str) -> Path:
        return self.folder / f"{key}.safetensors"

    def find(self, key: str, like: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The tensors and the header kept under a key, alike in names and shapes to `like`; None without.

        What is damaged is set aside under another name, which is said.
        """
        path = self.path(key)
        if not path.is_file():
            return None
        try:
            tensors, header = load_tensors(path)
            fits = {name: each.shape for name, each in tensors.items()} == {n: t.shape for n, t in like.items()}
            if not fits or header["content"] != content_of(tensors):
                raise UserError(f"{path} is damaged: its tensors are not those that were written")
            return tensors, {name: header[name] for name in ("episodes", "updates", "seconds")}
        except (UserError, KeyError) as error:
            aside = next(p for n in range(1, 10_000) if not (p := path.with_name(f"{path.name}.damaged-{n}")).exists())
            os.replace(path, aside)
            self.say(f"features: {error}; set aside as {aside.name}, and trained again")
            return None

    def keep(self, key: str, tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
        """Writes an entry; where that is not possible it says so, and the training goes on."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            save_tensors(self.path(key), tensors, {**header, "content": content_of(tensors)})
            self.say(f"features: kept in the cache ({key[:16]})")
        except (HarnessError, OSError) as error:
            self.say(f"features: not kept in the cache: {error}")

    def claim(self, key: str, held: ExitStack, stop: Callable[[], bool]) -> None:
        """Waits until nobody else trains what belongs under a key, and keeps others waiting until `held` is closed.

        Returns at once where the cache cannot be written, and soon after `stop` says so.
        """
        from filelock import FileLock, Timeout

        told = False
        while True:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                held.enter_context(FileLock(self.folder / f".{key}.lock", timeout=1 if told else 0))
                return
            except Timeout:
                if stop():
                    return
                if not told:
                    self.say(f"features: another run is training them ({key[:16]}); waiting for it")
                    told = True
            except OSError:
                return


def begin_pretraining(
    training: Training, progress: Progress, stage: Running, held: ExitStack, stop: Callable[[], bool]
) -> bool:
    """At the beginning of a stage that trains shared features: whether they were trained before and are now in place.

    The counters are then where they would be at the end of the stage. If not, the stage is about to train them, and
    whoever else would is kept waiting until `held` is closed. Does nothing at any other time.
    """
    cache = training.cache
    if cache is None or stage.shared is None or progress.stage_episodes:
        return False
    own = tensors_of(stage)
    key = key_of(training, progress, stage, own)
    found = cache.find(key, own)
    if found is None:
        cache.claim(key, held, stop)
        found = cache.find(key, own)
    size = stage.spec.batch or training.budget.batch
    if found is None or progress.episodes + found[1]["episodes"] - size >= training.total:
        # `updates` and `seconds` are those before the stage until it ends.
        entry = {"key": key, "reused": False, "episodes": 0, "updates": progress.updates, "seconds": progress.seconds}
        progress.pretrained.append(entry)
        return False
    tensors, spent = found
    assert stage.head is not None
    stage.shared.load_state_dict(without_prefix("features", tensors))
    stage.head.load_state_dict(without_prefix("head", tensors))
    progress.episodes += spent["episodes"]
    progress.stage_episodes = spent["episodes"]
    progress.updates += spent["updates"]
    progress.pretrained.append({"key": key, "reused": True, **spent})
    cache.say(f"features: reused from the cache ({key[:16]}), trained in {spent['seconds']:.0f} s")
    return True


def end_pretraining(training: Training, progress: Progress, stage: Running) -> None:
    """At the end of a stage that trained shared features: keeps them."""
    if training.cache is None or stage.shared is None:
        return
    entry = progress.pretrained[-1] if progress.pretrained else None
    if entry is None or entry["episodes"]:  # the stage began without a cache
        return
    entry["episodes"] = progress.stage_episodes
    entry["updates"] = progress.updates - entry["updates"]
    entry["seconds"] = round(progress.seconds - entry["seconds"], 1)
    spent = {name: entry[name] for name in ("episodes", "updates", "seconds")}
    training.cache.keep(entry["key"], tensors_of(stage), spent)


def tensors_of(stage: Running) -> dict[str, Tensor]:
    """The shared features and the layer over them, by name."""
    assert stage.shared is not None
    assert stage.head is not None
    return {**with_prefix("features", stage.shared.state_dict()), **with_prefix("head", stage.head.state_dict())}


def key_of(training: Training, progress: Progress, stage: Running, start: dict[str, Tensor]) -> str:
    """SHA-256 (hex) of everything that the features at the end of a stage are a function of."""
    budget, spec, dataset = training.budget, stage.spec, training.source.dataset
    optimizer = spec.optimizer or budget.optimizer
    settings = {
        "version": VERSION,
        "data": [dataset.fingerprint, dataset.card.mean, dataset.card.std],
        "features": repr(stage.shared),
        "head": repr(stage.head),
        "start": content_of(start),
        "stage": spec.model_dump(mode="json", include={"episodes", "until_loss", "schedule", "warmup"}),
        "batch": spec.batch or budget.batch,
        "optimizer": {**optimizer.model_dump(mode="json"), "lr": spec.lr or optimizer.lr},
        "clip_norm": spec.clip_norm or budget.clip_norm,
        "augment": sorted(budget.augment),
        "seed": [training.seed, progress.stage, progress.updates],
        "arithmetic": [training.source.device.type, budget.amp, torch.__version__],
    }
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def spent_before(progress: Progress) -> list[dict[str, Any]]:
    """What a finished training says of its shared features: only stages that came to their end."""
    return [dict(each) for each in progress.pretrained if each["episodes"]]
