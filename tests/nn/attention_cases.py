"""The attention mixers that several tests look at, and how they are built and called there."""

from __future__ import annotations

import pytest
import torch

from mno.nn.mixers.attention import (
    FourierCrossMixer,
    FourierMixer,
    GalerkinCrossMixer,
    GalerkinMixer,
    LinearCrossMixer,
    LinearMixer,
    PhysicsCrossMixer,
    PhysicsMixer,
    SoftmaxCrossMixer,
    SoftmaxMixer,
)

SELF = [SoftmaxMixer, LinearMixer, GalerkinMixer, FourierMixer, PhysicsMixer]
CROSS = [
    SoftmaxCrossMixer,
    LinearCrossMixer,
    GalerkinCrossMixer,
    FourierCrossMixer,
    PhysicsCrossMixer,
]
BOTH = [*SELF, *CROSS]
each_self = pytest.mark.parametrize("kind", SELF)
each_cross = pytest.mark.parametrize("kind", CROSS)
each = pytest.mark.parametrize("kind", BOTH)

D, HEADS, D_HEAD = 8, 2, 4


def build(kind, seed=0, **options):
    """A mixer in float64 whose weights are all of order one, norms and offsets included."""
    torch.manual_seed(seed)
    mixer = kind(D, **{"heads": HEADS, **options}).double()
    with torch.no_grad():
        for parameter in mixer.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return mixer


def features(*shape, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, D, generator=generator, dtype=torch.float64)


def call(mixer, x, source, domain=None, source_domain=None):
    """Call either form; the self form sees the source alone."""
    if isinstance(mixer, tuple(CROSS)):
        return mixer(x, source, domain, source_domain)
    return mixer(source, source_domain)
