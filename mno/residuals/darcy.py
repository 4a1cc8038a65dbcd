"""The residual of Darcy flow, `-div(a grad u) = 1` with `u = 0` on the wall."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import pad

from mno.grid import Grid

SOURCE = 1.0


def residual(fields: Mapping[str, Tensor], grid: Grid) -> Tensor:
    r"""Return `‖−div(a grad u) − 1‖₂ / ‖1‖₂` of each sample.

    The divergence is that of the solver's scheme: five points on cell centres, harmonic means of
    the permeability between cells, the wall at half a cell's distance. So the solver's own solution
    has no residual but its rounding, which in float32 grows with the square of the resolution.

    As a loss this is the equation's term of physics-informed neural operators (Li et al.,
    arXiv:2111.03794, section 3). It weighs an error of the pressure by the square of its wave
    number: a weight of 0.01 or less is a good first try.

    Args:
        fields: `permeability`, positive, and `pressure`, shape `(batch, x, y)`, nondimensional.
        grid: A grid of equal cells.

    Returns:
        Shape `(batch,)`, nondimensional.

    Raises:
        ValueError: The cells are not equal.
    """
    permeability, pressure = fields["permeability"], fields["pressure"]
    h_x, h_y = grid.spacing
    if isinstance(h_x, tuple) or isinstance(h_y, tuple):
        raise ValueError(f"grid has spacing {grid.spacing}; the scheme needs one width per axis")
    outflow = _outflow(permeability, pressure) / h_x**2
    outflow = outflow + _outflow(permeability.mT, pressure.mT).mT / h_y**2
    cells = outflow[0].numel()
    return (outflow - SOURCE).flatten(1).norm(dim=1) / (SOURCE * cells**0.5)


def _outflow(permeability: Tensor, pressure: Tensor) -> Tensor:
    """Return what leaves each cell through its two faces across the last axis but one.

    In units of pressure times permeability: the cells' width is left out.
    """
    first, last = permeability[:, :1], permeability[:, -1:]
    before, after = permeability[:, :-1], permeability[:, 1:]
    harmonic = 2.0 * before * after / (before + after)
    transmissibility = torch.cat([2.0 * first, harmonic, 2.0 * last], dim=1)
    padded = pad(pressure, (0, 0, 1, 1))
    return (transmissibility * (padded[:, :-1] - padded[:, 1:])).diff(dim=1)


RESIDUAL = residual
