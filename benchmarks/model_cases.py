"""The operators whose training steps are compared, and the problems that they are given."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch

from mno.core.batch import Batch
from mno.core.grid import Grid
from mno.data.normalise import Normaliser
from mno.nn.backbones import BACKBONES as REGISTRY
from mno.nn.build import build_operator, match_parameters_to
from mno.nn.config import ModelConfig
from mno.nn.operator import Operator, count_parameters
from mno.training.objective import relative_error

BUDGET = 150_000
"""Parameters that every operator is brought near to: the size of the line's own model."""

FIELDS = {"inputs": ("in",), "outputs": ("out",)}
UNITS = Normaliser({"out": 0.0}, {"out": 1.0})
FOURIER_MODES = {1: 32, 2: 8, 3: 4}
"""Fourier modes along each axis, by the number of axes, as `model.modes` counts them."""

PATCHES = {1: 8, 2: 8, 3: 4}
"""Cells of a latent token along each axis, by the number of axes."""

BACKBONES: dict[str, dict[str, Any]] = {
    "plain": {},
    "latent": {"heads": 2},
    "gnot": {"layers": 3, "experts": 2},
    # At the preset's spectral width of 24 the regressor alone is twice the budget in 2-D.
    "galerkin": {"spectral_width": 12},
    "oformer": {"feed_forward": 1},
    "transolver": {},
}
"""What each backbone's preset sets apart from the defaults; the width follows from the budget."""

ATTENTION = {name: REGISTRY[name].own_mixers[-1] for name in BACKBONES} | {"plain": "softmax"}
"""The mixer that mamba is compared with: the backbone's own, which for plain would be mamba."""

REFERENCE = "FNO"
BASELINES: dict[str, dict[str, Any]] = {
    REFERENCE: {"backbone": "fno"},
    "padded FNO": {"backbone": "fno", "padding": 0.25},
    "U-Net": {"backbone": "unet"},
}


def model_name(backbone: str, mixer: str) -> str:
    """Return the name in `MODELS` of a backbone with a mixer."""
    return f"{backbone}/{mixer}"


MODELS = {
    model_name(backbone, mixer): {"backbone": backbone, "mixer": mixer, **options}
    for backbone, options in BACKBONES.items()
    for mixer in ("mamba", ATTENTION[backbone], *(["own"] if backbone == "latent" else []))
} | BASELINES
"""Options of `ModelConfig`, by name of the model."""


@dataclass(frozen=True)
class Problem:
    """Samples of one field on a regular grid, from which another is to be predicted.

    Attributes:
        shape: Points along each axis.
        samples: Samples in the batch of a step.
    """

    shape: tuple[int, ...]
    samples: int

    def __str__(self) -> str:
        sizes = " x ".join(f"{n:,}" for n in self.shape)
        return f"{sizes} points" if len(self.shape) == 1 else sizes

    @classmethod
    def from_arguments(cls, shape: str, samples: str) -> Problem:
        """Read what `arguments` returned."""
        return cls(tuple(int(n) for n in shape.split("x")), int(samples))

    def arguments(self) -> tuple[str, str]:
        """Return the arguments that name it on a command line."""
        return "x".join(map(str, self.shape)), str(self.samples)

    def batch(self) -> Batch:
        """Draw random fields from torch's global generator."""
        grid = Grid(self.shape, tuple(1 / n for n in self.shape))
        return Batch({name: torch.randn(self.samples, *self.shape) for name in ("in", "out")}, grid)


class Training:
    """A fresh operator and its optimiser.

    Args:
        model: One of `MODELS`.
        dims: Axes of the grids it will be given.
    """

    def __init__(self, model: str, dims: int) -> None:
        torch.manual_seed(0)
        self.operator = _build(model, dims)
        self.optimiser = torch.optim.AdamW(self.operator.parameters(), 1e-3)

    def step(self, batch: Batch) -> float:
        """Take a step on the relative L2 error and return what it was before."""
        self.optimiser.zero_grad()
        loss = relative_error(self.operator(batch).fields, batch.fields, UNITS).mean()
        loss.backward()
        self.optimiser.step()
        return loss.item()


def installed_models() -> list[str]:
    """Return the names of the models whose packages are there."""
    has_fno = find_spec("neuralop") is not None
    return [name for name, options in MODELS.items() if has_fno or options["backbone"] != "fno"]


def num_parameters(model: str, dims: int) -> int:
    """Count the real numbers among the weights of a model."""
    with torch.device("meta"):
        return count_parameters(_build(model, dims))


def _build(model: str, dims: int) -> Operator:
    options: dict[str, Any] = {
        "d_state": 4,
        "modes": FOURIER_MODES[dims],
        "patch": PATCHES[dims],
        **MODELS[model],
    }
    config = match_parameters_to(ModelConfig(**options), BUDGET, **FIELDS, dims=dims)
    return build_operator(config, **FIELDS, dims=dims)
