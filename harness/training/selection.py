"""Model selection: looks at validation episodes of the protocol, and the weights that scored best there."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from harness.evaluation.evaluate import evaluate
from harness.evaluation.score import metrics
from harness.training.stages import RunningStage
from harness.training.state import Progress, Training


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
        return stage.spec.objective == "episodes" and progress.episodes // validation.every > before // validation.every

    def is_missing(self, progress: Progress) -> bool:
        """Whether the present weights were not looked at."""
        seen = bool(progress.history) and progress.history[-1]["episodes"] == progress.episodes
        return self.training.budget.validation is not None and not seen

    def look(self, progress: Progress) -> None:
        """Scores the present weights on validation episodes, for the history, and keeps them if they are the best."""
        training = self.training
        assert training.budget.validation is not None
        scores = evaluate(
            training.method, training.source, training.protocol, "validation", training.budget.validation.episodes
        )
        score = metrics(training.protocol, scores)[training.protocol.ranking][0]
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
