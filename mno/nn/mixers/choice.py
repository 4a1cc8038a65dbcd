"""Which mixer stands in which layer of an operator."""

from __future__ import annotations

from typing import Any

from torch import nn

from mno.nn.config import ModelConfig
from mno.nn.mixers.build import build_mixer

OWN_MIXER = {
    "plain": "mamba",
    "gnot": "linear",
    "galerkin": "galerkin",
    "oformer": "galerkin",
    "transolver": "physics",
}
"""The mixer that each backbone was published with."""


class Mixers:
    """Makes the mixers of an operator, given the number of a layer.

    Args:
        config: The operator's configuration.
        dims: Axes of the places it will be given.
    """

    def __init__(self, config: ModelConfig, dims: int) -> None:
        self.config = config
        self.dims = dims
        self.layer_of: dict[nn.Module, int] = {}
        """The mixers made so far, and the layer of each."""

    def self_mixer(self, layer: int) -> nn.Module:
        """Return the mixer of a layer, called as `mixer(x, place)`."""
        return self._mixer(layer, cross=False)

    def cross_mixer(self, layer: int) -> nn.Module:
        """Return the cross form, called as `mixer(x, source, place, source_place)`."""
        return self._mixer(layer, cross=True)

    def _mixer(self, layer: int, *, cross: bool) -> nn.Module:
        name, options = self.choice(layer)
        mixer = build_mixer(name, self.config.width, cross=cross, **options)
        self.layer_of[mixer] = layer % self.config.layers
        return mixer

    def choice(self, layer: int) -> tuple[str, dict[str, Any]]:
        """Return the name of a layer's mixer, and its options."""
        config = self.config
        name = config.mixer[layer % len(config.mixer)]
        if name == "own":
            name = OWN_MIXER[config.backbone]
        return name, self._options(name, layer)

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
