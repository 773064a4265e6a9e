"""Ranges of hyperparameters in a search: what may be drawn, and how it is drawn from a trial of Optuna."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, JsonValue, model_validator

from harness.util.pydantic_base import Strict

if TYPE_CHECKING:
    import optuna

_DIGITS = 4
"""Significant digits of a drawn float: a row, a folder and a command line say all of them."""

Bound = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=-1e12, le=1e12)]
WholeBound = Annotated[int, Field(strict=True, ge=-(10**12), le=10**12)]


class FloatRange(Strict):
    """Numbers from `low` to `high`, evenly or, with `log`, evenly in their logarithm."""

    type: Literal["float"]
    low: Bound
    high: Bound
    log: bool = Field(False, description="drawn evenly in the logarithm")

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        _check_order(self.low, self.high, self.log)
        return self


class IntRange(Strict):
    """Whole numbers from `low` to `high`, both included, `step` apart; with `log` evenly in their logarithm."""

    type: Literal["int"]
    low: WholeBound
    high: WholeBound
    log: bool = Field(False, description="drawn evenly in the logarithm")
    step: Annotated[int, Field(strict=True, ge=1)] = Field(1, description="only without log")

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.log and self.step != 1:
            raise ValueError("a range with log has no step")
        _check_order(self.low, self.high, self.log)
        return self


class Choices(Strict):
    """One of these values, between which there is no order."""

    type: Literal["categorical"]
    choices: Annotated[list[JsonValue], Field(min_length=2)]

    @model_validator(mode="after")
    def _differ(self) -> Self:
        if len({repr(each) for each in self.choices}) < len(self.choices):
            raise ValueError("two of the choices are the same")
        return self


AnyRange = FloatRange | IntRange | Choices
Range = Annotated[AnyRange, Field(discriminator="type")]


def values_to_check(drawn_from: AnyRange) -> list[Any]:
    """Values of a range that must be allowed, for all of it to be: its ends, or every choice."""
    return drawn_from.choices if isinstance(drawn_from, Choices) else [drawn_from.low, drawn_from.high]


def distributions(
    ranges: Mapping[str, AnyRange],
) -> dict[str, optuna.distributions.BaseDistribution]:
    """The ranges as Optuna's distributions. Choices are drawn by their number: its storage holds no lists."""
    return {name: _distribution(each) for name, each in ranges.items()}


def drawn(ranges: Mapping[str, AnyRange], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The values that the parameters of a trial stand for."""
    return {name: _value(each, parameters[name]) for name, each in ranges.items()}


def _check_order(low: float, high: float, log: bool) -> None:
    if low >= high:
        raise ValueError(f"low is {low:g} and high is {high:g}; low must be less than high")
    if log and low <= 0:
        raise ValueError(f"low is {low:g}; with log it must be more than 0")


def _distribution(drawn_from: AnyRange) -> optuna.distributions.BaseDistribution:
    from optuna import distributions as optuna_has

    if isinstance(drawn_from, Choices):
        return optuna_has.CategoricalDistribution(range(len(drawn_from.choices)))
    if isinstance(drawn_from, IntRange):
        # Optuna lowers `high` to the last number that is drawn, and warns; what is stored would then differ.
        high = drawn_from.high - (drawn_from.high - drawn_from.low) % drawn_from.step
        return optuna_has.IntDistribution(drawn_from.low, high, drawn_from.log, drawn_from.step)
    return optuna_has.FloatDistribution(drawn_from.low, drawn_from.high, drawn_from.log)


def _value(drawn_from: AnyRange, parameter: Any) -> Any:
    if isinstance(drawn_from, Choices):
        return drawn_from.choices[parameter]
    if isinstance(drawn_from, IntRange):
        return int(parameter)
    rounded = float(f"{parameter:.{_DIGITS}g}")
    return min(max(rounded, drawn_from.low), drawn_from.high)
