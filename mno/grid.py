"""Regular grids: what an operator must know of the points it works on."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Grid:
    """A regular, cell-centred grid in one, two or three dimensions.

    Attributes:
        shape: Points along each axis.
        spacing: Distance between neighbouring points along each axis, in the axis's unit.
        reference_spacing: The spacing at which a model was trained; a scan's step is scaled by
            `spacing / reference_spacing`. Equal to `spacing` when not given.

    Raises:
        ValueError: The three do not have the same length, or a value is not positive.
    """

    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    reference_spacing: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not self.reference_spacing:
            object.__setattr__(self, "reference_spacing", self.spacing)
        lengths = {len(self.shape), len(self.spacing), len(self.reference_spacing)}
        if len(lengths) != 1 or not 1 <= len(self.shape) <= 3:
            raise ValueError(
                f"grid of shape {self.shape} with spacing {self.spacing} and reference spacing "
                f"{self.reference_spacing}: expected the same number of axes, from one to three"
            )
        if min(self.shape) < 1 or min(*self.spacing, *self.reference_spacing) <= 0:
            raise ValueError(
                f"grid of shape {self.shape} with spacing {self.spacing} and reference spacing "
                f"{self.reference_spacing}: expected positive values"
            )

    @property
    def num_points(self) -> int:
        """Number of points of the grid."""
        return math.prod(self.shape)

    @property
    def delta_scale(self) -> tuple[float, ...]:
        """Factor per axis by which the step of a scan along that axis is multiplied."""
        return tuple(h / ref for h, ref in zip(self.spacing, self.reference_spacing, strict=True))
