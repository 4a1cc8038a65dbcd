"""From a configuration to an operator."""

from __future__ import annotations

from functools import partial

from torch import nn

from mno.nn.backbones.stack import Stack
from mno.nn.config import ModelConfig
from mno.nn.mixers.mamba import MambaMixer


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
    mixer = partial(
        MambaMixer,
        config.width,
        d_state=config.d_state,
        expand=config.expand,
        path=config.path,
        dims=dims,
    )
    return Stack(config, mixer, inputs=inputs, outputs=outputs, dims=dims)
