"""What is looked at of an input, to tell whether it is like those a model was trained on.

    plain       a few numbers per field that do not depend on the grid: mean, deviation, extremes,
                and how the variance is shared among waves
    bounded     those of them that belong to numbers and readings, which training drew in a range
    texture     of fields in space: how much they change from point to point, and how much of them a
                little smoothing changes, on the grid of the training data or, of unordered points,
                among as many neighbours as reach as far as in training
    categories  whole numbers without a unit, such as a steel's grade

Fields on a finer grid than that of the training data are looked at on the points that are nearest
to its points, so that the same function has the same waves and the same texture.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from scipy.fft import dctn
from scipy.ndimage import gaussian_filter
from scipy.spatial import KDTree

from mno.surrogate.description import Description

Arrays = Mapping[str, np.ndarray]

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

    plain: Arrays
    bounded: Arrays
    texture: Mapping[str, Arrays]  # by field
    categories: Arrays  # `(samples, values)` by field, NaN where missing

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
        return cls(*(_each(np.concatenate, part) for part in parts))


def _each(function: Callable[..., Any], parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Apply a function to the arrays of the same name, of mappings that may have mappings."""
    found = {}
    for name, first in parts[0].items():
        own = [part[name] for part in parts]
        found[name] = _each(function, own) if isinstance(first, Mapping) else function(own)
    return found


def describe(description: Description, given: Arrays, shape: tuple[int, ...]) -> Features:
    """Return the features of what a model is given, in physical units.

    The shape is that of the training grid, which tells where bands of waves end.
    """
    plain: dict[str, np.ndarray] = {}
    bounded: list[str] = []
    texture: dict[str, Arrays] = {}
    categories: dict[str, np.ndarray] = {}
    near, places = None, _places(description, given)
    if places is not None and not description.readings:
        near = _neighbours(places, shape[0], max(_NEIGHBOURS))
    for name in description.given_names:
        values = np.asarray(given[name], dtype=np.float64)
        reading = description.readings.get(name)
        if name in description.scalars:
            numbers = {"value": values}
        elif name in description.times:
            longest = np.diff(values, axis=1, prepend=values[:, :1]).max(axis=1)
            numbers = {"duration": np.ptp(values, axis=1), "longest interval": longest}
        else:
            dims = len(description.space)
            frames = values.reshape(len(values), -1, *values.shape[values.ndim - dims :])
            frames = frames[..., slice(*reading[1:]) if reading else slice(None)]
            known = ~np.isnan(frames)
            numbers, centred = _statistics(frames, known)
            if name in description.gaps:
                numbers["missing share"] = 1.0 - known.reshape(len(known), -1).mean(axis=1)
            if frames.shape[1] > 1:
                change = np.diff(centred, axis=1).reshape(len(centred), -1)
                numbers["change between frames"] = np.sqrt(np.mean(change**2, axis=1))
            if reading:
                numbers |= _over_time(frames, known)
            elif places is None:
                centred = _as_trained(centred, shape)
                numbers |= _waves(centred, min(shape))
                texture[name] = _texture(name, centred)
            elif name not in description.coordinates:
                numbers["slope"] = _slope(centred, places)
                if near is not None:
                    texture[name] = _texture_of_points(name, centred, near, shape[0])
        named = {f"{name} {feature}": number for feature, number in numbers.items()}
        plain |= named
        if reading or name in (*description.scalars, *description.times):
            bounded += named
            if description.inputs.get(name) == "1":
                categories[name] = values.reshape(len(values), -1)
    return Features(plain, {name: plain[name] for name in bounded}, texture, categories)


def smoother(
    description: Description, given: Arrays, shape: tuple[int, ...]
) -> dict[str, np.ndarray]:
    """Return copies of inputs whose fields in space are smoother, and have the same values.

    The shape is that of the training grid.
    """
    copies, places = dict(given), _places(description, given)
    if description.readings:
        return copies
    near = None if places is None else _neighbours(places, shape[0], _MOST_AVERAGED)
    for name in description.fields:
        values = np.asarray(given[name], dtype=np.float64)
        dims = len(description.space)
        frames = values.reshape(len(values), -1, *values.shape[values.ndim - dims :])
        mean = np.nanmean(frames) if not np.isnan(frames).all() else 0.0
        filled = np.where(np.isnan(frames), mean, frames)
        smooth = _smoothed(filled, _SMOOTHER) if near is None else _averaged(filled, near)
        copies[name] = np.where(np.isnan(values), np.nan, smooth.reshape(values.shape))
    return copies


def _places(description: Description, given: Arrays) -> np.ndarray | None:
    """Return where unordered points are, `(samples, points, axes)`; none on a grid."""
    if not description.coordinates:
        return None
    return np.stack([given[name] for name in description.coordinates], axis=-1)


def _statistics(frames: np.ndarray, known: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return mean, deviation and extremes of what is known, and the field less its mean."""
    flat, there = frames.reshape(len(frames), -1), known.reshape(len(known), -1)
    counts = np.maximum(there.sum(axis=1), 1)
    any_known = there.any(axis=1)
    mean = np.where(there, flat, 0.0).sum(axis=1) / counts
    centred = np.where(there, flat - mean[:, None], 0.0)
    least = np.where(there, flat, math.inf).min(axis=1)
    most = np.where(there, flat, -math.inf).max(axis=1)
    numbers = {
        "mean": mean,
        "deviation": np.sqrt((centred**2).sum(axis=1) / counts),
        "minimum": np.where(any_known, least, 0.0),
        "maximum": np.where(any_known, most, 0.0),
    }
    return numbers, centred.reshape(frames.shape)


def _over_time(frames: np.ndarray, known: np.ndarray) -> dict[str, np.ndarray]:
    """Return the mean of a reading in each part of the time, and its steepest rise and fall."""
    if frames.shape[1] < _PARTS:
        return {}
    total = np.where(known, frames, 0.0).sum(axis=2)
    counts = known.sum(axis=2)
    numbers = {
        f"mean of part {number} of {_PARTS}": total[:, part].sum(axis=1)
        / np.maximum(counts[:, part].sum(axis=1), 1)
        for number, part in enumerate(np.array_split(np.arange(frames.shape[1]), _PARTS), 1)
    }
    steps = np.nan_to_num(np.diff(frames, axis=1)).reshape(len(frames), -1)
    return {**numbers, "steepest rise": steps.max(axis=1), "steepest fall": steps.min(axis=1)}


def _as_trained(frames: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return a field `(samples, frames, *grid)` on the training grid, if its own is finer."""
    for axis, count in enumerate(shape, frames.ndim - len(shape)):
        if frames.shape[axis] > count:
            nearest = ((np.arange(count) + 0.5) * frames.shape[axis] / count).astype(int)
            frames = np.take(frames, nearest, axis)
    return frames


def _waves(centred: np.ndarray, finest: int) -> dict[str, np.ndarray]:
    """Return the decimal logarithm of the share of the variance that each band of waves holds.

    Waves are cosines, which suit walls as well as periodic sides; number k has k half-waves along
    the domain. Bands double: 1, 2 to 3, 4 to 7, and so on.
    """
    axes = tuple(range(2, centred.ndim))
    energy = np.square(np.asarray(dctn(centred, axes=axes, norm="ortho"))).mean(axis=1)
    numbers = np.meshgrid(*(np.arange(n) for n in energy.shape[1:]), indexing="ij")
    wave = np.floor(np.sqrt(sum(number.astype(float) ** 2 for number in numbers)))
    total = energy[:, (wave >= 1) & (wave < finest)].sum(axis=1)
    found = {}
    for power in range(int(math.ceil(math.log2(max(finest, 2))))):
        first, behind = 2**power, min(2 ** (power + 1), max(finest, 2))
        band = energy[:, (wave >= first) & (wave < behind)].sum(axis=1)
        share = band / np.where(total > 0.0, total, 1.0)
        label = f"waves {first}" if behind - first == 1 else f"waves {first} to {behind - 1}"
        found[label] = np.log10(share + _FAINTEST)
    return found


def _texture(name: str, centred: np.ndarray) -> dict[str, np.ndarray]:
    """Return mean changes of a field, in its deviations: by steps, at corners, by smoothing."""
    centred = _some_frames(centred)
    deviation, found = _deviation(centred), {}
    for step in _STEPS:
        changes = list(_steps(centred, step))
        total = np.mean(changes, axis=0) if changes else np.zeros(len(centred))
        found[f"{name} steps over {step}"] = total / deviation
    corners = centred
    for axis in range(2, centred.ndim):
        corners = np.diff(corners, axis=axis) if centred.shape[axis] > 1 else corners
    found[f"{name} corners"] = _mean(np.abs(corners)) / deviation
    for width in _SMOOTHED:
        change = _mean(np.abs(centred - _smoothed(centred, width))) / deviation
        found[f"{name} smoothing over {width:g}"] = change
    return found


def _steps(frames: np.ndarray, step: int) -> Iterator[np.ndarray]:
    """Yield the mean size of differences along each axis of the grid that is long enough."""
    for axis in range(2, frames.ndim):
        along = np.moveaxis(frames, axis, -1)
        if along.shape[-1] > step:
            yield _mean(np.abs(along[..., step:] - along[..., :-step]))


def _smoothed(frames: np.ndarray, width: float) -> np.ndarray:
    """Smooth a field by a Gaussian, and give its values back to the points in the same order."""
    sigma = 0.0, 0.0, *(width for _ in frames.shape[2:])
    return _with_values_of(frames, gaussian_filter(frames, sigma, mode="nearest", truncate=3.0))


def _with_values_of(frames: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the values of a field in the order in which others are, in each frame."""
    flat = frames.reshape(*frames.shape[:2], -1)
    order = np.argsort(others.reshape(flat.shape), axis=2, kind="stable")
    found = np.empty_like(flat)
    np.put_along_axis(found, order, np.sort(flat, axis=2), axis=2)
    return found.reshape(frames.shape)


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


def _averaged(frames: np.ndarray, near: np.ndarray) -> np.ndarray:
    """Smooth a field by the mean of neighbours, and give its values back in the same order."""
    means = np.stack([one[:, here].mean(axis=2) for one, here in zip(frames, near, strict=True)])
    return _with_values_of(frames, means)


def _texture_of_points(
    name: str, centred: np.ndarray, near: np.ndarray, points: int
) -> dict[str, np.ndarray]:
    """Return what `_texture` does, of unordered points: by neighbours in place of steps."""
    centred = _some_frames(centred)
    deviation = _deviation(centred)
    found, count = {}, centred.shape[2]
    for number in _NEIGHBOURS:
        there = near[:, :, min(_among(number, count, points), near.shape[2] - 1)]
        change = np.take_along_axis(centred, there[:, None], axis=2) - centred
        found[f"{name} steps to neighbour {number}"] = _mean(np.abs(change)) / deviation
    for number in _AVERAGED:
        some = near[:, :, : _among(number, count, points) + 1]
        change = _mean(np.abs(centred - _averaged(centred, some))) / deviation
        found[f"{name} smoothing by {number} neighbours"] = change
    return found


def _some_frames(frames: np.ndarray) -> np.ndarray:
    count = frames.shape[1]
    if count <= _MOST_FRAMES:
        return frames
    return frames[:, np.linspace(0, count - 1, _MOST_FRAMES).round().astype(int)]


def _deviation(centred: np.ndarray) -> np.ndarray:
    """Return the root mean square of each sample, 1 where that is 0."""
    deviation = np.sqrt(_mean(centred**2))
    return np.where(deviation > 0.0, deviation, 1.0)


def _mean(values: np.ndarray) -> np.ndarray:
    """Return the mean over all but samples."""
    return values.reshape(len(values), -1).mean(axis=1)


def _slope(centred: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return the root mean square slope from each point to its nearest neighbour, as a logarithm.

    The field is `(samples, frames, points)`, places are `(samples, points, axes)`.
    """
    slopes = np.zeros(len(centred))
    if centred.shape[2] < 2:
        return slopes
    for sample, (values, here) in enumerate(zip(centred, places, strict=True)):
        if not np.isfinite(here).all():
            continue
        distance, nearest = (np.asarray(found)[:, 1] for found in KDTree(here).query(here, k=2))
        step, far = values[:, nearest] - values, distance > 0.0
        if far.any():
            slopes[sample] = math.sqrt(np.mean((step[:, far] / distance[far]) ** 2))
    return np.log10(slopes + _FAINTEST)
