"""Unordered points: scattered places, the vertices of a mesh, sensors."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Points:
    """Points without an order, given to a mixer in place of a grid.

    Raises:
        ValueError: The coordinates have another shape, or the reference is not positive.
    """

    coordinates: Tensor
    """Shape `(points, axes)`, or `(batch, points, axes)` where samples differ; one to three axes,
    in any unit."""
    reference_spacing: float | None = None
    """Typical distance of neighbours at which a model was trained, in the same unit; a scan's step
    is scaled by the distance travelled relative to it. No scaling when not given."""
    sources: int | None = None
    """Points take up something of the first so many alone, so that these answer the same whether
    others follow or not; all of all when not given. Attention heeds it, scans do not."""

    def __post_init__(self) -> None:
        shape = tuple(self.coordinates.shape)
        if len(shape) not in (2, 3) or not 1 <= shape[-1] <= 3:
            raise ValueError(
                f"coordinates have shape {shape}; expected (points, axes) or "
                "(batch, points, axes) with one to three axes"
            )
        if self.reference_spacing is not None and not self.reference_spacing > 0:
            raise ValueError(f"reference_spacing={self.reference_spacing} must be positive")

    @property
    def num_points(self) -> int:
        """Number of points of one sample."""
        return self.coordinates.shape[-2]
