"""The exponential-trapezoidal rule, by way of the simplified one.

The integral over a step is taken at both of its ends, with learned weights w_t and 1 - w_t,

    h_t = exp(dt_t A) h_{t-1} + (1 - w_t) dt_t exp(dt_t A) B_{t-1} u_{t-1} + w_t dt_t B_t u_t
    y_t = C_t . h_t + D u_t

so that an input is heard twice, at the end of its own step and at the beginning of the next, and
from then on decays alike. With l_t = (1 - w_{t+1}) dt_{t+1}, and 0 where a line ends,

    h_t = sum_{s <= t} exp(A (dt_{s+1} + ... + dt_t)) (w_s dt_s + l_s) B_s u_s  -  l_t B_t u_t

The sum is a scan by the simplified rule of the input (w_s dt_s + l_s) u_s / dt_s, which any backend
can compute. To a state before the first step it adds l_{-1} B_{-1} u_{-1}; behind the last step its
state is h. Where w = 1 all is the simplified rule; where w = 1/2 and dt is the same all along a
line, the centred one.

Source:
    "Mamba-3: Improved Sequence Modeling using State Space Principles", arXiv:2603.15569.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from mno.scan.arguments import Carried, Inputs, ScanArguments, ScanPath
from mno.scan.plain import along_walks, step_lengths, visited_points

_SHORTEST = 1e-15  # of steps, by which is divided
Run = Callable[[ScanArguments], tuple[Inputs, Carried | None]]


def trapezoidal_scan(scan: ScanArguments, run: Run) -> tuple[Inputs, Carried | None]:
    """Compute a scan by this rule, given what computes one by the simplified rule."""
    if scan.initial is not None and not scan.u.shape[1]:
        return scan.u.clone(), scan.initial
    dtype = torch.float64 if scan.needs_float64 else torch.float32
    u, B, C = (x.to(dtype) for x in (scan.u, scan.B, scan.C))
    dt = step_lengths(scan, dtype)
    dt = torch.where(dt.abs() < _SHORTEST, _SHORTEST, dt)
    at_end, at_next = end_weights(scan, dt)
    initial = scan.initial
    if initial is not None:
        h, heard = initial.to(dtype).chunk(2, dim=2)
        initial = h + _visited(scan.path, dt - at_end, 0)[:, :, None] * heard
    path = ScanPath(scan.path.directions, scan.path.order)
    how: dict[str, Any] = dict.fromkeys(("D", "bias", "dt_weight", "end_weight"))
    how |= {"path": path, "softplus": False, "discretization": "simplified", "initial": initial}
    simplified = replace(scan, u=u * (at_end + at_next) / dt, delta=dt, **how)
    direct = -at_next * (B * C).sum(-1, keepdim=True)
    direct = direct if scan.D is None else direct + scan.D.to(dtype)
    y, state = run(simplified)
    y = y + direct * u
    y = y.sum(2, keepdim=True) if scan.shared else y
    if state is not None:
        last = [_visited(scan.path, x, -1) for x in (B, u.expand(-1, -1, B.shape[2], -1))]
        state = torch.cat([state, last[0][..., None] * last[1][:, :, None]], dim=2)
    return y.to(scan.u.dtype), state


def end_weights(scan: ScanArguments, dt: Tensor) -> tuple[Tensor, Tensor]:
    """Return w_t dt_t and l_t, given the steps `(batch, point, K, channel)`."""
    at_end = dt / 2 if scan.end_weight is None else dt * scan.end_weight.to(dt.dtype)
    return at_end, _of_next(scan.path, dt - at_end)


def _visited(path: ScanPath, x: Tensor, place: int) -> Tensor:
    """Return what the point at a place of each walk has, `(batch, K, any)`."""
    if x.shape[1] == 1:  # one step of a stream, which is to be quick
        return x[:, 0]
    visits = visited_points(path, x.shape[1], x.device)[..., place]
    return along_walks(x, visits[:, None, :, None])[:, 0]


def _of_next(path: ScanPath, x: Tensor) -> Tensor:
    """Return what the next point of each walk has, `(batch, point, K, any)`; 0 at ends of lines."""
    points = x.shape[1]
    if points == 1:
        return torch.zeros_like(x)
    visits = visited_points(path, points, x.device).transpose(1, 2)[..., None]
    following = F.pad(along_walks(x, visits)[:, 1:], (0, 0, 0, 0, 0, 1))
    place = torch.arange(1, points + 1, device=x.device)[:, None]
    lines = torch.tensor([direction.line for direction in path.directions], device=x.device)
    following = following * (place % lines != 0)[..., None]
    return along_walks(following, visits.argsort(1))
