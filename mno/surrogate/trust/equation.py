"""The residual that a prediction leaves in the equation of its scenario."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from mno.core.grid import Grid
from mno.data.reading import Schema
from mno.scenarios.residuals import residual_names, residual_of
from mno.surrogate.description import Description

Arrays = Mapping[str, np.ndarray]


class Equation:
    """A scenario's equation, into which predictions are put; see `equation_of`.

    Args:
        description: Of the model that predicts.
        parameters: The scenario's own; those that are numbers may stand in the equation.
    """

    def __init__(self, description: Description, parameters: Mapping[str, Any]) -> None:
        self._description = description
        self._schema = Schema(description.scenario, (), (), parameters=parameters)

    def residual(self, given: Arrays, predicted: Arrays) -> np.ndarray | str:
        """Return the norm of each prediction's residual, relative to the equation's source or size.

        Args:
            given: What the model was given, in physical units, `(samples, *dims)` by name.
            predicted: What it predicted of it.

        Returns:
            Shape `(samples,)`, nondimensional; NaN where the prediction is. Or, in one line, why
            the equation has no residual on this grid.
        """
        description = self._description
        whole = {**given, **predicted}
        for name in description.states:
            whole[name] = np.concatenate([given[name], predicted[name]], axis=1)
        for name in description.forcings:  # as long as the states; the last is not looked at
            frames = whole[description.states[0]].shape[1]
            whole[name] = np.concatenate([given[name], given[name][:, -1:]], axis=1)[:, :frames]
        found = equation_residual(description, self._schema, whole)
        return f"no equation residual: {found}" if isinstance(found, str) else found


def equation_of(
    description: Description, parameters: Mapping[str, Any], imported: bool
) -> Equation | str:
    """Return the equation of a model's scenario; or, in one line, why none can be put to use.

    Args:
        description: Of the model.
        parameters: The scenario's own, which the dataset was made with.
        imported: Whether the dataset was imported.
    """
    name = description.scenario
    if imported:
        return f"no equation residual for imported data ({name})"
    if name not in residual_names():
        return f"no equation residual: none is written for {name}"
    if description.gaps:
        return f"no equation residual: {', '.join(description.gaps)} may have missing values"
    if description.coordinates:
        return "no equation residual on unordered points"
    return Equation(description, parameters)


def equation_residual(description: Description, schema: Schema, fields: Arrays) -> np.ndarray | str:
    """Return the norm of each sample's residual in torch, shape `(samples,)`.

    Args:
        description: Of the model; the residual over time begins with the last frame it is given.
        schema: The dataset's, whose scenario's parameters the equation has.
        fields: Whole fields in physical units, states with all frames.

    Returns:
        The residuals; or, in one line, why there are none.
    """
    if schema.scenario not in residual_names():
        return f"no residual is written for {schema.scenario}"
    if description.coordinates:
        return "the residual takes differences between neighbours on a grid"
    forecast = description.forecast
    first = forecast.history - 1 if forecast else 0
    timed = (*description.states, *description.forcings)
    known = {
        name: torch.from_numpy(values[:, first:] if name in timed else values).double()
        for name, values in fields.items()
    }
    numbers = {
        name: torch.tensor(float(value), dtype=torch.float64)
        for name, value in schema.parameters.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    shape = tuple(known[description.fields[0]].shape[-len(description.extent) :])
    grid = description.grid(shape)
    if forecast:
        grid = _in_time(grid, known[description.states[0]].shape[1], forecast.interval)
    try:
        with torch.inference_mode():
            return residual_of(schema.scenario)(known | numbers, grid).numpy()
    except ValueError as error:
        return str(error)


def _in_time(grid: Grid, frames: int, interval: float) -> Grid:
    """Return a grid whose first axis is time."""
    times = tuple((k + 0.5) / frames for k in range(frames))
    places = (times, *grid.places) if grid.places else ()
    return Grid((frames, *grid.shape), (interval, *grid.spacing), places=places)
