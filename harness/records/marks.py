"""Marks: words on a row that a reader should see, and what keeps it out of the ranking."""

from __future__ import annotations

LABEL_DELAY_TOLD = "label delay told"
GRADIENT_AT_TEST = "gradient at test"
TRANSDUCTIVE = "transductive"
STAND_IN = "stand-in"
PARTIAL_TEST = "partial test"
SKIPS_CHECK = "skips check"
"""A mark that begins with this ('skips check: trainable') says that the method declares a check not to apply to it."""
CUSTOM_RECIPE = "custom recipe"
"""The run was trained by a recipe of the user's (--recipe) that says something else than the method's own."""
RECIPE_CHANGED = "recipe changed"
"""A mark that begins with this ('recipe changed: lr=0.001') says what the command line changed of the recipe."""
SEARCHED = "hyperparameters searched"
"""A mark that begins with this ('hyperparameters searched: 20 trials') says among how many trainings these
hyperparameters had the best validation score."""
TRAINED_BY = "trained by "
"""A mark that begins with this ('trained by 2 processes') says that so many shared each batch (torchrun). Sums are then
rounded in another order, and methods that draw random numbers while they train draw others."""
TRAINED_ON = "trained on "
"""A mark that begins with this ('trained on NVIDIA H200') names the devices that trained the weights, in the run or
before it (`--init`), where not all of it was done on the one that scored, which is the record's hardware."""
FAILED_CHECK = "failed check"
"""A mark that begins with this ('failed check: no cross-talk') keeps a row out of the ranking."""
NOT_CHECKED = "not checked"
"""The conformance check was left out; such a row is not ranked either."""


def is_check_mark(mark: str) -> bool:
    """Whether a mark says that the method failed the conformance check, or did not take it."""
    return mark == NOT_CHECKED or mark.startswith(FAILED_CHECK)
