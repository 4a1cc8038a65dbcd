"""What model and solver say of the measured run: fields on places and times."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mno.core.errors import MnoError, first_line
from mno.evaluation.solving import solver_of
from mno.scenarios.base import scenario_names
from mno.sensors.given import Given
from mno.sensors.stencil import Stencil
from mno.sensors.stores import read_whole
from mno.surrogate.surrogate import Surrogate


@dataclass(frozen=True, eq=False)
class Predicted:
    """Fields that a model or a solver predicts of one sample.

    Attributes:
        fields: By name; shape `(frames, *place)` over time, `(1, *place)` of a field without time.
        times: When the frames are, shape `(frames,)`: the last one given, then those predicted;
            empty where no field has time.
    """

    fields: Mapping[str, np.ndarray]
    times: np.ndarray

    def at(self, stencil: Stencil) -> dict[str, np.ndarray]:
        """Return each field at some places, shape `(frames or 1, places)`, float64."""
        return {name: stencil.apply(values) for name, values in self.fields.items()}


def predict(surrogate: Surrogate, given: Given) -> Predicted:
    """Ask the model.

    Raises:
        InputError: It cannot be asked with what is given.
    """
    description = surrogate.description
    answer = surrogate.predict(given.inputs, steps=given.steps)
    fields, times = {}, np.empty(0)
    for name, values in answer.items():
        if description.forecast and name in description.states:
            fields[name] = np.concatenate([given.inputs[name][0][-1:], values[0]])
            later = description.forecast.interval * np.arange(len(fields[name]))
            times = given.times[-1] + later
        else:
            fields[name] = values
    return Predicted(fields, times)


def solve(surrogate: Surrogate, given: Given, model: Predicted) -> Predicted | str:
    """Solve the same sample by the scenario's own solver.

    Args:
        surrogate: The model.
        given: What it was given.
        model: What it predicted.

    Returns:
        The same fields at the same frames as `model`; or why there is no solution.
    """
    name, origin = surrogate.description.scenario, given.origin
    if name not in scenario_names():
        return f"no solver for imported data ({name})"
    if origin is None:
        return f"{given.source} does not record the parameters and the resolution to solve with"
    if origin.schema.scenario != name:
        return (
            f"{given.source} holds samples of {origin.schema.scenario}, but the model is of {name}"
        )
    scenario = solver_of(origin.schema)
    if isinstance(scenario, str):
        return scenario
    try:
        solved = scenario.solve(read_whole(origin))
    except MnoError as error:
        return f"the solver cannot solve {given.source}: {first_line(error)}"
    missing = sorted(set(model.fields) - set(solved))
    if missing:
        return f"the solver does not yield {', '.join(missing)}"
    states = surrogate.description.states
    first = len(given.times) - 1
    return Predicted(
        {
            field: solved[field][first : first + len(values)]
            if field in states
            else solved[field][None]
            for field, values in model.fields.items()
        },
        model.times,
    )
