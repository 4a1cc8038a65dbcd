"""What the mixers that scan have in common: projections, gate, paths, and the two forms."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mno.nn.mixers import check_sizes
from mno.scan.arguments import DISCRETIZATIONS, ScanPath
from mno.scan.paths import Domain, num_directions, same_domain, scan_path

STEP_RANGE = (1e-3, 1e-1)
"""Range in which the steps of fresh weights lie, log-uniformly; 1 is the grid's spacing."""


class ScanMixer(nn.Module):
    """Mix points by scans along every direction of a path, as `MambaMixer` says.

    A subclass makes the weights of its scans in `_make_scans`, and says in `_scan` what is scanned
    and in `_compute` how.

    Raises:
        ValueError: A size is not positive, or a name is not known.
    """

    directed: tuple[str, ...] = ()
    """Weights whose first axis is that of the directions, in their order."""
    x_proj_weight: nn.Parameter

    def __init__(
        self, d_model: int, *, d_state: int = 16, expand: int = 2, path: str = "bidirectional",
        dims: int = 2, discretization: str = "simplified",
    ) -> None:  # fmt: skip
        super().__init__()
        check_sizes(d_model=d_model, d_state=d_state, expand=expand, dims=dims)
        if discretization not in DISCRETIZATIONS:
            raise ValueError(
                f"discretization={discretization!r} is not known; "
                f"choose one of {', '.join(DISCRETIZATIONS)}"
            )
        self.path, self.dims, self.d_state = path, dims, d_state
        self.discretization, self.d_inner = discretization, expand * d_model
        self.directions = num_directions(path, dims)
        self.in_proj = nn.Linear(d_model, 2 * self.d_inner, bias=False)
        self._make_scans()
        self.out_norm = nn.LayerNorm(self.d_inner)
        self.out_proj = nn.Linear(self.d_inner, d_model, bias=False)

    def _make_scans(self) -> None:
        raise NotImplementedError

    def _scan(self, inner: Tensor, weights: Tensor, path: ScanPath) -> Any:
        """Return the scan of `inner`, given the numbers that `x_proj_weight` makes for each k."""
        raise NotImplementedError

    def _compute(self, scan: Any) -> Tensor:
        raise NotImplementedError

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
    ) -> tuple[Any, Tensor]:
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
            if tensor is not None and tensor.shape[0] not in (1, x.shape[0]):
                raise ValueError(
                    f"coordinates of {tensor.shape[0]} samples are given, but the input has "
                    f"{len(x)}; give one set of coordinates for all, or one per sample"
                )
        per_direction = weights.unflatten(-1, (self.directions, -1))
        return self._scan(inner, per_direction, path.to(inner.device)), gate

    def _weights(self, inner: Tensor, x: Tensor, source: Tensor | None) -> Tensor:
        """Return steps, input and output weights of all directions, side by side."""
        return F.linear(inner, self.x_proj_weight.flatten(0, 1))

    def _finish(self, scan: Any, gate: Tensor) -> Tensor:
        y = self._compute(scan)
        return self.out_proj(self.out_norm(y[:, :, 0]) * gate)


class ScanCrossMixer(ScanMixer):
    """Mix points by scans whose step, input and output weights also depend on a second input.

    The source passes through the same input projection, and adds `ref_proj_weight . source` to
    what the scans' weights are made of; what is scanned is the first input alone. Both live on the
    same points.

    Source:
        Cheng et al., "Mamba Neural Operator", arXiv:2410.02113.
    """

    def __init__(self, d_model: int, **options: Any) -> None:
        super().__init__(d_model, **options)
        self.ref_proj_weight = uniform(*self.x_proj_weight.shape, fan_in=self.d_inner)

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, x: Tensor, source: Tensor, domain: Domain, source_domain: Domain = None
    ) -> Tensor:
        """Mix features under the influence of a source of the same shape, at the same points.

        The domain is as for the self form; that of the source must be the same, or `None`.

        Raises:
            ValueError: An input or the domain does not fit the mixer or each other.
        """
        if source_domain is not None and not same_domain(domain, source_domain):
            raise ValueError(
                "the source lives elsewhere than the input, and a cross mixer that scans needs it "
                "at the same points; interpolate it there, or use an attention mixer"
            )
        return self._finish(*self.prepare(x, domain, source))

    def _weights(self, inner: Tensor, x: Tensor, source: Tensor | None) -> Tensor:
        if source is None or source.shape != x.shape:
            given = None if source is None else tuple(source.shape)
            raise ValueError(
                f"source has shape {given}; a cross mixer that scans needs it at the same points "
                f"as the input, {tuple(x.shape)}; interpolate it there, or use an attention mixer"
            )
        reference = F.silu(F.linear(source, self.in_proj.weight[: self.d_inner]))
        of_source = F.linear(reference, self.ref_proj_weight.flatten(0, 1))
        return super()._weights(inner, x, source) + of_source


def uniform(*shape: int, fan_in: int) -> nn.Parameter:
    """Draw fresh weights, of the size that keeps that of what they are given."""
    return nn.Parameter(torch.empty(shape).uniform_(-(fan_in**-0.5), fan_in**-0.5))


def step_biases(*shape: int, within: tuple[float, float] = STEP_RANGE) -> nn.Parameter:
    """Draw biases whose softplus lies in a range, log-uniformly."""
    low, high = (math.log(step) for step in within)
    steps = torch.empty(shape).uniform_(low, high).exp()
    return nn.Parameter(steps + torch.log(-torch.expm1(-steps)))
