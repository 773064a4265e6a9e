"""What all models of files that people write have in common."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

MOST = 10**12
"""Nothing is counted beyond this: 64-bit products of counts with sizes stay whole."""


def _countable(number: int) -> int:
    if number > MOST:
        raise ValueError(f"found {number}, which is more than can be counted here ({MOST})")
    return number


Count = Annotated[int, Field(strict=True, ge=1), AfterValidator(_countable)]
"""A whole number of at least one (no booleans, no text, no fractions)."""


class Strict(BaseModel):
    """Frozen, and refuses keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)
