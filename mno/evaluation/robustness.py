"""Robustness: errors of a surrogate on data unlike those that it was trained on.

`measure_robustness` tries all kinds of difference; here are those whose problems are solved anew:
other resolutions, and other parameters than those of the training data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.interpolate import RegularGridInterpolator

from mno.core.absent import Absent
from mno.core.errors import MnoError, first_line
from mno.core.fields import Axis
from mno.data.reading import Schema, Split
from mno.evaluation.other_times import at_frame_rates, over_time
from mno.evaluation.scoring import some_samples
from mno.evaluation.solver import solved_anew, solver_of
from mno.evaluation.trial import (
    Errors,
    Result,
    Trial,
    along,
    curve,
    errors_of,
    under_noise,
    without_sensors,
)

if TYPE_CHECKING:
    from mno.data.reading import Split, StoredSplit
    from mno.evaluation.config import RobustnessConfig
    from mno.surrogate.surrogate import Surrogate


def on_grid(
    values: np.ndarray, points: Sequence[np.ndarray], others: Sequence[np.ndarray]
) -> np.ndarray:
    """Interpolate linearly along the last axes, beyond the outermost points along the last cell.

    Args:
        values: Shape `(..., *grid)`.
        points: Where the values are along each axis of the grid, ascending, two or more.
        others: Where they are wanted.

    Returns:
        Shape `(..., *other grid)`; the values themselves where the points are the same.
    """
    if all(np.array_equal(a, b) for a, b in zip(points, others, strict=True)):
        return values
    dims = len(points)
    first = np.moveaxis(values, range(-dims, 0), range(dims))
    interpolate = RegularGridInterpolator(
        tuple(points),
        first,
        method="linear",
        bounds_error=False,
        fill_value=None,  # type: ignore[arg-type]
    )
    found = interpolate(np.stack(np.meshgrid(*others, indexing="ij"), axis=-1))
    return np.moveaxis(found, range(dims), range(-dims, 0)).astype(values.dtype)


def fields_on_grid(
    fields: Mapping[str, np.ndarray], space: Sequence[Axis], others: Sequence[Axis]
) -> dict[str, np.ndarray]:
    """Bring fields of shape `(..., *grid)` from some axes of space to others, by `on_grid`."""
    here, there = [axis.points for axis in space], [axis.points for axis in others]
    return {name: on_grid(values, here, there) for name, values in fields.items()}


FINER = 2  # times the finest resolution tried, by which the solver's own error is measured
MULTIPLE = 4  # of points along an axis; all scenarios can be solved with such numbers


def at_resolutions(
    trial: Trial, schema: Schema, ratios: Sequence[float], count: int, seed: int
) -> Result | Absent:
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
    if isinstance(scenario, Absent):
        return scenario
    if not scenario.same_on_any_grid:
        return Absent("robustness.other_on_every_grid")
    trained = schema.resolution or 0
    tried = sorted({trained, *(_points(trained, ratio) for ratio in ratios)})
    solved = {n: solved_anew(schema, count, seed, n) for n in tried}
    base = solved[trained]
    if isinstance(base, Absent):
        return base
    levels: dict[int, Errors | Absent] = {}
    for points, samples in solved.items():
        levels[points] = samples if isinstance(samples, Absent) else _errors(trial, base, samples)
    there = {n: s for n, s in solved.items() if not isinstance(levels[n], Absent)}
    own = _solver_errors(trial, schema, there, count, seed)
    solver: Any = own if isinstance(own, Absent) else along(own, seed)
    return curve(levels, seed, trained=trained, solver=solver)


def _points(trained: int, ratio: float) -> int:
    return max(MULTIPLE, MULTIPLE * round(trained * ratio / MULTIPLE))


def _errors(trial: Trial, base: Split, samples: Split) -> Errors | Absent:
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
        return Absent("robustness.model_fails", {"error": first_line(error)})
    return found


def _solver_errors(
    trial: Trial, schema: Schema, solved: Mapping[int, Split | Absent], count: int, seed: int
) -> list[np.ndarray] | Absent:
    if schema.coordinates:
        return Absent("robustness.solver_on_points")
    finest = FINER * max(solved, default=1)
    reference = solved_anew(schema, count, seed, finest)
    if isinstance(reference, Absent):
        return reference
    exact = trial.description.truth(reference.fields)
    errors = []
    for samples in solved.values():
        assert not isinstance(samples, Absent)  # noqa: S101  (these have been left out)
        restricted = fields_on_grid(exact, reference.schema.space, samples.schema.space)
        errors.append(errors_of(trial.description.truth(samples.fields), restricted))
    return errors


AS_TRAINED = "as trained"


def outside_training(trial: Trial, schema: Schema, count: int, seed: int) -> Result | Absent:
    """Return the errors on the problems that the scenario names as its neighbours, solved anew.

    The first level are new problems as the training data were drawn, from the same streams. A
    parameter that changes may be none of the model's inputs: then it cannot know of it.

    Returns:
        A curve whose levels are names, and for each name what was `changed`: by parameter, the
        value of the training data and that of the trial. Or why there is none.
    """
    scenario = solver_of(schema)
    if isinstance(scenario, Absent):
        return scenario
    changes = {AS_TRAINED: {}, **scenario.outside()}
    levels = {}
    for label, changed in changes.items():
        samples = solved_anew(schema, count, seed, changed=changed)
        if isinstance(samples, Absent):
            levels[label] = samples
            continue
        given = trial.description.given(samples.fields)
        levels[label] = trial.errors(given, trial.description.truth(samples.fields))
    was = schema.parameters
    return curve(
        levels,
        seed,
        changed={
            label: {name: [was.get(name), value] for name, value in changed.items()}
            for label, changed in changes.items()
        },
    )


KINDS = ("noise", "missing", "resolution", "frame_rate", "outside", "over_time")


def measure_robustness(
    surrogate: Surrogate,
    test: Split | StoredSplit,
    train_mean: Mapping[str, np.ndarray],
    config: RobustnessConfig,
    batch_size: int,
) -> dict[str, Any]:
    """Return what `reports/robustness.json` holds: by kind a curve, or why there is none.

    It depends on the model, the test split and the configuration alone. Test samples are taken
    evenly spread over the split; what has to be solved anew is solved by the scenario, from streams
    of its own.

    Args:
        surrogate: The trained operator, which fits the split.
        test: Samples it was not trained on.
        train_mean: The training split's `mean_fields`.
        config: What is tried; of an empty list, nothing.
        batch_size: Samples per forward pass.
    """
    if not config.enabled:
        return dict.fromkeys(KINDS, Absent("robustness.off"))
    trial, schema = Trial(surrogate, train_mean, batch_size), test.schema
    samples = some_samples(test, config.samples)
    count, seed = config.solved_samples, config.seed
    noise, missing, resolutions = config.noise, config.missing, config.resolutions
    nothing = Absent("robustness.nothing_listed")
    return {
        "noise": under_noise(trial, samples, noise, seed) if noise else nothing,
        "missing": without_sensors(trial, samples, missing, seed) if missing else nothing,
        "resolution": at_resolutions(trial, schema, resolutions, count, seed)
        if resolutions
        else nothing,
        "frame_rate": at_frame_rates(trial, samples, schema, count, seed),
        "outside": outside_training(trial, schema, count, seed),
        "over_time": over_time(trial, samples, schema, count, seed, config.threshold),
    }
