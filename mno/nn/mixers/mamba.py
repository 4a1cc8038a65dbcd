"""The Mamba mixers: selective scans along paths through the points, gated."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from mno.nn.mixers.scanning import ScanCrossMixer, ScanMixer, step_biases, uniform
from mno.scan.arguments import ScanArguments, ScanPath
from mno.scan.backends import compute


class MambaMixer(ScanMixer):
    """Mix points by selective scans along every direction of a path (K directions in all).

    With x, z = SiLU(in_proj(input)) split in two, direction k scans x with a step, input and output
    weights that are linear in x; the directions' results are put back in place and summed,

        output = out_proj(LayerNorm(sum_k scan_k(x)) * z).

    Parameters are named, shaped and initialised as in the reference code, so that its checkpoints
    load: steps log-uniform in [1e-3, 1e-1], A = -(1, 2, ..., d_state), D = 1.

    Inside are `expand * d_model` channels. `path` is one of `mno.scan.paths.PATHS`; with `axial`
    and `cross` K depends on `dims`, the axes of the grids that the mixer will be given. Of the
    discretisations (see `mno.scan.selective_scan`) `simplified` is the reference's, and `centred`
    the most alike from grid to grid; `trapezoidal` has weights of its own, which learn how much the
    end of a step counts. The scan's backend is chosen by itself if not given.

    Raises:
        ValueError: A size is not positive, or a name is not known.

    Source:
        Cheng et al., "Mamba Neural Operator", arXiv:2410.02113; the scan as in Gu and Dao,
        arXiv:2312.00752; its use on grids as in Liu et al., "VMamba", arXiv:2401.10166.
    """

    directed = ("x_proj_weight", "dt_projs_weight", "dt_projs_bias", "A_logs", "Ds")

    def __init__(self, d_model: int, *, backend: str | None = None, **options: Any) -> None:
        self.backend, self.dt_rank = backend, math.ceil(d_model / 16)
        super().__init__(d_model, **options)  # as `ScanMixer` names them

    def _make_scans(self) -> None:
        k, inner, rank = self.directions, self.d_inner, self.dt_rank
        self.x_proj_weight = uniform(k, rank + 2 * self.d_state, inner, fan_in=inner)
        self.dt_projs_weight = uniform(k, inner, rank, fan_in=rank)
        self.dt_projs_bias = step_biases(k, inner)
        decays = torch.arange(1, self.d_state + 1, dtype=torch.float32)
        self.A_logs = nn.Parameter(decays.log().repeat(k * inner, 1))
        self.Ds = nn.Parameter(torch.ones(k * inner))
        if self.discretization == "trapezoidal":
            self.end_projs_weight = uniform(k, inner, rank, fan_in=rank)
            self.end_projs_bias = nn.Parameter(torch.zeros(k, inner))

    def _scan(self, inner: Tensor, weights: Tensor, path: ScanPath) -> ScanArguments:
        step, b, c = weights.split((self.dt_rank, self.d_state, self.d_state), dim=-1)
        shape, ends = (self.directions, self.d_inner), None
        if self.discretization == "trapezoidal":
            ends = torch.einsum("bpkr,kcr->bpkc", step, self.end_projs_weight)
            ends = torch.sigmoid(ends + self.end_projs_bias)
        A = -torch.exp(self.A_logs.float()).unflatten(0, shape).transpose(1, 2)
        D, weight = self.Ds.unflatten(0, shape), self.dt_projs_weight.transpose(1, 2)
        given = inner[:, :, None], step, A, b, c, D, self.dt_projs_bias, weight, path
        return ScanArguments(*given, discretization=self.discretization, end_weight=ends)

    def _compute(self, scan: ScanArguments) -> Tensor:
        return compute(scan, self.backend)


class MambaCrossMixer(ScanCrossMixer, MambaMixer):
    """The cross form of `MambaMixer`; arguments and what is raised are those of it.

    Source:
        Cheng et al., "Mamba Neural Operator", arXiv:2410.02113.
    """

    directed = (*MambaMixer.directed, "ref_proj_weight")


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
