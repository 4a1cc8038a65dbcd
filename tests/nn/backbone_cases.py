"""Small backbones that several tests look at, and how they are built and asked there."""

from __future__ import annotations

import torch

from mno.nn import Grid, ModelConfig, Points, build_operator

SMALL = {"width": 8, "layers": 2, "heads": 2, "modes": 3, "spectral_width": 8, "slices": 8}
SMALL |= {"levels": 3, "padding": 0.25}


def config(backbone, mixer="own", **options):
    return ModelConfig(backbone=backbone, mixer=mixer, **{**SMALL, **options})


def build(backbone, mixer="own", seed=0, **options):
    """An operator; options are those of the configuration and of `build_operator`."""
    given = {"inputs": ("a",), "outputs": ("p",)}
    for name in ("inputs", "outputs", "scalars", "dims", "gaps"):
        given |= {name: options.pop(name)} if name in options else {}
    torch.manual_seed(seed)
    return build_operator(config(backbone, mixer, **options), **given)


def random(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def unit_grid(*shape):
    return Grid(shape, tuple(1 / n for n in shape))


def points(n, dims=2, seed=3):
    return Points(torch.rand(n, dims, generator=torch.Generator().manual_seed(seed)))
