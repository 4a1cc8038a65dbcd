"""The residual of the Navier-Stokes equations of a plane flow, over given frames."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from mno.core.grid import Grid
from mno.scenarios.residuals import SMALLEST, rms, widths


def residual(fields: Mapping[str, Tensor], grid: Grid) -> Tensor:
    r"""Return `‖(ω_1 − ω_0) / dt + v·∇w − ν Δw − f‖₂ / ‖ω_first‖₂`, `w = (ω_0 + ω_1) / 2`.

    `v` is the velocity of `w` on the unit torus and `f` the scenario's force. The norms are root
    mean squares over intervals and points; the derivatives are those of the trigonometric
    polynomial through the points.

    This is the implicit midpoint rule, of second order in the time between frames, and not the
    solver's method. So the solver's own frames keep a residual where frames are far apart. At the
    scenario's defaults (frames at distances of 1) it is 4e-3 or less from the second frame on, and
    falls to a quarter with half the distance. In the first interval, where the roughness of the
    initial state decays, it is up to 0.15. A weight in training should be small beside that.

    `vorticity`, shape `(batch, time, x, y)` with two frames or more, `viscosity`, shape `(batch,)`,
    and the number `forcing` are nondimensional; x and y are whole periods.
    """
    dt, *_ = widths(grid, "time", "x", "y")
    vorticity = fields["vorticity"]
    viscosity = fields["viscosity"].reshape(-1, 1, 1, 1)
    middle = (vorticity[:, :-1] + vorticity[:, 1:]) / 2
    x, y = _waves(grid, middle)
    spectrum = torch.fft.rfft2(middle)
    squares = x.square() + y.square()
    stream = spectrum / torch.where(squares > 0.0, squares, torch.inf)
    terms = (1j * y * stream, -1j * x * stream, 1j * x * spectrum, 1j * y * spectrum)
    u, v, along_x, along_y = (torch.fft.irfft2(term, middle.shape[-2:]) for term in terms)
    spread = viscosity * torch.fft.irfft2(-squares * spectrum, middle.shape[-2:])
    across, along = (torch.tensor(grid.centres(k), dtype=torch.float64).to(middle) for k in (1, 2))
    angle = 2.0 * math.pi * (across[:, None] + along[None, :])
    force = fields["forcing"] * (torch.sin(angle) + torch.cos(angle))
    left = vorticity.diff(dim=1) / dt + u * along_x + v * along_y - spread - force
    return rms(left) / rms(vorticity[:, :1]).clamp_min(SMALLEST)


def _waves(grid: Grid, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return the wave numbers of x and y times 2 pi, 0 where a wave has two points."""
    n, m = grid.shape[1:]
    x = torch.fft.fftfreq(n, 1.0 / n, device=like.device, dtype=like.dtype)
    y = torch.fft.rfftfreq(m, 1.0 / m, device=like.device, dtype=like.dtype)
    x, y = (torch.where(2.0 * k.abs() < size, k, 0.0) for k, size in ((x, n), (y, m)))
    return 2.0 * math.pi * x[:, None], 2.0 * math.pi * y[None, :]
