"""The Galerkin Transformer: an encoder without norms between layers, and a spectral regressor."""

from itertools import product

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mno.core.batch import Batch
from mno.core.grid import Grid
from mno.core.points import Points
from mno.nn.config import ModelConfig
from mno.nn.operator import Features, Mixers, Operator, Places, Signature
from mno.scan.paths import Domain

HALF = (torch.float16, torch.bfloat16)
"""Types that Fourier transforms do not take everywhere; they are computed in float32."""


class FourierLayer(nn.Module):
    """silu(linear(x) + inverse transform of weights times the lowest modes of x).

    Frequencies along each axis are 0 to `modes - 1` and, on all axes but the last, their negatives
    -`modes` to -1. The weights of a mode are those of its frequency on any grid; a grid too coarse
    for some of them leaves those out. Dropout is of what the transform sees.

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
        if not x.shape[0]:  # which Fourier transforms do not take
            return x.new_zeros(*x.shape[:-1], self.linear.out_features)
        axes = tuple(range(1, x.ndim - 1))
        x = x.float() if x.dtype in HALF else x
        if torch.compiler.is_compiling():
            return self._of_reals(x, axes)
        spectrum = torch.fft.rfftn(x, dim=axes, norm="ortho")
        weights = torch.view_as_complex(self.weight.to(x.dtype))
        out = spectrum.new_zeros(*spectrum.shape[:-1], weights.shape[2])
        for corner, weight in zip(product(*self._sides(shape)), weights, strict=True):
            here = (slice(None), *(of_grid for of_grid, _ in corner))
            there = (slice(None), slice(None), *(of_weight for _, of_weight in corner))
            out[here] = torch.einsum("b...i,io...->b...o", spectrum[here], weight[there])
        return torch.fft.irfftn(out, s=tuple(shape), dim=axes, norm="ortho")

    def _of_reals(self, x: Tensor, axes: tuple[int, ...]) -> Tensor:
        """Do the same without products of complex numbers, which other programs do not know."""
        shape, parts = x.shape[1:-1], list[Tensor]()
        spectrum = torch.view_as_real(torch.fft.rfftn(x, dim=axes, norm="ortho"))
        real, imaginary = self.weight.to(x.dtype).unbind(-1)
        rows = torch.stack([real, imaginary], -1), torch.stack([-imaginary, real], -1)
        corners = zip(product(*self._sides(shape)), torch.stack(rows, -2), strict=True)
        for corner, weight in corners:
            here, there = ((slice(None), *slices) for slices in zip(*corner, strict=True))
            part = torch.einsum("b...ir,io...rs->b...os", spectrum[here], weight[:, *there])
            sizes = zip(here[1:], spectrum.shape[1:-2], strict=True)
            ends = [(*of.indices(n)[:2], n) for of, n in sizes]
            beside = [pad for a, b, n in reversed(ends) for pad in (a, n - b)]
            parts.append(F.pad(part, (0, 0, 0, 0, *beside)))
        whole = torch.view_as_complex(sum(parts[1:], parts[0]))
        return torch.fft.irfftn(whole, s=tuple(shape), dim=axes, norm="ortho")

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

    Source:
        Cao, arXiv:2105.14995, section 4 and its code.
    """

    def __init__(self, config: ModelConfig, outputs: int, dims: int) -> None:
        super().__init__()
        width = config.spectral_width
        self.reduction = nn.Linear(config.width + dims, width)
        self.layers = nn.ModuleList(
            FourierLayer(width, width, config.modes, dims, config.dropout)
            for _ in range(config.spectral_layers)
        )
        hidden = 2 * dims * width
        self.projection = nn.Sequential(
            nn.Linear(width, hidden), nn.SiLU(), nn.Linear(hidden, outputs)
        )

    def forward(
        self, x: Float[Tensor, "batch point input"], coordinates: Places, shape: tuple[int, ...]
    ) -> Float[Tensor, "batch point output"]:
        """Return numbers per point of a grid of that shape, in row-major order."""
        x = self.reduction(torch.cat([x, coordinates], dim=-1)).unflatten(1, shape)
        for layer in self.layers:
            x = layer(x)
        return self.projection(x.flatten(1, len(shape)))


class EncoderLayer(nn.Module):
    """One layer: x <- x + mixer(x), then x <- x + second(relu(first(x))).

    Nothing is normalised but what the mixer normalises, so that the scale of the input is kept.
    """

    def __init__(self, width: int, hidden: int, mixer: nn.Module, dropout: float) -> None:
        super().__init__()
        self.mixer = mixer
        self.feed_forward = nn.Sequential(
            nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, width)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Features, domain: Domain) -> Features:
        """Apply the layer to features of shape `(batch, points, width)`."""
        x = x + self.dropout(self.mixer(x, domain))
        return x + self.dropout(self.feed_forward(x))


class GalerkinOperator(Operator):
    """The Galerkin Transformer, with any mixer in the place of its attention.

    A linear layer of each point's inputs, coordinates and scalars; encoder layers; and a spectral
    regressor, whose Fourier transforms need a grid with equal cells along each axis. The paper's
    size, as Cheng et al. take it: width 256, 6 layers, 4 heads, `feed_forward` 1, `modes` 12,
    `spectral_layers` 2, `spectral_width` 32.

    It differs from the public code in that coordinates are not appended to the features of each
    head, which know them from the input; in that no convolutions reduce the grid in front of the
    encoder and restore it behind (Cheng et al. have none, either); in that dropout does not apply
    to the products of keys and values; and in that outputs vanish at the walls only where the
    configuration says so. Its pointwise regressor, for outputs that jump, is not built.

    Source:
        Cao, "Choose a Transformer: Fourier or Galerkin", arXiv:2105.14995, sections 3 and 4; code
        at github.com/scaomath/galerkin-transformer. Cheng et al., arXiv:2410.02113.
    """

    def __init__(self, config: ModelConfig, mixers: Mixers, signature: Signature) -> None:
        super().__init__(config, mixers, signature)
        width, hidden = config.width, config.feed_forward * config.width
        self.lifting = nn.Linear(self.num_point_inputs, width)
        self.blocks = nn.ModuleList(
            EncoderLayer(width, hidden, mixers.self_mixer(i), config.dropout)
            for i in range(config.layers)
        )
        self.regressor = SpectralRegressor(config, self.num_outputs, self.dims)

    def forward(self, batch: Batch) -> Batch:
        """Predict the output fields where the input fields are, on a grid with equal cells."""
        shape = _shape_of(batch.place)
        x, places = self.lifting(self._inputs(batch)), self._coordinates(batch)
        x = self._through_blocks(x, self._mixing_domain(batch.place))
        return self._answer(self.regressor(x, places, shape), batch.place)


def _shape_of(domain: Grid | Points) -> tuple[int, ...]:
    if isinstance(domain, Points) or any(isinstance(h, tuple) for h in domain.spacing):
        raise ValueError(
            "backbone='galerkin' ends in Fourier transforms, which need a grid with equal cells "
            "along each axis; interpolate to such a grid, or use plain, gnot, oformer or transolver"
        )
    return domain.shape
