"""The residual of heat conduction in a furnace, over given frames."""

from collections.abc import Mapping

import torch
from torch import Tensor

from mno.core.grid import Grid
from mno.scenarios.residuals import rms, widths

SMALLEST = 1.0  # power density, W/m3, that a residual is relative to at least


def residual(fields: Mapping[str, Tensor], grid: Grid) -> Tensor:
    r"""Return `‖ρc (T_1 − T_0) / dt − div(κ grad T_1) − q_0‖₂ / size` of each sample.

    The divergence is that of the solver's scheme: five points on cell centres, harmonic means
    between cells, half a cell and the film `h_c` in series at the outer surface. Norms are root
    mean squares over intervals and cells. The size is that of the power, plus what the first frame
    loses through the surface per volume, `h_c ‖T_0 − T_amb‖₂ / side`, so that a furnace that only
    cools down has one, too.

    This is the implicit Euler method, of first order in the time between frames: by the midpoint
    rule, the solver's own frames would keep up to 100, since the gas follows a change of power at
    once. So, at the defaults, they keep 0.07 to 0.1 over a run that begins cold, and 0.2 to 0.5
    where a hot furnace meets a cold charge. A weight should be too small for this to count.

    `conductivity` and `heat_capacity` have shape `(batch, x, y)`; `power`, each frame up to the
    next one, and `temperature`, with two frames or more, `(batch, time, x, y)`;
    `ambient_temperature` `(batch,)`; `heat_transfer_coefficient` is a number; all in SI units.
    """
    dt, h_x, h_y = widths(grid, "time", "x", "y")
    conductivity, film = fields["conductivity"][:, None], fields["heat_transfer_coefficient"]
    rise = fields["temperature"] - fields["ambient_temperature"][:, None, None, None]
    power = fields["power"][:, : rise.shape[1] - 1]
    later = rise[:, 1:]
    outflow = _outflow(conductivity, later, h_x, film)
    outflow = outflow + _outflow(conductivity.mT, later.mT, h_y, film).mT
    stored = fields["heat_capacity"][:, None] * rise.diff(dim=1) / dt
    side = min(h_x * grid.shape[1], h_y * grid.shape[2])
    size = rms(power) + film * rms(rise[:, :1].detach()) / side  # no gradient, 0 in cold ones
    return rms(stored + outflow - power) / size.clamp_min(SMALLEST)


def _outflow(conductivity: Tensor, rise: Tensor, width: float, film: Tensor) -> Tensor:
    """Return what leaves each cell through its two faces across the last axis but one, W/m3."""
    half = 0.5 * width / conductivity
    first, last = half[..., :1, :] + 1.0 / film, half[..., -1:, :] + 1.0 / film
    fluxes = [
        -rise[..., :1, :] / first,
        -rise.diff(dim=-2) / (half[..., :-1, :] + half[..., 1:, :]),
        rise[..., -1:, :] / last,
    ]
    return torch.cat(fluxes, dim=-2).diff(dim=-2) / width
