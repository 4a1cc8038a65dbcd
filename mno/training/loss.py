"""Errors of predicted fields: relative L2 and relative H1, in physical units."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor

from mno.data.normalise import Normaliser
from mno.grid import Grid

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
    errors = []
    for name, field in predicted.items():
        std = normaliser.std[name]
        # The difference is taken before decoding, where the mean cancels without rounding.
        error = std * (field - truth[name]).flatten(1).norm(dim=1)
        solved = normaliser.decode(name, truth[name]).flatten(1)
        floor = NORM_FLOOR * std * solved.shape[1] ** 0.5
        errors.append(error / solved.norm(dim=1).clamp_min(floor))
    return torch.stack(errors).mean(dim=0)


def relative_h1(
    predicted: Mapping[str, Tensor],
    truth: Mapping[str, Tensor],
    normaliser: Normaliser,
    grid: Grid,
) -> Tensor:
    r"""Return each sample's error `‖u_pred − u‖ / ‖u‖` in H1, averaged over the fields.

    `‖u‖² = Σ u² + Σ (Δu / h)²`: values, and first differences between neighbours along every axis
    over their distance. Lengths are in longest sides of the domain, so that the error has no unit.

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
    errors = []
    for name, field in predicted.items():
        std = normaliser.std[name]
        difference = field - truth[name]
        error = std * torch.cat([difference.flatten(1), _slopes(difference, grid)], dim=1)
        solved = normaliser.decode(name, truth[name]).flatten(1)
        floor = NORM_FLOOR * std * solved.shape[1] ** 0.5
        norm = torch.cat([solved, std * _slopes(truth[name], grid)], dim=1).norm(dim=1)
        errors.append(error.norm(dim=1) / norm.clamp_min(floor))
    return torch.stack(errors).mean(dim=0)


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
