"""The solver that a dataset was made with: to compare with, to solve anew, to check by."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from mno.core.absent import Absent
from mno.core.errors import MnoError, first_line
from mno.data.reading import Schema, Split
from mno.evaluation.evaluator import AnySplit, some_samples
from mno.scenarios.base import Scenario, is_solved, make_scenario, other_plant, split_samples
from mno.scenarios.part import part_of
from mno.surrogate.surrogate import Surrogate
from mno.surrogate.trust.trust import equation_residual

Arrays = Mapping[str, np.ndarray]
_USES = ("noise", "missing", "block", "solved", "drawn")


def solver_of(schema: Schema) -> Scenario | Absent:
    """Return the scenario that a dataset was solved by, at its parameters and on its points."""
    if schema.observing:
        return Absent("solver.observer")
    if schema.sources or not is_solved(schema.scenario):
        return Absent("solver.imported", {"scenario": schema.scenario})
    scenario = other_solver(schema)
    if isinstance(scenario, Absent):
        return scenario
    if other := other_plant(scenario, schema.parameters, schema.plant):
        return other
    same = len(scenario.axes) == len(schema.axes) and all(
        a.points.shape == b.points.shape and np.allclose(a.points, b.points, rtol=1e-5)
        for a, b in zip(scenario.axes, schema.axes, strict=True)
    )
    return scenario if same else Absent("solver.other_points")


def other_solver(
    schema: Schema, resolution: int | None = None, changed: Mapping[str, Any] | None = None
) -> Scenario | Absent:
    """Return a dataset's scenario at another resolution, or with some parameters changed."""
    points = resolution or schema.resolution
    if points is None:
        return Absent("solver.not_recorded")
    try:
        whole = make_scenario(schema.scenario, points, {**schema.parameters, **(changed or {})})
        return part_of(whole, schema.part)
    except MnoError as error:
        return Absent("solver.refuses", {"error": first_line(error)})


def stream(seed: int, use: str, number: int) -> np.random.Generator:
    """Return the random stream of one sample for one of `_USES`.

    Its key has three numbers more than the keys that datasets are made with, so that it is none of
    theirs, whatever the seed.
    """
    key = (0, 0, 0, _USES.index(use), number)
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def solved_anew(
    schema: Schema,
    count: int,
    seed: int,
    resolution: int | None = None,
    changed: Mapping[str, Any] | None = None,
) -> Split | Absent:
    """Draw and solve samples of a dataset's scenario, or of another near it (`other_solver`).

    Sample k is drawn from the same stream whatever is changed, so that it is the same problem but
    for the change. None of them is a sample of the dataset.
    """
    own = solver_of(schema)
    scenario = own if isinstance(own, Absent) else other_solver(schema, resolution, changed)
    if isinstance(scenario, Absent):
        return scenario
    try:
        # One thread, so that the order of summation in BLAS does not depend on the machine's cores.
        with threadpool_limits(limits=1):
            made = list(scenario.make(range(count), lambda n: stream(seed, "solved", n)))
    except MnoError as error:
        return Absent("solver.fails", {"error": first_line(error)})
    fields = {
        field.name: np.stack([{**given, **solved}[field.name] for given, solved in made])
        for field in scenario.fields
    }
    there = replace(schema, fields=scenario.fields, axes=scenario.axes)
    return Split("solved", there, fields, np.arange(count))


def solved_in_time(schema: Schema, count: int, seed: int, duration: int = 1) -> Split | Absent:
    """Solve anew for so many times the duration, with twice as many intervals of frames."""
    scenario, parameters = solver_of(schema), schema.parameters
    if isinstance(scenario, Absent):
        return scenario
    if not {"duration", "frames"} <= set(parameters):
        return Absent("robustness.no_time")
    lasting, frames = duration * parameters["duration"], 2 * parameters["frames"] - 1
    return solved_anew(schema, count, seed, changed={"duration": lasting, "frames": frames})


def physical_consistency(
    surrogate: Surrogate, test: AnySplit, count: int, batch_size: int
) -> dict[str, Any] | Absent:
    """Measure what the scenario checks, on predictions and on the truth beside them.

    The scenario's checks (residual, balance of mass, energy or flux, bounds) are those that every
    sample of its datasets passes; a surrogate is not made to pass them, so the tolerance is the
    solver's and says how far from a solution a prediction is. Checks of what is given alone are
    left out. Frames that were given stand before those predicted. The residual of the equation in
    torch, where the scenario has one, is what training may punish.

    Looked at are `count` samples, evenly spread over the split. For each of `checks` and for
    `residual` there are `median`, `p95` and `largest` over the samples of `prediction` and `truth`;
    NaN where a value is not a number. In place of what cannot be measured stands why.
    """
    scenario = solver_of(test.schema)
    if isinstance(scenario, Absent):
        return scenario
    samples = some_samples(test, count)
    description = surrogate.description
    given, truth = description.given(samples.fields), description.truth(samples.fields)
    steps = truth[description.states[0]].shape[1] if description.any_steps else None
    answer = surrogate.predict(given, batch_size, steps)
    states = {n: np.concatenate([given[n], answer[n]], axis=1) for n in description.states}
    told = {  # without what there is nothing to tell of: a piece that a run does not have
        name: np.where(np.isnan(samples.fields[name][:, : values.shape[1]]), np.nan, values)
        if values.ndim > 1 else values
        for name, values in (answer | states).items()
    }  # fmt: skip
    sides = {"prediction": samples.fields | told, "truth": samples.fields}

    checked = {side: _checked(scenario, fields) for side, fields in sides.items()}
    numbers = samples.schema.parameters
    left = {
        side: equation_residual(description, numbers, description.given(f), description.truth(f))
        for side, f in sides.items()
    }
    known = {s: _summary(found) for s, found in left.items() if not isinstance(found, Absent)}
    absent = [found for found in left.values() if isinstance(found, Absent)]
    return {
        "samples": len(samples),
        "checks": {
            check.name: {
                "description": check.description,
                "tolerance": check.tolerance,
                **{side: _summary(values[check.name]) for side, values in checked.items()},
            }
            for check in scenario.checks
            if not check.of_given
        },
        "residual": absent[0] if absent else known,
    }


def _checked(scenario: Scenario, fields: Arrays) -> dict[str, np.ndarray]:
    """Return the value of each check on each sample; NaN where it cannot be computed."""
    rows = []
    for given, solved in split_samples(scenario.fields, fields):
        try:
            with np.errstate(all="ignore"):
                rows.append(scenario.check(given, solved))
        except (MnoError, ValueError, ArithmeticError):
            rows.append({})
    names = [check.name for check in scenario.checks]
    return {name: np.array([row.get(name, math.nan) for row in rows]) for name in names}


def _summary(values: np.ndarray) -> dict[str, float]:
    with np.errstate(invalid="ignore"):
        median, p95, largest = np.quantile(values, [0.5, 0.95, 1.0])
    return {"median": float(median), "p95": float(p95), "largest": float(largest)}
