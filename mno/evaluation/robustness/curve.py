"""Curves: errors by level of what is tried, as `reports/robustness.json` holds them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from mno.evaluation.robustness.intervals import mean_interval
from mno.evaluation.robustness.trial import Errors

Result: TypeAlias = dict[str, Any]


def curve(levels: Mapping[Any, Errors | str], seed: int, **facts: Any) -> Result | str:
    """Put errors by level into a curve.

    Args:
        levels: Errors, or in one line why there are none, by level, in the curve's order.
        seed: Of the intervals' draws.
        facts: What else is to be said of the whole curve.

    Returns:
        `level`; `relative_l2`, by who predicted, with lists `mean`, `low` and `high` along the
        levels; the number of `samples`; and by level what is `absent`. A guess that is not there at
        every level is left out. If no level has errors, why there are none.
    """
    found = {level: errors for level, errors in levels.items() if not isinstance(errors, str)}
    absent = {str(level): why for level, why in levels.items() if isinstance(why, str)}
    if not found:
        return next(iter(absent.values()))
    everywhere = [
        who for who in next(iter(found.values())) if all(who in e for e in found.values())
    ]
    return {
        "samples": max(len(errors["model"]) for errors in found.values()),
        "level": list(found),
        "relative_l2": {
            who: along([errors[who] for errors in found.values()], seed) for who in everywhere
        },
        **({"absent": absent} if absent else {}),
        **facts,
    }


def along(errors: list[Any], seed: int) -> dict[str, list[float | None]]:
    """Return mean and ends of the interval of each of some arrays of errors."""
    means, lows, highs = zip(*(mean_interval(values, seed) for values in errors), strict=True)
    return {"mean": list(means), "low": list(lows), "high": list(highs)}
