"""The standard deviation is that of the standard library, to the last bit."""

from __future__ import annotations

import random
import statistics

from harness.util.deviation import deviation


def test_it_is_the_standard_librarys_to_the_last_bit() -> None:
    drawn = random.Random(0)
    for _ in range(3000):
        centre, width = drawn.uniform(0, 100), 10 ** drawn.uniform(-16, 2)
        values = [
            drawn.choice([centre, drawn.gauss(centre, width), 0.0, 1e-300, 1e300]) for _ in range(drawn.randint(2, 6))
        ]
        assert deviation(values) == statistics.stdev(values), values
