"""The Mamba mixers: selective scans along paths through the points, gated."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mno.nn.mixers import check_sizes
from mno.scan.arguments import DISCRETIZATIONS, ScanArguments
from mno.scan.backends import compute
from mno.scan.paths import Domain, num_directions, same_domain, scan_path

STEP_RANGE = (1e-3, 1e-1)
"""Range in which the steps of fresh weights lie, log-uniformly; 1 is the grid's spacing."""


class MambaMixer(nn.Module):
    """Mix points by scans along every direction of a path (K directions in all).

    With x, z = SiLU(in_proj(input)) split in two, direction k scans x with a step, input and output
    weights that are linear in x; the directions' results are put back in place and summed,

        output = out_proj(LayerNorm(sum_k scan_k(x)) * z).

    Parameters are named, shaped and initialised as in the reference code, so that its checkpoints
    load: steps log-uniform in [1e-3, 1e-1], A = -(1, 2, ..., d_state), D = 1.

    Inside are `expand * d_model` channels. `path` is one of `mno.scan.paths.PATHS`; with `axial`
    and `cross` K depends on `dims`, the axes of the grids that the mixer will be given. Of the
    discretisations (see `mno.scan.selective_scan`) `simplified` is the reference's, and `centred`
    the most alike from grid to grid. The scan's backend is chosen by itself if not given.

    Raises:
        ValueError: A size is not positive, or a name is not known.

    Source:
        Cheng et al., "Mamba Neural Operator", arXiv:2410.02113; the scan as in Gu and Dao,
        arXiv:2312.00752; its use on grids as in Liu et al., "VMamba", arXiv:2401.10166.
    """

    directed = ("x_proj_weight", "dt_projs_weight", "dt_projs_bias", "A_logs", "Ds")
    """Weights whose first axis is that of the directions, in their order."""

    def __init__(
        self,
        d_model: int,
        *,
        d_state: int = 16,
        expand: int = 2,
        path: str = "bidirectional",
        dims: int = 2,
        discretization: str = "simplified",
        backend: str | None = None,
    ) -> None:
        super().__init__()
        check_sizes(d_model=d_model, d_state=d_state, expand=expand, dims=dims)
        if discretization not in DISCRETIZATIONS:
            raise ValueError(
                f"discretization={discretization!r} is not known; "
                f"choose one of {', '.join(DISCRETIZATIONS)}"
            )
        self.path, self.dims, self.d_state = path, dims, d_state
        self.discretization, self.backend = discretization, backend
        self.d_inner, self.dt_rank = expand * d_model, math.ceil(d_model / 16)
        self.directions = num_directions(path, dims)

        k, inner = self.directions, self.d_inner
        self.in_proj = nn.Linear(d_model, 2 * inner, bias=False)
        self.x_proj_weight = _uniform(k, self.dt_rank + 2 * d_state, inner, fan_in=inner)
        self.dt_projs_weight = _uniform(k, inner, self.dt_rank, fan_in=self.dt_rank)
        low, high = (math.log(step) for step in STEP_RANGE)
        steps = torch.empty(k, inner).uniform_(low, high).exp()
        self.dt_projs_bias = nn.Parameter(steps + torch.log(-torch.expm1(-steps)))
        decays = torch.arange(1, d_state + 1, dtype=torch.float32)
        self.A_logs = nn.Parameter(decays.log().repeat(k * inner, 1))
        self.Ds = nn.Parameter(torch.ones(k * inner))
        self.out_norm = nn.LayerNorm(inner)
        self.out_proj = nn.Linear(inner, d_model, bias=False)

    def forward(self, x: Tensor, domain: Domain) -> Tensor:
        """Mix features `(batch, points, d_model)`, points of a grid in row-major order.

        A grid's spacing scales the scans' steps, its bare shape does not; points without a domain
        are taken in the order in which they come.

        Raises:
            ValueError: The input or the domain does not fit the mixer or each other.
        """
        return self._finish(*self.prepare(x, domain))

    def prepare(
        self, x: Tensor, domain: Domain, source: Tensor | None = None
    ) -> tuple[ScanArguments, Tensor]:
        """Return the scan that the mixer runs on its inputs, and the gate of the result."""
        d_model = self.in_proj.in_features
        if x.ndim != 3 or x.shape[-1] != d_model:
            raise ValueError(
                f"input has shape {tuple(x.shape)}; expected (batch, points, d_model={d_model})"
            )
        inner, gate = F.silu(self.in_proj(x)).chunk(2, dim=-1)
        weights = self._weights(inner, x, source)
        path = scan_path(self.path, domain, inner.shape[1])
        if len(path.directions) != self.directions:
            axes = len(path.directions) // 2
            raise ValueError(
                f"a grid of {axes} axes gives path={self.path!r} {2 * axes} directions, but this "
                f"mixer was built for {self.directions}; build it with dims={axes}"
            )
        for tensor in (path.order, path.scale):
            if tensor is not None and tensor.shape[0] not in (1, len(x)):
                raise ValueError(
                    f"coordinates of {tensor.shape[0]} samples are given, but the input has "
                    f"{len(x)}; give one set of coordinates for all, or one per sample"
                )
        per_direction = weights.unflatten(-1, (self.directions, -1))
        step, b, c = per_direction.split((self.dt_rank, self.d_state, self.d_state), dim=-1)
        shape = (self.directions, self.d_inner)
        scan = ScanArguments(
            inner[:, :, None],
            step,
            -torch.exp(self.A_logs.float()).unflatten(0, shape).transpose(1, 2),
            b,
            c,
            self.Ds.unflatten(0, shape),
            self.dt_projs_bias,
            self.dt_projs_weight.transpose(1, 2),
            path.to(inner.device),
            discretization=self.discretization,
        )
        return scan, gate

    def _weights(self, inner: Tensor, x: Tensor, source: Tensor | None) -> Tensor:
        """Return steps, input and output weights of all directions, side by side."""
        return F.linear(inner, self.x_proj_weight.flatten(0, 1))

    def _finish(self, scan: ScanArguments, gate: Tensor) -> Tensor:
        y = compute(scan, self.backend)
        return self.out_proj(self.out_norm(y[:, :, 0]) * gate)


class MambaCrossMixer(MambaMixer):
    """Mix points by scans whose step, input and output weights also depend on a second input.

    The source passes through the same input projection, and adds `ref_proj_weight . source` to
    what the scans' weights are made of; what is scanned is the first input alone. Both live on the
    same points.

    Arguments and what is raised are those of `MambaMixer`.

    Source:
        Cheng et al., "Mamba Neural Operator", arXiv:2410.02113.
    """

    directed = (*MambaMixer.directed, "ref_proj_weight")

    def __init__(self, d_model: int, **options: Any) -> None:
        super().__init__(d_model, **options)
        self.ref_proj_weight = _uniform(*self.x_proj_weight.shape, fan_in=self.d_inner)

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, x: Tensor, source: Tensor, domain: Domain, source_domain: Domain = None
    ) -> Tensor:
        """Mix features under the influence of a source of the same shape, at the same points.

        The domain is as for `MambaMixer`; that of the source must be the same, or `None`.

        Raises:
            ValueError: An input or the domain does not fit the mixer or each other.
        """
        if source_domain is not None and not same_domain(domain, source_domain):
            raise ValueError(
                "the source lives elsewhere than the input, and a Mamba cross mixer needs it at "
                "the same points; interpolate it there, or use an attention mixer"
            )
        return self._finish(*self.prepare(x, domain, source))

    def _weights(self, inner: Tensor, x: Tensor, source: Tensor | None) -> Tensor:
        if source is None or source.shape != x.shape:
            given = None if source is None else tuple(source.shape)
            raise ValueError(
                f"source has shape {given}; a Mamba cross mixer needs it at the same points as the "
                f"input, {tuple(x.shape)}; interpolate it there, or use an attention mixer"
            )
        reference = F.silu(F.linear(source, self.in_proj.weight[: self.d_inner]))
        of_source = F.linear(reference, self.ref_proj_weight.flatten(0, 1))
        return super()._weights(inner, x, source) + of_source


def reorder_cross(operator: nn.Module, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return an operator's saved weights with the directions of `path="cross"` in today's order.

    Theirs is the former one: axis by axis, each there and back.
    """
    weights = dict(weights)
    for name, module in operator.named_modules():
        if not isinstance(module, MambaMixer) or module.path != "cross":
            continue
        for key in (f"{name}.{weight}".lstrip(".") for weight in module.directed):
            by_axis = weights[key].unflatten(0, (module.directions // 2, 2, -1))
            weights[key] = by_axis.transpose(0, 1).flatten(0, 2)
    return weights


def _uniform(*shape: int, fan_in: int) -> nn.Parameter:
    return nn.Parameter(torch.empty(shape).uniform_(-(fan_in**-0.5), fan_in**-0.5))
