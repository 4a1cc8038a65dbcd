"""What the attention mixers share: their two forms, their heads, and integrals over the points.

Every sum over points is a quadrature: a point counts by its cell's share of the volume. So a mixer
sees the same function on a refined grid, and on one whose cells differ in size.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mno.core.grid import Grid
from mno.scan.paths import Domain, check_num_points

Quadrature = Float[Tensor, " source"] | None
"""Each source point's weight in an integral, its cell's fraction of the volume; `None` if equal."""


class SelfMixer(nn.Module):
    """What is common to the attention mixers; a subclass says how points are mixed.

    Args:
        d_model: Features per point.
        heads: Parts into which the features are divided; each attends by itself.

    Raises:
        ValueError: A size is not positive, or `heads` does not divide `d_model`.
    """

    def __init__(self, d_model: int, heads: int) -> None:
        super().__init__()
        check_sizes(d_model=d_model, heads=heads)
        if d_model % heads:
            raise ValueError(
                f"heads={heads} does not divide d_model={d_model}; choose a multiple of {heads}, "
                f"for example d_model={heads * (d_model // heads + 1)}"
            )
        self.d_model = d_model
        self.heads = heads

    def forward(self, x: Tensor, domain: Domain) -> Tensor:
        """Mix points.

        Args:
            x: Features, `(batch, points, d_model)`; points of a grid in row-major order.
            domain: The grid, whose cells weigh the points by their size; or, for points that count
                equally, a grid's bare shape, `Points` or `None`.

        Returns:
            Features of the same shape.

        Raises:
            ValueError: The input or the domain does not fit the mixer or each other.
        """
        self._check("input", x)
        return self._mix(x, x, _quadrature("input", x, domain))

    def _mix(self, x: Tensor, source: Tensor, quadrature: Quadrature) -> Tensor:
        raise NotImplementedError

    def _check(self, name: str, x: Tensor) -> None:
        if x.ndim != 3 or x.shape[-1] != self.d_model or not x.shape[1]:
            raise ValueError(
                f"{name} has shape {tuple(x.shape)}; expected (batch, points, "
                f"d_model={self.d_model}) with at least one point"
            )

    def _split(self, x: Float[Tensor, "batch point feature"]) -> Tensor:
        """Divide features among the heads: `(batch, head, point, feature of the head)`."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class CrossMixer(SelfMixer):
    """The cross form of a mixer: points take up what a second input holds at its own points."""

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, x: Tensor, source: Tensor, domain: Domain, source_domain: Domain = None
    ) -> Tensor:
        """Mix a second input into points.

        Args:
            x: Features, `(batch, points, d_model)`; points of a grid in row-major order.
            source: Features of the second input, `(batch, source points, d_model)`, at any number
                of points.
            domain: The domain of `x`; only its number of points matters.
            source_domain: The domain of the source. A grid's cells weigh the points by their size;
                with a grid's bare shape, `Points` or `None` they count equally.

        Returns:
            Features of the shape of `x`.

        Raises:
            ValueError: An input or a domain does not fit the mixer or each other.
        """
        self._check("input", x)
        self._check("source", source)
        if len(source) != len(x):
            raise ValueError(
                f"source has a batch of {len(source)}, but the input one of {len(x)}; give each "
                "sample its own source"
            )
        _quadrature("input", x, domain)
        return self._mix(x, source, _quadrature("source", source, source_domain))


class HeadNorm(nn.Module):
    """Layer norm over each head's features, with scales and offsets of its own for each head."""

    def __init__(self, d_model: int, heads: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(heads, 1, d_model // heads))
        self.bias = nn.Parameter(torch.zeros(heads, 1, d_model // heads))

    def forward(
        self, x: Float[Tensor, "batch head point feature"]
    ) -> Float[Tensor, "batch head point feature"]:
        """Normalise features that are divided among heads."""
        return F.layer_norm(x, x.shape[-1:]) * self.weight + self.bias


def check_sizes(**sizes: int) -> None:
    """Raise a `ValueError` that names the first size below one."""
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name}={size} must be at least 1")


def merge(x: Float[Tensor, "batch head point feature"]) -> Float[Tensor, "batch point all"]:
    """Put the heads' features side by side again."""
    return x.transpose(1, 2).flatten(-2)


def weigh(
    x: Float[Tensor, "batch head source feature"], quadrature: Quadrature
) -> Float[Tensor, "batch head source feature"]:
    """Multiply by the shares of the volume, so that a sum over points becomes an integral."""
    return x / x.shape[-2] if quadrature is None else x * quadrature[:, None]


def dominant_projection(d_model: int) -> nn.Linear:
    """Return a linear layer that starts as 0.01 (identity + a Xavier-uniform matrix), no offset.

    Source:
        Cao, arXiv:2105.14995: the diagonally dominant rescaled initialisation, with both factors
        as in the published code.
    """
    layer = nn.Linear(d_model, d_model)
    nn.init.xavier_uniform_(layer.weight, gain=1e-2)
    nn.init.zeros_(layer.bias)
    with torch.no_grad():
        layer.weight.diagonal().add_(1e-2)
    return layer


def _quadrature(name: str, x: Tensor, domain: Domain) -> Quadrature:
    check_num_points(domain, x.shape[1], name)
    if not isinstance(domain, Grid) or not any(isinstance(h, tuple) for h in domain.spacing):
        return None
    quadrature = torch.ones(1, dtype=torch.float64)
    for n, share in zip(domain.shape, domain.volumes(), strict=True):
        along = torch.tensor(share, dtype=torch.float64).expand(n)
        quadrature = (quadrature[:, None] * along).flatten()
    return quadrature.to(x)


class SoftmaxMixer(SelfMixer):
    """Mix points by softmax attention, quadratic in their number.

    With queries q, keys k and values v linear in the features, and cells of volume w, each head of
    d features returns

        y_i = sum_j w_j exp(q_i . k_j / sqrt(d)) v_j / sum_j w_j exp(q_i . k_j / sqrt(d)),

    the usual attention where all cells are equal; `out_proj` follows.

    Args:
        d_model: Features per point.
        heads: Parts into which the features are divided; each attends by itself.

    Raises:
        ValueError: A size is not positive, or `heads` does not divide `d_model`.

    Source:
        Vaswani et al., arXiv:1706.03762, section 3.2; as a quadrature, Kovachki et al.,
        arXiv:2108.08481, section 5.2.
    """

    def __init__(self, d_model: int, *, heads: int = 4) -> None:
        super().__init__(d_model, heads)
        # Without offsets: that of the keys would cancel in the softmax.
        self.q_proj = nn.Linear(d_model, d_model, bias=False)
        self.k_proj = nn.Linear(d_model, d_model, bias=False)
        self.v_proj = nn.Linear(d_model, d_model, bias=False)
        self.out_proj = nn.Linear(d_model, d_model)

    def _mix(self, x: Tensor, source: Tensor, quadrature: Quadrature) -> Tensor:
        y = F.scaled_dot_product_attention(
            self._split(self.q_proj(x)),
            self._split(self.k_proj(source)),
            self._split(self.v_proj(source)),
            attn_mask=None if quadrature is None else quadrature.log().expand(1, 1, 1, -1),
        )
        return self.out_proj(merge(y))


class SoftmaxCrossMixer(CrossMixer, SoftmaxMixer):
    """Mix a second input into points by softmax attention: keys and values are the source's.

    Arguments, equation and source are those of `SoftmaxMixer`.
    """
