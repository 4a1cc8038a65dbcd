"""Fields brought from the points of one grid to those of another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.interpolate import RegularGridInterpolator

from mno.core.fields import Axis


def on_grid(
    values: np.ndarray, points: Sequence[np.ndarray], others: Sequence[np.ndarray]
) -> np.ndarray:
    """Interpolate linearly along the last axes, beyond the outermost points along the last cell.

    Args:
        values: Shape `(..., *grid)`.
        points: Where the values are along each axis of the grid, ascending, two or more.
        others: Where they are wanted.

    Returns:
        Shape `(..., *other grid)`; the values themselves where the points are the same.
    """
    if all(np.array_equal(a, b) for a, b in zip(points, others, strict=True)):
        return values
    dims = len(points)
    first = np.moveaxis(values, range(-dims, 0), range(dims))
    interpolate = RegularGridInterpolator(
        tuple(points),
        first,
        method="linear",
        bounds_error=False,
        fill_value=None,  # type: ignore[arg-type]
    )
    found = interpolate(np.stack(np.meshgrid(*others, indexing="ij"), axis=-1))
    return np.moveaxis(found, range(dims), range(-dims, 0)).astype(values.dtype)


def fields_on_grid(
    fields: Mapping[str, np.ndarray], space: Sequence[Axis], others: Sequence[Axis]
) -> dict[str, np.ndarray]:
    """Bring fields of shape `(..., *grid)` from some axes of space to others, by `on_grid`."""
    here, there = [axis.points for axis in space], [axis.points for axis in others]
    return {name: on_grid(values, here, there) for name, values in fields.items()}
