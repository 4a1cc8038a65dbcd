"""A model compared with readings: from what it is given to the errors at the sensors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mno.core.errors import InputError
from mno.imports.mapping import Mapping as FieldMapping
from mno.imports.sensors.series import field_name
from mno.imports.sensors.times import posix_seconds
from mno.sensors.comparison import Comparison, compare
from mno.sensors.given import Given
from mno.sensors.pairs import pair
from mno.sensors.predicted import predict, solve
from mno.surrogate.surrogate import Surrogate

if TYPE_CHECKING:
    from mno.imports.sensors.readings import Readings


def compare_with_readings(
    surrogate: Surrogate,
    given: Given,
    readings: Readings,
    position_units: str = "m",
    start: float | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Comparison:
    """Predict the measured run, solve it where that is possible, and measure both at the sensors.

    Args:
        surrogate: The model.
        given: What it is given of the run, as `from_store` or `from_readings` returns it.
        readings: The readings, quantities named like the model's fields.
        position_units: Unit of the sensors' positions.
        start: When the run begins, in seconds on the clock of the readings; as `given` says where
            it does, else 0.
        facts: What is compared, for people.

    Raises:
        InputError: The readings, the model and what it is given do not fit together.
    """
    if start is None:
        start = 0.0 if given.start is None else given.start - posix_seconds(readings.epoch)
    if not math.isfinite(start):
        raise InputError(f"--start {start}: expected the seconds at which the run begins")
    model = predict(surrogate, given)
    solver = solve(surrogate, given, model)
    missing = solver if isinstance(solver, str) else ""
    predictions = (model,) if isinstance(solver, str) else (model, solver)
    pairs = pair(readings, surrogate.description.outputs, given, predictions, position_units, start)
    known = {
        **(facts or {}),
        "scenario": surrogate.description.scenario,
        "inputs": given.source,
        "start_seconds": start,
        "time_units": given.time_units,
    }
    return compare(pairs, known, missing)


def units_in_file(mapping: FieldMapping) -> dict[str, str]:
    """Return the units that readings have where the file does not say, by quantity."""
    known = {name: rule.given_in or rule.units for name, rule in mapping.fields.items()}
    return {name: unit for name, unit in known.items() if unit}


def renamed(readings: Readings, mapping: FieldMapping) -> Readings:
    """Return readings whose quantities are named as a mapping says, and as fields are named.

    Raises:
        InputError: Two quantities would have one name.
    """
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
