"""How well sensors cover the space that they are in."""

from __future__ import annotations

import numpy as np
from scipy.spatial import KDTree

_LATTICE = {1: 1001, 2: 65, 3: 25}  # places along each axis at which the distance is measured


def largest_hole(places: np.ndarray) -> float:
    """Return the largest diameter without a sensor over the diagonal of the box around all.

    Of sensors on one line it is the widest distance between neighbours, as a share of the whole.

    Args:
        places: Shape `(sensors, axes)`, one to three axes.

    Returns:
        Between 0 and 2; 1 for a single sensor.
    """
    low, high = places.min(axis=0), places.max(axis=0)
    wide = high > low
    if not wide.any():
        return 1.0
    places, low, high = places[:, wide], low[wide], high[wide]
    points = _LATTICE[places.shape[1]]
    lines = [np.linspace(a, b, points) for a, b in zip(low, high, strict=True)]
    lattice = np.stack(np.meshgrid(*lines, indexing="ij"), axis=-1).reshape(-1, len(lines))
    distances, _ = KDTree(places).query(lattice)
    return float(2 * distances.max() / np.linalg.norm(high - low))


def points_per_axis(places: np.ndarray) -> list[int]:
    """Return how many different coordinates sensors have along each axis."""
    return [len(np.unique(column)) for column in places.T]
