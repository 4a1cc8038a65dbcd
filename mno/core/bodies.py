"""Bodies in space: what there is of a sample that fields do not show."""

from dataclasses import dataclass
from typing import Literal

Place = tuple[float, float, float]


@dataclass(frozen=True)
class Body:
    """A box with faces across the axes x (across), y (up) and z (along), or a point, in m."""

    name: str
    """Of a lining its material; others have the labels of their readings' axes."""
    kind: Literal["lining", "zone", "piece", "sensor"]
    """A zone is space that has a name; a sensor is a point."""
    corner: Place  # the lower one
    size: Place
    reading: tuple[str, int] | None = None
    """The field, and the number on its axis from 0 on, whose values colour it; none for none."""
