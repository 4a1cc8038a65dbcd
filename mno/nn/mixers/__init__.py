"""Mixers: layers in which points exchange information, all behind one interface.

A mixer is called as `mixer(x, domain)`, a cross mixer as `mixer(x, source, domain)`. `MIXERS` is
the one list of them: what checks a configuration, builds, replaces or matches reads it. It loads no
torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from torch import nn


class MixerEntry(NamedTuple):
    """Where a mixer is defined, its two classes, and the options that both take by keyword.

    Options are fields of `ModelConfig`; of a field that is a list, each layer's mixer takes its
    own. `dims` is the number of axes.
    """

    module: str
    self_form: str
    cross_form: str
    options: tuple[str, ...] = ("heads",)


_ATTENTION = "mno.nn.mixers.attention"
_OF_SCANS = ("path", "d_state", "expand", "discretization", "dims")
MIXERS = {
    "mamba": MixerEntry("mno.nn.mixers.mamba", "MambaMixer", "MambaCrossMixer", _OF_SCANS),
    "ssd": MixerEntry("mno.nn.mixers.ssd", "SsdMixer", "SsdCrossMixer", (*_OF_SCANS, "heads")),
    "softmax": MixerEntry(_ATTENTION, "SoftmaxMixer", "SoftmaxCrossMixer"),
    "linear": MixerEntry(_ATTENTION, "LinearMixer", "LinearCrossMixer"),
    "galerkin": MixerEntry(_ATTENTION, "GalerkinMixer", "GalerkinCrossMixer"),
    "fourier": MixerEntry(_ATTENTION, "FourierMixer", "FourierCrossMixer"),
    "physics": MixerEntry(_ATTENTION, "PhysicsMixer", "PhysicsCrossMixer", ("heads", "slices")),
}
"""All mixers, by name."""


def check_sizes(**sizes: int) -> None:
    """Raise a `ValueError` that names the first size below one."""
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name}={size} must be at least 1")


def build_mixer(name: str, d_model: int, *, cross: bool = False, **options: Any) -> nn.Module:
    """Build one of `MIXERS` with fresh weights, for `d_model` features per point.

    With `cross` it mixes in a second input. Options are that mixer's own, for example `heads=8` or
    `path="axial"`. A `ValueError` says that the name is not known, or an option does not fit.
    """
    if name not in MIXERS:
        raise ValueError(f"mixer={name!r} is not known; choose one of {', '.join(MIXERS)}")
    entry = MIXERS[name]
    form = entry.cross_form if cross else entry.self_form
    return getattr(import_module(entry.module), form)(d_model, **options)
