"""What every operator has in common: from a batch to features of points, and back."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from mno.core.batch import Batch
from mno.core.grid import Grid
from mno.core.points import Points
from mno.nn.backbones import BACKBONES
from mno.nn.config import ModelConfig
from mno.nn.mixers import MIXERS, build_mixer
from mno.scan.paths import Domain

Features = Float[Tensor, "batch point width"]
Places = Float[Tensor, "batch point axis"]
Images = Float[Tensor, "batch _ *axis"]
"""With channels second, on a grid."""

AHEAD = "interval ahead"
"""Scalar of operators along time: the logarithm of the time to the frame that is predicted."""
WALL_LAYER = 0.5
"""Length of the layer at a known wall, in cells of training: where their outermost points are."""


class Mixers:
    """Makes the mixers of an operator on places of `dims` axes, given the number of a layer."""

    def __init__(self, config: ModelConfig, dims: int) -> None:
        self.config = config
        self.dims = dims
        self.layer_of: dict[nn.Module, int] = {}
        """The mixers made so far, and the layer of each."""

    def self_mixer(self, layer: int, *, cross: bool = False) -> nn.Module:
        """Return the mixer of a layer, called as `mixer(x, domain)`."""
        name, options = self.choice(layer)
        mixer = build_mixer(name, self.config.width, cross=cross, **options)
        self.layer_of[mixer] = layer % self.config.layers
        return mixer

    def cross_mixer(self, layer: int) -> nn.Module:
        """Return the cross form, called as `mixer(x, source, domain, source_domain)`."""
        return self.self_mixer(layer, cross=True)

    def choice(self, layer: int) -> tuple[str, dict[str, Any]]:
        """Return the name of a layer's mixer, and its options.

        Raises:
            ValueError: The backbone has no mixers.
        """
        own = BACKBONES[self.config.backbone].own_mixers
        if not own:
            raise ValueError(f"backbone={self.config.backbone!r} has no mixers")
        name = self.config.mixer[layer % len(self.config.mixer)]
        name = own[layer % len(own)] if name == "own" else name
        options = {}
        for option in MIXERS[name].options:
            value = self.dims if option == "dims" else getattr(self.config, option)
            options[option] = value[layer % len(value)] if isinstance(value, list) else value
        return name, options


@dataclass(frozen=True)
class Signature:
    """What an operator is given and what it predicts.

    Inputs and outputs have their number of frames by name, `None` for a field without, in the order
    of the weights. Frames are features of a point; of outputs all are predicted at once. `gaps` are
    the inputs whose values may be missing, which are NaN.

    Where time is an axis, `along_time`, frames come one after the other, any number of them; an
    input that has any then says 1, as all outputs do, which are predicted for the frame behind, or
    `now`, for the frame itself.

    Raises:
        ValueError: No input or no output is named, there are not one to three axes, or `gaps` names
            what is not an input.
    """

    inputs: dict[str, int | None]
    outputs: dict[str, int | None]
    scalars: tuple[str, ...]
    dims: int
    gaps: frozenset[str] = frozenset()
    along_time: bool = False
    now: bool = False

    def __post_init__(self) -> None:
        if not self.inputs or not self.outputs:
            raise ValueError(
                f"inputs={tuple(self.inputs)}, outputs={tuple(self.outputs)}: name at least one "
                "field of each"
            )
        if not 1 <= self.dims <= 3:
            raise ValueError(f"dims={self.dims}; expected 1, 2 or 3 axes")
        if unknown := sorted(self.gaps - set(self.inputs)):
            raise ValueError(
                f"gaps={unknown}: values can be missing of {tuple(self.inputs)} only, the fields "
                "that the operator is given; name some of these"
            )
        given, predicted = set(self.inputs.values()), set(self.outputs.values())
        if self.along_time and (given - {None} != {1} or predicted != {1}):
            raise ValueError(
                f"inputs={self.inputs}, outputs={self.outputs} along time: frames come one by one; "
                "give 1 for each field that has any, one input at least and all outputs"
            )


class Operator(nn.Module):
    """An operator from fields to fields, on any domain that has as many axes.

    A subclass takes the same arguments and defines `forward(batch)` by way of `_inputs`, or its
    parts, `_mixing_domain` and `_answer`.

    A missing value, NaN, of an input that may have gaps is given to the network as 0, the mean of a
    normalised field, and beside the values of such an input stand as many numbers that are 1 where
    a value is present and 0 where it is missing. So what the network answers does not depend on
    what could be thought to stand there, and no missing value is taken for a measured one.
    """

    blocks: nn.ModuleList
    _may_miss: Tensor
    _order: Tensor

    def __init__(self, config: ModelConfig, mixers: Mixers, signature: Signature) -> None:
        super().__init__()
        self.config, self.signature = config, signature
        self.inputs, self.outputs = signature.inputs, signature.outputs
        self.dims, self.gaps = signature.dims, signature.gaps
        ahead = signature.along_time and not signature.now
        self.scalars = (*signature.scalars, *((AHEAD,) if ahead else ()))
        self.over_time = tuple(name for name, frames in self.inputs.items() if frames)
        self._layer_of = mixers.layer_of  # filled as the subclass builds its layers
        # Numbers per point: of each input in `_features`, of all in `_inputs`, in `_answer`.
        self.input_sizes = [
            (frames or 1) * (1 + (name in self.gaps)) for name, frames in self.inputs.items()
        ]
        self.num_point_inputs = sum(self.input_sizes) + self.dims + len(self.scalars)
        self.num_outputs = sum(frames or 1 for frames in self.outputs.values())
        # Of the values of all inputs side by side, those that may be missing; and the order in
        # which they stand with, behind them, whether each of them is present.
        may_miss, order, start = [], [], 0
        total = sum(frames or 1 for frames in self.inputs.values())
        for name, frames in self.inputs.items():
            own = range(start, start := start + (frames or 1))
            may_miss += [name in self.gaps] * len(own)
            order += [*own, *((n + total for n in own) if name in self.gaps else ())]
        self.register_buffer("_may_miss", torch.tensor(may_miss), persistent=False)
        self.register_buffer("_order", torch.tensor(order), persistent=False)

    def mixers(self) -> Iterator[tuple[int, str]]:
        """Yield the layer of each mixer and its name as a module, in order of registration.

        A layer may have several, as GNOT's have: all that its backbone was given for that number.
        """
        for name, module in self.named_modules():
            if module in self._layer_of:
                yield self._layer_of[module], name

    def _inputs(self, batch: Batch) -> Float[Tensor, "batch point input"]:
        """Return at each point its input fields, its coordinates, and the scalars of its sample."""
        features, places = self._features(batch), self._coordinates(batch)
        scalars = self._scalars(batch)[:, None].expand(-1, features.shape[1], -1)
        return torch.cat([features, places, scalars], dim=-1)

    def _features(self, batch: Batch) -> Float[Tensor, "batch point input"]:
        """Return the input fields and their frames, side by side, and which values are present."""
        wanted = (("fields", self.inputs, batch.fields), ("scalars", self.scalars, batch.scalars))
        for kind, names, given in wanted:
            if missing := [name for name in names if name not in given]:
                raise ValueError(
                    f"of {kind} the batch holds {sorted(given)}; this operator also needs {missing}"
                )
        size, shape, found = batch.samples, batch.shape, []
        for name, frames in self.inputs.items():
            field = batch.fields[name]
            expected = (size, *([] if frames is None else [frames]), *shape)
            if tuple(field.shape) != expected:
                raise ValueError(
                    f"field {name} has shape {tuple(field.shape)}; this operator expects {expected}"
                )
            points = field.flatten(field.ndim - len(shape)) if len(shape) > 1 else field
            found.append(points[..., None] if frames is None else points.transpose(1, 2))
        values = torch.cat(found, dim=-1)
        if not self.gaps:
            return values
        missing = values.isnan() & self._may_miss
        present = (~missing).to(values)
        return torch.cat([values.masked_fill(missing, 0.0), present], dim=-1)[..., self._order]

    def _coordinates(self, batch: Batch) -> Places:
        """Return where the points are: relative to the domain on a grid, as given for points."""
        found = coordinates(batch.place, next(iter(batch.fields.values())))
        if found.shape[-1] != self.dims:
            raise ValueError(
                f"the batch has {found.shape[-1]} axes, but this operator was built for "
                f"{self.dims}; build it with dims={found.shape[-1]}"
            )
        return found.expand(batch.samples, -1, -1)

    def _scalars(self, batch: Batch) -> Float[Tensor, "batch scalar"]:
        like = next(iter(batch.fields.values()))
        if not self.scalars:
            return like.new_zeros(batch.samples, 0)
        return torch.stack([batch.scalars[name] for name in self.scalars], dim=-1).to(like.dtype)

    def _through_blocks(self, x: Tensor, domain: Domain) -> Features:
        """Return features after all `blocks`, each called as `block(x, domain)`."""
        for block in self.blocks:
            x = block(x, domain)
        return x

    def _on_image(self, network: Callable[[Images], Images], batch: Batch) -> Batch:
        """Answer by a network of images, `(batch, channels, *grid)`, given the points' inputs."""
        x, domain = self._inputs(batch), batch.place
        if isinstance(domain, Points):
            raise ValueError(
                f"backbone={self.config.backbone!r} takes grids only, and was given scattered "
                "points; interpolate them to a grid, or use a backbone with mixers, such as plain"
            )
        image = x.transpose(1, 2).unflatten(2, domain.shape)
        # Not every layer takes an empty batch: there, one sample is computed and left out.
        out = network(image) if x.shape[0] else network(image.new_zeros(1, *image.shape[1:]))[:0]
        return self._answer(out.flatten(2).transpose(1, 2), domain)

    def _mixing_domain(self, domain: Grid | Points) -> Domain:
        """Return what mixers are given of a domain; its spacing only if it scales their steps."""
        if self.config.scale_delta:
            return domain
        return domain.shape if isinstance(domain, Grid) else replace(domain, reference_spacing=None)

    def _answer(self, out: Float[Tensor, "batch point output"], domain: Grid | Points) -> Batch:
        """Return the output fields, given their numbers side by side at each point."""
        if self.config.walls == "zero":
            out = out * wall_factor(domain, out)
        shape = domain.shape if isinstance(domain, Grid) else (domain.num_points,)
        fields = {}
        parts = out.split([frames or 1 for frames in self.outputs.values()], dim=-1)
        for (name, frames), part in zip(self.outputs.items(), parts, strict=True):
            points = part[..., 0] if frames is None else part.transpose(1, 2)
            fields[name] = points.unflatten(-1, shape)
        return Batch(fields, domain)


def coordinates(domain: Grid | Points, like: Tensor) -> Float[Tensor, "sample point axis"]:
    """Return coordinates for each sample or, in one row, for all; of the type and device of `like`.

    Those of a grid are fractions of its extent, in row-major order; those of points are as given.
    """
    if isinstance(domain, Points):
        places = domain.coordinates.to(like)
        return places if places.ndim == 3 else places[None]
    return torch.from_numpy(_centres(domain))[None].to(like)


@lru_cache(maxsize=32)
def _centres(grid: Grid) -> np.ndarray:
    axes = [grid.centres(axis) for axis in range(len(grid.shape))]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(axes))


def wall_factor(domain: Grid | Points, like: Tensor) -> Float[Tensor, "point 1"]:
    """Return what makes a field vanish at the walls of its domain when it is multiplied by it.

    The product over the axes of `tanh(d / l)`, `d` being the distance to the nearer wall and `l`
    half a cell of training, where its outermost points are: linear at the wall, and one within a
    percent from the second points of training on, where values are learned as without it. A wider
    layer makes the model learn values divided by small factors, which are rough along a wall. As a
    function of place, the factor is the same on every grid. It has the type and device of `like`.

    Raises:
        ValueError: Points are given, which have no walls.
    """
    if isinstance(domain, Points):
        raise ValueError(
            "walls='zero' needs a grid, whose ends are the walls, but the batch holds points; "
            "give a grid, or build the operator with walls='free'"
        )
    return torch.from_numpy(_wall_factor(domain, like.dtype == torch.float64)).to(like)


@lru_cache(maxsize=32)
def _wall_factor(grid: Grid, double: bool) -> np.ndarray:
    factor = np.ones(1, np.float64 if double else np.float32)
    for axis, (h, n) in enumerate(zip(grid.spacing, grid.shape, strict=True)):
        cells = (sum(h) if isinstance(h, tuple) else n * h) / grid.reference_spacing[axis]
        near = (min(x, 1.0 - x) * cells for x in grid.centres(axis))
        along = np.array([math.tanh(d / WALL_LAYER) for d in near], factor.dtype)
        factor = np.multiply.outer(factor, along).reshape(-1)
    return factor[:, None]


def count_parameters(module: nn.Module) -> int:
    """Count the real numbers among a module's weights: a complex one is two."""
    return sum(p.numel() * (2 if p.is_complex() else 1) for p in module.parameters())


def perceptron(inputs: int, hidden: int, outputs: int, layers: int = 1) -> nn.Sequential:
    """Return linear layers with GELU between them, so many of them hidden."""
    parts: list[nn.Module] = []
    for layer in range(layers):
        parts += [nn.Linear(hidden if layer else inputs, hidden), nn.GELU()]
    return nn.Sequential(*parts, nn.Linear(hidden, outputs))
