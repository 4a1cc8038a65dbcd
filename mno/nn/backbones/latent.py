"""The latent backbone: mixers on a few tokens, local networks on the many points."""

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from scipy.interpolate import make_interp_spline
from torch import Tensor, nn

from mno.core.batch import Batch
from mno.core.grid import Grid
from mno.core.points import Points
from mno.nn.along_time import OperatorInTime, Stream
from mno.nn.backbones.plain import Block
from mno.nn.backbones.unet import CONVOLUTIONS
from mno.nn.config import ModelConfig
from mno.nn.operator import Images, Mixers, Signature, coordinates, perceptron

REACH = 2.0
"""Half the side of the box of cells around points, in standard deviations of their coordinates."""
Inputs = Float[Tensor, "batch point input"]
Local = Float[Tensor, "batch point local"]
Latent = Float[Tensor, "batch token width"]
FRESH = 0.1
"""By what the layers are weakened, in fresh weights, that add to what passes them by."""
WRAP = 8  # cells of a periodic axis that are seen beyond its ends by a spline


class LatentOperator(OperatorInTime):
    """Points to local features, to a few latent tokens, through mixers, and back to the points.

    With the inputs x at the points, local features q and tokens z:

        q = local(x),   z = down(q) + position(centre of the token) + overall(mean of q, scalars)
        z <- block_i(z)                                 for each layer
        v = q + up(norm(z)),   output = projection(v + refine(v))

    `position` and `overall` are perceptrons; `overall` makes one token of the whole sample, which
    is added to all. How points become tokens and tokens points, `local` and `refine`, are those of
    `Patches` on grids, and of `Cells`, where the configuration has `cells`, at scattered points.

    Source:
        Patches as tokens are those of Dosovitskiy et al., arXiv:2010.11929; scans on the latent
        tokens of an operator as in Tiwari et al., "Latent Mamba Operator", arXiv:2505.19105.
    """

    def __init__(self, config: ModelConfig, mixers: Mixers, signature: Signature) -> None:
        super().__init__(config, mixers, signature)
        width, local = config.width, config.local_width
        lattice = Cells if config.cells else Patches
        self.lattice = lattice(config, self.num_point_inputs, self.dims)
        self.position = perceptron(self.lattice.num_places, width, width)
        self.overall = perceptron(local + len(self.scalars), width, width)
        self.blocks = nn.ModuleList(
            Block(width, config.feed_forward, mixers.self_mixer(i), config.dropout)
            for i in range(config.layers)
        )
        self.norm = nn.LayerNorm(width)
        self.projection = nn.Linear(local, self.num_outputs)
        blocks: Any = self.blocks
        in_time: Any = self.time_blocks
        outward = [self.lattice.up]
        outward += [layer for b in blocks for layer in (b.mixer.out_proj, b.feed_forward[-1])]
        outward += [b.mixer.out_proj for b in in_time]
        with torch.no_grad():
            for layer in outward:
                layer.weight.mul_(FRESH)

    def _predict(self, batch: Batch, stream: Stream | None) -> Batch:
        tokens = self.lattice.tokens(self._inputs(batch), batch.place)
        whole = torch.cat([tokens.mean, self._scalars(batch)], dim=-1)
        x = tokens.features + self.position(tokens.places) + self.overall(whole)[:, None]
        x = self._in_turn(x, self._mixing_domain(tokens.grid), stream)
        points = self.lattice.points(self.norm(x), tokens)
        return self._answer(self.projection(points), batch.place)


class Tokens(NamedTuple):
    """What the points of a batch have become."""

    features: Latent
    places: Float[Tensor, "1 token place"]
    """Their centres, by whatever numbers tell them."""
    grid: Grid
    """Their own, on which a token of training is a cell of length one."""
    mean: Float[Tensor, "batch local"]
    """Of the local features."""
    local: Tensor
    """Local features, on the lattice of the cells of training or at scattered points."""
    shape: tuple[int, ...] = ()
    """Of the grid of the points."""
    shares: Float[Tensor, "sample point token"] | None = None
    """How much of a scattered point a token has."""


class Patches(nn.Module):
    """Tokens of `patch` cells of training along each axis, so that a token has a physical size.

    `local` is a convolution over 3 cells along each axis, `refine` are two, each followed by GELU;
    where the domain is periodic, so are they. `down` and `up` are linear in a patch's features.

    On a grid of another spacing, fields are averaged over the cells of training, or interpolated at
    their centres by cubic splines along each axis, and what comes of them likewise back: one set of
    weights serves every grid. An axis that `patch` does not divide is treated as if it had as many
    cells as the nearest multiple.
    """

    def __init__(self, config: ModelConfig, inputs: int, dims: int) -> None:
        super().__init__()
        if not config.patch:
            raise ValueError(
                "patch=0 leaves the patch to the grid of a dataset, and there is none; give the "
                "number of its cells along an axis, for example 4"
            )
        self.patch, self.dims, self.periodic = config.patch, dims, config.walls == "periodic"
        self.num_places = dims * (1 + self.periodic)
        local, pieces = config.local_width, config.local_width * config.patch**dims
        mode = "circular" if self.periodic else "zeros"

        def convolution(before: int) -> nn.Module:
            return CONVOLUTIONS[dims](before, local, 3, padding=1, padding_mode=mode)

        self.local = nn.Sequential(convolution(inputs), nn.GELU())
        self.down, self.up = nn.Linear(pieces, config.width), nn.Linear(config.width, pieces)
        self.refine = nn.Sequential(convolution(local), nn.GELU(), convolution(local), nn.GELU())

    def tokens(self, x: Inputs, place: Grid | Points) -> Tokens:
        """Return the tokens of inputs at the points of a grid.

        Raises:
            ValueError: The points are scattered, or the grid's cells are unequal.
        """
        if isinstance(place, Points):
            raise ValueError(
                "backbone='latent' was given scattered points, but cells=0: tokens of points are "
                "the cells of a coarse grid; give their number along an axis, for example 8"
            )
        grid, centres = _lattice(place, self.patch, self.periodic)
        counts = grid.shape
        image = x.transpose(1, 2).unflatten(2, place.shape)
        local = self.local(self._resample(image, [n * self.patch for n in counts]))
        halves = [part for n in counts for part in (n, self.patch)]
        apart = (0, *range(2, 2 + 2 * self.dims, 2), 1, *range(3, 3 + 2 * self.dims, 2))
        pieces = local.reshape(*local.shape[:2], *halves).permute(apart)
        features = self.down(pieces.flatten(1 + self.dims).flatten(1, self.dims))
        places = torch.from_numpy(centres)[None].to(x)
        return Tokens(features, places, grid, local.flatten(2).mean(2), local, place.shape)

    def points(self, z: Latent, tokens: Tokens) -> Local:
        """Return local features at the points of the grid that the tokens were made of."""
        pieces = self.up(z).unflatten(2, (-1, *(self.patch,) * self.dims))
        pieces = pieces.unflatten(1, tokens.grid.shape)
        halves = zip(range(1, 1 + self.dims), range(2 + self.dims, 2 + 2 * self.dims), strict=True)
        together = (0, 1 + self.dims, *chain.from_iterable(halves))
        v = tokens.local + pieces.permute(together).reshape(tokens.local.shape)
        return self._resample(v + self.refine(v), tokens.shape).flatten(2).transpose(1, 2)

    def _resample(self, image: Images, shape: Sequence[int]) -> Tensor:
        for axis, n in enumerate(shape, 2):
            if image.shape[axis] != n:
                weights = torch.from_numpy(_resampling(image.shape[axis], n, self.periodic))
                image = (image.movedim(axis, -1) @ weights.T.to(image)).movedim(-1, axis)
        return image


class Cells(nn.Module):
    """Tokens of the `cells` cells along each axis of a box around scattered points.

    A point belongs to the cells whose centres are nearest, in shares that fall linearly with the
    distance along each axis; a token is the mean of its points, zero where there is none. The box
    reaches to two standard deviations of normalised coordinates, and points beyond belong to the
    outermost cells: so a sample's answer depends on it alone. `local` and `refine` are perceptrons.
    """

    def __init__(self, config: ModelConfig, inputs: int, dims: int) -> None:
        super().__init__()
        self.cells, self.dims, self.num_places = config.cells, dims, dims
        width, local = config.width, config.local_width
        self.local = perceptron(inputs, 2 * local, local)
        self.down, self.up = nn.Linear(local, width), nn.Linear(width, local)
        self.refine = perceptron(local, 2 * local, local)

    def tokens(self, x: Inputs, place: Grid | Points) -> Tokens:
        """Return the tokens of inputs at scattered points.

        Raises:
            ValueError: The points are those of a grid.
        """
        if isinstance(place, Grid):
            raise ValueError(
                f"backbone='latent' with cells={self.cells} was given a grid, but cells are those "
                "around scattered points; leave cells at 0 and choose patch"
            )
        local, n = self.local(x), self.cells
        at = (coordinates(place, x) / REACH + 1) / 2 * n - 0.5  # 0 to n - 1 at the centres
        numbers = torch.arange(n).to(x)
        near = (1 - (at.clamp(0, n - 1)[..., None] - numbers).abs()).clamp(min=0)
        shares = near[:, :, 0]
        for axis in range(1, self.dims):
            shares = (shares[..., None] * near[:, :, axis, None]).flatten(2)
        # Small shares count for the mean like large ones, but not as much as rounding.
        means = shares / shares.sum(1, keepdim=True).clamp(min=1e-6)
        centres = [((numbers + 0.5) / n * 2 - 1) * REACH] * self.dims
        places = torch.stack(torch.meshgrid(*centres, indexing="ij"), dim=-1).flatten(0, -2)[None]
        grid = Grid((n,) * self.dims, (1.0,) * self.dims)
        features = self.down(means.transpose(1, 2) @ local)
        return Tokens(features, places, grid, local.mean(1), local, shares=shares)

    def points(self, z: Latent, tokens: Tokens) -> Local:
        """Return local features at the points that the tokens were made of."""
        assert tokens.shares is not None
        v = tokens.local + tokens.shares @ self.up(z)
        return v + self.refine(v)


@lru_cache(maxsize=32)
def _lattice(grid: Grid, patch: int, periodic: bool) -> tuple[Grid, np.ndarray]:
    """Return the grid of the tokens of a grid, and by what numbers their centres are told."""
    counts, sizes, centres = [], [], []
    for axis, (n, h) in enumerate(zip(grid.shape, grid.spacing, strict=True)):
        if isinstance(h, tuple):
            raise ValueError(
                "backbone='latent' takes fields to other cells, which needs a grid with equal ones "
                "along each axis; interpolate to such a grid, or use plain, gnot, oformer or "
                "transolver"
            )
        tokens = n * h / grid.reference_spacing[axis] / patch
        counts.append(max(round(tokens), 1))
        sizes.append(tokens / counts[-1])
        centres.append(_resampling(n, counts[-1], False) @ grid.centres(axis))
    places = np.stack(np.meshgrid(*centres, indexing="ij"), axis=-1).reshape(-1, len(counts))
    if periodic:
        angles = 2 * math.pi * places
        places = np.concatenate([np.cos(angles), np.sin(angles)], axis=-1)
    return Grid(tuple(counts), tuple(sizes), (1.0,) * len(counts)), places


@lru_cache(maxsize=64)
def _resampling(n: int, m: int, periodic: bool) -> np.ndarray:
    """Return the matrix from the means of n cells along an axis to those of m.

    They are the differences of a cubic spline through the integrals up to the cells' ends, so that
    sums are kept, and to finer cells and back again is the identity.
    """
    beyond = WRAP if periodic else 0
    edges = np.arange(-beyond, n + beyond + 1)
    integrals = (edges[:, None] > np.arange(-beyond, n + beyond)).astype(float)
    to = make_interp_spline(edges / n, integrals, k=min(3, len(edges) - 1))(np.arange(m + 1) / m)
    means = np.diff(to, axis=0) * m / n
    folded = np.zeros((m, n))
    np.add.at(folded.T, np.arange(-beyond, n + beyond) % n, means.T)
    return folded
