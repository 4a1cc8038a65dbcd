"""From a configuration to an operator."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from mno.nn.backbones.fno import FNOOperator
from mno.nn.backbones.galerkin import GalerkinOperator
from mno.nn.backbones.gnot import GNOTOperator
from mno.nn.backbones.oformer import OFormerOperator
from mno.nn.backbones.plain import PlainOperator
from mno.nn.backbones.transolver import TransolverOperator
from mno.nn.backbones.unet import UNetOperator
from mno.nn.config import ModelConfig
from mno.nn.mixers.choice import Mixers
from mno.nn.operator import Names, Operator, Signature

BACKBONES: dict[str, type[Operator]] = {
    "plain": PlainOperator,
    "gnot": GNOTOperator,
    "galerkin": GalerkinOperator,
    "oformer": OFormerOperator,
    "transolver": TransolverOperator,
    "fno": FNOOperator,
    "unet": UNetOperator,
}
"""Architectures by name."""


def build_operator(
    config: ModelConfig,
    *,
    inputs: Names,
    outputs: Names,
    scalars: Sequence[str] = (),
    dims: int = 2,
    gaps: Collection[str] = (),
) -> Operator:
    """Build an operator with fresh weights, drawn from torch's global generator.

    Args:
        config: Kind and size of the operator.
        inputs: Names of the fields it is given; the order is part of the weights' meaning. A
            mapping gives the number of frames of each field that has any.
        outputs: Names of the fields it predicts, likewise.
        scalars: Names of the numbers it is given with each sample, parameters of the equation.
        dims: Axes of the grids or points it will be given, from one to three.
        gaps: Names of the fields among `inputs` whose values may be missing: a missing value is
            NaN, and the operator is told which are. Of other fields it takes numbers only.

    Returns:
        A module that takes and returns a `mno.data.Batch` of normalised fields, on any grid, or at
        any points, with that many axes.

    Raises:
        ValueError: No input or no output is named, `dims` is not from one to three, `gaps` names
            what is not an input, or the backbone cannot be built so.
    """
    signature = Signature.of(inputs, outputs, scalars, dims, gaps)
    return BACKBONES[config.backbone](config, Mixers(config, dims), signature)
