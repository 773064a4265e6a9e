"""A stage that trains shared features, done once for all methods that have them: a wrapper around the stage.

An entry of the cache is `<cache>/pretrained/<key>.safetensors`: the features and the layer over them that tells the
classes apart, as they are at the end of one stage with the objective on classes. The key is a hash of everything that
the stage is a function of, its starting weights among them, so that a run that reuses an entry ends as one that
trains: with the same weights, and with the same count of episodes.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from harness.episodes.changes import MOVES
from harness.training.clipping import Clipping
from harness.training.feature_cache import FeatureCache
from harness.training.feature_keys import arithmetic_of, code_of, key_of, probe_of
from harness.training.objectives import ClassesObjective
from harness.training.stages import RunningStage
from harness.training.state import Progress
from harness.util.tensor_files import content_of, fits, with_prefix, without_prefix

VERSION = 3
"""Raised when the same settings come to give other features."""

SPENT = ("episodes", "updates", "seconds")
"""What an entry cost whoever trained it."""

MADE_BY = "made_by"
"""What of the key is of the code and the machine, which may be others when a training is resumed. '' where they were:
features that were made half by the one and half by the other are what neither makes, and are not kept."""


@dataclass
class CachedStage:
    """A stage on classes that is taken from the cache if it can be, and put into it otherwise.

    While it trains, whoever else would train the same waits: `claim` is closed at the end of the stage, and by the
    training whenever that ends. `stopping` tells whether waiting is to be given up.
    """

    running: RunningStage
    objective: ClassesObjective
    shared: nn.Module
    cache: FeatureCache
    claim: ExitStack
    stopping: Callable[[], bool]
    reused: bool = False
    going: bool = False

    def advance(self, progress: Progress) -> bool:
        """The whole stage at once if it is in the cache, which is no update and returns False; or one update."""
        if progress.stage_episodes == 0:
            self.reused = self._reuse(progress)
        elif not self.going and (entry := _being_trained(progress)) and entry.get(MADE_BY) != key_of(self._made_by()):
            entry[MADE_BY] = ""
        self.going = True
        return not self.reused and self.running.advance(progress)

    def ended(self, progress: Progress) -> bool:
        """Whether the features came from the cache, or the stage is at its end."""
        return self.reused or self.running.ended(progress)

    def close(self, progress: Progress) -> None:
        """Puts the features into the cache, unless they came from there or the stage began without one."""
        if entry := _being_trained(progress):
            entry["episodes"] = progress.stage_episodes
            entry["updates"] = progress.updates - entry["updates"]
            entry["seconds"] = round(progress.seconds - entry["seconds"], 1)
            spent = {name: entry[name] for name in SPENT}
            if entry.get(MADE_BY) and self.cache.keep(entry["key"], self._tensors(), spent):
                self.cache.say(f"features: kept in the cache ({entry['key'][:16]})")
        self.claim.close()
        self.running.close(progress)

    def _reuse(self, progress: Progress) -> bool:
        """Puts features of the cache in place, with the counters as at the end of the stage; False if there are none.

        Then the stage is about to train them, and holds the claim.
        """
        own = self._tensors()
        key = self._key(progress, own)
        found = self.cache.find(key, partial(fits, own), SPENT)
        if found is None:
            self.cache.claim(key, self.claim, self.stopping)
            found = self.cache.find(key, partial(fits, own), SPENT)
        last = self.running.training.total + self.running.batch
        if found is None or progress.episodes + found[1]["episodes"] >= last:
            # `updates` and `seconds` are those before the stage until it ends.
            before = {"updates": progress.updates, "seconds": progress.seconds}
            made_by = key_of(self._made_by())
            progress.pretrained.append({"key": key, MADE_BY: made_by, "reused": False, "episodes": 0, **before})
            return False
        tensors, spent = found
        self.shared.load_state_dict(without_prefix("features", tensors))
        self.objective.head.load_state_dict(without_prefix("head", tensors))
        progress.episodes += spent["episodes"]
        progress.stage_episodes = spent["episodes"]
        progress.updates += spent["updates"]
        progress.pretrained.append({"key": key, "reused": True, **spent})
        self.cache.say(f"features: reused from the cache ({key[:16]}), trained in {spent['seconds']:.0f} s")
        return True

    def _tensors(self) -> dict[str, Tensor]:
        """The shared features and the layer over them, by name."""
        head = self.objective.head
        return {**with_prefix("features", self.shared.state_dict()), **with_prefix("head", head.state_dict())}

    def _key(self, progress: Progress, start: dict[str, Tensor]) -> str:
        """SHA-256 (hex) of everything that the features at the end of the stage are a function of."""
        training, spec = self.running.training, self.running.spec
        budget, dataset, device = training.budget, training.source.dataset, training.source.device
        optimizer, clipping = spec.optimizer or budget.optimizer, Clipping.of(spec, budget)
        settings = {
            "version": VERSION,
            "data": [dataset.fingerprint, dataset.card.mean, dataset.card.std],
            "features": repr(self.shared),
            "head": repr(self.objective.head),
            "start": content_of(start),
            "stage": spec.model_dump(mode="json", include={"episodes", "until_loss", "schedule", "warmup"}),
            "batch": self.running.batch,
            "optimizer": {
                **optimizer.model_dump(mode="json", exclude={"weight_decay_of"}),
                "lr": spec.lr or optimizer.lr,
            },
            "clip_norm": clipping.norm,
            "augment": sorted(each for each in budget.augment if each in MOVES),
            "seed": [training.seed, progress.stage, progress.updates],
            "computes": probe_of(self.shared, dataset.card.image_shape, device),
            **self._made_by(),
        }
        # What came later is in the key where it is in use, so that keys without it are what they were.
        more = {"clip_value": clipping.value, "clip_tensor_norm": clipping.tensor_norm}
        settings |= {name: bound for name, bound in more.items() if bound is not None}
        if optimizer.weight_decay_of != "all":
            settings["weight_decay_of"] = optimizer.weight_decay_of
        return key_of(settings)

    def _made_by(self) -> dict[str, Any]:
        """The code of the net and the arithmetic of the machine."""
        training = self.running.training
        device, precision = training.source.device, training.budget.precision
        found: dict[str, Any] = {"code": code_of(self.shared), "arithmetic": arithmetic_of(device, precision)}
        if device.type == "cuda":
            found["backward"] = precision  # the backward pass once had the precision that torch begins with
        if not training.processes.alone:
            found["processes"] = training.processes.world  # sums are rounded in another order
        return found


AnyStage = RunningStage | CachedStage


def with_cache(
    running: RunningStage, cache: FeatureCache | None, claim: ExitStack, stopping: Callable[[], bool]
) -> AnyStage:
    """The stage, wrapped if it trains features that a cache can hold."""
    objective = running.objective
    if cache is None or not isinstance(objective, ClassesObjective) or objective.features.shared is None:
        return running
    return CachedStage(running, objective, objective.features.shared, cache, claim, stopping)


def _being_trained(progress: Progress) -> dict[str, Any] | None:
    """What is noted of the features that are being trained; None where their stage began without a cache."""
    entry = progress.pretrained[-1] if progress.pretrained else None
    return None if entry is None or entry["episodes"] else entry


def finished_pretraining(progress: Progress) -> list[dict[str, Any]]:
    """What a finished training says of its shared features: only stages that came to their end."""
    ended = [each for each in progress.pretrained if each["episodes"]]
    return [{name: value for name, value in each.items() if name != MADE_BY} for each in ended]
