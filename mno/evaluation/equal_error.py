"""The solver at equal error: how long it takes to be as far from the truth as the surrogate is.

A solver becomes faster on a coarser grid, and less exact. Fresh problems of the scenario are solved
on grids up to the dataset's, and the surrogate predicts the same problems; all are compared, on the
points of the dataset, with the solution on a grid twice as fine. Where the solver's curve of error
over time passes the surrogate's error, there it is as good, and that is its time to beat.

A problem is the same on several grids where the scenario draws functions: the same random numbers
give the same function, whatever the grid. Whether they do is checked, not assumed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.interpolate import CubicSpline
from threadpoolctl import threadpool_limits

from mno.core.absent import Absent
from mno.core.errors import MnoError, first_line
from mno.evaluation.solver import other_solver
from mno.evaluation.timing import seconds_of
from mno.scenarios.base import Fields, Scenario

if TYPE_CHECKING:
    from mno.data.reading import Schema
    from mno.surrogate.surrogate import Surrogate


_STREAM = 0x636F7374  # of random numbers, apart from those of any dataset


def draw(scenario: Scenario, problem: int) -> Fields:
    """Draw a problem by its number: with the same random numbers on every grid."""
    return scenario.sample(np.random.default_rng((_STREAM, problem)))


def solve(scenario: Scenario, given: Fields) -> tuple[Fields, float]:
    """Return the solution, and the seconds that it took."""
    solved: list[Fields] = []
    seconds = seconds_of(lambda: solved.append(scenario.solve(given)))
    return solved[0], seconds


def onto(places: Sequence[np.ndarray], scenario: Scenario, fields: Fields) -> Fields:
    """Interpolate a solution to other points, by cubic splines along each axis of space.

    Args:
        places: Those points, along each axis; an axis of as many points is taken for the same.
        scenario: At the resolution of the solution.
        fields: Shape `(*dims)` by name, the axes of space last.
    """
    space = [axis.points for axis in scenario.axes if axis.name != "time"]
    result = {}
    for name, values in fields.items():
        there = values.astype(np.float64)
        for axis, (old, new) in enumerate(zip(space, places, strict=True)):
            if len(old) != len(new):
                there = CubicSpline(old, there, axis=there.ndim - len(space) + axis)(new)
        result[name] = there
    return result


def relative_difference(fields: Fields, others: Fields) -> float:
    """Return `||a - b|| / ||b||`, the mean over fields; infinite where `b` is zero and `a` not."""
    differences = []
    for name, other in others.items():
        distance, size = np.linalg.norm(fields[name] - other), np.linalg.norm(other)
        differences.append(distance / size if size else (math.inf if distance else 0.0))
    return float(np.mean(differences))


def difference_from_finer(coarse: Fields, fine: Fields, dims: int) -> float:
    """Return the largest relative difference of an input from a finer one's means.

    Args:
        coarse: Inputs on one grid, by name.
        fine: Those on a grid of twice as many points along each axis of space.
        dims: Axes of space; an input that is a number has none of them.
    """
    differences = []
    for name, values in coarse.items():
        means = fine[name]
        for axis in range(-min(dims, values.ndim), 0):
            even, odd = (np.arange(start, means.shape[axis], 2) for start in (0, 1))
            means = (means.take(even, axis) + means.take(odd, axis)) / 2
        differences.append(relative_difference({name: means}, {name: values}))
    return max(differences)


_MOST_PROBLEMS = 8
_COARSER = (1 / 4, 3 / 8, 1 / 2, 3 / 4)  # of the dataset's points along each axis
_OTHER_PROBLEM = 0.5  # relative difference of inputs; unrelated ones differ by 1 or more


@dataclass(frozen=True)
class Point:
    """The solver on one grid.

    Attributes:
        resolution: Points along each axis.
        error: Relative L2 from the reference, the mean over problems.
        ms: Time per solve in milliseconds, the median over problems, one thread.
    """

    resolution: int
    error: float
    ms: float


def equal_error(
    surrogate: Surrogate, schema: Schema, ms: float, budget: float
) -> dict[str, Any] | Absent:
    """Compare the surrogate with its solver on coarser grids.

    Args:
        surrogate: The trained operator.
        schema: Of its dataset, one that a solver made.
        ms: Time of one prediction on one thread, milliseconds.
        budget: Seconds to spend on solving.

    Returns:
        `problems` and `reference` (points along each axis), `curve` (see `Point`), `model` (`error`
        and `ms`), and, as `solver`, the time at the model's error: `ms`, whether that is
        `interpolated` or the solver takes `at_most` or `at_least` so long, and `speedup`; or, in
        one line, why there is no comparison.
    """
    if schema.coordinates:
        return Absent("cost.points")
    grids = _grids(schema)
    if isinstance(grids, Absent):
        return grids
    try:
        with threadpool_limits(limits=1):
            problems = _affordable(grids, schema, ms, budget)
            if isinstance(problems, Absent):
                return problems
            return _compare(surrogate, schema, grids, range(problems), ms)
    except MnoError as error:
        return Absent("cost.no_curve", {"reason": first_line(error)})


def time_at(error: float, curve: Sequence[Point]) -> tuple[float, str]:
    """Return the solver's time, milliseconds, at which its error is as large as another.

    Args:
        error: That other one; not NaN.
        curve: At least one grid, from the coarsest to the finest.

    Returns:
        The time, and `interpolated` (between the logarithms of neighbours), or `at_most` where the
        coarsest grid is exact enough, `at_least` where the finest is not.
    """
    enough = [point.error <= error for point in curve]
    if not any(enough):
        return curve[-1].ms, "at_least"
    first = enough.index(True)
    if not first:
        return curve[0].ms, "at_most"
    before, after = curve[first - 1], curve[first]
    tiny = np.finfo(float).tiny
    fine, wanted, coarse = np.log(np.maximum([after.error, error, before.error], tiny))
    share = (coarse - wanted) / (coarse - fine)
    return float(before.ms ** (1 - share) * after.ms**share), "interpolated"


def _grids(schema: Schema) -> list[Scenario] | Absent:
    """Return the solver on coarser grids, on the dataset's and on one twice as fine, ascending."""
    assert schema.resolution is not None  # or no solver would have made it
    coarser = sorted({4 * round(share * schema.resolution / 4) for share in _COARSER})
    made = [other_solver(schema, n) for n in coarser if 0 < n < schema.resolution]
    last = [other_solver(schema, n) for n in (schema.resolution, 2 * schema.resolution)]
    for missing in last:
        if isinstance(missing, Absent):
            return Absent("cost.no_curve", {"reason": missing})
    return [grid for grid in (*made, *last) if not isinstance(grid, Absent)]


def _affordable(
    grids: Sequence[Scenario], schema: Schema, ms: float, budget: float
) -> int | Absent:
    """Return how many problems there is time for; or, in one line, why there is none to solve."""
    *_, same, fine = grids
    given = draw(same, 0)
    difference = difference_from_finer(given, draw(fine, 0), len(schema.space))
    if not difference <= _OTHER_PROBLEM:
        return Absent("cost.other_problem", {"difference": difference})
    _, seconds = solve(same, given)
    # Twice as fine takes up to so many times as long (with shorter steps); the others a few times.
    each = seconds * (2 ** (len(schema.space) + 1) + 4) + 1e-3 * ms
    if each > budget:
        return Absent("cost.too_long", {"seconds": each})
    return min(_MOST_PROBLEMS, math.floor(budget / each))


def _compare(
    surrogate: Surrogate, schema: Schema, grids: Sequence[Scenario], problems: range, ms: float
) -> dict[str, Any]:
    *coarser, same, fine = grids
    places = [axis.points for axis in schema.space]

    def predicted_part(scenario: Scenario, solved: Fields) -> Fields:
        whole = {n: field[None] for n, field in onto(places, scenario, solved).items()}
        return surrogate.description.truth(whole)

    truth = [predicted_part(fine, solve(fine, draw(fine, k))[0]) for k in problems]
    curve = []
    for grid in (*coarser, same):
        grid.solve(draw(grid, 0))  # pays for what is set up once
        solved = [solve(grid, draw(grid, k)) for k in problems]
        errors = [
            relative_difference(predicted_part(grid, solution), truth[k])
            for k, (solution, _) in zip(problems, solved, strict=True)
        ]
        seconds = float(np.median([seconds for _, seconds in solved]))
        curve.append(Point(_points(grid), float(np.mean(errors)), 1e3 * seconds))
    errors = [relative_difference(_predicted(surrogate, same, k), truth[k]) for k in problems]
    error = float(np.mean(errors))
    return {
        "problems": len(problems),
        "reference": _points(fine),
        "curve": [asdict(point) for point in curve],
        "model": {"error": error, "ms": ms},
        "solver": _at(error, curve, ms),
    }


def _predicted(surrogate: Surrogate, scenario: Scenario, problem: int) -> Fields:
    given = draw(scenario, problem)
    whole = {**given, **scenario.solve(given)}  # states with all frames: some may be given
    inputs = surrogate.description.given({name: array[None] for name, array in whole.items()})
    return surrogate.predict(inputs, 1)


def _at(error: float, curve: Sequence[Point], ms: float) -> dict[str, Any] | Absent:
    if not math.isfinite(error):
        return Absent("cost.no_error")
    solver, how = time_at(error, curve)
    return {"ms": solver, "how": how, "speedup": solver / ms}


def _points(scenario: Scenario) -> int:
    return max(len(axis.points) for axis in scenario.axes if axis.name != "time")
