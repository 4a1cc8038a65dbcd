"""From a configuration to an operator."""

from __future__ import annotations

from typing import Any

from torch import nn

from mno.nn.backbones.stack import Stack
from mno.nn.config import ModelConfig
from mno.nn.mixers.build import build_mixer


def build_operator(
    config: ModelConfig, *, inputs: tuple[str, ...], outputs: tuple[str, ...], dims: int = 2
) -> nn.Module:
    """Build an operator with fresh weights, drawn from torch's global generator.

    Args:
        config: Kind and size of the operator.
        inputs: Names of the fields it is given; the order is part of the weights' meaning.
        outputs: Names of the fields it predicts.
        dims: Axes of the grids it will be given, from one to three.

    Returns:
        A module that takes and returns a `mno.data.Batch` of normalised fields, on any grid with
        that many axes.

    Raises:
        ValueError: No input or no output is named, or `dims` is not from one to three.
    """
    if not inputs or not outputs:
        raise ValueError(f"inputs={inputs}, outputs={outputs}: name at least one field of each")
    if not 1 <= dims <= 3:
        raise ValueError(f"dims={dims}; expected 1, 2 or 3 axes")

    def mixer(layer: int) -> nn.Module:
        name = config.mixer[layer % len(config.mixer)]
        return build_mixer(name, config.width, **_options(config, name, layer, dims))

    return Stack(config, mixer, inputs=inputs, outputs=outputs, dims=dims)


def _options(config: ModelConfig, name: str, layer: int, dims: int) -> dict[str, Any]:
    if name == "mamba":
        return {
            "d_state": config.d_state,
            "expand": config.expand,
            "path": config.path[layer % len(config.path)],
            "dims": dims,
            "discretization": config.discretization,
        }
    options: dict[str, Any] = {"heads": config.heads}
    if name == "physics":
        options["slices"] = config.slices
    return options
