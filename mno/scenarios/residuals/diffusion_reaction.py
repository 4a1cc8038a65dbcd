"""The residual of the FitzHugh-Nagumo equations with diffusion, over given frames."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import pad

from mno.core.grid import Grid
from mno.scenarios.residuals import SMALLEST, rms, widths


def residual(fields: Mapping[str, Tensor], grid: Grid) -> Tensor:
    r"""Return `‖(w_1 − w_0) / dt − F((w_0 + w_1) / 2)‖₂ / ‖w_first‖₂` of each sample.

    `w = (u, v)`, `F` is the right side of `u_t = D_u Laplacian u + u − u³ − k − v` and
    `v_t = D_v Laplacian v + u − v` with the Laplacian of the solver's scheme
    (five points on cell centres, nothing passing through the wall), and the norms are root mean
    squares over intervals, species and cells. The size of the first frame, which is given and not
    predicted, is that of the linear reaction: the coefficient of `u` is 1.

    This is the implicit midpoint rule, of second order in the time between frames, and not the
    solver's method. So the solver's own frames keep a residual. At the scenario's defaults
    (`dt = 0.25`, smooth initial states) it is 1e-2 or less from the second frame on, and falls to
    a quarter with half the interval. In the first interval, where peaks of the initial state
    decay within a fraction of it, it is up to 0.2. A weight in training should be so small that
    this does not count.

    `activator` and `inhibitor` have shape `(batch, time, x, y)` with two frames or more; with the
    numbers `activator_diffusivity`, `inhibitor_diffusivity` and `offset` all is nondimensional.
    """
    dt, h_x, h_y = widths(grid, "time", "x", "y")
    frames = torch.stack([fields["activator"], fields["inhibitor"]])
    u, v = (frames[:, :, :-1] + frames[:, :, 1:]) / 2
    spread_u = fields["activator_diffusivity"] * _laplacian(u, h_x, h_y)
    spread_v = fields["inhibitor_diffusivity"] * _laplacian(v, h_x, h_y)
    rates = torch.stack([spread_u + u - u**3 - fields["offset"] - v, spread_v + u - v])
    left = frames.diff(dim=2) / dt - rates
    left, first = left.transpose(0, 1), frames[:, :, 0].transpose(0, 1)
    return rms(left) / rms(first).clamp_min(SMALLEST)


def _laplacian(field: Tensor, h_x: float, h_y: float) -> Tensor:
    """Return the second differences along x and y; cells mirrored at the wall let nothing pass."""
    mirrored = pad(field, (1, 1, 1, 1), mode="replicate")
    along_x, along_y = mirrored[..., :, 1:-1], mirrored[..., 1:-1, :]
    return along_x.diff(n=2, dim=-2) / h_x**2 + along_y.diff(n=2, dim=-1) / h_y**2
