"""Groups of built-in methods, read from the registry, so that a new method joins the tests of its kind by itself."""

from __future__ import annotations

from collections.abc import Callable

from harness.method.interface import MASKS, Method
from harness.method.registry import load_method
from methods import BUILT_IN
from methods.nn.untrained import Untrained


def names_of(wanted: Callable[[type[Method]], bool]) -> tuple[str, ...]:
    """Names of the built-in methods whose class is wanted, in alphabetical order."""
    return tuple(sorted(name for name in BUILT_IN if wanted(load_method(name).cls)))


def answers_masks(cls: type[Method]) -> bool:
    """Whether a class runs on protocols that ask for masks, and on no others."""
    return set(cls.kinds) <= set(MASKS)


def is_untrained(cls: type[Method]) -> bool:
    """Whether a class has nothing to train."""
    return issubclass(cls, Untrained)


TRAINED = names_of(lambda cls: not is_untrained(cls))
UNTRAINED_CLASSES = names_of(lambda cls: is_untrained(cls) and not answers_masks(cls))
UNTRAINED_MASKS = names_of(lambda cls: is_untrained(cls) and answers_masks(cls))
LABELS_ALONE = names_of(lambda cls: is_untrained(cls) and not answers_masks(cls) and not cls.needs_label_delay)
"""Untrained methods that look at labels and never at images, so that they need not know which image a label is of."""
