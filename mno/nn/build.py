"""From a configuration to an operator."""

from bisect import bisect_left
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from importlib import import_module
from typing import Any, TypeAlias

import torch

from mno.nn.backbones import BACKBONES
from mno.nn.config import ModelConfig
from mno.nn.operator import Mixers, Operator, Signature, count_parameters

Names: TypeAlias = Sequence[str] | Mapping[str, int | None]
"""Fields in the order of the weights; a mapping gives the number of frames of each, `None` for a
field without."""

TOLERANCE = 0.1  # how far from the target the number of parameters may be, as a fraction of it
WIDEST = 4096


def build_operator(
    config: ModelConfig,
    *,
    inputs: Names,
    outputs: Names,
    scalars: Sequence[str] = (),
    dims: int = 2,
    gaps: Collection[str] = (),
    along_time: bool = False,
    now: bool = False,
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
        along_time: Whether time is an axis (`mno.nn.along_time`): frames come one after the other,
            any number of them, and a field that has any is given the number 1.
        now: Whether, along time, outputs are of the frame itself, and not of the one behind.

    Returns:
        A module that takes and returns a `mno.data.Batch` of normalised fields, on any grid, or at
        any points, with that many axes.

    Raises:
        ValueError: No input or no output is named, `dims` is not from one to three, `gaps` names
            what is not an input, or the backbone cannot be built so, or has no time as an axis.
    """
    given, predicted = (
        dict(names) if isinstance(names, Mapping) else dict.fromkeys(names)
        for names in (inputs, outputs)
    )
    signature = Signature(given, predicted, tuple(scalars), dims, frozenset(gaps), along_time, now)
    entry = BACKBONES[config.backbone]
    if along_time and not entry.in_time:
        known = ", ".join(name for name, entry in BACKBONES.items() if entry.in_time)
        raise ValueError(
            f"backbone={config.backbone!r} does not take time as an axis; choose one of {known}, "
            "or give frames as features"
        )
    backbone: type[Operator] = getattr(import_module(entry.module), entry.operator)
    return backbone(config, Mixers(config, dims), signature)


def match_parameters_to(
    config: ModelConfig, target: int, *, dims: int = 2, **signature: Any
) -> ModelConfig:
    """Return the configuration with the width whose number of parameters is closest to a target.

    They are counted as by `count_parameters`; the signature is that of `build_operator`. All else
    stays: layers, heads, modes. Where a mixer has heads, the width is a multiple of them. Nothing
    is allocated, and no random number is drawn: operators are built on the device `meta`.

    Raises:
        ValueError: No width comes within 10 % of the target.
    """

    def with_width(width: int) -> ModelConfig:
        return ModelConfig.model_validate(config.model_dump() | {"width": width})

    @cache
    def parameters(width: int) -> int:
        with torch.device("meta"):
            return count_parameters(build_operator(with_width(width), dims=dims, **signature))

    step = 1  # what the width must be a multiple of
    if BACKBONES[config.backbone].own_mixers:
        options = [Mixers(config, dims).choice(layer)[1] for layer in range(config.layers)]
        step = config.heads if any("heads" in chosen for chosen in options) else 1
    widths = range(step, WIDEST + 1, step)  # the more, the more parameters
    above = bisect_left(widths, target, hi=len(widths) - 1, key=parameters)
    width = min(widths[max(above - 1, 0) : above + 1], key=lambda w: abs(parameters(w) - target))
    found = parameters(width)
    if abs(found - target) > TOLERANCE * target:
        multiple = f" that is a multiple of heads={step}" if step > 1 else ""
        raise ValueError(
            f"target={target} parameters: no width{multiple} comes within {TOLERANCE:.0%} of it; "
            f"the closest is width={width} with {found}; choose that target, or another number of "
            "layers"
        )
    return with_width(width)
