"""Waves over space: how much of a field's mean square is in waves of which length.

The wavenumber of a wave is how many fit into the longest side of the domain, whatever their
direction: with m_i waves along axis i of length L_i and the longest side L,

    k = sqrt(sum over axes of (m_i L / L_i)^2).

Shell n holds the waves with n <= k < n + 1. By Parseval's theorem the power of all shells adds up
to the sum of squares over the points; nothing is left out at the corners, and no window is laid
over the field, so that of a field that is not periodic the jump from end to end is seen as well.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from mno.evaluation.space import Space

BANDS = {"low": (0, 4), "middle": (4, 12), "high": (12, None)}
"""Shells of each band, from and to below: the wavenumbers at which PDEBench parts the bands."""


def coefficients(fields: np.ndarray, space: Space) -> np.ndarray:
    """Return Fourier coefficients over the space axes, those of the last axis from 0 on.

    Args:
        fields: Real, shape `(samples, frames, *grid)`.
        space: The grid.
    """
    return np.fft.rfftn(fields, axes=tuple(range(-len(space.shape), 0)))


def shell_power(waves: np.ndarray, space: Space) -> np.ndarray:
    """Return each sample's power in each shell, shape `(samples, shells)`.

    It is a sum of squares over points and frames, in the square of the field's unit.

    Args:
        waves: What `coefficients` returned.
        space: The grid.
    """
    order, starts, weights, _ = _shells(space.shape, space.spacing)
    power = np.square(np.real(waves)) + np.square(np.imag(waves))
    sums = power.reshape(*power.shape[:2], len(order)).sum(axis=1) * weights
    return np.add.reduceat(sums[:, order], starts, axis=1)


def shell_numbers(space: Space) -> np.ndarray:
    """Return the numbers of the shells that a grid has waves for, ascending."""
    return _shells(space.shape, space.spacing)[3]


def band_of(name: str, space: Space) -> slice:
    """Return which of a grid's shells belong to a band; an empty slice where none does.

    Args:
        name: Among `BANDS`.
        space: The grid.
    """
    first, end = BANDS[name]
    numbers = shell_numbers(space)
    stop = len(numbers) if end is None else int(np.searchsorted(numbers, end))
    return slice(int(np.searchsorted(numbers, first)), stop)


@lru_cache(maxsize=16)
def _shells(
    shape: tuple[int, ...], spacing: tuple[float, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the order of waves by shell, each shell's start in it, weights of waves, and numbers.

    A wave weighs 2 where its mirror image is not among the coefficients, over the number of points.
    """
    longest = max(n * h for n, h in zip(shape, spacing, strict=True))
    per_axis = [np.fft.fftfreq(n, h) for n, h in zip(shape[:-1], spacing[:-1], strict=True)]
    per_axis.append(np.fft.rfftfreq(shape[-1], spacing[-1]))
    waves = np.meshgrid(*per_axis, indexing="ij")
    k = np.sqrt(sum(np.square(longest * along) for along in waves)).ravel()
    shell = np.floor(np.round(k, 6)).astype(int)  # 3 stays 3, whatever the spacing's last digits
    order = np.argsort(shell, kind="stable")
    numbers, starts = np.unique(shell[order], return_index=True)
    last = np.arange(shape[-1] // 2 + 1)
    alone = (last == 0) | (2 * last == shape[-1])
    weights = np.broadcast_to(np.where(alone, 1.0, 2.0), waves[0].shape).ravel() / math.prod(shape)
    return order, starts, weights, numbers
