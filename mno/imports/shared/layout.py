"""What importers of self-describing files share: fields, and how the samples of each are read."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mno.core.errors import InputError
from mno.core.fields import Axis, Field
from mno.imports.base import Contents, Importer, axis_of_points
from mno.imports.mapping import Mapping as FieldMapping

Reader = Callable[[int, int], np.ndarray]
"""Returns the samples from one number to another, shape `(samples, *dims)`, float32."""

SPACE = ("x", "y", "z")


@dataclass(frozen=True)
class Layout:
    """What was found in a file.

    Attributes:
        contents: What the file holds.
        readers: How the samples of each field are read, by name of the field.
    """

    contents: Contents
    readers: Mapping[str, Reader]


class LayoutImporter(Importer):
    """An importer that finds all fields when it opens the file."""

    def __init__(self, path: Path, mapping: FieldMapping) -> None:
        if not path.is_file():
            raise InputError(f"{path} is not a file; expected one to import as {self.kind}")
        self._stack = ExitStack()
        try:
            self._layout = self.lay_out(path, mapping, self._stack)
        except BaseException:
            self._stack.close()
            raise

    @abstractmethod
    def lay_out(self, path: Path, mapping: FieldMapping, stack: ExitStack) -> Layout:
        """Open the file and find its fields.

        Args:
            path: The file.
            mapping: What the user says of it.
            stack: Closes what is opened here.

        Raises:
            InputError: The file is not what it should be.
        """

    @property
    def contents(self) -> Contents:
        """What the file holds."""
        return self._layout.contents

    def read(self, name: str, start: int, stop: int) -> np.ndarray:
        """Read one field of some samples; see `Importer.read`."""
        return self._layout.readers[name](start, stop)

    def close(self) -> None:
        """Close the file."""
        self._stack.close()


def plain_field(name: str, role: str, dims: tuple[str, ...]) -> Field:
    """Return a field of a file that says neither units nor what a figure's label should say."""
    return Field(name, "1", name.replace("_", " "), role, dims)  # type: ignore[arg-type]


def given_axis(
    path: Path, name: str, source: str, points: np.ndarray, length: int, units: str = "1"
) -> Axis:
    """Return the axis of coordinates that a file gives.

    Args:
        path: The file.
        name: Of the axis.
        source: What the file calls the coordinates.
        points: Shape `(num_points,)`, of real numbers.
        length: How many the arrays have along the axis.
        units: Of the coordinates.

    Raises:
        InputError: There are more or fewer, or they do not increase.
    """
    points = np.asarray(points, dtype=np.float64)
    if points.shape != (length,):
        raise InputError(
            f"{path}: {source} has shape {points.shape}, but the arrays have {length} points along "
            f"{name}; expected one coordinate for each: correct or remove {source}"
        )
    if not np.isfinite(points).all() or (np.diff(points) <= 0).any():
        raise InputError(
            f"{path}: {source} does not increase from point to point; expected finite coordinates "
            f"in order along {name}: sort the arrays, or remove {source}"
        )
    return axis_of_points(name, points, units)


def uneven(axes: tuple[Axis, ...]) -> tuple[str, ...]:
    """Return a remark on each axis whose points are not evenly spaced."""
    remarks = []
    for axis in axes:
        steps = np.diff(axis.points)
        if axis.name != "point" and len(steps) and np.ptp(steps) > 0.01 * abs(steps.mean()):
            remarks.append(
                f"points along {axis.name} are not evenly spaced (steps {steps.min():g} to "
                f"{steps.max():g}); operators take them as if they were"
            )
    return tuple(remarks)
