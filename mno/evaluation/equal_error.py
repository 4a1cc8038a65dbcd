"""The solver at equal error: how long it takes to be as far from the truth as the surrogate is.

A solver becomes faster on a coarser grid, and less exact. Fresh problems of the scenario are solved
on grids up to the dataset's, and the surrogate predicts the same problems; all are compared, on the
points of the dataset, with the solution on a grid twice as fine. Where the solver's curve of error
over time passes the surrogate's error, there it is as good, and that is its time to beat.

Of readings the points are no grid: there the solver is tried by the settings that its scenario has
(`mno.scenarios.base.Scenario.settings`), the last of which is the reference.

A problem is the same on several grids where the scenario draws functions: the same random numbers
give the same function, whatever the grid. Whether they do is checked, not assumed.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from scipy.interpolate import CubicSpline
from threadpoolctl import threadpool_limits

from mno.core.absent import Absent
from mno.core.errors import MnoError, first_line
from mno.core.fields import Axis
from mno.data.reading import Schema
from mno.evaluation.solver import other_solver
from mno.evaluation.timing import seconds_of
from mno.scenarios.base import Fields, Scenario
from mno.surrogate.surrogate import Surrogate

_STREAM = 0x636F7374  # of random numbers, apart from those of any dataset
_MOST_PROBLEMS = 8
_COARSER = (1 / 4, 3 / 8, 1 / 2, 3 / 4)  # of the dataset's points along each axis
_OTHER_PROBLEM = 0.5  # relative difference of inputs; unrelated ones differ by 1 or more


class Point(NamedTuple):
    """The solver on one grid, or by one setting."""

    resolution: int  # points along each axis, or the setting's number
    error: float  # relative L2 from the reference, the mean over problems
    ms: float  # per solve, the median over problems, one thread


def equal_error(
    surrogate: Surrogate, schema: Schema, ms: float, budget: float
) -> dict[str, Any] | Absent:
    """Compare the surrogate with its solver on coarser grids.

    The schema is that of its dataset, one that a solver made; a prediction takes so many
    milliseconds on one thread, and solving may take the budget in seconds.

    Returns:
        `by`, `grids` or `settings`; `problems` and `reference` (points along each axis, or a
        number), `curve` (see `Point`), `model` (`error` and `ms`), and, as `solver`, the time at
        the model's error: `ms`, whether that is `interpolated` or the solver takes `at_most` or
        `at_least` so long, and `speedup`; or why there is no comparison.
    """
    if schema.coordinates and not schema.readings:
        return Absent("cost.points")
    solvers = _by_settings(schema) if schema.readings else _by_grids(schema)
    if isinstance(solvers, Absent):
        return solvers
    same, fine = (solver for _, solver in solvers[-2:])
    try:
        with threadpool_limits(limits=1):
            given = _draw(same, 0)
            difference = _difference_from_finer(given, _draw(fine, 0))
            if not difference <= _OTHER_PROBLEM:
                return Absent("cost.other_problem", {"difference": difference})
            seconds = seconds_of(lambda: same.solve(given))
            # Twice as fine takes up to so many times as long (with shorter steps); the others a few
            # times.
            dims = 3 if schema.readings else len(schema.space)
            each = seconds * (2 ** (dims + 1) + 4) + 1e-3 * ms
            if each > budget:
                return Absent("cost.too_long", {"seconds": each})
            problems = range(min(_MOST_PROBLEMS, math.floor(budget / each)))
            by = "settings" if schema.readings else "grids"
            return {"by": by, **_compare(surrogate, schema, solvers, problems, ms)}
    except MnoError as error:
        return Absent("cost.no_curve", {"reason": first_line(error)})


def time_at(error: float, curve: Sequence[Point]) -> tuple[float, str]:
    """Return the solver's time, milliseconds, at which its error is as large as another, not NaN.

    The curve goes from the coarsest grid to the finest. The time is `interpolated` (between the
    logarithms of neighbours), or `at_most` where the coarsest grid is exact enough, `at_least`
    where the finest is not.
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


Numbered: TypeAlias = list[tuple[int, Scenario]]  # solvers and their numbers, the finest last


def _by_grids(schema: Schema) -> Numbered | Absent:
    """Return the solver on coarser grids, on the dataset's and on one twice as fine, ascending."""
    assert schema.resolution is not None  # or no solver would have made it
    coarser = sorted({4 * round(share * schema.resolution / 4) for share in _COARSER})
    last = (schema.resolution, 2 * schema.resolution)
    made = {n: other_solver(schema, n) for n in (*coarser, *last) if n in last or 0 < n < last[0]}
    for missing in (made[n] for n in last):
        if isinstance(missing, Absent):
            return Absent("cost.no_curve", {"reason": missing})
    there = [solver for solver in made.values() if not isinstance(solver, Absent)]
    return [(max(len(axis.points) for axis in _space(solver)), solver) for solver in there]


def _by_settings(schema: Schema) -> Numbered | Absent:
    own = other_solver(schema)
    if isinstance(own, Absent):
        return Absent("cost.no_curve", {"reason": own})
    made = [other_solver(schema, changed=changed) for changed in own.settings()]
    found = [solver for solver in made if not isinstance(solver, Absent)]
    return list(enumerate(found, 1)) if len(found) > 1 else Absent("cost.points")


def _space(scenario: Scenario) -> list[Axis]:
    return [axis for axis in scenario.axes if axis.name != "time"]


def _draw(scenario: Scenario, problem: int) -> Fields:
    """Draw a problem by its number: with the same random numbers on every grid."""
    return scenario.sample(np.random.default_rng((_STREAM, problem)))


def _solve(scenario: Scenario, given: Fields) -> tuple[Fields, float]:
    solved: list[Fields] = []
    seconds = seconds_of(lambda: solved.append(scenario.solve(given)))
    return solved[0], seconds


def _onto(places: Sequence[np.ndarray], scenario: Scenario, fields: Fields) -> Fields:
    """Bring a solution to other points, by cubic splines along axes of another number of points."""
    space = [axis.points for axis in _space(scenario)]
    there = {name: values.astype(np.float64) for name, values in fields.items()}
    for axis, (old, new) in enumerate(zip(space, places, strict=True), start=-len(space)):
        if len(old) != len(new):
            there = {n: CubicSpline(old, x, axis=x.ndim + axis)(new) for n, x in there.items()}
    return there


def _relative_difference(fields: Fields, others: Fields) -> float:
    """Return `||a - b|| / ||b||` where b is known, mean over fields; infinite if b alone is 0."""
    ratios = []
    for name, other in others.items():
        known = ~np.isnan(other)
        pairs = ((fields[name] - other)[known], other[known])
        distance, size = (float(np.linalg.norm(values)) for values in pairs)
        ratios.append(distance / size if size else (math.inf if distance else 0.0))
    return float(np.mean(ratios))


def _difference_from_finer(given: Fields, finer: Fields) -> float:
    """Return the largest relative difference of an input from its means where it is finer."""
    differences = []
    for name, values in given.items():
        means = finer[name]
        for axis, points in enumerate(values.shape):
            if means.shape[axis] == 2 * points:
                even, odd = (means.take(np.arange(k, 2 * points, 2), axis) for k in (0, 1))
                means = (even + odd) / 2
        differences.append(_relative_difference({name: means}, {name: values}))
    return max(differences)


def _compare(
    surrogate: Surrogate, schema: Schema, solvers: Numbered, problems: range, ms: float
) -> dict[str, Any]:
    *known, (reference, fine) = solvers
    same = known[-1][1]
    places = [axis.points for axis in schema.space]

    def predicted_part(scenario: Scenario, solved: Fields) -> Fields:
        whole = {n: field[None] for n, field in _onto(places, scenario, solved).items()}
        return surrogate.description.truth(whole)

    def predicted(problem: int) -> Fields:
        given = _draw(same, problem)
        whole = {**given, **same.solve(given)}  # states with all frames: some may be given
        inputs = surrogate.description.given({name: array[None] for name, array in whole.items()})
        return surrogate.predict(inputs, 1)

    truth = [predicted_part(fine, fine.solve(_draw(fine, k))) for k in problems]
    curve = []
    for number, solver in known:
        solver.solve(_draw(solver, 0))  # pays for what is set up once
        solved = [_solve(solver, _draw(solver, k)) for k in problems]
        errors = [
            _relative_difference(predicted_part(solver, solution), truth[k])
            for k, (solution, _) in zip(problems, solved, strict=True)
        ]
        seconds = float(np.median([seconds for _, seconds in solved]))
        curve.append(Point(number, float(np.mean(errors)), 1e3 * seconds))
    error = float(np.mean([_relative_difference(predicted(k), truth[k]) for k in problems]))
    found: dict[str, Any] | Absent = Absent("cost.no_error")
    if math.isfinite(error):
        time, how = time_at(error, curve)
        found = {"ms": time, "how": how, "speedup": time / ms}
    return {
        "problems": len(problems),
        "reference": reference,
        "curve": [point._asdict() for point in curve],
        "model": {"error": error, "ms": ms},
        "solver": found,
    }
