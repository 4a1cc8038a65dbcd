"""The grid of a field, as far as a metric asks for it: walls, gradients, means and wavenumbers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from mno.core.fields import Axis, Field

if TYPE_CHECKING:
    from mno.data.reading import Schema


@dataclass(frozen=True, eq=False)
class Space:
    """A grid of equal steps along each axis.

    Attributes:
        shape: Points along each space axis.
        spacing: Distance between neighbouring points along each, in the axis's unit.
    """

    shape: tuple[int, ...]
    spacing: tuple[float, ...]

    @property
    def length(self) -> float:
        """The longest side of the domain, in the axes' unit, by which lengths are measured."""
        return max(n * h for n, h in zip(self.shape, self.spacing, strict=True))

    @cached_property
    def boundary(self) -> np.ndarray:
        """The outermost points along each axis, each once; numbers in the flattened grid."""
        places = np.indices(self.shape)
        ends = [
            (place == 0) | (place == n - 1) for place, n in zip(places, self.shape, strict=True)
        ]
        return np.flatnonzero(np.logical_or.reduce(ends))


def space_of(field: Field, schema: Schema) -> Space | str:
    """Return the grid of a predicted field, or in one sentence why it has none to measure on.

    Args:
        field: Of the dataset.
        schema: Of the dataset.
    """
    axes = [axis for axis in schema.space if axis.name in field.dims]
    if not axes or "point" in field.dims:
        return "unordered points have no neighbours, walls or wavenumbers"
    if field.gaps:
        return "some of the truth is missing"
    if any(len(axis.points) < 2 for axis in axes):
        return "there is a single point along an axis"
    if not all(_even(axis) for axis in axes):
        return "the points along an axis are not equally far apart"
    steps = tuple(float(np.ptp(axis.points)) / (len(axis.points) - 1) for axis in axes)
    return Space(tuple(len(axis.points) for axis in axes), steps)


def _even(axis: Axis) -> bool:
    steps = np.diff(axis.points)
    return bool(np.allclose(steps, steps[0], rtol=1e-4, atol=0.0))
