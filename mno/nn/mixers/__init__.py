"""Mixers: layers in which points exchange information, all behind one interface.

A mixer is called as `mixer(x, domain)`, a cross mixer as `mixer(x, source, domain)`. `MIXERS` is
the one list of them: what checks a configuration, builds, replaces or matches reads it. It loads no
torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class MixerEntry:
    """Where a mixer is defined, and what it takes.

    Attributes:
        module: The module of its two forms.
        self_form: Class that mixes points, called as `mixer(x, domain)`.
        cross_form: Class that mixes in a second input, called as `mixer(x, source, domain, ...)`.
        options: Keyword arguments that both take, by the names of `ModelConfig`'s fields; of a
            field that is a list, each layer's mixer takes its own. `dims` is the number of axes.
    """

    module: str
    self_form: str
    cross_form: str
    options: tuple[str, ...]


MIXERS = {
    "mamba": MixerEntry(
        "mno.nn.mixers.mamba",
        "MambaMixer",
        "MambaCrossMixer",
        ("path", "d_state", "expand", "discretization", "dims"),
    ),
    "softmax": MixerEntry(
        "mno.nn.mixers.attention", "SoftmaxMixer", "SoftmaxCrossMixer", ("heads",)
    ),
    "linear": MixerEntry("mno.nn.mixers.linear", "LinearMixer", "LinearCrossMixer", ("heads",)),
    "galerkin": MixerEntry(
        "mno.nn.mixers.galerkin", "GalerkinMixer", "GalerkinCrossMixer", ("heads",)
    ),
    "fourier": MixerEntry(
        "mno.nn.mixers.galerkin", "FourierMixer", "FourierCrossMixer", ("heads",)
    ),
    "physics": MixerEntry(
        "mno.nn.mixers.physics", "PhysicsMixer", "PhysicsCrossMixer", ("heads", "slices")
    ),
}
"""All mixers, by name."""


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
    entry = MIXERS[name]
    form = entry.cross_form if cross else entry.self_form
    return getattr(import_module(entry.module), form)(d_model, **options)
