"""The scheme of `multigrid` a second time, in plain numpy, and what its solutions lie between."""

from __future__ import annotations

import math

import numpy as np

Faces = tuple[np.ndarray, np.ndarray]
"""A quantity on the faces across x and on those across y, shapes `(x + 1, y)` and `(x, y + 1)`; the
first and last faces are the wall's."""


def face_fluxes(
    permeability: np.ndarray, pressure: np.ndarray, inlet: float | None
) -> tuple[Faces, Faces]:
    """Return the fluxes through all faces of the unit square, and the sizes of their terms.

    Args:
        permeability: Positive, shape `(x, y)`.
        pressure: The same shape; zero on the wall.
        inlet: None, or the pressure on the wall where x is 0, of a channel with closed sides.
    """
    flux_x, terms_x = _across_first_axis(permeability, pressure, inlet or 0.0)
    flux_y, terms_y = _across_first_axis(permeability.T, pressure.T, 0.0)
    if inlet is not None:
        for field in (flux_y, terms_y):
            field[[0, -1]] = 0.0
    return (flux_x, flux_y.T), (terms_x, terms_y.T)


def _across_first_axis(
    permeability: np.ndarray, pressure: np.ndarray, inlet: float
) -> tuple[np.ndarray, np.ndarray]:
    before, after = permeability[:-1], permeability[1:]
    harmonic = 2.0 * before * after / (before + after)
    transmissibility = np.concatenate([2.0 * permeability[:1], harmonic, 2.0 * permeability[-1:]])
    padded = np.pad(pressure, ((1, 1), (0, 0)))
    padded[0] = inlet
    fluxes = transmissibility * (padded[:-1] - padded[1:])
    terms = transmissibility * (np.abs(padded[:-1]) + np.abs(padded[1:]))
    return fluxes, terms


def bounds(permeability: np.ndarray, inlet: float | None) -> tuple[float, float]:
    """Return what the pressure lies between, for a source of one.

    A cell has at most eight times its permeability in transmissibility, which bounds its pressure
    from below. From above Talenti (1976, theorem 1) does: no domain of that area lets the pressure
    rise higher than a disc. In a channel the closed sides do not count as an edge of the region
    above a level, and his argument holds with an edge of `min(sqrt(2 pi A), 2)` around an area A,
    half a disc at a closed side or a strip from one to the other.
    """
    lowest = 1.0 / (permeability.size * 8.0 * permeability.max())
    if inlet is None:
        return lowest, 1.0 / (4.0 * math.pi * permeability.min())
    # The integral of A over the square of that edge, from 0 to 1; halves meet at A = 2 / pi.
    share = 1.0 / math.pi**2 + (1.0 - 4.0 / math.pi**2) / 8.0
    return lowest, inlet + share / permeability.min()
