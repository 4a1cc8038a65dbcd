"""The batch: named fields at one place, what every operator takes and returns."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from mno.core.grid import Grid
from mno.core.points import Points


@dataclass(frozen=True)
class Batch:
    """Named fields that share a grid or points, and numbers that hold for a whole sample.

    Raises:
        ValueError: No field is given, or a shape does not fit the place or its siblings.
    """

    fields: Mapping[str, Tensor]
    """Shape `(batch, *place)` by name, `place` being the shape of the grid or the number of points;
    `(batch, frames, *place)` for a field at several times."""
    place: Grid | Points
    scalars: Mapping[str, Tensor] = field(default_factory=dict)
    """Parameters of the equation, shape `(batch,)`, by name."""
    intervals: Tensor | None = None
    """For operators along time, `(batch, frames + 1)` or more: the time to each frame from the one
    before, and that behind the last, relative to those of training; all 1 where not given."""

    def __post_init__(self) -> None:
        if not self.fields:
            raise ValueError("a batch needs at least one field, got none")
        size, shape = self.samples, self.shape
        for name, values in self.fields.items():
            given = tuple(values.shape)
            if given[:1] != (size,) or given[1:] != shape and given[2:] != shape:
                raise ValueError(
                    f"field {name} has shape {given}; expected (batch, *place) = {(size, *shape)}, "
                    "or frames behind the batch"
                )
        for name, values in self.scalars.items():
            if tuple(values.shape) != (size,):
                raise ValueError(
                    f"scalar {name} has shape {tuple(values.shape)}; expected one number per "
                    f"sample: {(size,)}"
                )

    def __len__(self) -> int:
        return self.samples

    @property
    def samples(self) -> int:
        """How many samples there are; a symbol where a graph is traced for any number."""
        return next(iter(self.fields.values())).shape[0]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of a field of one sample at one time."""
        return self.place.shape if isinstance(self.place, Grid) else (self.place.num_points,)
