"""The standard deviation of a few numbers, without rounding but the last."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

_BITS = 2 * sys.float_info.mant_dig + 3
"""Bits of a quotient of which the root has more than a float."""


def deviation(values: Sequence[float]) -> float:
    """The sample standard deviation of at least two finite numbers, as `statistics.stdev` has it, correctly rounded, in
    a tenth of its time: sums are of whole numbers, since what divides a float is a power of two."""
    ratios = [value.as_integer_ratio() for value in values]
    scale = max(divisor for _, divisor in ratios)
    whole = [number * (scale // divisor) for number, divisor in ratios]
    count = len(whole)
    above = count * sum(each * each for each in whole) - sum(whole) ** 2
    below = count * (count - 1) * scale * scale
    shift = min(0, (above.bit_length() - below.bit_length() - _BITS) // 2)
    above <<= -2 * shift
    root = math.isqrt(above // below)
    return (root | (root * root * below != above)) / (1 << -shift)
