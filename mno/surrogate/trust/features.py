"""What is looked at of an input to tell whether it is like those a model was trained on.

A few numbers per field that do not depend on the grid: mean, deviation, extremes, and how the
variance is shared among waves. Bands of waves end where those of the training grid do, so a finer
grid has the same ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from scipy.fft import dctn
from scipy.spatial import KDTree

from mno.surrogate.description import Description

Arrays = Mapping[str, np.ndarray]

_FAINTEST = 1e-6  # share of the variance below which a band counts as empty


def describe(description: Description, given: Arrays, finest: int) -> dict[str, np.ndarray]:
    """Return the features of some inputs, shape `(samples,)` each, by name.

    Args:
        description: Of the model.
        given: What it is given, in physical units, as `Surrogate.predict` takes it.
        finest: Points along the shortest axis of the training grid, which ends the bands.
    """
    places = None
    if description.coordinates:
        places = np.stack([given[name] for name in description.coordinates], axis=-1)
    found = {}
    for name in description.given_names:
        values = np.asarray(given[name], dtype=np.float64)
        if name in description.scalars:
            found[f"{name} value"] = values
            continue
        dims = len(description.space)
        frames = values.reshape(len(values), -1, *values.shape[values.ndim - dims :])
        known = ~np.isnan(frames)
        numbers, centred = _statistics(frames, known)
        if name in description.gaps:
            numbers["missing share"] = 1.0 - known.reshape(len(known), -1).mean(axis=1)
        if places is None:
            numbers |= _waves(centred, finest)
        elif name not in description.coordinates:
            numbers["slope"] = _slope(centred, places)
        if frames.shape[1] > 1:
            change = np.diff(centred, axis=1).reshape(len(centred), -1)
            numbers["change between frames"] = np.sqrt(np.mean(change**2, axis=1))
        found |= {f"{name} {feature}": number for feature, number in numbers.items()}
    return found


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


def _slope(centred: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return the root mean square slope from each point to its nearest neighbour, as a logarithm.

    Args:
        centred: Shape `(samples, frames, points)`.
        places: Shape `(samples, points, axes)`.
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
