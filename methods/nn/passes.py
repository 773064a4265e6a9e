"""The order in which a learner goes through a support set, pass after pass."""

from __future__ import annotations

import numpy as np

from harness import bits


def passes_over(pairs: int, passes: int) -> list[list[int]]:
    """The numbers of the pairs in each pass: first as they came, then in an order drawn for the pass.

    The orders are the same in all episodes, whose pairs come in random order already.
    """
    words = bits.words(bits.key_of("passes over support pairs"), np.arange(passes), pairs, pairs)
    return [list(range(pairs)), *bits.shuffled(words)[1:].tolist()]
