"""Mixers by name."""

from __future__ import annotations

from typing import Any

from torch import nn

from mno.nn.mixers.fourier import FourierCrossMixer, FourierMixer
from mno.nn.mixers.galerkin import GalerkinCrossMixer, GalerkinMixer
from mno.nn.mixers.linear import LinearCrossMixer, LinearMixer
from mno.nn.mixers.mamba import MambaCrossMixer, MambaMixer
from mno.nn.mixers.physics import PhysicsCrossMixer, PhysicsMixer
from mno.nn.mixers.softmax import SoftmaxCrossMixer, SoftmaxMixer

MIXERS: dict[str, tuple[type[nn.Module], type[nn.Module]]] = {
    "mamba": (MambaMixer, MambaCrossMixer),
    "softmax": (SoftmaxMixer, SoftmaxCrossMixer),
    "linear": (LinearMixer, LinearCrossMixer),
    "galerkin": (GalerkinMixer, GalerkinCrossMixer),
    "fourier": (FourierMixer, FourierCrossMixer),
    "physics": (PhysicsMixer, PhysicsCrossMixer),
}
"""The self and the cross form of each mixer, by name."""


def build_mixer(name: str, d_model: int, *, cross: bool = False, **options: Any) -> nn.Module:
    """Build a mixer with fresh weights.

    Args:
        name: One of `MIXERS`.
        d_model: Features per point.
        cross: Whether it mixes with a second input.
        options: Of that mixer, for example `heads=8` or `path="axial"`.

    Raises:
        ValueError: The name is not known, or an option does not fit.
    """
    if name not in MIXERS:
        raise ValueError(f"mixer={name!r} is not known; choose one of {', '.join(MIXERS)}")
    return MIXERS[name][cross](d_model, **options)
