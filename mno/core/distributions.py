"""Distributions of single numbers, as files say them."""

import math
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import Field, model_validator

from mno.core.config import Config

Pair = Annotated[list[float], Field(min_length=2, max_length=2)]


class Distribution(Config):
    """How a number is distributed, by one of four words with two numbers."""

    uniform: Pair | None = None
    """Least and greatest value."""
    loguniform: Pair | None = None
    """The same, of a value whose logarithm is uniform."""
    normal: Pair | None = None
    """Mean and standard deviation."""
    lognormal: Pair | None = None
    """The same, of the logarithm."""

    @model_validator(mode="after")
    def _is_said_in_one_way(self) -> "Distribution":
        named = self._named
        if len(named) != 1:
            raise ValueError(
                f"says {' and '.join(named) or 'none'} of uniform, loguniform, normal and "
                "lognormal; say one of them, with two numbers"
            )
        ((name, (first, second)),) = named.items()
        ordered = first < second if "uniform" in name else second > 0
        if not ordered or (name == "loguniform" and first <= 0):
            raise ValueError(
                f"{name}: [{first:g}, {second:g}]; expected least and greatest of a range (of "
                "positive numbers for loguniform), or a mean and a deviation above 0"
            )
        return self

    @property
    def _named(self) -> dict[str, list[float]]:
        words = ("uniform", "loguniform", "normal", "lognormal")
        return {word: pair for word in words if (pair := getattr(self, word)) is not None}

    @property
    def is_positive(self) -> bool:
        """Whether it is of the logarithm."""
        return "log" in next(iter(self._named))

    @property
    def can_be_zero(self) -> bool:
        """Whether it may be 0 or less."""
        return not self.is_positive and (self.uniform is None or self.uniform[0] <= 0)

    def of_normal(self, z: Any, ndtr: Callable[[Any], Any], exp: Callable[[Any], Any]) -> Any:
        """Return numbers of this distribution, of standard normal ones.

        `ndtr` is the normal distribution function and `exp` the exponential of arrays like `z`.
        """
        ((word, (first, second)),) = self._named.items()
        if word == "loguniform":
            first, second = math.log(first), math.log(second)
        values = first + (second - first) * ndtr(z) if "uniform" in word else first + second * z
        return exp(values) if self.is_positive else values
