"""Spectra and noise: how much of a field varies from point to point.

Glossary: `k` wavenumber in cycles per unit of length; `p` power, the variance that one mode holds;
`h` distance between points; `N` number of points of one frame.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CUTOFF = 2 / 3  # above this share of the highest wavenumber a field counts as at the cut-off
_NOISE = 0.9  # and above this one there is hoped to be nothing but noise
_MAD = 0.6744897501960817  # median of |x| for the normal distribution of deviation one
_FEWEST_POINTS = 8


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Radially averaged power spectrum of fields on one grid; additive over samples and frames.

    The mean is removed and a Hann window put on, so that the jump from one end of the domain to
    the other, which is none of the field's, does not fill the high wavenumbers. Shells are as wide
    as the lowest wavenumber and end at the highest one that all axes resolve, `1 / (2 h)`.

    Attributes:
        wavenumbers: Of the shells, shape `(shells,)`.
        modes: Fourier modes in each shell, shape `(shells,)`.
        variance: Variance in each shell, summed over fields, shape `(shells,)`.
        total: Variance at all wavenumbers but zero, the corners beyond the last shell included,
            summed.
        points: Points of one field.
        count: Number of fields.
    """

    wavenumbers: np.ndarray
    modes: np.ndarray
    variance: np.ndarray
    total: float
    points: int
    count: int

    @classmethod
    def of(cls, values: np.ndarray, spacing: Sequence[float]) -> Spectrum:
        """Measure fields of shape `(fields, *grid)` whose points are equally far apart."""
        grid, axes = values.shape[1:], tuple(range(1, values.ndim))
        finite = values[np.isfinite(values).all(axis=axes)].astype(np.float64)
        centred = (finite - finite.mean(axis=axes, keepdims=True)) * _window(grid)
        power = np.square(np.abs(np.fft.rfftn(centred, axes=axes)) / math.prod(grid)).sum(axis=0)
        k, weights = _wavenumbers(grid, spacing)
        width = max(1 / (n * h) for n, h in zip(grid, spacing, strict=True))
        shells = int(min(1 / (2 * h) for h in spacing) / width + 1e-9)
        shell = np.rint(k / width).astype(np.int64).ravel()
        modes = np.bincount(shell, weights.ravel(), minlength=shells + 1)[1 : shells + 1]
        variance = np.bincount(shell, (weights * power).ravel(), minlength=shells + 1)
        return cls(
            width * np.arange(1, shells + 1),
            modes,
            variance[1 : shells + 1],
            float(variance[1:].sum()),
            math.prod(grid),
            len(finite),
        )

    def __add__(self, other: Spectrum) -> Spectrum:
        return Spectrum(
            self.wavenumbers,
            self.modes,
            self.variance + other.variance,
            self.total + other.total,
            self.points,
            self.count + other.count,
        )

    @property
    def power(self) -> np.ndarray:
        """Mean power of a mode in each shell, shape `(shells,)`."""
        return self.variance / self.modes / max(self.count, 1)

    @property
    def share_at_cutoff(self) -> float:
        """Share of the variance above two thirds of the highest wavenumber."""
        below = self.wavenumbers <= CUTOFF * self.wavenumbers[-1]
        rest = self.total - float(self.variance[below].sum())
        return max(0.0, rest / self.total) if self.total else 0.0

    @property
    def noise(self) -> float:
        """Standard deviation of white noise that has the power of the highest wavenumbers."""
        high = self.wavenumbers > _NOISE * self.wavenumbers[-1]
        modes = float(self.modes[high].sum()) * max(self.count, 1)
        return math.sqrt(self.points * float(self.variance[high].sum()) / modes)


def noise_of_differences(values: np.ndarray) -> float:
    """Estimate the noise in one field by the median of its absolute second differences.

    They are taken along every axis of the grid, one after the other. Of white noise of deviation
    `s` they have the deviation `s * sqrt(6)` for each axis; smooth fields have small ones, and the
    median does not see few large ones, such as jumps. Curvature counts as noise, so that the truth
    is below the estimate; where most neighbours are equal it is zero and tells nothing.

    Args:
        values: Shape `(frames, *grid)`.
    """
    differences = np.where(np.isfinite(values), values, np.nan).astype(np.float64)
    for axis in range(1, values.ndim):
        differences = np.diff(differences, 2, axis=axis)
    finite = np.abs(differences[np.isfinite(differences)])
    if not finite.size:
        return math.nan
    return float(np.median(finite)) / _MAD / math.sqrt(6.0) ** (values.ndim - 1)


def can_be_measured(grid: Sequence[int], equal: bool) -> bool:
    """Whether a grid is equally spaced and has enough points along each of its axes."""
    return equal and len(grid) > 0 and min(grid) >= _FEWEST_POINTS


def _window(grid: Sequence[int]) -> np.ndarray:
    """Return a Hann window of mean square one."""
    window = np.ones(())
    for n in grid:
        line = np.square(np.sin(np.pi * (np.arange(n) + 0.5) / n))
        window = window[..., None] * (line / math.sqrt(np.mean(np.square(line))))
    return window


def _wavenumbers(grid: Sequence[int], spacing: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Return |k| of the modes of `rfftn`, and how many modes of the whole transform each is."""
    *others, last = [np.fft.fftfreq(n, h) for n, h in zip(grid, spacing, strict=True)]
    last = np.abs(last[: grid[-1] // 2 + 1])
    k = np.sqrt(sum(np.square(a) for a in np.meshgrid(*others, last, indexing="ij")))
    alone = (np.arange(len(last)) == 0) | (2 * np.arange(len(last)) == grid[-1])
    return k, np.broadcast_to(np.where(alone, 1.0, 2.0), k.shape)
