"""A model compared with readings: from what it is given to the errors at the sensors."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mno.core.absent import Absent
from mno.core.errors import InputError, MnoError, first_line
from mno.core.readings import Layout
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
    told = surrogate.description
    units = {**(told.readings and told.outputs), **mapping.units_in_file}
    readings = renamed(caged_readings(path, mapping.sensors, units), mapping)
    if inputs is None and can_begin_with(surrogate.description, set(readings.quantities)):
        given = from_readings(surrogate, path, mapping, sample)
    else:
        given = from_store(surrogate, inputs or data, sample)
    facts = {"model": model, "readings": str(path)}
    position_units = mapping.sensors.position_units
    return compare_with_readings(surrogate, given, readings, position_units, start, facts)


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
    if surrogate.description.readings:
        readings = at_points(readings, surrogate, given)
    model = _predict(surrogate, given)
    solver = _solve(surrogate, given, model)
    predictions = (model,) if isinstance(solver, Absent) else (model, solver)
    pairs = pair(readings, surrogate.description.outputs, given, predictions, position_units, start)
    known = {
        **(facts or {}), "scenario": surrogate.description.scenario, "inputs": given.source,
        "start_seconds": start, "time_units": given.time_units,
    }  # fmt: skip
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
    schema, whole = origin.schema, read_whole(origin)
    layout = Layout(surrogate.description.part, schema.fields, schema.axes)
    if layout.changes:
        schema = replace(schema, part=layout.part, axes=layout.axes)
        whole = layout.of(whole, stacked=False)
    scenario = solver_of(schema)
    if isinstance(scenario, Absent):
        return scenario
    try:
        solved = scenario.solve(whole)
    except MnoError as error:
        return Absent("solver.fails_on_run", {**run, "error": first_line(error)})
    if missing := sorted(set(model.fields) - set(solved)):
        return Absent("solver.yields_none", {"fields": ", ".join(missing)})
    states, first = surrogate.description.states, len(given.times) - 1
    fields = {field: solved[field][None] for field in model.fields}
    for field in fields.keys() & set(states):
        fields[field] = solved[field][first : first + len(model.fields[field])]
    return Predicted(fields, model.times)


def at_points(readings: Readings, surrogate: Surrogate, given: RunInputs) -> Readings:
    """Return readings at the points of a model that stand for zones, pieces and thermocouples.

    A sensor is called as its place, or by its number; at the whole plant by anything. An InputError
    says that a quantity has no such place.
    """
    places, told = [], surrogate.description
    for sensor, quantity in zip(readings.series_sensor, readings.series_quantity, strict=True):
        name, called = readings.quantities[quantity], readings.sensors[sensor]
        axis, first, _ = told.readings.get(name, ("", 0, 1))
        labels = told.places(name)
        if axis and name in told.outputs and called not in labels:
            raise InputError(
                f"the readings of {name} are by a sensor {called!r}; expected one of "
                f"{', '.join(labels)}: call sensors so, or columns {name}.{labels[0]}"
            )
        places.append(first + (labels.index(called) if called in labels else 0))
    assert given.points is not None  # a layout has points
    names = tuple(axis.name for axis in given.axes)
    return replace(readings, axes=names, places=given.points, series_place=np.array(places))


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
