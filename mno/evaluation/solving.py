"""The solver that a dataset was made with, to compare a surrogate with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from mno.core.errors import MnoError, first_line
from mno.scenarios.base import Scenario, make_scenario, scenario_names

if TYPE_CHECKING:
    from mno.data.reading import Schema


def solver_of(schema: Schema) -> Scenario | str:
    """Return the scenario that a dataset was solved by, at its parameters and resolution.

    Args:
        schema: The dataset's.

    Returns:
        The scenario, whose points are those of the dataset; or, in one line, why there is none.
    """
    if schema.sources or schema.scenario not in scenario_names():
        return f"no solver for imported data ({schema.scenario})"
    scenario = other_solver(schema)
    if isinstance(scenario, str):
        return scenario
    same = len(scenario.axes) == len(schema.axes) and all(
        a.points.shape == b.points.shape and np.allclose(a.points, b.points, rtol=1e-5)
        for a, b in zip(scenario.axes, schema.axes, strict=True)
    )
    return scenario if same else "the solver of this version works on other points than the dataset"


def other_solver(
    schema: Schema, resolution: int | None = None, changed: Mapping[str, Any] | None = None
) -> Scenario | str:
    """Return a dataset's scenario at another resolution, or with other parameters.

    Args:
        schema: The dataset's.
        resolution: Points along each space axis; the dataset's if not given.
        changed: Parameters of the scenario that take the place of the dataset's, by name.

    Returns:
        The scenario; or, in one line, why there is none.
    """
    points = resolution or schema.resolution
    if points is None:
        return "the dataset does not record the parameters and the resolution to solve with"
    try:
        return make_scenario(schema.scenario, points, {**schema.parameters, **(changed or {})})
    except MnoError as error:
        return f"the solver cannot solve samples of the dataset: {first_line(error)}"
