"""What is measured of each field of a dataset, shard by shard: moments, spectrum, noise."""

import math
from functools import reduce
from operator import add

import numpy as np

from mno.core.fields import Field
from mno.data.reading import Schema
from mno.data.statistics import Moments
from mno.evaluation.statistics import Space, space_of

CUTOFF = 2 / 3  # above this share of the highest wavenumber a field counts as at the cut-off
_MAD = 0.6744897501960817  # median of |x| for the normal distribution of deviation one
_FEWEST_POINTS = 8
_FRAMES = 8  # of each sample, for what is slow to measure


class Spectrum:
    """Radially averaged power spectrum of the fields on one grid that were added so far.

    The mean is removed and a Hann window put on, so that the jump from one end of the domain to
    the other, which is none of the field's, does not fill the high wavenumbers. Shells are those of
    `mno.evaluation.statistics`; what is shown ends at the highest wavenumber that all axes resolve,
    `1 / (2 h)` with `h` the distance between points.
    """

    def __init__(self, space: Space) -> None:
        self._space, self._window = space, np.ones(())
        for n in space.shape:  # of mean square one
            line = np.square(np.sin(np.pi * (np.arange(n) + 0.5) / n))
            self._window = self._window[..., None] * (line / math.sqrt(np.mean(np.square(line))))
        self._power = np.zeros(len(space.shells))
        self._k = space.shells / space.length
        self._highest = min(1 / (2 * h) for h in space.spacing)

    def add(self, fields: np.ndarray) -> None:
        """Measure fields of shape `(fields, *grid)`; those with a gap are left out."""
        axes = tuple(range(1, fields.ndim))
        finite = fields[np.isfinite(fields).all(axis=axes)].astype(np.float64)
        centred = (finite - finite.mean(axis=axes, keepdims=True)) * self._window
        self._power += self._space.power(self._space.waves(centred)[:, None]).sum(axis=0)

    @property
    def curve(self) -> tuple[np.ndarray, np.ndarray]:
        """Wavenumbers in cycles per unit of length, and the power of a mode, the largest one."""
        shown = (self._k > 0) & (self._k <= self._highest * (1 + 1e-9))
        modes = self._space.power(np.ones_like(self._space.waves(self._window)[None, None]))[0]
        power = self._power[shown] / modes[shown]
        return self._k[shown], power / (power.max() or 1.0)

    @property
    def share_at_cutoff(self) -> float:
        """Share of the variance above two thirds of the highest wavenumber."""
        total = self._power[1:].sum()  # the mean has no part in it
        above = self._power[1:][self._k[1:] > CUTOFF * self._highest].sum()
        return float(above / total) if total else 0.0


def noise_of_differences(values: np.ndarray) -> float:
    """Estimate the noise in one field by the median of its absolute second differences.

    They are taken along every axis of the grid, one after the other. Of white noise of deviation
    `s` they have the deviation `s * sqrt(6)` for each axis; smooth fields have small ones, and the
    median does not see few large ones, such as jumps. Curvature counts as noise, so that the truth
    is below the estimate; where most neighbours are equal it is zero and tells nothing. Values have
    the shape `(frames, *grid)`.
    """
    differences = np.where(np.isfinite(values), values, np.nan).astype(np.float64)
    for axis in range(1, values.ndim):
        differences = np.diff(differences, 2, axis=axis)
    finite = np.abs(differences[np.isfinite(differences)])
    if not finite.size:
        return math.nan
    return float(np.median(finite)) / _MAD / math.sqrt(6.0) ** (values.ndim - 1)


class FieldMeasurement:
    """A field over those of a dataset's samples that were added so far.

    Memory grows by a few numbers per sample, whatever the size of a sample. There is a spectrum,
    and an estimate of noise, on grids of equal steps and of eight points or more along each axis.
    """

    def __init__(self, field: Field, schema: Schema, samples: int) -> None:
        axes = {axis.name: axis for axis in schema.axes}
        self.field, self.axes = field, tuple(axes[name] for name in field.dims)
        self.moments: dict[str, Moments] = {}  # by split
        self.norms = np.full(samples, math.nan)  # root mean square of each sample
        self.constant: list[int] = []  # samples in which all values are the same
        self.still: list[int] = []  # samples in which a frame repeats the one before it
        self.repeated_frames = 0
        self._noise = np.full(samples, math.nan)
        space = space_of(field, schema)
        self.spectrum: Spectrum | None = None
        if isinstance(space, Space) and min(space.shape) >= _FEWEST_POINTS:
            self.spectrum = Spectrum(space)

    @property
    def total(self) -> Moments:
        """Moments over all splits."""
        return reduce(add, self.moments.values())

    @property
    def noise(self) -> float:
        """Estimate of the noise by second differences: the median over samples, or NaN."""
        known = self._noise[np.isfinite(self._noise)]
        return float(np.median(known)) if known.size else math.nan

    @property
    def extremes(self) -> dict[str, int]:
        """Numbers of the samples of smallest, median and largest norm; none where none has one."""
        order = np.argsort(self.norms, kind="stable")[: int(np.isfinite(self.norms).sum())]
        if not order.size:
            return {}
        places = {"smallest": 0, "median": (len(order) - 1) // 2, "largest": len(order) - 1}
        return {rank: int(order[place]) for rank, place in places.items()}

    def add(self, start: int, values: np.ndarray, splits: np.ndarray) -> None:
        """Measure samples that follow each other from one on, shape `(samples, *dims)`."""
        timed = "time" in self.field.dims
        for sample, (array, split) in enumerate(zip(values, splits.tolist(), strict=True), start):
            array = np.asarray(array)
            moments = Moments.of(array)
            before = self.moments.get(split)
            self.moments[split] = moments if before is None else before + moments
            if moments.count:
                self.norms[sample] = math.hypot(moments.mean, moments.std)
            if array.size > 1 and moments.count == array.size and moments.min == moments.max:
                self.constant.append(sample)
            elif timed and len(array) > 1:
                frames = array.reshape(len(array), -1)
                repeated = int((frames[1:] == frames[:-1]).all(axis=1).sum())
                self.repeated_frames += repeated
                self.still += [sample] if repeated else []
            if self.spectrum is not None:
                last = len(array) - 1 if timed else 0
                some = np.unique(np.linspace(0, last, min(_FRAMES, last + 1)).astype(int))
                shown = array[some] if timed else array[None]
                self.spectrum.add(shown)
                self._noise[sample] = noise_of_differences(shown)
