"""Additive statistics: what is measured on each sample, and how parts of a split add up.

A metric is a function of these (`mno.evaluation.metrics`), never of the fields themselves. Each
sample is measured alone, in float64, and totals are exact sums, so batches, their size and their
order cannot change a result: neither a bit of it nor its meaning. The split into statistics and
metrics is that of weatherbenchX. Where the truth is missing, NaN, nothing is compared: such values
are counted and left out.

On a grid (`Space`) walls, means, gradients and waves are measured, too. The wavenumber of a wave is
how many fit into the longest side of the domain, whatever their direction: with m_i waves along
axis i of length L_i and the longest side L,

    k = sqrt(sum over axes of (m_i L / L_i)^2).

Shell n holds the waves with n <= k < n + 1. By Parseval's theorem the power of all shells adds up
to the sum of squares over the points; nothing is left out at the corners, and no window is laid
over the field, so that of a field that is not periodic the jump from end to end is seen as well.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mno.core.absent import Absent
from mno.core.fields import Field
from mno.data.reading import Schema

BANDS = {"low": (0, 4), "middle": (4, 12), "high": (12, None)}
"""Shells of each band, from and to below: the wavenumbers at which PDEBench parts the bands."""


@dataclass(frozen=True, eq=False)
class Space:
    """A grid of equal steps: points along each axis, and their distance in the axis's unit."""

    shape: tuple[int, ...]
    spacing: tuple[float, ...]

    @property
    def length(self) -> float:
        """The longest side of the domain, in the axes' unit, by which lengths are measured."""
        return max(n * h for n, h in zip(self.shape, self.spacing, strict=True))

    @cached_property
    def boundary(self) -> np.ndarray:
        """The outermost points along each axis, each once; numbers in the flattened grid."""
        inner = np.zeros(self.shape, dtype=bool)
        inner[(slice(1, -1),) * inner.ndim] = True
        return np.flatnonzero(~inner)

    @property
    def shells(self) -> np.ndarray:
        """The numbers of the shells that the grid has waves for, ascending."""
        return self._shells[3]

    def band(self, name: str) -> slice:
        """Return which of `shells` belong to one of `BANDS`; an empty slice where none does."""
        first, end = BANDS[name]
        stop = len(self.shells) if end is None else int(np.searchsorted(self.shells, end))
        return slice(int(np.searchsorted(self.shells, first)), stop)

    def waves(self, fields: np.ndarray) -> np.ndarray:
        """Return Fourier coefficients over the last axes; those of the last one from 0 on."""
        return np.fft.rfftn(fields, axes=tuple(range(-len(self.shape), 0)))

    def power(self, waves: np.ndarray) -> np.ndarray:
        """Return the power of each sample's waves in each shell, shape `(samples, shells)`.

        It is a sum of squares over points and frames, in the square of the field's unit. The waves
        have shape `(samples, frames, *waves)`.
        """
        order, starts, weights, _ = self._shells
        power = np.square(np.real(waves)) + np.square(np.imag(waves))
        sums = power.reshape(*power.shape[:2], len(order)).sum(axis=1) * weights
        return np.add.reduceat(sums[:, order], starts, axis=1)

    @cached_property
    def _shells(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Order of waves by shell, each shell's start in it, weights of waves, shells' numbers.

        A wave weighs 2 over the number of points, 1 if its mirror image is a coefficient, too.
        """
        *others, last = zip(self.shape, self.spacing, strict=True)
        per_axis = [*(np.fft.fftfreq(n, h) for n, h in others), np.fft.rfftfreq(*last)]
        waves = np.meshgrid(*per_axis, indexing="ij")
        k = np.sqrt(sum(np.square(self.length * along) for along in waves)).ravel()
        shell = np.floor(np.round(k, 6)).astype(int)  # 3 stays 3, despite the spacing's last digits
        order = np.argsort(shell, kind="stable")
        numbers, starts = np.unique(shell[order], return_index=True)
        number = np.arange(last[0] // 2 + 1)
        weight = np.where((number == 0) | (2 * number == last[0]), 1.0, 2.0)
        weights = np.broadcast_to(weight, waves[0].shape).ravel() / math.prod(self.shape)
        return order, starts, weights, numbers


def space_of(field: Field, schema: Schema) -> Space | Absent:
    """Return the grid of a dataset's predicted field, or why it has none to measure on."""
    axes = [axis for axis in schema.space if axis.name in field.dims]
    if not axes or "point" in field.dims:
        return Absent("grid.points")
    if field.gaps:
        return Absent("grid.gaps")
    if any(len(axis.points) < 2 for axis in axes):
        return Absent("grid.single_point")
    steps = [np.diff(axis.points) for axis in axes]
    if not all(np.allclose(step, step[0], rtol=1e-4, atol=0.0) for step in steps):
        return Absent("grid.uneven")
    return Space(
        tuple(len(axis.points) for axis in axes),
        tuple(float(np.ptp(axis.points)) / (len(axis.points) - 1) for axis in axes),
    )


def measure_on_grid(
    predictions: np.ndarray, truths: np.ndarray, space: Space, spectra: bool
) -> dict[str, np.ndarray]:
    """Measure each sample; shape `(samples,)` by name, of powers `(samples, shells)`.

    Sums are over the points and frames of a sample. With e the error at the points of a frame,

        squared_mean_error      sum over frames of the square of the mean of e over the points
        squared_boundary_error  sum of e^2 over the outermost points along each axis
        squared_error_h1        sum of e^2 + |L grad e|^2, L the longest side of the domain
        error_power             sum of squares of e in each shell

    The gradient is by central differences, one-sided at the ends, as of an axis that is not
    periodic. Scaled by L it has the field's unit, and the norm does not depend on how the domain is
    measured; on a unit square it is the usual one. Given are `(samples, [frames,] *grid)`, float64;
    with `spectra` `truth_power` and `prediction_power` are measured as well.
    """
    samples, points = len(truths), math.prod(space.shape)
    frames = math.prod(truths.shape[1:]) // points
    predicted, true = (a.reshape(samples, frames, *space.shape) for a in (predictions, truths))
    error = predicted - true
    flat = error.reshape(samples, frames, points)
    at_walls = flat[:, :, space.boundary].reshape(samples, frames * len(space.boundary))
    error_waves = space.waves(error)
    found = {
        "frames": np.full(samples, float(frames)),
        "squared_mean_error": np.square(flat.mean(axis=2)).sum(axis=1),
        "boundary_points": np.full(samples, float(at_walls.shape[1])),
        "squared_boundary_error": np.square(at_walls).sum(axis=1),
        "squared_error_h1": _squared_h1(error, space),
        "squared_truth_h1": _squared_h1(true, space),
        "error_power": space.power(error_waves),
    }
    if spectra:
        true_waves = space.waves(true)
        found["truth_power"] = space.power(true_waves)
        found["prediction_power"] = space.power(true_waves + error_waves)
    return found


def _squared_h1(fields: np.ndarray, space: Space) -> np.ndarray:
    first = fields.ndim - len(space.shape)
    total = np.square(fields)
    for axis, spacing in enumerate(space.spacing, start=first):
        total += np.square(np.gradient(fields, spacing / space.length, axis=axis))
    return total.reshape(len(fields), math.prod(fields.shape[1:])).sum(axis=1)


POINTWISE = ("points", "missing", "squared_error", "squared_truth", "max_error")
"""What is measured of every field; on a grid there is more (`measure_on_grid`)."""


def _measure_pointwise(predicted: np.ndarray, true: np.ndarray) -> dict[str, np.ndarray]:
    """Measure samples of shape `(samples, values)`."""
    missing = np.isnan(true)
    counts = missing.sum(axis=1).astype(np.float64)
    if counts.any():
        predicted, true = (np.where(missing, 0.0, a) for a in (predicted, true))
    error = predicted - true
    return {
        "points": true.shape[1] - counts,
        "missing": counts,
        "squared_error": np.square(error).sum(axis=1),
        "squared_truth": np.square(true).sum(axis=1),
        "max_error": np.abs(error).max(axis=1, initial=0.0),
    }


NO_GRID = Absent("grid.not_given")

_AT_ONCE = 2**17  # values, so that what is computed on the way stays in the processor's cache


class Statistics:
    """The statistics of one field: by name the values of all samples, shape `(samples, *more)`."""

    def __init__(
        self, values: Mapping[str, np.ndarray] | None = None, space: Space | Absent = NO_GRID
    ) -> None:
        self._values = dict(values) if values else {name: np.zeros(0) for name in POINTWISE}
        self.space = space

    @classmethod
    def of(
        cls,
        predictions: np.ndarray,
        truths: np.ndarray,
        space: Space | Absent = NO_GRID,
        spectra: bool = False,
        rise: np.ndarray | None = None,
    ) -> "Statistics":
        """Measure a batch of shape `(samples, *dims)`, in the field's unit.

        A truth is NaN where it is missing; `rise` is the truth less what it is taken less, if it
        is. On a grid what asks for one is measured, too, and the
        spectra of prediction and truth if they are wanted; shapes that differ are a ValueError.
        """
        if predictions.shape != truths.shape:
            raise ValueError(
                f"predictions have shape {predictions.shape}, truths {truths.shape}; "
                "expected the same shape"
            )
        if isinstance(space, Space) and truths.shape[-len(space.shape) :] != space.shape:
            raise ValueError(
                f"fields have shape {truths.shape[1:]}; expected the grid's {space.shape}, frames "
                "before it"
            )
        size = math.prod(truths.shape[1:])
        step = max(1, _AT_ONCE // max(size, 1))
        parts = []
        for start in range(0, max(len(truths), 1), step):
            predicted, true = (
                np.ascontiguousarray(a[start : start + step], dtype=np.float64)
                for a in (predictions, truths)
            )
            with np.errstate(invalid="ignore", over="ignore"):  # predictions that are no numbers
                shape = len(true), size
                found = _measure_pointwise(predicted.reshape(shape), true.reshape(shape))
                if isinstance(space, Space):
                    found |= measure_on_grid(predicted, true, space, spectra)
                if rise is not None:
                    part = np.nan_to_num(rise[start : start + step].astype(np.float64))
                    found["squared_rise"] = np.square(part).reshape(shape).sum(axis=1)
            parts.append(found)
        return cls({n: np.concatenate([part[n] for part in parts]) for n in parts[0]}, space)

    def __add__(self, other: "Statistics") -> "Statistics":
        """Return the statistics of this one's samples and then the other's."""
        if not (len(self) and len(other)):
            return self if len(self) else other
        pairs = {name: (own, other._values[name]) for name, own in self._values.items()}
        return Statistics({n: np.concatenate(pair) for n, pair in pairs.items()}, self.space)

    def __len__(self) -> int:
        return len(self._values["points"])

    @property
    def measured(self) -> np.ndarray:
        """Which samples have a true value to compare with, shape `(samples,)`, boolean."""
        return self.per_sample("points") > 0

    def per_sample(self, name: str) -> np.ndarray:
        """Return one statistic of every sample, shape `(samples, *more)`, float64."""
        return self._values[name]

    @property
    def knows_rise(self) -> bool:
        """Whether the truth's rise was measured, too."""
        return "squared_rise" in self._values

    def total(self, name: str) -> float:
        """Return the exact sum over samples; NaN where a sample's is."""
        return math.fsum(self._values[name])


def of_frames(predictions: np.ndarray, truths: np.ndarray) -> list[Statistics]:
    """Measure each frame of a batch for itself, without what a grid would add.

    Predictions and truths have shape `(samples, frames, *grid)`; NaN where a truth is missing.
    """
    frames = truths.shape[1]
    rows = Statistics.of(
        predictions.reshape(-1, *predictions.shape[2:]), truths.reshape(-1, *truths.shape[2:])
    )
    values = {name: rows.per_sample(name).reshape(-1, frames) for name in POINTWISE}
    return [Statistics({n: v[:, frame] for n, v in values.items()}) for frame in range(frames)]
