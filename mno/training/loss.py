"""Errors of predicted fields: relative L2 and relative H1, in physical units.

Where the truth is missing, NaN, nothing is measured: norms are taken over what is present, and
nothing is learned from a prediction there. A field of which a sample has no true value does not
count in its mean over the fields, and a sample without any has the error 0 and no gradient.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor

from mno.core.grid import Grid
from mno.data.normalise import Normaliser

# A field weaker than this share of its standard deviation in the training split is measured
# against that share: dividing by a norm near zero would let one silent sample drown all others.
NORM_FLOOR = 0.01


def relative_l2(
    predicted: Mapping[str, Tensor], truth: Mapping[str, Tensor], normaliser: Normaliser
) -> Tensor:
    r"""Return each sample's error `‖u_pred − u‖₂ / ‖u‖₂`, averaged over the fields.

    Args:
        predicted: Normalised fields of shape `(batch, *grid)` or `(batch, frames, *grid)`, by name;
            frames are values like others.
        truth: The same fields as solved, normalised likewise.
        normaliser: Brings both to the physical units in which the norms are taken.

    Returns:
        Errors of shape `(batch,)`, nondimensional.
    """
    errors, known = [], []
    for name, field in predicted.items():
        std = normaliser.std[name]
        present = _present(truth[name])
        known.append(present)
        # The difference is taken before decoding, where the mean cancels without rounding.
        error = std * _only(present, field - truth[name]).flatten(1).norm(dim=1)
        solved = _only(present, normaliser.decode(name, truth[name])).flatten(1)
        errors.append(error / _floored(solved.norm(dim=1), std, present, solved))
    return _mean_over_fields(errors, known)


def relative_h1(
    predicted: Mapping[str, Tensor],
    truth: Mapping[str, Tensor],
    normaliser: Normaliser,
    grid: Grid,
) -> Tensor:
    r"""Return each sample's error `‖u_pred − u‖ / ‖u‖` in H1, averaged over the fields.

    `‖u‖² = Σ u² + Σ (Δu / h)²`: values, and first differences between neighbours along every axis
    over their distance; pairs of which one is missing are left out. Lengths are in longest sides of
    the domain, so that the error has no unit.

    Args:
        predicted: Normalised fields of shape `(batch, *grid)` or `(batch, frames, *grid)`, by name;
            frames are values like others.
        truth: The same fields as solved, normalised likewise.
        normaliser: Brings both to the physical units in which the norms are taken.
        grid: The grid of all fields.

    Returns:
        Errors of shape `(batch,)`, nondimensional.

    Source:
        Czarnecki et al., "Sobolev Training for Neural Networks", arXiv:1706.04859.
    """
    errors, known = [], []
    for name, field in predicted.items():
        std = normaliser.std[name]
        present = _present(truth[name])
        known.append(present)
        slopes = _slopes(truth[name], grid)
        pairs = None if present is None else ~slopes.isnan()
        difference = field - truth[name]
        parts = [_only(present, difference).flatten(1), _only(pairs, _slopes(difference, grid))]
        error = std * torch.cat(parts, dim=1)
        solved = _only(present, normaliser.decode(name, truth[name])).flatten(1)
        norm = torch.cat([solved, std * _only(pairs, slopes)], dim=1).norm(dim=1)
        errors.append(error.norm(dim=1) / _floored(norm, std, present, solved))
    return _mean_over_fields(errors, known)


def samples_with_truth(truth: Mapping[str, Tensor]) -> int:
    """Return how many samples of a batch have a true value of any field."""
    known = torch.zeros(len(next(iter(truth.values()))), dtype=torch.bool)
    for field in truth.values():
        present = _present(field)
        if present is None:
            return len(known)
        known = known.to(field.device) | present.flatten(1).any(dim=1)
    return int(known.sum())


def _present(truth: Tensor) -> Tensor | None:
    """Return where there is a true value; `None` where everywhere, which costs one sum to see."""
    return ~truth.isnan() if truth.sum().isnan() else None


def _only(present: Tensor | None, values: Tensor) -> Tensor:
    """Return values with zeros where nothing is present, through which no gradient passes."""
    return values if present is None else torch.where(present, values, 0.0)


def _floored(norm: Tensor, std: float, present: Tensor | None, values: Tensor) -> Tensor:
    """Return norms that are no smaller than those of fields as weak as the floor."""
    if present is None:
        return norm.clamp_min(NORM_FLOOR * std * values.shape[1] ** 0.5)
    counts = present.flatten(1).sum(dim=1).clamp_min(1)
    return norm.maximum(NORM_FLOOR * std * counts.to(norm).sqrt())


def _mean_over_fields(errors: list[Tensor], known: list[Tensor | None]) -> Tensor:
    """Return the mean of each sample's errors over the fields that it has a true value of."""
    each = torch.stack(errors)
    if all(present is None for present in known):
        return each.mean(dim=0)
    measured = [
        torch.ones_like(error, dtype=torch.bool)
        if present is None
        else present.flatten(1).any(dim=1)
        for error, present in zip(errors, known, strict=True)
    ]
    return each.sum(dim=0) / torch.stack(measured).sum(dim=0).clamp_min(1)


def _slopes(field: Tensor, grid: Grid) -> Tensor:
    """Return the differences between neighbours over their distance, shape `(batch, pairs)`."""
    axes = range(len(grid.shape))
    sides = [
        sum(h) if isinstance(h, tuple) else n * h
        for h, n in zip(grid.spacing, grid.shape, strict=True)
    ]
    slopes = []
    for axis in axes:
        dim = field.ndim - len(grid.shape) + axis
        steps = field.new_tensor([b - a for a, b in pairwise(grid.centres(axis))])
        distances = steps * (sides[axis] / max(sides))
        shape = [-1 if d == dim else 1 for d in range(field.ndim)]
        slopes.append((field.diff(dim=dim) / distances.view(shape)).flatten(1))
    return torch.cat(slopes, dim=1)
