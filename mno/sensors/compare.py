"""A model compared with readings: from what it is given to the errors at the sensors."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mno.core.absent import Absent
from mno.core.errors import InputError, MnoError, first_line
from mno.evaluation.solver import solver_of
from mno.imports.mapping import Mapping as FieldMapping
from mno.imports.readings import Readings, caged_readings, field_name, posix_seconds
from mno.scenarios.base import is_solved
from mno.sensors.inputs import RunInputs, can_begin_with, from_readings, from_store, read_whole
from mno.sensors.pairs import Predicted, pair
from mno.sensors.scores import Comparison, compare
from mno.surrogate.surrogate import Surrogate


def compare_with_file(
    surrogate: Surrogate,
    model: str,
    path: Path,
    mapping: FieldMapping,
    inputs: Path | None,
    data: Path,
    sample: int | None = None,
    start: float | None = None,
) -> Comparison:
    """Compare a model, for people called `model`, with a table of readings at `path`.

    The `mapping` says what is known of its columns. What the model is given is in the store
    `inputs`; if none is named, it is the readings themselves where they are all that the model
    takes, else in the store `data`. The run is their `sample`, which may be left out where there is
    but one, and begins at `start`, in seconds on the clock of the readings. What does not fit
    together is an InputError.
    """
    readings = renamed(caged_readings(path, mapping.sensors, mapping.units_in_file), mapping)
    if inputs is None and can_begin_with(surrogate.description, set(readings.quantities)):
        given = from_readings(surrogate, path, mapping, sample)
    else:
        given = from_store(surrogate, inputs or data, sample)
    facts = {"model": model, "readings": str(path)}
    units = mapping.sensors.position_units
    return compare_with_readings(surrogate, given, readings, units, start, facts)


def compare_with_readings(
    surrogate: Surrogate,
    given: RunInputs,
    readings: Readings,
    position_units: str = "m",
    start: float | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Comparison:
    """Predict the measured run, solve it where that is possible, and measure both at the sensors.

    `given` is as `from_store` or `from_readings` returns it; quantities of the readings are named
    like the model's fields. The run begins at `start`, in seconds on the clock of the readings; as
    `given` says where it does, else at 0. `facts` say what is compared, for people. What does not
    fit together is an InputError.
    """
    if start is None:
        start = 0.0 if given.start is None else given.start - posix_seconds(readings.epoch)
    if not math.isfinite(start):
        raise InputError(f"--start {start}: expected the seconds at which the run begins")
    model = _predict(surrogate, given)
    solver = _solve(surrogate, given, model)
    predictions = (model,) if isinstance(solver, Absent) else (model, solver)
    pairs = pair(readings, surrogate.description.outputs, given, predictions, position_units, start)
    known = {
        **(facts or {}),
        "scenario": surrogate.description.scenario,
        "inputs": given.source,
        "start_seconds": start,
        "time_units": given.time_units,
    }
    return compare(pairs, known, str(solver) if isinstance(solver, Absent) else "")


def _predict(surrogate: Surrogate, given: RunInputs) -> Predicted:
    """Ask the model; of states the last given frame stands before the predicted ones."""
    description = surrogate.description
    fields, times = {}, np.empty(0)
    for name, values in surrogate.predict(given.inputs, steps=given.steps).items():
        if description.forecast and name in description.states:
            fields[name] = np.concatenate([given.inputs[name][0][-1:], values[0]])
            times = given.times[-1] + description.forecast.interval * np.arange(len(fields[name]))
        else:
            fields[name] = values
    return Predicted(fields, times)


def _solve(surrogate: Surrogate, given: RunInputs, model: Predicted) -> Predicted | Absent:
    """Solve the same sample by the scenario's own solver; return what the model predicted of it."""
    name, origin, run = surrogate.description.scenario, given.origin, {"run": given.source}
    if not is_solved(name):
        return Absent("solver.imported", {"scenario": name})
    if origin is None:
        return Absent("solver.run_not_recorded", run)
    if origin.schema.scenario != name:
        return Absent("solver.other_run", {**run, "other": origin.schema.scenario, "model": name})
    scenario = solver_of(origin.schema)
    if isinstance(scenario, Absent):
        return scenario
    try:
        solved = scenario.solve(read_whole(origin))
    except MnoError as error:
        return Absent("solver.fails_on_run", {**run, "error": first_line(error)})
    missing = sorted(set(model.fields) - set(solved))
    if missing:
        return Absent("solver.yields_none", {"fields": ", ".join(missing)})
    states, first = surrogate.description.states, len(given.times) - 1
    fields = {
        field: solved[field][first : first + len(values)]
        if field in states
        else solved[field][None]
        for field, values in model.fields.items()
    }
    return Predicted(fields, model.times)


def renamed(readings: Readings, mapping: FieldMapping) -> Readings:
    """Return readings with quantities named as a mapping says, and as fields; refuse namesakes."""
    names = {}
    for quantity in readings.quantities:
        name = field_name(quantity)
        rule = mapping.fields.get(quantity) or mapping.fields.get(name)
        names[quantity] = (rule and rule.name) or name
    if len(set(names.values())) < len(names):
        twice = sorted(n for n in set(names.values()) if list(names.values()).count(n) > 1)
        raise InputError(
            f"several quantities of the readings would be called {', '.join(twice)}; give each a "
            "name of its own in the mapping file"
        )
    units = {names[quantity]: unit for quantity, unit in readings.units.items()}
    return replace(readings, quantities=tuple(names.values()), units=units)
