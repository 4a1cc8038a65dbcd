"""The solver that a dataset was made with: to compare with, to solve anew, to check by."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from threadpoolctl import threadpool_limits

from mno.core.absent import Absent
from mno.core.errors import MnoError, first_line
from mno.data.reading import Split
from mno.evaluation.scoring import some_samples
from mno.scenarios.base import Scenario, make_scenario, scenario_names, split_samples
from mno.surrogate.trust.trust import equation_residual

if TYPE_CHECKING:
    from mno.data.reading import Schema, Split, StoredSplit
    from mno.surrogate.surrogate import Surrogate


def solver_of(schema: Schema) -> Scenario | Absent:
    """Return the scenario that a dataset was solved by, at its parameters and resolution.

    Args:
        schema: The dataset's.

    Returns:
        The scenario, whose points are those of the dataset; or, in one line, why there is none.
    """
    if schema.sources or schema.scenario not in scenario_names():
        return Absent("solver.imported", {"scenario": schema.scenario})
    scenario = other_solver(schema)
    if isinstance(scenario, Absent):
        return scenario
    same = len(scenario.axes) == len(schema.axes) and all(
        a.points.shape == b.points.shape and np.allclose(a.points, b.points, rtol=1e-5)
        for a, b in zip(scenario.axes, schema.axes, strict=True)
    )
    return scenario if same else Absent("solver.other_points")


def other_solver(
    schema: Schema, resolution: int | None = None, changed: Mapping[str, Any] | None = None
) -> Scenario | Absent:
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
        return Absent("solver.not_recorded")
    try:
        return make_scenario(schema.scenario, points, {**schema.parameters, **(changed or {})})
    except MnoError as error:
        return Absent("solver.refuses", {"error": first_line(error)})


_USES = ("noise", "missing", "block", "solved", "drawn")


def stream(seed: int, use: str, number: int) -> np.random.Generator:
    """Return the random stream of one sample for one use.

    Its key has three numbers more than the keys that datasets are made with, so that it is none of
    theirs, whatever the seed.

    Args:
        seed: `evaluate.robustness.seed`.
        use: What is drawn.
        number: Of the sample.
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
    """Draw and solve samples of a dataset's scenario, or of another near it.

    Sample k is drawn from the same stream whatever is changed, so that it is the same problem but
    for the change. None of them is a sample of the dataset.

    Args:
        schema: The dataset's.
        count: Samples.
        seed: Of their streams.
        resolution: Points along each space axis; the dataset's if not given.
        changed: Parameters in place of the dataset's, by name.

    Returns:
        The samples; or, in one line, why there are none.
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


def solved_longer(schema: Schema, count: int, seed: int, times: int) -> Split | Absent:
    """Solve for a number of times the duration, frames following each other as in the dataset."""
    return _with_frames(schema, count, seed, times, times)


def solved_closer(schema: Schema, count: int, seed: int, times: int) -> Split | Absent:
    """Solve for as long as in the dataset, with so many frames where it has one."""
    return _with_frames(schema, count, seed, 1, times)


def _with_frames(
    schema: Schema, count: int, seed: int, longer: int, intervals: int
) -> Split | Absent:
    scenario = solver_of(schema)
    if isinstance(scenario, Absent):
        return scenario
    parameters = schema.parameters
    if not {"duration", "frames"} <= set(parameters):
        return Absent("robustness.no_time")
    changed = {
        "duration": longer * parameters["duration"],
        "frames": intervals * (parameters["frames"] - 1) + 1,
    }
    return solved_anew(schema, count, seed, changed=changed)


Arrays: TypeAlias = Mapping[str, np.ndarray]


def physical_consistency(
    surrogate: Surrogate, test: Split | StoredSplit, count: int, batch_size: int
) -> dict[str, Any] | Absent:
    """Measure what the scenario checks, on predictions and on the truth beside them.

    The scenario's checks (residual, balance of mass, energy or flux, bounds) are those that every
    sample of its datasets passes; a surrogate is not made to pass them, so the tolerance is the
    solver's and says how far from a solution a prediction is. Checks of what is given alone are
    left out. Frames that were given stand before those predicted. The residual of the equation in
    torch, where the scenario has one, is what training may punish.

    Args:
        surrogate: The trained operator.
        test: Samples it was not trained on.
        count: How many of them are looked at, evenly spread over the split.
        batch_size: Samples per forward pass.

    Returns:
        For each of `checks` and for `residual`, `median`, `p95` and `largest` over the samples of
        `prediction` and `truth`; NaN where a value is not a number. In place of what cannot be
        measured, why.
    """
    scenario = solver_of(test.schema)
    if isinstance(scenario, Absent):
        return scenario
    samples = some_samples(test, count)
    description = surrogate.description
    predicted = _predicted(surrogate, samples.fields, batch_size)
    checks = {check.name: check for check in scenario.checks if not check.of_given}
    found, true = (_checked(scenario, fields) for fields in (predicted, samples.fields))
    residuals = [
        equation_residual(description, samples.schema, fields)
        for fields in (predicted, samples.fields)
    ]
    return {
        "samples": len(samples),
        "checks": {
            name: {
                "description": check.description,
                "tolerance": check.tolerance,
                "prediction": _summary(found[name]),
                "truth": _summary(true[name]),
            }
            for name, check in checks.items()
        },
        "residual": residuals[0]
        if isinstance(residuals[0], Absent) or isinstance(residuals[1], Absent)
        else {"prediction": _summary(residuals[0]), "truth": _summary(residuals[1])},
    }


def _predicted(surrogate: Surrogate, fields: Arrays, batch_size: int) -> dict[str, np.ndarray]:
    """Return whole fields whose outputs are predicted, of states after the given frames."""
    description = surrogate.description
    given, truth = description.given(fields), description.truth(fields)
    steps = truth[description.states[0]].shape[1] if description.rolls_out else None
    answer = surrogate.predict(given, batch_size, steps)
    states = {
        name: np.concatenate([given[name], answer[name]], axis=1) for name in description.states
    }
    return {**fields, **answer, **states}


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
