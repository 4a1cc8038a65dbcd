"""The published backbones that several tests look at, and how they are built and asked there."""

from __future__ import annotations

import pytest
import torch

from mno.nn import Grid, ModelConfig, Points, build_operator

BACKBONES = ("gnot", "galerkin", "oformer")
each = pytest.mark.parametrize("backbone", BACKBONES)
each_of_points = pytest.mark.parametrize("backbone", ["gnot", "oformer"])


def config(backbone, mixer="own", **options):
    small = {"width": 8, "layers": 2, "heads": 2, "modes": 3, "spectral_width": 8}
    return ModelConfig(backbone=backbone, mixer=mixer, **{**small, **options})


def build(backbone, mixer="own", inputs=("a",), outputs=("p",), seed=0, dims=2, **options):
    torch.manual_seed(seed)
    scalars = options.pop("scalars", ())
    return build_operator(
        config(backbone, mixer, **options), inputs=inputs, outputs=outputs, scalars=scalars,
        dims=dims,
    )  # fmt: skip


def random(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def unit_grid(*shape):
    return Grid(shape, tuple(1 / n for n in shape))


def points(n, dims=2, seed=3):
    return Points(torch.rand(n, dims, generator=torch.Generator().manual_seed(seed)))
