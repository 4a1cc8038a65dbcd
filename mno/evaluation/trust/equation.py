"""The residual that a prediction leaves in the equation of its scenario."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mno.config import first_line
from mno.description import Description
from mno.grid import Grid
from mno.residuals import Residual, residual_names, residual_of

Arrays = Mapping[str, np.ndarray]


class Equation:
    """A scenario's equation, into which predictions are put; see `equation_of`.

    Args:
        description: Of the model that predicts.
        parameters: The scenario's own; those that are numbers may stand in the equation.
    """

    def __init__(self, description: Description, parameters: Mapping[str, Any]) -> None:
        self._description = description
        self._residual: Residual = residual_of(description.scenario)
        self._numbers = {
            name: torch.tensor(float(value), dtype=torch.float64)
            for name, value in parameters.items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        }

    def residual(self, given: Arrays, predicted: Arrays) -> np.ndarray | str:
        """Return the norm of each prediction's residual, relative to the equation's source or size.

        Args:
            given: What the model was given, in physical units, `(samples, *dims)` by name.
            predicted: What it predicted of it.

        Returns:
            Shape `(samples,)`, nondimensional; NaN where the prediction is. Or, in one line, why
            the equation has no residual on this grid.
        """
        fields = {name: torch.from_numpy(f.astype(np.float64)) for name, f in given.items()}
        fields |= self._with_frames(
            fields, {name: torch.from_numpy(f.astype(np.float64)) for name, f in predicted.items()}
        )
        grid = self._description.grid(tuple(predicted_shape(self._description, predicted)))
        try:
            with torch.inference_mode():
                left = self._residual(fields | self._numbers, self._in_time(grid, fields))
        except ValueError as error:
            return f"no equation residual: {first_line(error)}"
        return left.numpy()

    def _with_frames(
        self, given: Mapping[str, Tensor], predicted: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return the predictions, states from the last given frame on, and forcings as long."""
        description = self._description
        if description.forecast is None:
            return dict(predicted)
        states = {
            name: torch.cat([given[name][:, -1:], predicted[name]], dim=1)
            for name in description.states
        }
        intervals = predicted[description.states[0]].shape[1]
        first = description.forecast.history - 1
        held = {n: given[n][:, first : first + intervals] for n in description.forcings}
        forcings = {n: torch.cat([f, f[:, -1:]], dim=1) for n, f in held.items()}
        return {**predicted, **states, **forcings}

    def _in_time(self, grid: Grid, fields: Mapping[str, Tensor]) -> Grid:
        """Return the grid with an axis of time before those of space, where there are states."""
        description = self._description
        if description.forecast is None:
            return grid
        frames = fields[description.states[0]].shape[1]
        times = tuple((k + 0.5) / frames for k in range(frames))
        places = (times, *grid.places) if grid.places else ()
        spacing = (description.forecast.interval, *grid.spacing)
        return Grid((frames, *grid.shape), spacing, places=places)


def predicted_shape(description: Description, predicted: Arrays) -> tuple[int, ...]:
    """Return the grid of predictions, or the number of their points."""
    some = predicted[next(iter(description.outputs))]
    return some.shape[some.ndim - len(description.space) :]


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
