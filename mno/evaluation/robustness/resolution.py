"""Other resolutions than that of the training data, coarser and finer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mno.core.errors import MnoError, first_line
from mno.data.reading import Schema, Split
from mno.evaluation.robustness.curve import Result, along, curve
from mno.evaluation.robustness.grids import fields_on_grid
from mno.evaluation.robustness.reasons import OTHER_ON_EVERY_GRID, SOLVER_ON_POINTS
from mno.evaluation.robustness.solved import solved_anew
from mno.evaluation.robustness.trial import Errors, Trial, errors_of
from mno.evaluation.solving import solver_of

FINER = 2  # times the finest resolution tried, by which the solver's own error is measured
MULTIPLE = 4  # of points along an axis; all scenarios can be solved with such numbers


def at_resolutions(
    trial: Trial, schema: Schema, ratios: Sequence[float], count: int, seed: int
) -> Result | str:
    """Return the errors by points along an axis, on the same problems solved anew on each grid.

    The truth on each grid is the solver's own answer there. So that an error of the grid is not
    blamed on the surrogate, `solver` has the relative L2 between the solver's answers on that grid
    and on one twice as fine as the finest tried, interpolated linearly. On grids, `mean_field` is
    that of the training data interpolated, and `interpolated` is what a careful user would do
    instead: ask the surrogate on the trained grid, and interpolate its answer.

    Returns:
        A curve whose levels are numbers of points; or why there is none.
    """
    scenario = solver_of(schema)
    if isinstance(scenario, str):
        return scenario
    if not scenario.same_on_any_grid:
        return OTHER_ON_EVERY_GRID
    trained = schema.resolution or 0
    tried = sorted({trained, *(_points(trained, ratio) for ratio in ratios)})
    solved = {n: solved_anew(schema, count, seed, n) for n in tried}
    base = solved[trained]
    if isinstance(base, str):
        return base
    levels: dict[int, Errors | str] = {}
    for points, samples in solved.items():
        levels[points] = samples if isinstance(samples, str) else _errors(trial, base, samples)
    there = {n: s for n, s in solved.items() if not isinstance(levels[n], str)}
    own = _solver_errors(trial, schema, there, count, seed)
    solver: Any = own if isinstance(own, str) else along(own, seed)
    return curve(levels, seed, trained=trained, solver=solver)


def _points(trained: int, ratio: float) -> int:
    return max(MULTIPLE, MULTIPLE * round(trained * ratio / MULTIPLE))


def _errors(trial: Trial, base: Split, samples: Split) -> Errors | str:
    """Return the errors on one grid, given the same problems on the trained one."""
    description = trial.description
    given, truth = description.given(samples.fields), description.truth(samples.fields)
    try:
        if description.coordinates:
            return trial.errors(given, truth)
        here, there = base.schema.space, samples.schema.space
        means = fields_on_grid(description.truth(trial.train_mean), here, there)
        found = trial.errors(given, truth, means)
        answer = trial.predict(description.given(base.fields), description.truth(base.fields))
        found["interpolated"] = errors_of(fields_on_grid(answer, here, there), truth)
    except (MnoError, ValueError, RuntimeError) as error:  # a backbone's own limits on grids
        return f"the model cannot answer there: {first_line(error)}"
    return found


def _solver_errors(
    trial: Trial, schema: Schema, solved: Mapping[int, Split | str], count: int, seed: int
) -> list[np.ndarray] | str:
    if schema.coordinates:
        return SOLVER_ON_POINTS
    finest = FINER * max(solved, default=1)
    reference = solved_anew(schema, count, seed, finest)
    if isinstance(reference, str):
        return reference
    exact = trial.description.truth(reference.fields)
    errors = []
    for samples in solved.values():
        assert not isinstance(samples, str)  # noqa: S101  (these have been left out)
        restricted = fields_on_grid(exact, reference.schema.space, samples.schema.space)
        errors.append(errors_of(trial.description.truth(samples.fields), restricted))
    return errors
