"""The Fourier layer, on grids of any resolution with equal cells, and a regressor made of it."""

from __future__ import annotations

from itertools import product

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

HALF = (torch.float16, torch.bfloat16)
"""Types that Fourier transforms do not take everywhere; they are computed in float32."""


class FourierLayer(nn.Module):
    """silu(linear(x) + inverse transform of weights times the lowest modes of x).

    The weights of a mode are those of its frequency on any grid; a grid too coarse for some of
    them leaves those out.

    Args:
        inputs: Features per point given.
        outputs: Features per point returned.
        modes: Frequencies kept along each axis: 0 to `modes - 1` and, on all axes but the last,
            their negatives -`modes` to -1.
        dims: Axes of the grid.
        dropout: Share of the features that the transform does not see, while training.

    Source:
        Li et al., arXiv:2010.08895, section 4; the initial scale is that of Cao's code.
    """

    def __init__(self, inputs: int, outputs: int, modes: int, dims: int, dropout: float) -> None:
        super().__init__()
        self.modes = modes
        self.linear = nn.Linear(inputs, outputs)
        self.dropout = nn.Dropout(dropout)
        corners, kept = 2 ** (dims - 1), (modes,) * dims
        scale = 1.0 / (inputs * outputs * modes ** (dims / 2))
        self.weight = nn.Parameter(scale * torch.randn(corners, inputs, outputs, *kept, 2))

    def forward(self, x: Float[Tensor, "batch *axis input"]) -> Tensor:
        """Apply the layer to features on a grid, channels last."""
        return F.silu(self.linear(x) + self._filter(self.dropout(x)).to(x.dtype))

    def _filter(self, x: Tensor) -> Tensor:
        shape = x.shape[1:-1]
        axes = tuple(range(1, x.ndim - 1))
        x = x.float() if x.dtype in HALF else x
        spectrum = torch.fft.rfftn(x, dim=axes, norm="ortho")
        weights = torch.view_as_complex(self.weight.to(x.dtype))
        out = spectrum.new_zeros(*spectrum.shape[:-1], weights.shape[2])
        for corner, weight in zip(product(*self._sides(shape)), weights, strict=True):
            here = (slice(None), *(of_grid for of_grid, _ in corner))
            there = (slice(None), slice(None), *(of_weight for _, of_weight in corner))
            out[here] = torch.einsum("b...i,io...->b...o", spectrum[here], weight[there])
        return torch.fft.irfftn(out, s=tuple(shape), dim=axes, norm="ortho")

    def _sides(self, shape: torch.Size) -> list[list[tuple[slice, slice]]]:
        """Return where the kept frequencies of each sign lie along each axis, and their weights."""
        sides = []
        for n in shape[:-1]:
            rising, falling = min(self.modes, (n + 1) // 2), min(self.modes, n // 2)
            end = slice(self.modes - falling, self.modes)
            sides.append([(slice(rising),) * 2, (slice(n - falling, n), end)])
        last = slice(min(self.modes, shape[-1] // 2 + 1))
        return [*sides, [(last, last)]]


class SpectralRegressor(nn.Module):
    """The Galerkin Transformer's decoder: Fourier layers, then a perceptron of each point.

    Each point is given its coordinates again, and the features are reduced before the transform.

    Args:
        inputs: Features per point given.
        width: Features per point of the Fourier layers.
        outputs: Numbers per point returned.
        layers: Fourier layers.
        modes: Frequencies kept along each axis.
        dims: Axes of the grid.
        dropout: Share of features dropped in front of each transform, while training.

    Source:
        Cao, arXiv:2105.14995, section 4 and its code.
    """

    def __init__(
        self,
        inputs: int,
        width: int,
        outputs: int,
        *,
        layers: int,
        modes: int,
        dims: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.reduction = nn.Linear(inputs + dims, width)
        self.layers = nn.ModuleList(
            FourierLayer(width, width, modes, dims, dropout) for _ in range(layers)
        )
        hidden = 2 * dims * width
        self.projection = nn.Sequential(
            nn.Linear(width, hidden), nn.SiLU(), nn.Linear(hidden, outputs)
        )

    def forward(
        self,
        x: Float[Tensor, "batch point input"],
        coordinates: Float[Tensor, "batch point axis"],
        shape: tuple[int, ...],
    ) -> Float[Tensor, "batch point output"]:
        """Return numbers per point of a grid of that shape, in row-major order."""
        x = self.reduction(torch.cat([x, coordinates], dim=-1)).unflatten(1, shape)
        for layer in self.layers:
            x = layer(x)
        return self.projection(x.flatten(1, len(shape)))
