"""The attention mixers: what they share, their two forms, and the five ways in which they mix.

Every sum over points is a quadrature: a point counts by its cell's share w of the volume. So a
mixer sees the same function on a refined grid, and on one whose cells differ in size. With n equal
cells w = 1/n. Queries q, keys k and values v are linear in the features, divided among `heads`
(parts that each attend by themselves); `out_proj` follows. In the cross forms, keys and values are
made of the second input.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mno.core.grid import Grid
from mno.core.points import Points
from mno.nn.mixers import check_sizes
from mno.scan.paths import Domain, check_num_points

Quadrature = Float[Tensor, " source"] | None
"""Each source point's weight in an integral, its cell's fraction of the volume; `None` if equal."""
OfHeads = Float[Tensor, "batch head point part"]

TEMPERATURES = (0.1, 5.0)  # to which a head of `PhysicsMixer` is clamped, as in the published code
EMPTY = 1e-12  # added to the volume of a slice: without points its token is zero, not 0/0


class SelfMixer(nn.Module):
    """What is common to the attention mixers; a subclass says in `_mix` how points are mixed.

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
        self.d_model, self.heads = d_model, heads

    def forward(self, x: Tensor, domain: Domain) -> Tensor:
        """Mix features `(batch, points, d_model)`, points of a grid in row-major order.

        A grid's cells weigh the points by their size; with its bare shape, `Points` or `None` for a
        domain they count equally. Of `Points` with `sources` these alone are mixed into all.

        Raises:
            ValueError: The input or the domain does not fit the mixer or each other.
        """
        self._check("input", x)
        source = x[:, : domain.sources] if isinstance(domain, Points) else x
        return self._mix(x, source, _quadrature("input", x, domain))

    def _mix(self, x: Tensor, source: Tensor, quadrature: Quadrature) -> Tensor:
        raise NotImplementedError

    def _check(self, name: str, x: Tensor) -> None:
        if x.ndim != 3 or x.shape[-1] != self.d_model or not x.shape[1]:
            raise ValueError(
                f"{name} has shape {tuple(x.shape)}; expected (batch, points, "
                f"d_model={self.d_model}) with at least one point"
            )

    def _split(self, x: Float[Tensor, "batch point feature"]) -> OfHeads:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class CrossMixer(SelfMixer):
    """The cross form of a mixer: points take up what a second input holds at its own points."""

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, x: Tensor, source: Tensor, domain: Domain, source_domain: Domain = None
    ) -> Tensor:
        """Mix a source `(batch, source points, d_model)` into features `(batch, points, d_model)`.

        The source may have any number of points; its domain weighs them as in `SelfMixer.forward`.
        Of the domain of `x` only the number of points matters.

        Raises:
            ValueError: An input or a domain does not fit the mixer or each other.
        """
        self._check("input", x)
        self._check("source", source)
        if source.shape[0] != x.shape[0]:
            raise ValueError(
                f"source has a batch of {len(source)}, but the input one of {len(x)}; give each "
                "sample its own source"
            )
        check_num_points(domain, x.shape[1], "input")
        return self._mix(x, source, _quadrature("source", source, source_domain))


class HeadNorm(nn.Module):
    """Layer norm over each head's features, with scales and offsets of its own for each head."""

    def __init__(self, d_model: int, heads: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(heads, 1, d_model // heads))
        self.bias = nn.Parameter(torch.zeros(heads, 1, d_model // heads))

    def forward(self, x: OfHeads) -> OfHeads:
        """Normalise features that are divided among heads."""
        return F.layer_norm(x, x.shape[-1:]) * self.weight + self.bias


def merge(x: OfHeads) -> Float[Tensor, "batch point all"]:
    """Put the heads' features side by side again."""
    return x.transpose(1, 2).flatten(-2)


def weigh(x: OfHeads, quadrature: Quadrature) -> OfHeads:
    """Multiply by the shares of the volume, so that a sum over points becomes an integral."""
    return x / x.shape[-2] if quadrature is None else x * quadrature[:, None]


def _quadrature(name: str, x: Tensor, domain: Domain) -> Quadrature:
    check_num_points(domain, x.shape[1], name)
    if not isinstance(domain, Grid) or not any(isinstance(h, tuple) for h in domain.spacing):
        return None
    quadrature = torch.ones(1, dtype=torch.float64)
    for n, share in zip(domain.shape, domain.volumes(), strict=True):
        along = torch.tensor(share, dtype=torch.float64).expand(n)
        quadrature = (quadrature[:, None] * along).flatten()
    return quadrature.to(x)


class ProjectedMixer(SelfMixer):
    """What the mixers have in common that mix queries, keys and values of all features.

    Those that are `normed` are normalised in each head; `biased` are their projections.
    """

    biased = True
    normed: tuple[str, ...] = ()

    def __init__(self, d_model: int, *, heads: int = 4) -> None:
        super().__init__(d_model, heads)
        self.q_proj, self.k_proj, self.v_proj = (self._projection() for _ in "qkv")
        for name in self.normed:
            self.add_module(f"{name}_norm", HeadNorm(d_model, heads))
        self.out_proj = nn.Linear(d_model, d_model)

    def _projection(self) -> nn.Linear:
        return nn.Linear(self.d_model, self.d_model, bias=self.biased)

    def _parts(self, x: Tensor, source: Tensor) -> list[OfHeads]:
        parts = {"q": self.q_proj(x), "k": self.k_proj(source), "v": self.v_proj(source)}
        parts = {name: self._split(part) for name, part in parts.items()}
        for name in self.normed:
            parts[name] = getattr(self, f"{name}_norm")(parts[name])
        return list(parts.values())


class SoftmaxMixer(ProjectedMixer):
    """Mix points by softmax attention, quadratic in their number.

    With heads of d features each returns

        y_i = sum_j w_j exp(q_i . k_j / sqrt(d)) v_j / sum_j w_j exp(q_i . k_j / sqrt(d)),

    the usual attention where all cells are equal.

    Source:
        Vaswani et al., arXiv:1706.03762, section 3.2; as a quadrature, Kovachki et al.,
        arXiv:2108.08481, section 5.2.
    """

    biased = False  # that of the keys would cancel in the softmax

    def _mix(self, x: Tensor, source: Tensor, quadrature: Quadrature) -> Tensor:
        mask = None if quadrature is None else quadrature.log().expand(1, 1, 1, -1)
        y = F.scaled_dot_product_attention(*self._parts(x, source), attn_mask=mask)
        return self.out_proj(merge(y))


class SoftmaxCrossMixer(CrossMixer, SoftmaxMixer):
    """The cross form of `SoftmaxMixer`."""


class LinearMixer(ProjectedMixer):
    """Mix points by normalised linear attention, linear in their number.

    With queries and keys passed through a softmax over the features of a head, so that both are
    positive and sum to one, each head returns

        y_i = q_i + sum_j w_j (q_i . k_j) v_j / sum_j w_j (q_i . k_j),

    where the sums over j are taken first, once for all i.

    Source:
        Hao et al., "GNOT", arXiv:2302.14376, for one input function; the weights w are ours.
    """

    def _mix(self, x: Tensor, source: Tensor, quadrature: Quadrature) -> Tensor:
        q, k, v = self._parts(x, source)
        q, k = q.softmax(-1), weigh(k.softmax(-1), quadrature)
        total = q @ k.sum(-2).unsqueeze(-1)
        return self.out_proj(merge(q + q @ (k.mT @ v) / total))


class LinearCrossMixer(CrossMixer, LinearMixer):
    """The cross form of `LinearMixer`."""


class GalerkinMixer(ProjectedMixer):
    """Mix points by y_i = q_i (sum_j w_j k_j^T v_j), linear in their number: Galerkin attention.

    k and v are normalised in each head. It is an expansion in the basis functions q whose
    coefficients are inner products of k and v. Coordinates are not appended: they belong to the
    input. Projections start as 0.01 (identity + a Xavier-uniform matrix), without offset: the
    diagonally dominant rescaled initialisation, with both factors as in the published code.

    Source:
        Cao, "Choose a Transformer: Fourier or Galerkin", arXiv:2105.14995, section 3.
    """

    normed = ("k", "v")

    def _projection(self) -> nn.Linear:
        layer = super()._projection()
        nn.init.xavier_uniform_(layer.weight, gain=1e-2)
        nn.init.zeros_(layer.bias)
        with torch.no_grad():
            layer.weight.diagonal().add_(1e-2)
        return layer

    def _mix(self, x: Tensor, source: Tensor, quadrature: Quadrature) -> Tensor:
        q, k, v = self._parts(x, source)
        return self.out_proj(merge(q @ (k.mT @ weigh(v, quadrature))))


class GalerkinCrossMixer(CrossMixer, GalerkinMixer):
    """The cross form of `GalerkinMixer`."""


class FourierMixer(GalerkinMixer):
    """Mix points by Fourier attention, y_i = sum_j w_j (q_i . k_j) v_j, q and k normalised by head.

    Without a softmax the sum over j may be taken first, as in `GalerkinMixer`, so that the cost is
    linear in the number of points.

    Source:
        Cao, arXiv:2105.14995, section 3; its code also divides by the root of the features per
        head, which the learned scales of q and k take up.
    """

    normed = ("q", "k")


class FourierCrossMixer(CrossMixer, FourierMixer):
    """The cross form of `FourierMixer`."""


class PhysicsMixer(SelfMixer):
    """Mix points by attention among slices: soft groups of points in a like physical state.

    Each head assigns every point to M `slices`, and with cells of volume w

        s_im = softmax over m of (slice_proj(assign_proj(x_i)) / temperature)_m
        t_m  = sum_i w_i s_im value_proj(x_i) / sum_i w_i s_im
        y_i  = sum_m s_im u_m,    u = softmax attention among the tokens t.

    The cost is linear in the number of points. This is the form for irregular meshes, with
    projections point by point, which serves grids as well.

    Source:
        Wu et al., "Transolver", arXiv:2402.02366, section 3; the weights w are ours.
    """

    def __init__(self, d_model: int, *, heads: int = 4, slices: int = 32) -> None:
        super().__init__(d_model, heads)
        check_sizes(slices=slices)
        d_head = d_model // heads
        self.assign_proj = nn.Linear(d_model, d_model)
        self.value_proj = nn.Linear(d_model, d_model)
        self.slice_proj = nn.Linear(d_head, slices)
        nn.init.orthogonal_(self.slice_proj.weight)
        self.temperature = nn.Parameter(torch.full((heads, 1, 1), 0.5))
        self.q_proj, self.k_proj, self.v_proj = (
            nn.Linear(d_head, d_head, bias=False) for _ in "qkv"
        )
        self.out_proj = nn.Linear(d_model, d_model)

    def _mix(self, x: Tensor, source: Tensor, quadrature: Quadrature) -> Tensor:
        slices = self._slices(self.assign_proj(x))
        of_source = slices[..., : source.shape[1], :]  # which are the first of the points
        return self._read(slices, self._tokens(source, of_source, quadrature))

    def _slices(self, assigned: Tensor) -> Tensor:
        logits = self.slice_proj(self._split(assigned))
        return (logits / self.temperature.clamp(*TEMPERATURES)).softmax(-1)

    def _tokens(self, source: Tensor, slices: Tensor, quadrature: Quadrature) -> Tensor:
        weights = weigh(slices, quadrature)
        volumes = weights.sum(-2).unsqueeze(-1) + EMPTY
        return weights.mT @ self._split(self.value_proj(source)) / volumes

    def _read(self, slices: Tensor, tokens: Tensor) -> Tensor:
        q, k, v = self.q_proj(tokens), self.k_proj(tokens), self.v_proj(tokens)
        return self.out_proj(merge(slices @ F.scaled_dot_product_attention(q, k, v)))


class PhysicsCrossMixer(CrossMixer, PhysicsMixer):
    """The cross form of `PhysicsMixer`: slices are filled by the source and read by the points.

    The source is assigned to slices by its own `source_proj`, in place of `assign_proj`.
    """

    def __init__(self, d_model: int, *, heads: int = 4, slices: int = 32) -> None:
        super().__init__(d_model, heads=heads, slices=slices)
        self.source_proj = nn.Linear(d_model, d_model)

    def _mix(self, x: Tensor, source: Tensor, quadrature: Quadrature) -> Tensor:
        tokens = self._tokens(source, self._slices(self.source_proj(source)), quadrature)
        return self._read(self._slices(self.assign_proj(x)), tokens)
