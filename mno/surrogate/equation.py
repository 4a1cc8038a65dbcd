"""What predictions leave in the equation of their scenario."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mno.scenarios.residuals import residual_of
from mno.surrogate.description import Description

Fields = Mapping[str, Tensor]


def residual_left(
    description: Description, parameters: Mapping[str, Any], given: Fields, predicted: Fields
) -> Tensor:
    """Return the norm of each sample's residual, relative to source or size, shape `(samples,)`.

    It is taken from the last frame that is given on. Fields are in physical units, on a grid; those
    of the scenario's `parameters` that are numbers may stand in the equation. A `ValueError` says
    that the residual is not written for such a grid.
    """
    numbers = {
        name: torch.tensor(float(value), dtype=torch.float64)
        for name, value in parameters.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    fields = known_fields(description, given, predicted)
    grid, forecast = description.grid_of(fields), description.forecast
    if forecast is not None:  # in space and time
        grid = grid.in_time(fields[description.states[0]].shape[1], forecast.interval)
    return residual_of(description.scenario)(fields | numbers, grid)


def known_fields(description: Description, given: Fields, predicted: Fields) -> dict[str, Tensor]:
    """Return all fields, those with frames from the last given to the last predicted."""
    known = {**given, **predicted}
    if description.forecast is None:
        return known
    for name in description.states:  # a difference in time needs the frame before
        known[name] = torch.cat([given[name][:, -1:], predicted[name]], dim=1)
    history = given[description.states[0]].shape[1]
    intervals = known[description.states[0]].shape[1] - 1
    for name in description.forcings:  # one frame per interval, the last said again
        held = given[name][:, history - 1 :][:, :intervals]
        known[name] = torch.cat([held, held[:, -1:]], dim=1)
    return known
