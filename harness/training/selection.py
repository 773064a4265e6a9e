"""Model selection: looks at validation episodes of the protocol, and the weights that scored best there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from harness.data.dataset import Dataset
from harness.evaluation.evaluate import evaluate, most_episodes
from harness.evaluation.score import metrics
from harness.protocol.models import AnyProtocol
from harness.training.frozen_features import seen_once
from harness.training.recipe import EpisodeChange, staged
from harness.training.stages import RunningStage
from harness.training.state import Progress, Training


def validation_protocol(protocol: AnyProtocol, dataset: Dataset) -> AnyProtocol | None:
    """The protocol by which weights are compared: in as many ways as validation has classes, where these are fewer.

    None where there is no validation split, or it has too few classes for any episode.
    """
    if "validation" not in dataset.tables:
        return None
    classes, needs = len(dataset.tables["validation"].names), protocol.needs
    if needs.classes <= classes:
        return protocol
    key = needs.classes_key.removeprefix("episode.")
    if classes < 2 or key not in EpisodeChange.model_fields or getattr(protocol.episode, key, None) != needs.classes:
        return None
    return staged(protocol, EpisodeChange.model_validate({key: classes}))


@dataclass
class Selection:
    """The best weights of a training so far; None before the first look."""

    training: Training
    best: dict[str, Tensor] | None

    def is_due(self, progress: Progress, stage: RunningStage, ended: bool) -> bool:
        """Whether to look after what a stage just did: every so many episodes, or at the end of a stage on the head."""
        validation = self.training.budget.validation
        if validation is None:
            return False
        if stage.spec.objective == "head":
            return ended
        before = progress.episodes - stage.batch
        return stage.spec.on_episodes and progress.episodes // validation.every > before // validation.every

    def is_missing(self, progress: Progress) -> bool:
        """Whether the present weights were not looked at."""
        seen = bool(progress.history) and progress.history[-1]["episodes"] == progress.episodes
        return self.training.budget.validation is not None and not seen

    def look(self, progress: Progress, scored: Callable[[int], None] | None = None) -> None:
        """Scores the present weights on validation episodes, for the history, and keeps them if they are the best.

        `scored` is called with the number of episodes of each batch; what it raises leaves everything as it was.
        """
        training = self.training
        assert training.budget.validation is not None
        protocol = validation_protocol(training.protocol, training.source.dataset)
        assert protocol is not None, "a training without it has no validation in its budget"
        episodes = most_episodes(protocol, training.source.dataset, "validation", training.budget.validation.episodes)
        # Features that a stage trains are others at the next look, and of use to nobody.
        frozen = training.budget.stages[progress.stage].objective == "head"
        cache = training.cache if frozen else None
        played, source = seen_once(training.method, training.source, protocol, "validation", episodes, cache)
        scores = evaluate(played, source, protocol, "validation", episodes, scored)
        score = metrics(protocol, scores)[protocol.ranking][0]
        progress.history.append(
            {
                "episodes": progress.episodes,
                "stage": progress.stage,
                "loss": progress.loss,
                "score": score,
                "seconds": round(progress.seconds, 1),
            }
        )
        if self.best is None or progress.best is None or score > progress.best:
            progress.best, progress.best_episodes = score, progress.episodes
            self.best = {name: tensor.detach().clone() for name, tensor in training.method.state_dict().items()}
