"""What is looked at of an input, to tell whether it is like those a model was trained on.

    plain       a few numbers per field that do not depend on the grid: mean, deviation, extremes,
                and how the variance is shared among waves
    bounded     those of them that belong to numbers and readings, which training drew in a range
    texture     of fields in space: how much they change from point to point, and how much of them a
                little smoothing changes, on the grid of the training data or, of unordered points,
                among as many neighbours as reach as far as in training
    categories  whole numbers without a unit, such as a steel's grade

Fields on a finer grid than that of the training data are looked at on the points that are nearest
to its points, so that the same function has the same waves and the same texture. All is computed by
operations of torch, of which a graph can be exported, but for the neighbours of unordered points.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from scipy.fft import dct
from scipy.ndimage import gaussian_filter1d
from scipy.spatial import KDTree
from torch import Tensor

from mno.surrogate.description import Description

Arrays = Mapping[str, np.ndarray]
Tensors = Mapping[str, Tensor]

_FAINTEST = 1e-6  # share of the variance below which a band counts as empty
_STEPS = 1, 2, 4  # points from one to the other, whose difference is looked at
_SMOOTHED = 1.0, 2.0  # deviations of the smoothing whose change is looked at, in points
_SMOOTHER = 4.0  # deviation of the smoothing that makes copies of training inputs smoother
_NEIGHBOURS = 1, 4, 16  # of an unordered point, whose difference from it is looked at
_AVERAGED = 4, 16  # neighbours that it is smoothed by
_MOST_AVERAGED = 64  # and by which copies are made smoother
_MOST_FRAMES = 4  # whose texture is looked at
_PARTS = 4  # of the time of a reading


@dataclass(frozen=True)
class Features:
    """Features of some inputs, in physical units, `(samples,)` by name."""

    plain: Tensors
    bounded: Tensors
    texture: Mapping[str, Tensors]  # by field
    categories: Tensors  # `(samples, values)` by field, NaN where missing

    def __len__(self) -> int:
        return len(next(iter(self.plain.values())))

    def take(self, samples: np.ndarray | slice) -> Features:
        """Return those of some of the samples."""
        return Features(*(_each(lambda parts: parts[0][samples], [part]) for part in self._parts))

    @property
    def _parts(self) -> tuple[Mapping[str, Any], ...]:
        return tuple(getattr(self, field.name) for field in fields(self))

    @classmethod
    def joined(cls, several: Sequence[Features]) -> Features:
        """Return the features of all samples, one after the other."""
        parts = zip(*(one._parts for one in several), strict=True)
        return cls(*(_each(torch.cat, part) for part in parts))


def _each(function: Callable[..., Any], parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Apply a function to the arrays of the same name, of mappings that may have mappings."""
    found = {}
    for name, first in parts[0].items():
        own = [part[name] for part in parts]
        found[name] = _each(function, own) if isinstance(first, Mapping) else function(own)
    return found


def describe(description: Description, given: Arrays | Tensors, shape: tuple[int, ...]) -> Features:
    """Return the features of what a model is given, in physical units.

    The shape is that of the training grid, which tells where bands of waves end.
    """
    plain: dict[str, Tensor] = {}
    bounded: list[str] = []
    texture: dict[str, Tensors] = {}
    categories: dict[str, Tensor] = {}
    near, places = None, np.empty(0)
    if description.coordinates and not description.readings:
        places = np.stack([given[name] for name in description.coordinates], axis=-1)
        near = _neighbours(places, shape[0], max(_NEIGHBOURS))
    for name in description.given_names:
        values = torch.as_tensor(given[name]).double()
        reading = description.readings.get(name)
        if name in description.scalars:
            numbers = {"value": values}
        elif name in description.times:
            intervals = values.diff(dim=1, prepend=values[:, :1])
            duration = values.amax(1) - values.amin(1)
            numbers = {"duration": duration, "longest interval": intervals.amax(1)}
        else:
            dims = len(description.space)
            frames = values if values.ndim > 1 + dims else values[:, None]
            frames = frames[..., slice(*reading[1:]) if reading else slice(None)]
            known = ~frames.isnan()
            numbers, centred = _statistics(frames, known)
            if name in description.gaps:
                numbers["missing share"] = 1.0 - _mean(known.double())
            if frames.shape[1] > 1:
                numbers["change between frames"] = _mean(centred.diff(dim=1) ** 2).sqrt()
            if reading:
                numbers |= _over_time(frames, known)
            elif not description.coordinates:
                centred = _as_trained(centred, shape)
                numbers |= _waves(centred, min(shape))
                texture[name] = _texture(name, centred)
            elif near is not None and name not in description.coordinates:
                numbers["slope"] = _slope(centred, places)
                texture[name] = _texture_of_points(name, centred, near, shape[0])
        named = {f"{name} {feature}": number for feature, number in numbers.items()}
        plain |= named
        if reading or name in (*description.scalars, *description.times):
            bounded += named
            if description.inputs.get(name) == "1":
                categories[name] = values.flatten(1) if values.ndim > 1 else values[:, None]
    return Features(plain, {name: plain[name] for name in bounded}, texture, categories)


def smoother(
    description: Description, given: Arrays, shape: tuple[int, ...]
) -> dict[str, np.ndarray]:
    """Return copies of inputs whose fields in space are smoother, and have the same values.

    The shape is that of the training grid.
    """
    copies = dict(given)
    if description.readings:
        return copies
    near = None
    if description.coordinates:
        places = np.stack([given[name] for name in description.coordinates], axis=-1)
        near = _neighbours(places, shape[0], _MOST_AVERAGED)
    for name in description.fields:
        values = np.asarray(given[name], dtype=np.float64)
        dims = len(description.space)
        frames = values.reshape(len(values), -1, *values.shape[values.ndim - dims :])
        mean = np.nanmean(frames) if not np.isnan(frames).all() else 0.0
        filled = torch.from_numpy(np.where(np.isnan(frames), mean, frames))
        smooth = _smoothed(filled, _SMOOTHER) if near is None else _averaged(filled, near)
        copies[name] = np.where(np.isnan(values), np.nan, smooth.numpy().reshape(values.shape))
    return copies


def _statistics(frames: Tensor, known: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """Return mean, deviation and extremes of what is known, and the field less its mean."""
    axes = tuple(range(1, frames.ndim))
    counts = known.sum(axes, keepdim=True)
    shares = 1.0 / counts.clamp(min=1)
    mean = torch.where(known, frames, 0.0).sum(axes, keepdim=True) * shares
    centred = torch.where(known, frames - mean, 0.0)
    any_known, one = counts.flatten() > 0, shares.flatten()
    numbers = {
        "mean": mean.flatten(),
        "deviation": ((centred**2).sum(axes) * one).sqrt(),
        "minimum": torch.where(any_known, torch.where(known, frames, math.inf).amin(axes), 0.0),
        "maximum": torch.where(any_known, torch.where(known, frames, -math.inf).amax(axes), 0.0),
    }
    return numbers, centred


def _over_time(frames: Tensor, known: Tensor) -> dict[str, Tensor]:
    """Return the mean of a reading in each part of the time, and its steepest rise and fall."""
    if frames.shape[1] < _PARTS:
        return {}
    total, counts = torch.where(known, frames, 0.0).sum(2), known.sum(2)
    parts = zip(total.tensor_split(_PARTS, 1), counts.tensor_split(_PARTS, 1), strict=True)
    numbers = {
        f"mean of part {number} of {_PARTS}": part.sum(1) / count.sum(1).clamp(min=1)
        for number, (part, count) in enumerate(parts, 1)
    }
    steps = frames.diff(dim=1).nan_to_num()
    return {**numbers, "steepest rise": steps.amax((1, 2)), "steepest fall": steps.amin((1, 2))}


def _as_trained(frames: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return a field `(samples, frames, *grid)` on the training grid, if its own is finer."""
    for axis, count in enumerate(shape, frames.ndim - len(shape)):
        if frames.shape[axis] > count:
            nearest = ((torch.arange(count) + 0.5) * frames.shape[axis] / count).long()
            frames = frames.index_select(axis, nearest)
    return frames


def _waves(centred: Tensor, finest: int) -> dict[str, Tensor]:
    """Return the decimal logarithm of the share of the variance that each band of waves holds.

    Waves are cosines, which suit walls as well as periodic sides; number k has k half-waves along
    the domain. Bands double: 1, 2 to 3, 4 to 7, and so on.
    """
    for axis in range(2, centred.ndim):
        centred = _along(_cosines(centred.shape[axis]), centred, axis)
    energy = (centred**2).mean(1)
    numbers = np.meshgrid(*(np.arange(n) for n in energy.shape[1:]), indexing="ij")
    wave = np.floor(np.sqrt(sum(number.astype(float) ** 2 for number in numbers))).ravel()

    def within(first: int, behind: int) -> Tensor:
        chosen = np.flatnonzero((wave >= first) & (wave < behind))
        return energy.flatten(1).index_select(1, torch.from_numpy(chosen)).sum(1)

    total, found = within(1, finest), {}
    for power in range(int(math.ceil(math.log2(max(finest, 2))))):
        first, behind = 2**power, min(2 ** (power + 1), max(finest, 2))
        share = within(first, behind) / torch.where(total > 0.0, total, 1.0)
        label = f"waves {first}" if behind - first == 1 else f"waves {first} to {behind - 1}"
        found[label] = (share + _FAINTEST).log10()
    return found


def _along(matrix: np.ndarray, field: Tensor, axis: int) -> Tensor:
    """Return a field whose values along an axis were multiplied by a matrix."""
    return (field.movedim(axis, -1) @ torch.from_numpy(matrix.T)).movedim(-1, axis)


@lru_cache(maxsize=32)
def _cosines(points: int) -> np.ndarray:
    return np.asarray(dct(np.eye(points), axis=0, norm="ortho"))


@lru_cache(maxsize=32)
def _smoothing(points: int, width: float) -> np.ndarray:
    return gaussian_filter1d(np.eye(points), width, axis=0, mode="nearest", truncate=3.0)


def _texture(name: str, centred: Tensor) -> dict[str, Tensor]:
    """Return mean changes of a field, in its deviations: by steps, at corners, by smoothing."""
    centred = _some_frames(centred)
    deviation, found = _deviation(centred), {}
    for step in _STEPS:
        changes = [torch.zeros_like(deviation), *_steps(centred, step)]
        total = sum(changes) / max(len(changes) - 1, 1)
        found[f"{name} steps over {step}"] = total / deviation
    corners = centred
    for axis in range(2, centred.ndim):
        corners = corners.diff(dim=axis) if centred.shape[axis] > 1 else corners
    found[f"{name} corners"] = _mean(corners.abs()) / deviation
    for width in _SMOOTHED:
        change = _mean((centred - _smoothed(centred, width)).abs()) / deviation
        found[f"{name} smoothing over {width:g}"] = change
    return found


def _steps(frames: Tensor, step: int) -> Iterator[Tensor]:
    """Yield the mean size of differences along each axis of the grid that is long enough."""
    for axis in range(2, frames.ndim):
        along = frames.movedim(axis, -1)
        if along.shape[-1] > step:
            yield _mean((along[..., step:] - along[..., :-step]).abs())


def _smoothed(frames: Tensor, width: float) -> Tensor:
    """Smooth a field by a Gaussian, and give its values back to the points in the same order."""
    smooth = frames
    for axis in range(2, frames.ndim):
        smooth = _along(_smoothing(frames.shape[axis], width), smooth, axis)
    return _with_values_of(frames, smooth)


def _with_values_of(frames: Tensor, others: Tensor) -> Tensor:
    """Return the values of a field in the order in which others are, in each frame."""
    order = others.flatten(2).sort(dim=2).indices
    ordered = frames.flatten(2).sort(dim=2).values
    return ordered.scatter(2, order, ordered).reshape(frames.shape)


def _neighbours(places: np.ndarray, points: int, most: int) -> np.ndarray:
    """Return each point and its neighbours, the nearest first, `(samples, points, neighbours)`.

    They reach as far as so many of them do among the `points` of training.
    """
    count = places.shape[1]
    wanted = min(_among(most, count, points), count - 1) + 1
    found = np.zeros((len(places), count, wanted), dtype=np.int64)
    found[:] = np.arange(count)[:, None]
    for sample, here in enumerate(places):
        if np.isfinite(here).all():
            nearest = np.asarray(KDTree(here).query(here, k=wanted)[1])
            found[sample] = nearest.reshape(count, wanted)
    return found


def _among(number: int, count: int, points: int) -> int:
    """Return how many of `count` points are as far apart as that number among `points`."""
    return max(1, round(number * count / points))


def _averaged(frames: Tensor, near: np.ndarray) -> Tensor:
    """Smooth a field by the mean of neighbours, and give its values back in the same order."""
    means = torch.stack([one[:, here].mean(2) for one, here in zip(frames, near, strict=True)])
    return _with_values_of(frames, means)


def _texture_of_points(
    name: str, centred: Tensor, near: np.ndarray, points: int
) -> dict[str, Tensor]:
    """Return what `_texture` does, of unordered points: by neighbours in place of steps."""
    centred = _some_frames(centred)
    deviation = _deviation(centred)
    found, count = {}, centred.shape[2]
    for number in _NEIGHBOURS:
        there = near[:, :, min(_among(number, count, points), near.shape[2] - 1)]
        change = centred.take_along_dim(torch.from_numpy(there)[:, None], dim=2) - centred
        found[f"{name} steps to neighbour {number}"] = _mean(change.abs()) / deviation
    for number in _AVERAGED:
        some = near[:, :, : _among(number, count, points) + 1]
        change = _mean((centred - _averaged(centred, some)).abs()) / deviation
        found[f"{name} smoothing by {number} neighbours"] = change
    return found


def _some_frames(frames: Tensor) -> Tensor:
    count = frames.shape[1]
    if count <= _MOST_FRAMES:
        return frames
    chosen = np.linspace(0, count - 1, _MOST_FRAMES).round().astype(int)
    return frames.index_select(1, torch.from_numpy(chosen))


def _deviation(centred: Tensor) -> Tensor:
    """Return the root mean square of each sample, 1 where that is 0."""
    deviation = _mean(centred**2).sqrt()
    return torch.where(deviation > 0.0, deviation, 1.0)


def _mean(values: Tensor) -> Tensor:
    """Return the mean over all but samples."""
    return values.flatten(1).mean(1)


def _slope(centred: Tensor, places: np.ndarray) -> Tensor:
    """Return the root mean square slope from each point to its nearest neighbour, as a logarithm.

    The field is `(samples, frames, points)`, places are `(samples, points, axes)`.
    """
    slopes = torch.zeros(len(centred), dtype=centred.dtype)
    if centred.shape[2] < 2:
        return slopes
    for sample, (values, here) in enumerate(zip(centred, places, strict=True)):
        if not np.isfinite(here).all():
            continue
        distance, nearest = (np.asarray(found)[:, 1] for found in KDTree(here).query(here, k=2))
        far = np.flatnonzero(distance > 0.0)
        if len(far):
            steps = values[:, nearest[far]] - values[:, far]
            slopes[sample] = ((steps / torch.from_numpy(distance[far])) ** 2).mean().sqrt()
    return (slopes + _FAINTEST).log10()
