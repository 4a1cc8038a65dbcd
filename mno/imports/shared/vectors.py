"""What bare arrays with less than two axes are: coordinates, numbers per sample, parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mno.core.errors import InputError
from mno.core.fields import Axis
from mno.imports.base import cell_centres
from mno.imports.mapping import FieldRule
from mno.imports.shared.layout import given_axis

_AXES = {"x": "x", "y": "y", "z": "z", "t": "time", "time": "time"}
_ORDER = ("time", "x", "y", "z", "point")


@dataclass
class Told:
    """What the arrays are.

    Attributes:
        axes: All axes, those without coordinates, too.
        numbers: Arrays with one number per sample.
        parameters: What the file says of the whole of it.
        groups: The group of each sample, where it tells.
        starts: When each sample begins, where it tells.
    """

    axes: tuple[Axis, ...] = ()
    numbers: list[str] = field(default_factory=list)
    parameters: dict[str, Any] = field(default_factory=dict)
    groups: np.ndarray | None = None
    starts: np.ndarray | None = None


@dataclass(frozen=True)
class Vectors:
    """The arrays of a file with less than two axes.

    Attributes:
        path: The file.
        shapes: Their shapes, by name.
        rules: What the user says of them.
        whole: Reads one.
    """

    path: Path
    shapes: Mapping[str, tuple[int, ...]]
    rules: Mapping[str, FieldRule]
    whole: Callable[[str], np.ndarray]

    def tell(self, samples: int, lengths: Mapping[str, int]) -> Told:
        """Tell what they are.

        Args:
            samples: Number of samples.
            lengths: Lengths of the axes of time and space, by name.

        Raises:
            InputError: It cannot be told of one of them.
        """
        told, axes = Told(), {}
        for name, shape in self.shapes.items():
            axis = _AXES.get(name.lower().removesuffix("-coordinate"))
            size = shape[0] if shape else 1
            is_axis = axis is not None and size == lengths.get(axis)
            role = self.rules[name].role
            if is_axis and size == samples and role is None:
                raise InputError(
                    f"{self.path}: {name} has {size} values, as many as there are samples and "
                    f"places along {axis}; say which in a mapping file, as in "
                    f"`fields: {{{name}: {{role: coordinate}}}}` or `{{role: input}}`"
                )
            if axis is not None and is_axis and role in (None, "coordinate"):
                axes[axis] = given_axis(self.path, axis, name, self.whole(name), size)
            elif role == "coordinate":
                raise InputError(
                    f"{self.path}: {name} is to be a coordinate, but has {size} values; the grid "
                    f"is {dict(lengths)}: expected one of x, y, z, time, as long as that"
                )
            elif shape != (samples,) and size != 1:
                raise InputError(
                    f"{self.path}: {name} has {size} values, which fits neither the {samples} "
                    f"samples nor an axis of the grid {dict(lengths)}; leave it out by "
                    f"`fields: {{{name}: {{drop: true}}}}` in a mapping file"
                )
            elif shape != (samples,):
                told.parameters[name] = self.whole(name).reshape(-1)[0].item()
            elif name == "group":
                told.groups = self.whole(name).astype(np.int64)
            elif name == "start":
                told.starts = self.whole(name).astype(np.float64)
            else:
                told.numbers.append(name)
        ordered = sorted(lengths.items(), key=lambda item: _ORDER.index(item[0]))
        told.axes = tuple(axes.get(name) or default_axis(name, n) for name, n in ordered)
        return told


def default_axis(name: str, length: int) -> Axis:
    """Return the axis of a file that has no coordinates."""
    if name == "time":
        return Axis("time", "1", "time", np.arange(float(length)), (0.0, float(length - 1)))
    if name == "point":
        numbers = np.arange(float(length))
        return Axis("point", "1", "number of the point", numbers, (0.0, float(length)))
    return cell_centres(name, length)
