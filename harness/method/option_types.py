"""Types of options that have a least value: `channels: Count = 64`. Whatever takes options refuses what is below it."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Gt

Count = Annotated[int, Ge(1)]
"""A number of things of which there is one at least."""

Whole = Annotated[int, Ge(0)]
"""A number of things of which there may be none."""

Positive = Annotated[float, Gt(0)]
"""A number above 0."""

NotNegative = Annotated[float, Ge(0)]
"""A number that may be 0, such as a weight or a rate at which nothing is learned."""
