"""What every operator has in common: from a batch to features of points, and back."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

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

Names: TypeAlias = Sequence[str] | Mapping[str, int | None]
"""Fields in the order of the weights; a mapping gives the number of frames of each, `None` for a
field without."""

WALL_LAYER = 0.5
"""Length of the layer at a known wall, in cells of training: where their outermost points are."""


class Mixers:
    """Makes the mixers of an operator on places of `dims` axes, given the number of a layer."""

    def __init__(self, config: ModelConfig, dims: int) -> None:
        self.config = config
        self.dims = dims
        self.layer_of: dict[nn.Module, int] = {}
        """The mixers made so far, and the layer of each."""

    def self_mixer(self, layer: int) -> nn.Module:
        """Return the mixer of a layer, called as `mixer(x, domain)`."""
        return self._mixer(layer, cross=False)

    def cross_mixer(self, layer: int) -> nn.Module:
        """Return the cross form, called as `mixer(x, source, domain, source_domain)`."""
        return self._mixer(layer, cross=True)

    def _mixer(self, layer: int, *, cross: bool) -> nn.Module:
        name, options = self.choice(layer)
        mixer = build_mixer(name, self.config.width, cross=cross, **options)
        self.layer_of[mixer] = layer % self.config.layers
        return mixer

    def choice(self, layer: int) -> tuple[str, dict[str, Any]]:
        """Return the name of a layer's mixer, and its options.

        Raises:
            ValueError: The backbone has no mixers.
        """
        own = BACKBONES[self.config.backbone].own_mixer
        if own is None:
            raise ValueError(f"backbone={self.config.backbone!r} has no mixers")
        name = self.config.mixer[layer % len(self.config.mixer)]
        name = own if name == "own" else name
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

    Raises:
        ValueError: No input or no output is named, a field has no frame, there are not one to three
            axes, or `gaps` names what is not an input.
    """

    inputs: dict[str, int | None]
    outputs: dict[str, int | None]
    scalars: tuple[str, ...]
    dims: int
    gaps: frozenset[str] = frozenset()

    @classmethod
    def of(
        cls,
        inputs: Names,
        outputs: Names,
        scalars: Sequence[str],
        dims: int,
        gaps: Collection[str] = (),
    ) -> Signature:
        """Make a signature of names, as `build_operator` takes them, each named once."""
        for names in (inputs, outputs, scalars):
            if len(set(names)) != len(names):
                raise ValueError(f"{tuple(names)} names a field twice; name each once")
        given, predicted = (
            dict(names) if isinstance(names, Mapping) else dict.fromkeys(names)
            for names in (inputs, outputs)
        )
        return cls(given, predicted, tuple(scalars), dims, frozenset(gaps))

    def __post_init__(self) -> None:
        if not self.inputs or not self.outputs:
            raise ValueError(
                f"inputs={tuple(self.inputs)}, outputs={tuple(self.outputs)}: name at least one "
                "field of each"
            )
        if not 1 <= self.dims <= 3:
            raise ValueError(f"dims={self.dims}; expected 1, 2 or 3 axes")
        for name, frames in (self.inputs | self.outputs).items():
            if frames is not None and frames < 1:
                raise ValueError(f"field {name} is given {frames} frames; expected at least one")
        if unknown := sorted(self.gaps - set(self.inputs)):
            raise ValueError(
                f"gaps={unknown}: values can be missing of {tuple(self.inputs)} only, the fields "
                "that the operator is given; name some of these"
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

    def __init__(self, config: ModelConfig, mixers: Mixers, signature: Signature) -> None:
        super().__init__()
        self.config = config
        self.walls = config.walls
        self.inputs = signature.inputs
        self.outputs = signature.outputs
        self.scalars = signature.scalars
        self.dims = signature.dims
        self.gaps = signature.gaps
        self._layer_of = mixers.layer_of  # filled as the subclass builds its layers
        # Numbers per point: of each input in `_features`, of all there, in `_inputs`, in `_answer`.
        self.input_sizes = [
            (frames or 1) * (1 + (name in self.gaps)) for name, frames in self.inputs.items()
        ]
        self.num_inputs = sum(self.input_sizes)
        self.num_point_inputs = self.num_inputs + self.dims + len(self.scalars)
        self.num_outputs = sum(frames or 1 for frames in self.outputs.values())

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
        """Return the input fields and their frames, side by side, and which values are present.

        Raises:
            ValueError: A field or scalar is missing, or has another number of frames, or the domain
                another number of axes.
        """
        if missing := [name for name in self.inputs if name not in batch.fields]:
            raise ValueError(
                f"the batch holds {sorted(batch.fields)}; this operator also needs {missing}"
            )
        if isinstance(batch.place, Grid):
            given, where = len(batch.place.shape), f"grid of shape {batch.place.shape} has"
        else:
            given, where = batch.place.coordinates.shape[-1], "points have"
        if given != self.dims:
            raise ValueError(
                f"{where} {given} axes, but this operator was built for {self.dims}; build it "
                f"with dims={given}"
            )
        if missing := [name for name in self.scalars if name not in batch.scalars]:
            raise ValueError(
                f"the batch holds scalars {sorted(batch.scalars)}; this operator also needs "
                f"{missing}"
            )
        return torch.cat([self._points_of(batch, name) for name in self.inputs], dim=-1)

    def _points_of(self, batch: Batch, name: str) -> Float[Tensor, "batch point number"]:
        """Return one field, its frames last, and behind them which of its values are present."""
        field, frames, shape = batch.fields[name], self.inputs[name], batch.shape
        expected = (len(batch), *([] if frames is None else [frames]), *shape)
        if tuple(field.shape) != expected:
            raise ValueError(
                f"field {name} has shape {tuple(field.shape)}; this operator expects {expected}"
            )
        points = field.flatten(field.ndim - len(shape))
        points = points[..., None] if frames is None else points.transpose(1, 2)
        if name not in self.gaps:
            return points
        missing = points.isnan()
        return torch.cat([points.masked_fill(missing, 0.0), (~missing).to(points)], dim=-1)

    def _coordinates(self, batch: Batch) -> Float[Tensor, "batch point axis"]:
        """Return where the points are: relative to the domain on a grid, as given for points."""
        like = next(iter(batch.fields.values()))
        return coordinates(batch.place, like).expand(len(batch), -1, -1)

    def _scalars(self, batch: Batch) -> Float[Tensor, "batch scalar"]:
        """Return the scalars of each sample, side by side; there may be none."""
        like = next(iter(batch.fields.values()))
        if not self.scalars:
            return like.new_zeros(len(batch), 0)
        return torch.stack([batch.scalars[name] for name in self.scalars], dim=-1).to(like.dtype)

    def _asked(self, batch: Batch, at: Grid | Points | None) -> tuple[Grid | Points, Tensor]:
        """Return where the operator is asked for its outputs, and the coordinates of the points.

        That is where the inputs are, or at places `at` in their coordinates.

        Raises:
            ValueError: The domain has another number of axes, or is one for each of another number
                of samples.
        """
        domain = batch.place if at is None else at
        given = coordinates(domain, next(iter(batch.fields.values())))
        if given.shape[-1] != self.dims:
            raise ValueError(
                f"at has {given.shape[-1]} axes, but this operator was built for {self.dims}; ask "
                f"it at places with {self.dims} coordinates"
            )
        if len(given) not in (1, len(batch)):
            raise ValueError(
                f"at holds the places of {len(given)} samples, but the batch has {len(batch)}; "
                "give one set of places for all, or one per sample"
            )
        return domain, given.expand(len(batch), -1, -1)

    def _on_image(self, network: Callable[[Tensor], Tensor], batch: Batch) -> Batch:
        """Answer by a network of images, `(batch, channels, *grid)`, given each point's `_inputs`.

        Raises:
            ValueError: As for `_features`, or the points are not those of a grid.
        """
        x, domain = self._inputs(batch), batch.place
        if isinstance(domain, Points):
            others = [name for name, entry in BACKBONES.items() if entry.own_mixer]
            raise ValueError(
                f"backbone={self.config.backbone!r} takes grids only, and was given "
                f"{domain.num_points} scattered points; interpolate them to a grid, or use "
                f"{', '.join(others[:-1])} or {others[-1]}"
            )
        image = x.transpose(1, 2).unflatten(2, domain.shape)
        # Not every layer takes an empty batch: there, one sample is computed and left out.
        out = network(image) if len(x) else network(image.new_zeros(1, *image.shape[1:]))[:0]
        return self._answer(out.flatten(2).transpose(1, 2), domain)

    def _mixing_domain(self, domain: Grid | Points) -> Domain:
        """Return what mixers are given of a domain; its spacing only if it scales their steps."""
        if self.config.scale_delta:
            return domain
        return domain.shape if isinstance(domain, Grid) else Points(domain.coordinates)

    def _answer(self, out: Float[Tensor, "batch point output"], domain: Grid | Points) -> Batch:
        """Return the output fields, given their numbers side by side at each point.

        Raises:
            ValueError: They are known at the walls, and points are given, which have none.
        """
        if self.walls == "zero":
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
    axes = [like.new_tensor(domain.centres(axis)) for axis in range(len(domain.shape))]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, -2)[None]


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
    axes = []
    for axis, (h, n) in enumerate(zip(domain.spacing, domain.shape, strict=True)):
        cells = (sum(h) if isinstance(h, tuple) else n * h) / domain.reference_spacing[axis]
        near = (min(x, 1.0 - x) * cells for x in domain.centres(axis))
        axes.append(like.new_tensor([math.tanh(d / WALL_LAYER) for d in near]))
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).prod(dim=-1).flatten()[:, None]


def count_parameters(module: nn.Module) -> int:
    """Count the real numbers among a module's weights: a complex one is two."""
    return sum(p.numel() * (2 if p.is_complex() else 1) for p in module.parameters())


def perceptron(inputs: int, hidden: int, outputs: int, layers: int = 1) -> nn.Sequential:
    """Return linear layers with GELU between them, so many of them hidden."""
    widths = [inputs, *[hidden] * layers]
    parts: list[nn.Module] = []
    for before, after in zip(widths, widths[1:], strict=False):
        parts += [nn.Linear(before, after), nn.GELU()]
    return nn.Sequential(*parts, nn.Linear(hidden, outputs))
