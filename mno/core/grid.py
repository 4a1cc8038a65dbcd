"""Regular and rectilinear grids: what an operator must know of the points it works on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import accumulate

Spacing = float | tuple[float, ...]
"""Width of the cells along an axis: one number, or one per cell."""


@dataclass(frozen=True)
class Grid:
    """A cell-centred grid in one, two or three dimensions; time may be one of its axes.

    Raises:
        ValueError: The first three do not have the same length, an axis does not have one width for
            each of its points, or a value is not positive.
    """

    shape: tuple[int, ...]
    """Points along each axis."""
    spacing: tuple[Spacing, ...]
    """Width of the cells along each axis, in the axis's unit: one number for equal cells, or a
    number for each cell."""
    reference_spacing: tuple[float, ...] = ()
    """The spacing at which a model was trained; a scan's step is scaled by `spacing /
    reference_spacing`. The mean of `spacing` when not given."""
    places: tuple[tuple[float, ...], ...] = ()
    """Where the points lie along each axis, as shares of its length; in the middle of their cells
    when not given. Frames at irregular times are such an axis."""

    def __post_init__(self) -> None:
        # Lists are taken, too, and made what can be compared and hashed.
        spacing = tuple(tuple(h) if isinstance(h, list) else h for h in self.spacing)
        means = (sum(h) / max(len(h), 1) if isinstance(h, tuple) else h for h in spacing)
        object.__setattr__(self, "shape", tuple(self.shape))
        object.__setattr__(self, "spacing", spacing)
        object.__setattr__(self, "reference_spacing", tuple(self.reference_spacing or means))
        said = f"grid of shape {self.shape} with spacing {self.spacing} and reference spacing "
        said += f"{self.reference_spacing}: expected"
        lengths = {len(self.shape), len(self.spacing), len(self.reference_spacing)}
        if len(lengths) != 1 or not 1 <= len(self.shape) <= 3:
            raise ValueError(f"{said} the same number of axes, from one to three")
        for n, h in zip(self.shape, self.spacing, strict=True):
            if isinstance(h, tuple) and len(h) != n:
                raise ValueError(
                    f"grid of shape {self.shape}: an axis of {n} points is given {len(h)} cell "
                    "widths; give one for each point, or one number for equal cells"
                )
        widths = [w for h in self.spacing for w in (h if isinstance(h, tuple) else (h,))]
        values = (*self.shape, *widths, *self.reference_spacing)
        if not all(value > 0 and math.isfinite(value) for value in values):
            raise ValueError(f"{said} positive values")

    def in_time(self, frames: int, interval: float) -> Grid:
        """Return the grid with frames as its first axis, each in the middle of its interval."""
        times = tuple((k + 0.5) / frames for k in range(frames))
        places = (times, *self.places) if self.places else ()
        return Grid((frames, *self.shape), (interval, *self.spacing), places=places)

    @property
    def num_points(self) -> int:
        """Number of points of the grid."""
        return math.prod(self.shape)

    @property
    def delta_scale(self) -> tuple[Spacing, ...]:
        """Factor per axis, or per cell of it, by which the step of a scan along it is scaled."""
        return tuple(
            tuple(w / ref for w in h) if isinstance(h, tuple) else h / ref
            for h, ref in zip(self.spacing, self.reference_spacing, strict=True)
        )

    def centres(self, axis: int) -> tuple[float, ...]:
        """Return where the points lie along an axis as shares of the axis's length, in (0, 1)."""
        if self.places:
            return self.places[axis]
        n, h = self.shape[axis], self.spacing[axis]
        if not isinstance(h, tuple):
            return tuple((i + 0.5) / n for i in range(n))
        total = sum(h)
        return tuple((end - w / 2) / total for end, w in zip(accumulate(h), h, strict=True))

    def volumes(self) -> tuple[Spacing, ...]:
        """Return each cell's share of the axis's length, along each axis: quadrature weights."""
        return tuple(
            tuple(w / sum(h) for w in h) if isinstance(h, tuple) else 1.0 / n
            for n, h in zip(self.shape, self.spacing, strict=True)
        )
