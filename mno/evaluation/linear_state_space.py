"""A linear state space on principal components, fitted to runs: what an observer has to beat.

    z' = A z + B u + b + w,   w ~ N(0, Q)     from one frame to the next
    x  = m + V z + e                          states; V are principal components
    y  = l + C z + v,         v ~ N(0, R)     readings

Each value of a state is divided by its standard deviation before components are found, so that
values of all units count alike. The changes z' - z are regressed on z and the controls u with a
penalty, so that what the runs do not tell is taken to change as it did on average (ridge
regression; Hoerl and Kennard, 1970), and the readings on z. Q and R are the covariances of what the
two regressions leave.

Symbols: z components `(k,)`, x states, y readings, u controls, w, v and e errors, independent from
frame to frame.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.linalg import lstsq, solve

from mno.core.errors import InputError
from mno.evaluation.simple_peers import leading_vectors

MOST_ROWS = 2000  # frames that components are found in, at most, evenly spread over all
_LEAST_NOISE = 1e-8  # of a reading's variance, by which readings' errors have an inverse


class Gaussian(NamedTuple):
    """What is believed of some numbers, of each sample or of all."""

    mean: np.ndarray  # (..., numbers)
    covariance: np.ndarray  # (..., numbers, numbers)


@dataclass(frozen=True, eq=False)
class Runs:
    """Runs of equal length and of equal steps."""

    states: np.ndarray  # (samples, frames, values), each value in its unit
    readings: np.ndarray  # (samples, frames, readings), NaN where there is none
    controls: np.ndarray  # (samples, frames, controls), each holds until the next frame

    @classmethod
    def of(
        cls,
        states: np.ndarray,
        readings: np.ndarray | None = None,
        controls: np.ndarray | None = None,
    ) -> Runs:
        """Check runs; the states themselves are read, and nothing is controlled, if not given.

        Raises:
            InputError: Shapes do not fit, or states or controls are not finite.
        """
        states = in_frames("states", states)
        samples, frames, _ = states.shape
        readings = states if readings is None else readings
        controls = np.empty((samples, frames, 0)) if controls is None else controls
        shape = (samples, frames, "numbers")
        readings = in_frames("readings", readings, shape, gaps=True)
        controls = in_frames("controls", controls, shape)
        if frames < 2:
            raise InputError(f"runs have {frames} frame; expected 2 or more: give whole runs")
        return cls(states, readings, controls)


def in_frames(
    name: str,
    array: np.ndarray,
    expected: tuple[int | str, ...] = ("samples", "frames", "numbers"),
    *,
    gaps: bool = False,
) -> np.ndarray:
    """Return an array in double precision; refuse other shapes, in which words are any number.

    Refused are values that are not finite, but for NaN where there may be `gaps`.
    """
    array = np.asarray(array, dtype=np.float64)
    sizes = [size for size in expected if isinstance(size, int)]
    found = [n for n, size in zip(array.shape, expected, strict=False) if isinstance(size, int)]
    if array.ndim != len(expected) or found != sizes:
        raise InputError(
            f"{name} have shape {array.shape}; expected ({', '.join(map(str, expected))}): give "
            "one row for each frame of each sample"
        )
    bad = int((np.isinf(array) if gaps else ~np.isfinite(array)).sum())
    if bad:
        raise InputError(
            f"{bad} of {array.size} values of {name} are not finite; expected "
            f"{'NaN where one is missing, else numbers' if gaps else 'numbers, none missing'}: "
            "correct them"
        )
    return array


class Dynamics(NamedTuple):
    """How components change from one frame to the next."""

    transition: np.ndarray  # A, (k, k)
    control: np.ndarray  # B, (k, controls)
    constant: np.ndarray  # b, (k,)
    noise: np.ndarray  # Q, (k, k)

    def after(self, z: np.ndarray, controls: np.ndarray) -> np.ndarray:
        """Return the components after those of `(..., k)` under controls `(..., controls)`."""
        return z @ self.transition.T + controls @ self.control.T + self.constant


class States(NamedTuple):
    """States as their components, and back."""

    level: np.ndarray  # m, (values,)
    matrix: np.ndarray  # V, in the values' units, (values, k)
    inverse: np.ndarray  # (k, values)
    left: np.ndarray  # variance of e, which the components leave out, (values,)

    def components(self, states: np.ndarray) -> np.ndarray:
        """Return the components `(..., k)` of states `(..., values)`."""
        return (states - self.level) @ self.inverse.T


class Sensors(NamedTuple):
    """What is read of components."""

    level: np.ndarray  # l, (readings,)
    matrix: np.ndarray  # C, (readings, k)
    noise: np.ndarray  # R, (readings, readings)


@dataclass(frozen=True, eq=False)
class LinearStateSpace:
    """A linear state space; made by `fit_state_space`, or of matrices that are known."""

    dynamics: Dynamics
    states: States
    sensors: Sensors
    first: Gaussian  # the components of first frames, before anything is read

    def after(self, belief: Gaussian, controls: np.ndarray) -> Gaussian:
        """Return what is to be expected a frame later, under controls `(samples, controls)`."""
        transition = self.dynamics.transition
        covariance = transition @ belief.covariance @ transition.T + self.dynamics.noise
        return Gaussian(self.dynamics.after(belief.mean, controls), symmetric(covariance))

    def state(self, belief: Gaussian) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and variance of states, `(..., values)`, each in its unit."""
        mean = belief.mean @ self.states.matrix.T + self.states.level
        spread = self.states.matrix @ belief.covariance
        variance = np.einsum("...vk,vk->...v", spread, self.states.matrix)
        # Rounding may leave less than nothing where nothing is uncertain.
        return mean, np.maximum(variance, 0.0) + self.states.left


def symmetric(covariance: np.ndarray) -> np.ndarray:
    """Return a covariance without what rounding adds to one side of its diagonal."""
    return 0.5 * (covariance + np.swapaxes(covariance, -1, -2))


def fit_state_space(runs: Runs, components: int, penalty: float) -> LinearStateSpace:
    """Fit a linear state space of so many components, at most, to runs by least squares.

    The penalty is on the squares of weights, in units of the regressors' variances. Where there are
    no more runs than components, all frames say what first frames may be. Runs with too few frames
    for so many numbers are refused, and readings with too few values.
    """
    states = _components_of(runs, components)
    z = states.components(runs.states)
    first = z[:, 0] if len(z) > z.shape[2] else z.reshape(-1, z.shape[2])
    noise = np.atleast_2d(np.cov(first, rowvar=False, ddof=0))
    dynamics, sensors = _dynamics(z, runs.controls, penalty), _sensors(z, runs.readings)
    return LinearStateSpace(dynamics, states, sensors, Gaussian(first.mean(axis=0), noise))


def _components_of(runs: Runs, most: int) -> States:
    """Find the principal components of states, each value by its standard deviation."""
    rows = runs.states.reshape(-1, runs.states.shape[2])
    count = min(len(rows), MOST_ROWS)
    rows = rows[np.arange(count) * len(rows) // count]
    level, scale = rows.mean(axis=0), rows.std(axis=0)
    scale = np.where(scale > 1e-12 * np.abs(level), scale, 1.0)
    scaled = (rows - level) / scale
    vectors = leading_vectors(scaled, most)
    left = np.square(scaled - (scaled @ vectors) @ vectors.T).mean(axis=0)
    return States(level, scale[:, None] * vectors, vectors.T / scale, np.square(scale) * left)


def _dynamics(z: np.ndarray, controls: np.ndarray, penalty: float) -> Dynamics:
    """Regress the changes of components `(samples, frames, k)` on these and on controls."""
    size = z.shape[2]
    known = np.concatenate([z, controls], axis=2)[:, :-1]
    rows, changes = known.reshape(-1, known.shape[2]), np.diff(z, axis=1).reshape(-1, size)
    free = len(rows) - rows.shape[1] - 1
    if free < 1:
        raise InputError(
            f"{len(rows)} steps for {size} components and {controls.shape[2]} controls; expected "
            "more steps than numbers: give more runs, or fewer components"
        )
    centre, spread = rows.mean(axis=0), rows.std(axis=0)
    spread = np.where(spread > 1e-12 * np.abs(centre), spread, 1.0)
    x, level = (rows - centre) / spread, changes.mean(axis=0)
    moments = x.T @ x + penalty * len(x) * np.eye(x.shape[1])
    weights = solve(moments, x.T @ (changes - level), assume_a="pos")
    left = changes - level - x @ weights
    weights = weights.T / spread
    transition, control = np.eye(size) + weights[:, :size], weights[:, size:]
    noise = symmetric(left.T @ left / free)
    return Dynamics(transition, control, level - weights @ centre, noise)


def _sensors(z: np.ndarray, readings: np.ndarray) -> Sensors:
    """Regress each reading on the components of the frames in which there is one."""
    rows = z.reshape(-1, z.shape[2])
    columns = readings.reshape(len(rows), -1).T
    ones = np.concatenate([np.ones((len(rows), 1)), rows], axis=1)
    weights, left, least = [], np.zeros((len(rows), len(columns))), []
    for number, column in enumerate(columns):
        there = ~np.isnan(column)
        free = int(there.sum()) - ones.shape[1]
        if free < 1:
            raise InputError(
                f"reading {number} has {there.sum()} values for {z.shape[2]} components; expected "
                "more: leave it out, or take fewer components"
            )
        found = lstsq(ones[there], column[there])
        assert found is not None
        weights.append(found[0])
        left[there, number] = (column[there] - ones[there] @ found[0]) / math.sqrt(free)
        least.append(_LEAST_NOISE * (float(column[there].var()) or 1.0))
    matrix = np.array(weights).reshape(-1, ones.shape[1])
    return Sensors(matrix[:, 0], matrix[:, 1:], symmetric(left.T @ left) + np.diag(least))
