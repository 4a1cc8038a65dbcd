"""The parts of a form: windows in time, fewer points, points without order, masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mno.core.errors import InputError
from mno.core.fields import Axis, Field

Every = int | Sequence[int] | Mapping[str, int]
"""Of every axis, or of each in order or by name: one of how many points is taken."""


@dataclass(frozen=True)
class Windows:
    """Windows of consecutive frames in every sample.

    Attributes:
        length: Frames of a window.
        stride: Frames from the beginning of a window to that of the next.
        frames: Frames of a sample.
    """

    length: int
    stride: int
    frames: int

    @property
    def per_sample(self) -> int:
        """Windows of one sample."""
        return (self.frames - self.length) // self.stride + 1

    def cut(self, values: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """Return a window of each sample, shape `(samples, length, *space)`.

        Args:
            values: Shape `(samples, frames, *space)`.
            positions: Which window, shape `(samples,)`, from 0 to below `per_sample`.
        """
        frames = (positions * self.stride)[:, None] + np.arange(self.length)
        return values[np.arange(len(values))[:, None], frames]


def windows_of(
    length: int | None, stride: int, fields: Sequence[Field], axes: Sequence[Axis]
) -> Windows | None:
    """Return the windows of some frames, or none if no length is given.

    Raises:
        InputError: No field has frames, or no window fits.
    """
    if length is None:
        return None
    if not any("time" in field.dims for field in fields):
        raise InputError(
            f"window={length}: no field has a time axis among "
            f"{', '.join(field.name for field in fields)}; leave the window out"
        )
    (frames,) = (len(axis.points) for axis in axes if axis.name == "time")
    if not 1 <= length <= frames or stride < 1:
        raise InputError(
            f"window={length} with stride={stride} does not fit: a sample has {frames} frames; "
            f"give a window of 1 to {frames} and a stride of 1 or more"
        )
    return Windows(length, stride, frames)


def steps_of(every: Every, space: Sequence[Axis]) -> dict[str, int]:
    """Return by axis of space which of its points are taken: one of so many.

    Raises:
        InputError: It does not fit the axes.
    """
    names = [axis.name for axis in space]
    if isinstance(every, int):
        steps = dict.fromkeys(names, every)
    elif isinstance(every, Mapping):
        steps = dict.fromkeys(names, 1) | dict(every)
    else:
        steps = dict(zip(names, every, strict=True)) if len(every) == len(names) else {}
    if list(steps) != names or any(step < 1 for step in steps.values()):
        raise InputError(
            f"every={every!r} does not fit the axes {', '.join(names)}; give one number, 1 or "
            "more, or one for each of them"
        )
    return steps


def flattened(values: np.ndarray, axes: int) -> np.ndarray:
    """Make one axis of points of the last axes, which are those of a grid."""
    return values.reshape(*values.shape[: values.ndim - axes], -1)


def places_of(axes: Sequence[Axis], fields: Sequence[Field]) -> dict[str, np.ndarray]:
    """Return the coordinates of all points of a grid, shape `(points,)`, float32, by axis.

    Raises:
        InputError: A field lies on some of the axes only, or has the name of one.
    """
    names = tuple(axis.name for axis in axes)
    for field in fields:
        on = tuple(name for name in field.dims if name != "time")
        if on not in ((), names) or field.name in names:
            raise InputError(
                f"as_points: field {field.name} lies on ({', '.join(field.dims)}), and the points "
                f"on ({', '.join(names)}); choose other fields"
            )
    grids = np.meshgrid(*(axis.points for axis in axes), indexing="ij")
    return {name: grid.ravel().astype(np.float32) for name, grid in zip(names, grids, strict=True)}


def drawn_points(count: int, total: int, seed: int, epoch: int, item: int) -> np.ndarray:
    """Draw points of an item in an epoch, without repetition, in ascending order."""
    sequence = np.random.SeedSequence(seed, spawn_key=(epoch, item, 0))
    return np.sort(np.random.default_rng(sequence).choice(total, count, replace=False))


def told(name: str, values: np.ndarray) -> dict[str, np.ndarray]:
    """Return values with 0 for what is missing, and beside them which are present."""
    present = ~np.isnan(values)
    return {name: np.where(present, values, np.float32(0)), f"{name}_present": present}
