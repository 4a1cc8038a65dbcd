"""The residual of Darcy flow, `-div(a grad u) = 1` with `u = 0` on the wall or in a channel."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import pad

from mno.core.grid import Grid

SOURCE = 1.0


def residual(fields: Mapping[str, Tensor], grid: Grid) -> Tensor:
    r"""Return `‖−div(a grad u) − 1‖₂ / ‖1‖₂` of each sample.

    The divergence is that of the solver's scheme: five points, a cell's faces halfway to its
    neighbours, harmonic means of the permeability between them, the wall at the end of the domain.
    So the solver's own solution on cell centres has no residual but its rounding, which in float32
    grows with the square of the resolution.

    As a loss this is the equation's term of physics-informed neural operators (Li et al.,
    arXiv:2111.03794, section 3). It weighs an error of the pressure by the square of its wave
    number: a weight of 0.01 or less is a good first try.

    `permeability`, positive, and `pressure` have shape `(batch, x, y)`; there is an
    `inlet_pressure`, without axes, if the square is a channel (`mno.scenarios.darcy`). All is
    nondimensional. No point of the grid lies on the wall.
    """
    permeability, pressure = fields["permeability"], fields["pressure"]
    x, y = (_places(grid, axis).to(pressure) for axis in range(2))
    inlet = fields.get("inlet_pressure")
    outflow = _outflow(permeability, pressure, x, inlet)
    closed = inlet is not None
    outflow = outflow + _outflow(permeability.mT, pressure.mT, y, closed=closed).mT
    cells = outflow[0].numel()
    return (outflow - SOURCE).flatten(1).norm(dim=1) / (SOURCE * cells**0.5)


def _places(grid: Grid, axis: int) -> Tensor:
    """Return where the points lie along an axis, between the walls."""
    h, shares = grid.spacing[axis], grid.centres(axis)
    if isinstance(h, tuple):
        raise ValueError(f"grid has spacing {grid.spacing}; the scheme needs one width per axis")
    if not 0.0 < shares[0] <= shares[-1] < 1.0:
        raise ValueError(
            f"the points of axis {axis} lie from {shares[0]:g} to {shares[-1]:g} of its length; "
            "the scheme needs all of them within the walls"
        )
    length = h * grid.shape[axis]
    return torch.tensor([0.0, *(length * share for share in shares), length], dtype=torch.float64)


def _outflow(
    permeability: Tensor, pressure: Tensor, places: Tensor, inlet: Tensor | None = None,
    *, closed: bool = False,
) -> Tensor:  # fmt: skip
    """Return what leaves each cell through its two faces across the last axis but one.

    Per volume of the cell. `places` are those of the points between those of the two walls, where
    the pressure is zero but for `inlet` at the first, or through which nothing flows if `closed`.
    """
    first, last = permeability[:, :1], permeability[:, -1:]
    before, after = permeability[:, :-1], permeability[:, 1:]
    harmonic = 2.0 * before * after / (before + after)
    distances = places.diff()[:, None]
    transmissibility = torch.cat([first, harmonic, last], dim=1) / distances
    faces = torch.cat([places[:1], (places[1:-2] + places[2:-1]) / 2, places[-1:]])
    padded = pad(pressure, (0, 0, 1, 1))
    if inlet is not None:
        padded = torch.cat([inlet.to(padded).expand_as(padded[:, :1]), padded[:, 1:]], dim=1)
    fluxes = transmissibility * (padded[:, :-1] - padded[:, 1:])
    if closed:
        fluxes = pad(fluxes[:, 1:-1], (0, 0, 1, 1))
    return fluxes.diff(dim=1) / faces.diff()[:, None]
