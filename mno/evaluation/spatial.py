"""What is measured on samples whose field lies on a grid: walls, means, gradients and waves."""

from __future__ import annotations

import math

import numpy as np

from mno.evaluation.space import Space
from mno.evaluation.waves import coefficients, shell_power


def measure_on_grid(
    predictions: np.ndarray, truths: np.ndarray, space: Space, spectra: bool
) -> dict[str, np.ndarray]:
    """Measure each sample; shape `(samples,)` by name, of powers `(samples, shells)`.

    Sums are over the points and frames of a sample. With e the error at the points of a frame,

        squared_mean_error      sum over frames of the square of the mean of e over the points
        squared_boundary_error  sum of e^2 over the outermost points along each axis
        squared_error_h1        sum of e^2 + |L grad e|^2, L the longest side of the domain
        error_power             sum of squares of e in each shell (`mno.evaluation.waves`)

    The gradient is by central differences, one-sided at the ends, as of an axis that is not
    periodic. Scaled by L it has the field's unit, and the norm does not depend on how the domain is
    measured; on a unit square it is the usual one.

    Args:
        predictions: Shape `(samples, [frames,] *grid)`, float64.
        truths: The same shape.
        space: The grid.
        spectra: Whether `truth_power` and `prediction_power` are measured as well.
    """
    samples, points = len(truths), math.prod(space.shape)
    frames = math.prod(truths.shape[1:]) // points
    predicted, true = (a.reshape(samples, frames, *space.shape) for a in (predictions, truths))
    error = predicted - true
    flat = error.reshape(samples, frames, points)
    at_walls = flat[:, :, space.boundary].reshape(samples, frames * len(space.boundary))
    error_waves = coefficients(error, space)
    found = {
        "frames": np.full(samples, float(frames)),
        "squared_mean_error": np.square(flat.mean(axis=2)).sum(axis=1),
        "boundary_points": np.full(samples, float(at_walls.shape[1])),
        "squared_boundary_error": np.square(at_walls).sum(axis=1),
        "squared_error_h1": _squared_h1(error, space),
        "squared_truth_h1": _squared_h1(true, space),
        "error_power": shell_power(error_waves, space),
    }
    if spectra:
        true_waves = coefficients(true, space)
        found["truth_power"] = shell_power(true_waves, space)
        found["prediction_power"] = shell_power(true_waves + error_waves, space)
    return found


def _squared_h1(fields: np.ndarray, space: Space) -> np.ndarray:
    """Return the square of the H1 norm of each sample, shape `(samples,)`."""
    first = fields.ndim - len(space.shape)
    total = np.square(fields)
    for axis, spacing in enumerate(space.spacing, start=first):
        total += np.square(np.gradient(fields, spacing / space.length, axis=axis))
    return total.reshape(len(fields), math.prod(fields.shape[1:])).sum(axis=1)
