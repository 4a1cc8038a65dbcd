"""The mixer along time: a causal scan over the frames of each point, with a state that goes on."""

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mno.nn.mixers.mamba import MambaMixer
from mno.nn.mixers.scanning import step_biases, uniform
from mno.scan.arguments import Direction, ScanPath
from mno.scan.backends import compute_and_carry

STEP_RANGE = (1e-2, 1.0)
"""Range in which the steps of fresh weights lie, log-uniformly; 1 is the interval of training."""
WINDOW = 4
"""Frames that the convolution before the scan looks at, the present one among them."""


class TimeMixer(MambaMixer):
    """Mix the frames of each point by a selective scan along time, forwards alone.

    With x and z the halves of in_proj(input), and a convolution over the last four frames of each
    channel by itself,

        output = out_proj(LayerNorm(scan(SiLU(conv(x)))) * SiLU(z)).

    The scan holds its input from frame to frame (zero-order hold), each step lasting as long as the
    interval before its frame, so that frames need not follow each other at equal distances.

    What it remembers of a sequence is its state, `(lines, channels, d_state + 3)`, float32 (float64
    where the input is): that of the scan, and behind it what the convolution saw of the last three
    frames. So a sequence may be given whole, in pieces or frame by frame, at the same memory.

    Source:
        Gu and Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces",
        arXiv:2312.00752, section 3.4.
    """

    def __init__(self, d_model: int, *, d_state: int = 16, expand: int = 1) -> None:
        super().__init__(
            d_model, d_state=d_state, expand=expand, path="temporal", dims=1, discretization="zoh"
        )
        self.dt_projs_bias = step_biases(1, self.d_inner, within=STEP_RANGE)
        self.window = uniform(self.d_inner, WINDOW, fan_in=WINDOW)
        self.window_bias = nn.Parameter(torch.zeros(self.d_inner))

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, x: Tensor, intervals: Tensor, state: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Mix frames that follow those which a state remembers, none if it is not given.

        Args:
            x: Features, `(lines, frames, d_model)`; a line is a point of a sample.
            intervals: Time to each frame from the one before, relative to that of training,
                `(lines, frames)`.
            state: What was returned for the frames before.

        Returns:
            Features in the shape of the input, and the state behind the last frame.

        Raises:
            ValueError: Shapes do not fit each other.
        """
        lines, frames, _ = x.shape
        remembered = (lines, self.d_inner, self.d_state + WINDOW - 1)
        if intervals.shape != (lines, frames):
            raise ValueError(
                f"intervals have shape {tuple(intervals.shape)}; expected one before each frame of "
                f"each line, {(lines, frames)}"
            )
        exact = torch.promote_types(x.dtype, torch.float32)
        state = x.new_zeros(remembered, dtype=exact) if state is None else state
        if state.shape != remembered:
            raise ValueError(
                f"the state has shape {tuple(state.shape)}; expected (lines, channels, kept) = "
                f"{remembered}: give what this mixer returned for the same lines"
            )
        inner, gate = self.in_proj(x).chunk(2, dim=-1)
        scanned, seen = state.mT.split((self.d_state, WINDOW - 1), dim=1)
        padded = torch.cat([seen.to(inner), inner], dim=1)
        views = (padded[:, i : i + frames] * self.window[:, i] for i in range(WINDOW))
        inner = F.silu(sum(views, self.window_bias))
        weights = F.linear(inner, self.x_proj_weight[0])[:, :, None]
        path = ScanPath((Direction(frames, frames),), None, intervals[:, None].float())
        scan = replace(self._scan(inner, weights, path), initial=scanned[:, None].to(exact))
        y, behind = compute_and_carry(scan, self.backend)
        assert behind is not None
        out = self.out_proj(self.out_norm(y[:, :, 0]) * F.silu(gate))
        # Channels are innermost in memory, as the scan takes them.
        return out, torch.cat([behind[:, 0], padded[:, frames:].to(exact)], dim=1).mT
