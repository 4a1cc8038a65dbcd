"""What a model is given of the measured run, and where and when its points and frames are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mno.core.fields import Axis
from mno.data.reading import Schema
from mno.sensors.stencil import Stencil, on_grid, on_points


@dataclass(frozen=True)
class Origin:
    """Where in a dataset a sample is.

    Attributes:
        store: The dataset.
        schema: What it holds.
        sample: Number of the sample.
    """

    store: Path
    schema: Schema
    sample: int


@dataclass(frozen=True, eq=False)
class Given:
    """One sample as a model takes it, and where and when its points and frames are.

    Attributes:
        inputs: What `Surrogate.predict` takes, by name, with an axis of one sample.
        axes: Axes of space; of unordered points only their names and units are of use.
        points: Where unordered points are, shape `(points, axes)`; none on a grid.
        times: When the given frames are, shape `(history,)`; empty for a model without states.
        known_until: Up to when readings may be among what is given.
        time_units: Unit of the times.
        steps: Frames to predict; those of the model's training if none.
        source: What the sample is, for people.
        start: When time 0 is: seconds since 1970 where readings have dates, else on their clock;
            none where nobody says.
        origin: Where in a released dataset it is; none where it is in none.
    """

    inputs: Mapping[str, np.ndarray]
    axes: tuple[Axis, ...]
    points: np.ndarray | None
    times: np.ndarray
    known_until: float
    time_units: str
    steps: int | None
    source: str
    start: float | None = None
    origin: Origin | None = None

    def stencil(self, places: np.ndarray) -> Stencil:
        """Return how fields are interpolated at places, shape `(places, axes)`."""
        return on_grid(self.axes, places) if self.points is None else on_points(self.points, places)


def axes_of_points(coordinates: Mapping[str, str]) -> tuple[Axis, ...]:
    """Return names and units of the axes in which unordered points lie.

    Args:
        coordinates: Units by name.
    """
    nowhere = np.empty(0)
    return tuple(
        Axis(name, units, name, nowhere, (0.0, 0.0)) for name, units in coordinates.items()
    )
