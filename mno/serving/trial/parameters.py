"""A scenario's numbers that may be moved while a model's fields stay where they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from annotated_types import Ge, Gt, Le, Lt
from pydantic.fields import FieldInfo

from mno.core.errors import MnoError
from mno.scenarios.base import Scenario, make_scenario, scenario_class

_REACH = 3.0  # a parameter is moved to a third and to three times of what the data have


def movable(name: str, resolution: int, parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the parameters that change samples, but not what fields they have and where.

    A number of frames or a duration is not among them: the model would predict other frames.

    Args:
        name: Of the scenario.
        resolution: Points along each space axis.
        parameters: What the model's dataset was made with.

    Returns:
        For each its `name`, `value`, `least`, `most`, `whole` (whether only whole numbers will do)
        and `description`.
    """
    scenario = make_scenario(name, resolution, parameters)
    found = []
    for key, info in scenario_class(name).Parameters.model_fields.items():
        value = parameters.get(key, info.default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        whole = isinstance(value, int)
        least, most = _range(value, info, whole)
        ends = [end for end in (most, least) if end != value]
        if any(_stays(scenario, name, resolution, {**parameters, key: end}) for end in ends):
            found.append(
                {
                    "name": key,
                    "value": value,
                    "least": least,
                    "most": most,
                    "whole": whole,
                    "description": (info.description or "").strip(),
                }
            )
    return found


def _range(value: float, info: FieldInfo, whole: bool) -> tuple[float, float]:
    """Return how far a slider goes: around the value, within what the scenario takes."""
    size = abs(value) or 1.0
    least, most = (value / _REACH, value * _REACH) if value > 0 else (value - size, value + size)
    for limit in info.metadata:
        match limit:
            case Ge(ge):
                least = max(least, float(ge))  # type: ignore[arg-type]
            case Gt(gt):
                least = max(least, float(gt) + size / 1000.0)  # type: ignore[arg-type]
            case Le(le):
                most = min(most, float(le))  # type: ignore[arg-type]
            case Lt(lt):
                most = min(most, float(lt) - size / 1000.0)  # type: ignore[arg-type]
    if whole:
        return float(np.ceil(least)), float(np.floor(most))
    return least, most


def _stays(scenario: Scenario, name: str, resolution: int, parameters: Mapping[str, Any]) -> bool:
    """Whether a scenario of other parameters has the same fields at the same places and times."""
    try:
        other = make_scenario(name, resolution, parameters)
    except MnoError:
        return False
    return other.fields == scenario.fields and all(
        a.name == b.name and np.array_equal(a.points, b.points)
        for a, b in zip(scenario.axes, other.axes, strict=True)
    )
