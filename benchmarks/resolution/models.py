"""The operators that are compared."""

from __future__ import annotations

from typing import Any, Literal

from neuralop.models import FNO
from torch import nn

from mno.core.batch import Batch
from mno.nn.build import build_operator
from mno.nn.config import ModelConfig
from mno.nn.operator import wall_factor

SIMPLIFIED = {"discretization": "simplified"}
CENTRED = {"discretization": "centred"}
AXIAL = {"path": "axial", "width": 48, "d_state": 4}
TEMPORAL = {"path": ["axial", "temporal"] * 2, "width": 32, "d_state": 4}
PAPER = {"path": "bidirectional", "width": 48, "d_state": 16}
FOURIER = {"n_modes": (8, 8), "hidden_channels": 16}
LATENT = {"backbone": "latent", "mixer": "own", "width": 40, "patch": 2, "d_state": 4}
SPACE: dict[str, dict[str, Any]] = {
    "axial": AXIAL | CENTRED,
    "axial, simplified": AXIAL | SIMPLIFIED,
    "bidirectional, simplified": PAPER | SIMPLIFIED,
    "softmax": {"mixer": "softmax", "width": 48},
    "latent": LATENT,
    "FNO": FOURIER,
    "FNO, padded": FOURIER | {"domain_padding": 0.25},
}
MODELS = {
    "space": SPACE,
    "walls": {name: options | {"walls": "zero"} for name, options in SPACE.items()},
    "time": {
        "temporal": TEMPORAL | CENTRED,
        "temporal, simplified": TEMPORAL | SIMPLIFIED,
    },
}
"""Options of each model by task and name: of `ModelConfig`, or of `FourierOperator`."""


class FourierOperator(nn.Module):
    """The FNO of the `neuraloperator` package, which adds coordinates of its own.

    Args:
        walls: What is known at the walls, as in `ModelConfig`.
        options: Of the package's FNO.
    """

    def __init__(self, walls: Literal["free", "zero"] = "free", **options: Any) -> None:
        super().__init__()
        self.walls = walls
        self.fno = FNO(in_channels=1, out_channels=1, **options)

    def forward(self, batch: Batch) -> Batch:
        """Predict the output field."""
        out = self.fno(batch.fields["in"][:, None])[:, 0]
        if self.walls == "zero":
            out = out * wall_factor(batch.place, out).reshape(batch.shape)
        return Batch({"out": out}, batch.place)


def build(options: dict[str, Any], *, scaled: bool = True) -> nn.Module:
    """Build a model with fresh weights, drawn from torch's global generator.

    Args:
        options: One of `MODELS`.
        scaled: Whether a grid's spacing scales the steps of scans. No weight depends on that, nor
            does anything on the grid of training, where the scale is 1.
    """
    if "n_modes" in options:
        return FourierOperator(**options)
    config = ModelConfig(**options, scale_delta=scaled)
    return build_operator(config, inputs=("in",), outputs=("out",))


def has_steps(options: dict[str, Any]) -> bool:
    """Say whether a model scans, so that steps are there to be scaled."""
    return "path" in options
