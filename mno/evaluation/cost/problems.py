"""The same problem on several grids: drawn, solved and compared on the points of one of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.interpolate import CubicSpline

from mno.evaluation.cost.timing import seconds_of
from mno.scenarios.base import Fields, Scenario

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
