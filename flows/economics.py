"""What a person may say of their own costs on the command line, as edits of the parameters."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from mno.core.errors import InputError

_UNITS = {"ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}
_DURATION = re.compile(r"\s*([0-9.]+(?:[eE][+-]?[0-9]+)?)\s*([a-zA-Z]*)\s*")


@dataclass(frozen=True)
class OwnFigures:
    """The user's own figures, as they were given; None keeps what `params.yaml` says.

    Attributes:
        solver_cost: Time of one solve with its unit, as `3.5s`.
        queries_per_day: Solutions that are needed in a day.
        hourly_rate: Price of one hour of computing.
        currency: Of that price, as `EUR`.
    """

    solver_cost: str | None = None
    queries_per_day: float | None = None
    hourly_rate: float | None = None
    currency: str | None = None

    def edits(self) -> list[str]:
        """Return them as `key=value` edits of `params.yaml`.

        Raises:
            InputError: The time of a solve is none.
        """
        cost = None if self.solver_cost is None else parse_seconds(self.solver_cost)
        values = {
            "solver_seconds": cost,
            "queries_per_day": self.queries_per_day,
            "hourly_rate": self.hourly_rate,
            "currency": None if self.currency is None else f'"{self.currency}"',
        }
        given = {name: value for name, value in values.items() if value is not None}
        return [f"evaluate.economics.{name}={value}" for name, value in given.items()]


def parse_seconds(text: str) -> float:
    """Return a time such as `40ms`, `3.5s`, `2min` or `1h` in seconds.

    Raises:
        InputError: It is no time, or none above 0.
    """
    found = _DURATION.fullmatch(text)
    try:
        seconds = float(found[1]) * _UNITS[found[2]] if found else math.nan
    except (ValueError, KeyError):
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise InputError(
            f"--solver-cost {text!r} is no time above 0; expected a number and its unit, "
            f"{', '.join(_UNITS)}: for example 3.5s"
        )
    return seconds
