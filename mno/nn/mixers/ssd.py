"""The SSD mixers: scans with one decay per head, as in Mamba-2, along paths through the points."""

from typing import Any

import torch
from torch import Tensor, nn

from mno.nn.mixers import check_sizes
from mno.nn.mixers.scanning import ScanCrossMixer, ScanMixer, step_biases, uniform
from mno.scan.arguments import ScanPath
from mno.scan.ssd import HeadScan, ssd

DECAYS = (1.0, 16.0)
"""Range of -A in fresh weights."""


class SsdMixer(ScanMixer):
    """Mix points by scans with one decay per head and step, along every direction of a path.

    All around the scans, their paths and their discretisations are as for `MambaMixer`. The
    `expand * d_model` channels inside are divided among `heads`. A head has one A, one step and one
    D per direction; the input and output weights of `d_state` numbers are shared by all heads:

        h_t = exp(dt_t A) h_{t-1} + dt_t B_t x_t,   y_t = C_t . h_t + D x_t    for each channel

    which is computed by products of matrices (`mno.scan.ssd`), so that the state may be large.
    Fresh weights: steps log-uniform in [1e-3, 1e-1], -A uniform in [1, 16], D = 1.

    Raises:
        ValueError: A size is not positive, a name unknown, or `heads` does not divide the channels.

    Source:
        Dao and Gu, "Transformers are SSMs: Generalized Models and Efficient Algorithms Through
        Structured State Space Duality", arXiv:2405.21060, section 7.
    """

    directed = ("x_proj_weight", "dt_projs_bias", "A_logs", "Ds")

    def __init__(self, d_model: int, *, heads: int = 4, expand: int = 2, **options: Any) -> None:
        check_sizes(heads=heads)
        if expand * d_model % heads:
            inner = heads * (expand * d_model // heads + 1)
            raise ValueError(
                f"heads={heads} does not divide the {expand * d_model} channels inside, "
                f"expand * d_model; choose a multiple of {heads}, for example {inner}"
            )
        self.heads = heads
        super().__init__(d_model, expand=expand, **options)  # as `ScanMixer` names them

    def _make_scans(self) -> None:
        k, inner, heads = self.directions, self.d_inner, self.heads
        self.x_proj_weight = uniform(k, heads + 2 * self.d_state, inner, fan_in=inner)
        self.dt_projs_bias = step_biases(k, heads)
        self.A_logs = nn.Parameter(torch.empty(k, heads).uniform_(*DECAYS).log())
        self.Ds = nn.Parameter(torch.ones(k, heads))
        if self.discretization == "trapezoidal":
            self.end_proj_weight = uniform(k, heads, inner, fan_in=inner)
            self.end_proj_bias = nn.Parameter(torch.zeros(k, heads))

    def _scan(self, inner: Tensor, weights: Tensor, path: ScanPath) -> HeadScan:
        step, b, c = weights.split((self.heads, self.d_state, self.d_state), dim=-1)
        ends = None
        if self.discretization == "trapezoidal":
            ends = torch.einsum("bpc,khc->bpkh", inner, self.end_proj_weight)
            ends = torch.sigmoid(ends + self.end_proj_bias)
        A = -torch.exp(self.A_logs.float())
        given = inner[:, :, None], step, A, b, c, self.Ds, self.dt_projs_bias, path
        return HeadScan(*given, discretization=self.discretization, end_weight=ends)

    def _compute(self, scan: HeadScan) -> Tensor:
        return ssd(scan)


class SsdCrossMixer(ScanCrossMixer, SsdMixer):
    """The cross form of `SsdMixer`: its source has the part that it has for `MambaCrossMixer`."""

    directed = (*SsdMixer.directed, "ref_proj_weight")
