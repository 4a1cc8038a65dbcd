"""The configuration of an operator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from mno.core.config import Config
from mno.core.errors import InputError
from mno.core.forecast import TaskConfig
from mno.nn.backbones import BACKBONES
from mno.nn.mixers import MIXERS

if TYPE_CHECKING:
    from mno.data.reading import Schema
    from mno.scenarios.base import SampleSource

    Backbone = Mixer = str
else:
    Backbone, Mixer = Literal[tuple(BACKBONES)], Literal[("own", *MIXERS)]
_FEWEST_TOKENS = 8  # along an axis, of patches that the grid decides
_LARGE_GRID = 128  # points along an axis, beyond which patches may have 8 cells rather than 4
Path = Literal["axial", "bidirectional", "cross", "hilbert", "zigzag", "temporal"]


def _one_is_a_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class ModelConfig(Config):
    """Size and kind of an operator (section `model` of `params.yaml`)."""

    backbone: Backbone = "plain"
    """Architecture around the mixers: a plain pre-norm stack, mixers on tokens (latent), GNOT,
    Galerkin Transformer, OFormer or Transolver; FNO and U-Net have no mixers."""
    width: int = Field(48, ge=1, le=4096)
    """Features per point; on U-Net's finest grid."""
    layers: int = Field(4, ge=1, le=64)
    """Blocks of mixer and feed-forward network; FNO's Fourier layers."""
    mixer: Annotated[list[Mixer], BeforeValidator(_one_is_a_list)] = ["mamba"]
    """How points exchange information: one name for all layers, or a list with one per layer; `own`
    is the one that the backbone was published with (plain: mamba; latent: mamba and softmax)."""
    d_state: int = Field(2, ge=1, le=256)
    """State size of a scan, per channel (mamba, ssd)."""
    expand: int = Field(1, ge=1, le=8)
    """Channels inside a mixer per feature of the model (mamba, ssd)."""
    time_state: int = Field(8, ge=1, le=256)
    """State size of the scans along time, per channel (task.time=axis)."""
    path: Annotated[list[Path], BeforeValidator(_one_is_a_list)] = ["axial"]
    """Order in which scans visit the points (mamba, ssd): one name for all layers, or a list with
    one per layer."""
    discretization: Literal["centred", "simplified", "zoh", "trapezoidal"] = "centred"
    """How a scan turns its integral into a sum (mamba, ssd): with half the weight on a point's own
    cell, which keeps the error small on other grids; as the published code does; by the exact
    zero-order hold; or at both ends of a step, with a learned weight."""
    scale_delta: bool = True
    """Whether the grid's spacing, relative to that of training, scales the step of a scan, so that
    one set of weights serves every resolution (mamba, ssd)."""
    walls: Literal["free", "zero", "periodic", "declared"] = "free"
    """What is known of the walls of the domain: nothing; that all outputs vanish there (on grids
    that cover it, of space only); that there are none, as each axis begins again where it ends
    (used by latent alone); or what the scenario declares of these."""
    patch: int = Field(4, ge=0, le=64)
    """Cells of the training grid along each axis that make one token; 0 leaves it to the grid
    (latent)."""
    cells: int = Field(0, ge=0, le=256)
    """Cells along each axis of the box around scattered points, each a token; 0 for grids, whose
    tokens are patches (latent)."""
    local_width: int = Field(32, ge=1, le=4096)
    """Features per point of the networks around tokens (latent)."""
    heads: int = Field(4, ge=1, le=64)
    """Heads of an attention mixer; of ssd, whose channels inside they share out."""
    slices: int = Field(32, ge=1, le=1024)
    """Slices of points (physics)."""
    experts: int = Field(1, ge=1, le=64)
    """Feed-forward networks that a gate chooses among (gnot)."""
    perceptron_layers: int = Field(2, ge=1, le=16)
    """Hidden layers of input and output networks (gnot), of the latter (oformer)."""
    modes: int = Field(8, ge=1, le=1024)
    """Fourier modes kept along each axis (galerkin, fno)."""
    spectral_layers: int = Field(2, ge=1, le=16)
    """Fourier layers of the regressor behind the encoder (galerkin)."""
    spectral_width: int = Field(32, ge=1, le=4096)
    """Features per point of those Fourier layers (galerkin)."""
    latent_steps: int = Field(1, ge=1, le=64)
    """Steps of the latent state behind the decoder, for each frame (oformer)."""
    frequencies: float = Field(1.0, gt=0.0, le=64.0)
    """Standard deviation of the random frequencies by which the decoder knows where a point is, in
    cycles per unit of a coordinate, the domain on a grid (oformer)."""
    levels: int = Field(3, ge=1, le=8)
    """Grids, each of half the resolution of the one before (unet)."""
    padding: float = Field(0.0, ge=0.0, le=1.0)
    """Zeros around the domain, on either side, as a share of its length: for problems that are not
    periodic (fno)."""
    dropout: float = Field(0.0, ge=0.0, lt=1.0)
    """Share of features dropped in each layer while training."""
    feed_forward: int = Field(2, ge=1, le=8)
    """Hidden features of a feed-forward network per feature."""

    @model_validator(mode="after")
    def _fits_together(self) -> ModelConfig:
        for name in ("mixer", "path"):
            given = len(getattr(self, name))
            if given not in (1, self.layers):
                raise ValueError(
                    f"{name} lists {given} names for layers={self.layers}; give one, or one per "
                    "layer"
                )
        given = [mixer for mixer in self.mixer if mixer != "own"]
        for mixer in (mixer for mixer in given if "heads" in MIXERS[mixer].options):
            inside = "expand" in MIXERS[mixer].options
            if self.width * (self.expand if inside else 1) % self.heads:
                times = f", expand={self.expand}" if inside else ""
                raise ValueError(
                    f"width={self.width}{times} cannot be divided among heads={self.heads} of "
                    f"{mixer}; choose a multiple, for example "
                    f"{self.heads * (self.width // self.heads + 1)}"
                )
        return self


def for_dataset(model: ModelConfig, data: SampleSource | Schema, task: TaskConfig) -> ModelConfig:
    """Return a configuration with all said that it leaves to the scenario or to the grid.

    Walls are what the scenario of the data declares. A patch that is left open becomes the largest,
    up to 4 cells along an axis (8 where all have more than 128), that divides the grid and leaves 8
    tokens along each. Where there are points of fields and of readings, the former have to listen
    to the latter alone, as attention can. Where time is an axis, the backbone has to know it.

    Raises:
        InputError: Patches do not divide the grid, or there are points where cells are missing, or
            a grid where there are cells; or fields cannot listen to readings, or time is no axis.
    """
    in_time = [name for name, entry in BACKBONES.items() if entry.in_time]
    if task.along_time and model.backbone not in in_time:
        raise InputError(
            f"task.time=axis with model.backbone={model.backbone}: expected a backbone that mixes "
            f"along time, one of {', '.join(in_time)}; choose one, or set task.time=frames "
            "and task.kind=forecast"
        )
    attends = {name for name, entry in MIXERS.items() if "path" not in entry.options}
    if task.part == "both" and not (model.backbone == "plain" and attends.issuperset(model.mixer)):
        raise InputError(
            f"task.part=both lets fields listen to readings, by attention in a plain stack, but "
            f"model.backbone={model.backbone} and model.mixer={', '.join(model.mixer)}; set "
            "model.backbone=plain and model.mixer=softmax, or choose one part"
        )
    changes: dict[str, Any] = {"walls": data.walls} if model.walls == "declared" else {}
    if model.backbone != "latent":
        return model.model_copy(update=changes)
    shape = tuple(len(axis.points) for axis in data.axes if axis.name != "time")
    scattered = any(field.role == "coordinate" for field in data.fields)
    if scattered != bool(model.cells):
        domain, remedy = ("unordered points", 8) if scattered else (f"a grid of {shape}", 0)
        raise InputError(
            f"model.cells={model.cells}, but the dataset has {domain}; tokens of points are the "
            f"cells of a coarse grid, those of a grid its patches: set model.cells={remedy}"
        )
    fitting = [n for n in range(1, 65) if not any(length % n for length in shape)]
    if model.patch == 0:
        shortest = min(shape)
        largest = min(4 if shortest <= _LARGE_GRID else 8, shortest // _FEWEST_TOKENS)
        changes["patch"] = max((n for n in fitting if n <= largest), default=1)
    elif not scattered and model.patch not in fitting:
        raise InputError(
            f"model.patch={model.patch} does not divide the grid of {shape}; choose one of "
            f"{', '.join(map(str, fitting))}, or another number of points"
        )
    return model.model_copy(update=changes)
