"""Backbones: the architectures that mixers are put into.

`BACKBONES` is the one list of them; reading it loads no torch.
"""

from __future__ import annotations

from typing import NamedTuple


class BackboneEntry(NamedTuple):
    """Where an `Operator` is defined, and the mixer that it was published with, if any."""

    module: str
    operator: str
    own_mixer: str | None = None


BACKBONES = {
    "plain": BackboneEntry("mno.nn.backbones.plain", "PlainOperator", "mamba"),
    "gnot": BackboneEntry("mno.nn.backbones.gnot", "GNOTOperator", "linear"),
    "galerkin": BackboneEntry("mno.nn.backbones.galerkin", "GalerkinOperator", "galerkin"),
    "oformer": BackboneEntry("mno.nn.backbones.oformer", "OFormerOperator", "galerkin"),
    "transolver": BackboneEntry("mno.nn.backbones.plain", "TransolverOperator", "physics"),
    "fno": BackboneEntry("mno.nn.backbones.fno", "FNOOperator"),
    "unet": BackboneEntry("mno.nn.backbones.unet", "UNetOperator"),
}
"""All backbones, by name."""
