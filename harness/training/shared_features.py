"""Shared features are trained on the training classes once: kept in the cache by what they are a function of.

An entry is `<cache>/pretrained/<key>.safetensors`: the features and the layer over them that tells the classes apart,
as they are at the end of one stage with the objective on classes. The key is a hash of everything that the stage is a
function of, its starting weights among them, so that a run that reuses an entry ends as one that trains: with the same
weights, and with the same count of episodes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor

from harness.training.stages import Running
from harness.training.state import Progress, Training
from harness.util.tensor_files import content_of, with_prefix, without_prefix

VERSION = 1
"""Raised when the same settings come to give other features."""


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
