"""From a configuration to an operator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from mno.nn.backbones.plain import PlainOperator
from mno.nn.config import ModelConfig
from mno.nn.mixers.build import build_mixer
from mno.nn.operator import Names, Operator

OWN_MIXER = {
    "plain": "mamba",
    "gnot": "linear",
    "galerkin": "galerkin",
    "oformer": "galerkin",
    "transolver": "physics",
}
"""The mixer that each backbone was published with."""


def build_operator(
    config: ModelConfig,
    *,
    inputs: Names,
    outputs: Names,
    scalars: Sequence[str] = (),
    dims: int = 2,
) -> Operator:
    """Build an operator with fresh weights, drawn from torch's global generator.

    Args:
        config: Kind and size of the operator.
        inputs: Names of the fields it is given; the order is part of the weights' meaning. A
            mapping gives the number of frames of each field that has any.
        outputs: Names of the fields it predicts, likewise.
        scalars: Names of the numbers it is given with each sample, parameters of the equation.
        dims: Axes of the grids or points it will be given, from one to three.

    Returns:
        A module that takes and returns a `mno.data.Batch` of normalised fields, on any grid, or at
        any points, with that many axes.

    Raises:
        ValueError: No input or no output is named, `dims` is not from one to three, or the
            backbone cannot be built so.
    """
    mixers = Mixers(config, dims)
    names: dict[str, Any] = {
        "inputs": inputs,
        "outputs": outputs,
        "scalars": scalars,
        "dims": dims,
    }
    return PlainOperator(config, mixers.self_mixer, **names)


class Mixers:
    """Makes the mixers of an operator, given the number of a layer.

    Args:
        config: The operator's configuration.
        dims: Axes of the places it will be given.
    """

    def __init__(self, config: ModelConfig, dims: int) -> None:
        self.config = config
        self.dims = dims

    def self_mixer(self, layer: int) -> nn.Module:
        """Return the mixer of a layer, called as `mixer(x, place)`."""
        return self._mixer(layer, cross=False)

    def cross_mixer(self, layer: int) -> nn.Module:
        """Return the cross form, called as `mixer(x, source, place, source_place)`."""
        return self._mixer(layer, cross=True)

    def _mixer(self, layer: int, *, cross: bool) -> nn.Module:
        config = self.config
        name = config.mixer[layer % len(config.mixer)]
        if name == "own":
            name = OWN_MIXER[config.backbone]
        return build_mixer(name, config.width, cross=cross, **self._options(name, layer))

    def _options(self, name: str, layer: int) -> dict[str, Any]:
        config = self.config
        if name == "mamba":
            return {
                "d_state": config.d_state,
                "expand": config.expand,
                "path": config.path[layer % len(config.path)],
                "dims": self.dims,
                "discretization": config.discretization,
            }
        options: dict[str, Any] = {"heads": config.heads}
        if name == "physics":
            options["slices"] = config.slices
        return options
