"""The Mamba mixer: selective scans along paths through the grid, gated."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mno.grid import Grid
from mno.scan.interface import scan_lines
from mno.scan.paths import DIRECTIONS, Sweep, num_sweeps, sweeps

STEP_RANGE = (1e-3, 1e-1)
"""Range in which the steps of fresh weights lie, log-uniformly; 1 is the grid's spacing."""


class MambaMixer(nn.Module):
    """Mix points by scans along every direction of a path (K directions in all).

    With x, z = SiLU(in_proj(input)) split in two, direction k scans x with a step, input and output
    weights that are linear in x; the directions' results are put back in place and summed,

        output = out_proj(LayerNorm(sum_k scan_k(x)) * z).

    Parameters are named, shaped and initialised as in the reference code, so that its checkpoints
    load: steps log-uniform in [1e-3, 1e-1], A = -(1, 2, ..., d_state), D = 1.

    Args:
        d_model: Features per point.
        d_state: State size of a scan, per channel.
        expand: Channels inside the mixer, `expand * d_model`.
        path: `bidirectional` (K = 2) or `axial` (K = 2 per axis of the grid).
        dims: Axes of the grids that an axial mixer will be given.

    Raises:
        ValueError: A size is not positive, or the path is not known.

    Source:
        Cheng et al., "Mamba Neural Operator", arXiv:2410.02113; the scan as in Gu and Dao,
        arXiv:2312.00752; its use on grids as in Liu et al., "VMamba", arXiv:2401.10166.
    """

    def __init__(
        self,
        d_model: int,
        *,
        d_state: int = 16,
        expand: int = 2,
        path: str = "bidirectional",
        dims: int = 2,
    ) -> None:
        super().__init__()
        sizes = {"d_model": d_model, "d_state": d_state, "expand": expand, "dims": dims}
        for name, size in sizes.items():
            if size < 1:
                raise ValueError(f"{name}={size} must be at least 1")
        self.path = path
        self.dims = dims
        self.d_state = d_state
        self.d_inner = expand * d_model
        self.dt_rank = math.ceil(d_model / 16)
        directions = len(DIRECTIONS) * num_sweeps(path, dims)

        def uniform(*shape: int, fan_in: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(shape).uniform_(-(fan_in**-0.5), fan_in**-0.5))

        self.in_proj = nn.Linear(d_model, 2 * self.d_inner, bias=False)
        self.x_proj_weight = uniform(
            directions, self.dt_rank + 2 * d_state, self.d_inner, fan_in=self.d_inner
        )
        self.dt_projs_weight = uniform(directions, self.d_inner, self.dt_rank, fan_in=self.dt_rank)
        self.dt_projs_bias = nn.Parameter(_inverse_softplus(_steps(directions, self.d_inner)))
        decays = torch.arange(1, d_state + 1, dtype=torch.float32)
        self.A_logs = nn.Parameter(decays.log().repeat(directions * self.d_inner, 1))
        self.Ds = nn.Parameter(torch.ones(directions * self.d_inner))
        self.out_norm = nn.LayerNorm(self.d_inner)
        self.out_proj = nn.Linear(self.d_inner, d_model, bias=False)

    def forward(self, x: Tensor, grid: Grid | tuple[int, ...] | None) -> Tensor:
        """Mix points.

        Args:
            x: Features, `(batch, points, d_model)`; points of a grid in row-major order.
            grid: The grid, whose spacing scales the scans' steps; its bare shape for no scaling;
                or `None` for points without a grid (bidirectional only).

        Returns:
            Features of the same shape.

        Raises:
            ValueError: The input or the grid does not fit the mixer or each other.
        """
        d_model = self.in_proj.in_features
        if x.ndim != 3 or x.shape[-1] != d_model:
            raise ValueError(
                f"input has shape {tuple(x.shape)}; expected (batch, points, d_model={d_model})"
            )
        path = sweeps(self.path, grid, x.shape[1])
        if self.path == "axial" and len(path) != self.dims:
            raise ValueError(
                f"grid of shape {path[0].shape} has {len(path)} axes, but this axial mixer was "
                f"built for {self.dims}; build it with dims={len(path)}"
            )
        inner, gate = F.silu(self.in_proj(x)).chunk(2, dim=-1)
        mixed = sum(
            self._scan(sweep, slice(2 * i, 2 * i + 2), inner) for i, sweep in enumerate(path)
        )
        return self.out_proj(self.out_norm(mixed) * gate)

    def _scan(
        self, sweep: Sweep, k: slice, inner: Float[Tensor, "batch point d_inner"]
    ) -> Float[Tensor, "batch point d_inner"]:
        """Scan along one sweep's lines in both directions, whose parameters are those at `k`."""
        shape = (len(DIRECTIONS), self.d_inner)
        channels = slice(k.start * self.d_inner, k.stop * self.d_inner)
        u = sweep.to_lines(inner)
        weights = F.linear(u, self.x_proj_weight[k].flatten(0, 1)).unflatten(
            -1, (len(DIRECTIONS), -1)
        )
        step, b, c = weights.split((self.dt_rank, self.d_state, self.d_state), dim=-1)
        delta = torch.einsum("blkr,kdr->blkd", step, self.dt_projs_weight[k])
        scale = None
        if sweep.delta_scale != 1.0:
            scale = u.new_full((u.shape[1], len(DIRECTIONS), 1), sweep.delta_scale)
        y = scan_lines(
            u[:, :, None].expand(*u.shape[:2], *shape),
            delta,
            -torch.exp(self.A_logs[channels].float()).unflatten(0, shape).transpose(1, 2),
            b,
            c,
            self.Ds[channels].unflatten(0, shape),
            self.dt_projs_bias[k],
            scale,
            reverse=DIRECTIONS,
        )
        return sweep.from_lines(y.sum(2))


def _steps(*shape: int) -> Tensor:
    low, high = (math.log(step) for step in STEP_RANGE)
    return torch.empty(shape).uniform_(low, high).exp()


def _inverse_softplus(x: Tensor) -> Tensor:
    return x + torch.log(-torch.expm1(-x))
