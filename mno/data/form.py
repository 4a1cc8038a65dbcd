"""The form of an item: how the values of a sample become what a model is handed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mno.core.errors import InputError
from mno.core.fields import Axis, Field
from mno.data.forms import (
    Every,
    Windows,
    drawn_points,
    flattened,
    places_of,
    steps_of,
    told,
    windows_of,
)
from mno.data.normalise import Normaliser


@dataclass(frozen=True)
class Wanted:
    """What is asked for; `mno.data.Samples` says what each means."""

    window: int | None = None
    stride: int = 1
    every: Every = 1
    as_points: bool = False
    points: int | None = None
    normaliser: Normaliser | None = None
    masked: bool = False
    seed: int = 0


class Form:
    """Makes items of the values of samples.

    Args:
        fields: Of an item.
        axes: Of the dataset.
        wanted: What is asked for.

    Attributes:
        axes: The axes with the points that are taken.
        windows: Windows in time, if there are any.

    Raises:
        InputError: The fields and axes do not allow it.
    """

    def __init__(self, fields: Sequence[Field], axes: Sequence[Axis], wanted: Wanted) -> None:
        self.fields, self.wanted = tuple(fields), wanted
        space = [axis for axis in axes if axis.name != "time"]
        self._steps = steps_of(wanted.every, space)
        self.axes = tuple(
            replace(axis, points=axis.points[:: self._steps.get(axis.name, 1)]) for axis in axes
        )
        self.windows: Windows | None = windows_of(wanted.window, wanted.stride, fields, axes)
        on_grid = [axis.name for axis in space] != ["point"]
        self._flat = wanted.as_points and on_grid
        thinned = [axis for axis in self.axes if axis.name != "time"]
        self._places = places_of(thinned, fields) if self._flat else {}
        self._total = math.prod(len(axis.points) for axis in thinned)
        if wanted.points is not None and on_grid and not wanted.as_points:
            raise InputError(
                f"points={wanted.points} draws unordered points, but the dataset is on a grid; set "
                "as_points=True as well"
            )
        if wanted.points is not None and not 1 <= wanted.points <= self._total:
            raise InputError(
                f"points={wanted.points} cannot be drawn from {self._total}; give 1 to "
                f"{self._total}"
            )
        if wanted.normaliser:
            _require_known(wanted.normaliser, fields)

    @property
    def items_per_sample(self) -> int:
        """How many items a sample makes."""
        return self.windows.per_sample if self.windows else 1

    def kept(self, field: Field) -> tuple[slice, ...]:
        """Return the points that are taken of a field's values, shape `(samples, *dims)`."""
        return (
            slice(None),
            *(slice(None, None, self._steps.get(name, 1)) for name in field.dims),
        )

    def __call__(
        self, values: Mapping[str, np.ndarray], items: np.ndarray, epoch: int
    ) -> dict[str, np.ndarray]:
        """Return items.

        Args:
            values: The points taken of each item's sample, shape `(batch, *dims)`, by field name.
            items: The items' numbers.
            epoch: Of the drawn points.
        """
        drawn = self._drawn(items, epoch)
        batch: dict[str, np.ndarray] = {}
        for field in self.fields:
            made = values[field.name]
            if self.windows and "time" in field.dims:
                made = self.windows.cut(made, items % self.windows.per_sample)
            space = [name for name in field.dims if name != "time"]
            if self._flat and space:
                made = flattened(made, len(space))
            if drawn is not None and space:
                index = drawn if made.ndim == 2 else drawn[:, None, :]
                made = np.take_along_axis(made, index, axis=-1)
            if self.wanted.normaliser:
                made = self.wanted.normaliser.encode(field.name, made)
            batch |= told(field.name, made) if self.wanted.masked and field.gaps else {}
            batch.setdefault(field.name, made)
        for name, places in self._places.items():
            batch[name] = np.tile(places, (len(items), 1)) if drawn is None else places[drawn]
        return {name: np.ascontiguousarray(made) for name, made in batch.items()}

    def _drawn(self, items: np.ndarray, epoch: int) -> np.ndarray | None:
        """Return the points drawn for each item, shape `(batch, points)`."""
        count, seed = self.wanted.points, self.wanted.seed
        if count is None:
            return None
        return np.stack([drawn_points(count, self._total, seed, epoch, int(n)) for n in items])


def _require_known(normaliser: Normaliser, fields: Sequence[Field]) -> None:
    unknown = [field.name for field in fields if field.name not in normaliser.mean]
    if unknown:
        raise InputError(
            f"the normaliser knows nothing of {', '.join(unknown)}; choose fields among "
            f"{', '.join(normaliser.mean)}"
        )
