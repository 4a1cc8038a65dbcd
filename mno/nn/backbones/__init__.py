"""Backbones: the architectures that mixers are put into.

`BACKBONES` is the one list of them; reading it loads no torch.
"""

from typing import NamedTuple


class BackboneEntry(NamedTuple):
    """Where an `Operator` is defined, and the mixers it was published with, its layers in turn."""

    module: str
    operator: str
    own_mixers: tuple[str, ...] = ()
    in_time: bool = False
    """Whether it can take time as an axis."""


BACKBONES = {
    "plain": BackboneEntry("mno.nn.backbones.plain", "PlainOperator", ("mamba",), in_time=True),
    "latent": BackboneEntry(
        "mno.nn.backbones.latent", "LatentOperator", ("mamba", "softmax"), in_time=True
    ),
    "gnot": BackboneEntry("mno.nn.backbones.gnot", "GNOTOperator", ("linear",)),
    "galerkin": BackboneEntry("mno.nn.backbones.galerkin", "GalerkinOperator", ("galerkin",)),
    "oformer": BackboneEntry("mno.nn.backbones.oformer", "OFormerOperator", ("galerkin",)),
    "transolver": BackboneEntry("mno.nn.backbones.plain", "TransolverOperator", ("physics",)),
    "fno": BackboneEntry("mno.nn.backbones.fno", "FNOOperator"),
    "unet": BackboneEntry("mno.nn.backbones.unet", "UNetOperator"),
}
"""All backbones, by name."""
