"""What torch raises in an update, in words that say what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from harness.training.recipe import Stage
from harness.util.errors import AnswerError, UserError


@contextmanager
def explained(method: str, stage: Stage, batch: int) -> Iterator[None]:
    """Within, a method that changes what its gradients depend on raises AnswerError, and UserError where too few images
    are normalised together; other errors are what they are."""
    try:
        yield
    except RuntimeError as error:
        if "modified by an inplace operation" not in str(error):
            raise
        raise AnswerError(
            f"{method} changes a tensor in place that its gradients need, perhaps a state that it was given: write "
            "x = x + y, not x += y or x[i] = y. `harness check` looks for it"
        ) from error
    except ValueError as error:
        if "more than 1 value per channel" not in str(error) and "more than 1 spatial element" not in str(error):
            raise
        raise UserError(
            f"stage '{stage.name}': {method} normalises by the statistics of a single value; train it in larger "
            f"batches (batch is {batch}), or on larger images if it has an option for their size"
        ) from error
