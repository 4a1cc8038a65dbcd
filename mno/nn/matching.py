"""Operators of equal size, so that a comparison is of kinds and not of sizes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import cache

import torch

from mno.nn.build import build_operator
from mno.nn.config import ModelConfig
from mno.nn.mixers.choice import OWN_MIXER, Mixers
from mno.nn.operator import Names, count_parameters

TOLERANCE = 0.1
"""How far from the target the number of parameters may be, as a share of it."""

WIDEST = 4096


def match_parameters_to(
    config: ModelConfig,
    target: int,
    *,
    inputs: Names,
    outputs: Names,
    scalars: Sequence[str] = (),
    dims: int = 2,
    gaps: Collection[str] = (),
) -> ModelConfig:
    """Return the configuration with the width whose number of parameters is closest to a target.

    All else stays: layers, heads, modes. Where a mixer has heads, the width is a multiple of them.
    Nothing is allocated, and no random number is drawn: operators are built on the device `meta`.

    Args:
        config: Kind of operator; its width is where the search begins.
        target: Number of parameters to come close to, as `count_parameters` counts.
        inputs: As for `build_operator`, and so the others.
        outputs: Likewise.
        scalars: Likewise.
        dims: Likewise.
        gaps: Likewise.

    Raises:
        ValueError: No width comes within 10 % of the target.
    """

    @cache
    def parameters(width: int) -> int:
        with torch.device("meta"):
            operator = build_operator(
                _with_width(config, width),
                inputs=inputs,
                outputs=outputs,
                scalars=scalars,
                dims=dims,
                gaps=gaps,
            )
        return count_parameters(operator)

    step = _step(config, dims)
    width, found = _closest(parameters, target, step, config.width)
    if abs(found - target) > TOLERANCE * target:
        multiple = f" that is a multiple of heads={step}" if step > 1 else ""
        raise ValueError(
            f"target={target} parameters: no width{multiple} comes within {TOLERANCE:.0%} of it; "
            f"the closest is width={width} with {found}; choose that target, or another number of "
            "layers"
        )
    return _with_width(config, width)


def _closest(
    parameters: Callable[[int], int], target: int, step: int, first: int
) -> tuple[int, int]:
    """Return the multiple of a step, and its count, closest to the target; counts grow with it."""
    low, high, most = 0, max(1, first // step), WIDEST // step
    while high < most and parameters(high * step) < target:
        low, high = high, min(2 * high, most)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if parameters(middle * step) < target else (low, middle)
    counts = {n * step: parameters(n * step) for n in (low, high) if n}
    return min(counts.items(), key=lambda pair: abs(pair[1] - target))


def _step(config: ModelConfig, dims: int) -> int:
    """Return what the width must be a multiple of."""
    if config.backbone not in OWN_MIXER:  # it has no mixers
        return 1
    mixers = Mixers(config, dims)
    options = [mixers.choice(layer)[1] for layer in range(config.layers)]
    return config.heads if any("heads" in chosen for chosen in options) else 1


def _with_width(config: ModelConfig, width: int) -> ModelConfig:
    return ModelConfig.model_validate(config.model_dump() | {"width": width})
