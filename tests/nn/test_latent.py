"""The latent backbone: tokens of patches and of cells, other grids, and what does not fit."""

import numpy as np
import pytest
import torch
from backbone_cases import build, learn, random, sums, unit_grid

from mno.core.errors import InputError
from mno.core.fields import Axis, Field
from mno.core.forecast import TaskConfig
from mno.data import Batch
from mno.data.reading import Schema
from mno.nn import Grid, ModelConfig, Points
from mno.nn.backbones.latent import _resampling
from mno.nn.config import for_dataset
from mno.nn.kernel_view import listened


def axes(*sizes):
    return [
        Axis(name, "m", name, np.arange(n), (0, n)) for name, n in zip("xyz", sizes, strict=False)
    ]


def scattered(samples, n, dims=2, seed=3):
    generator = torch.Generator().manual_seed(seed)
    return Points((torch.rand(samples, n, dims, generator=generator) - 0.5) * 3.4)


def test_finer_cells_keep_means_and_a_parabola_and_come_back():
    edges = [np.linspace(0, 1, n + 1) for n in (6, 18, 4)]
    coarse, fine, coarser = (np.diff(e**3) / np.diff(e) for e in edges)
    np.testing.assert_allclose(_resampling(6, 18, False) @ coarse, fine, atol=1e-12)
    np.testing.assert_allclose(_resampling(18, 6, False) @ fine, coarse, rtol=1e-12)
    np.testing.assert_allclose(_resampling(18, 4, False) @ fine, coarser, atol=1e-12)
    for periodic in (False, True):
        there = _resampling(6, 12, periodic)
        np.testing.assert_allclose(_resampling(12, 6, periodic) @ there, np.eye(6), atol=1e-12)
    shifted = np.roll(np.roll(_resampling(6, 12, True), 2, axis=0), 1, axis=1)
    np.testing.assert_allclose(shifted, _resampling(6, 12, True), atol=1e-4)


def test_a_periodic_domain_has_no_walls():
    # Without position the answer to a field shifted by whole patches is the shifted answer.
    operator = build("latent", "softmax", walls="periodic", patch=2).double()
    with torch.no_grad():
        for network in (operator.position, operator.lattice.local):
            network[0].weight[:, -2:] = 0  # of coordinates
        operator.position[0].weight.zero_()
    a = random(1, 12, 8).double()
    answer, of_shifted = (
        operator(Batch({"a": x}, unit_grid(12, 8))).fields["p"] for x in (a, a.roll((4, 2), (1, 2)))
    )
    torch.testing.assert_close(of_shifted, answer.roll((4, 2), (1, 2)))


def test_tokens_have_the_size_of_training_on_every_grid():
    operator, seen = build("latent", patch=3), []
    operator.blocks[0].register_forward_pre_hook(lambda module, given: seen.append(given))
    for n, h in ((12, 1.0), (24, 0.5), (30, 0.4), (24, 1.0)):
        grid = Grid((n, n), (h, h), (1.0, 1.0))
        assert operator(Batch({"a": random(1, n, n)}, grid)).fields["p"].shape == (1, n, n)
    assert [given[1].shape for given in seen] == [(4, 4)] * 3 + [(8, 8)]
    assert all(given[1].delta_scale == pytest.approx((1.0, 1.0)) for given in seen)


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_scattered_points_are_learned_and_their_order_and_companions_do_not_matter(dims):
    operator = build("latent", cells=4, width=16, dims=dims, scalars=("s",)).double()
    place, a, s = scattered(3, 40, dims), random(3, 40).double(), random(3, seed=5).double()
    whole = operator(Batch({"a": a}, Points(place.coordinates.double()), {"s": s})).fields["p"]
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    turned = Points(place.coordinates[1:2, order].double())
    alone = operator(Batch({"a": a[1:2, order]}, turned, {"s": s[1:2]})).fields["p"]
    torch.testing.assert_close(alone, whole[1:2, order])
    operator = build("latent", cells=4, width=16, dims=dims)
    place = Points(place.coordinates[:2])
    target = place.coordinates.prod(-1) * a[:2].float().mean(1, keepdim=True).sign()
    target = (target - target.mean()) / target.std()
    assert learn(operator, Batch({"a": a[:2].float()}, place), target, 5e-3, 500, 0.05)[-1] < 0.05


def test_a_smaller_patch_learns_what_is_far_apart():
    a = random(2, 8, 8)
    operator = build("latent", patch=2, width=16, layers=1)
    assert learn(operator, Batch({"a": a}, unit_grid(8, 8)), sums(a), 5e-3, 500, 0.06)[-1] < 0.06


@pytest.mark.parametrize(
    ("options", "place", "said"),
    [
        ({}, scattered(1, 9), "scattered points, but cells=0.* for example 8"),
        ({"cells": 3}, unit_grid(3, 3), "cells=3 was given a grid.* leave cells at 0"),
        ({}, Grid((3, 3), ((1.0, 1.0, 2.0), 1.0)), "equal ones along each axis; interpolate"),
    ],
)
def test_points_need_cells_and_grids_patches_of_equal_cells(options, place, said):
    n = (9,) if isinstance(place, Points) else (3, 3)
    with pytest.raises(ValueError, match=said):
        build("latent", **options)(Batch({"a": random(1, *n)}, place))


def fitted(sizes, scattered=False, **options):
    model = ModelConfig(backbone="latent", **options)
    role = "coordinate" if scattered else "input"
    fields = (Field("a", "1", "a", role, ("point",)),)
    return for_dataset(model, Schema("made", fields, axes(*sizes), walls="zero"), TaskConfig())


def test_what_is_left_open_is_said_by_the_dataset():
    for sizes, patch in {
        (24, 24): 3,
        (32, 64): 4,
        (64, 64): 4,
        (256, 256): 8,
        (25,): 1,
        (16,) * 3: 2,
        (23,): 1,
    }.items():
        assert fitted(sizes, patch=0).patch == patch
    assert fitted((24,), walls="declared").walls == "zero" and fitted((24,)).walls == "free"
    assert fitted((300,), scattered=True, cells=6, patch=7).cells == 6
    with pytest.raises(ValueError, match="patch=0 leaves .* for example 4"):
        build("latent", patch=0)


def test_what_does_not_fit_the_points_of_a_dataset_is_refused_in_one_line():
    for options, said in (
        ({"sizes": (24, 18)}, r"patch=4 does not divide .*\(24, 18\); choose one of 1, 2, 3, 6"),
        ({"sizes": (300,), "scattered": True}, "cells=0, but .* unordered points.*model.cells=8"),
        ({"sizes": (24,), "cells": 8}, r"grid of \(24,\).*model.cells=0"),
    ):
        with pytest.raises(InputError, match=said) as caught:
            fitted(**options)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("backbone", ["plain", "latent"])
def test_what_a_prediction_listened_to_is_drawn_at_the_points(backbone):
    operator = build(backbone, ["softmax", "mamba"], patch=2)
    batch = Batch({"a": random(2, 8, 6)}, unit_grid(8, 6))
    sizes = listened(operator, batch, 1, (5, 2))
    n = 2 if backbone == "latent" else 1  # a token has what its points have
    assert sizes.shape == (2, 8, 6)
    assert torch.equal(sizes[:, ::n, ::n].repeat_interleave(n, 1).repeat_interleave(n, 2), sizes)
    assert sizes.flatten(1).argmax(1).tolist() == [5 // n * n * 6 + 2 // n * n] * 2
    row, column = (sizes[0, 5] > 0).sum(), (sizes[0, :, 2] > 0).sum()
    assert (row, column, (sizes[0] > 0).sum()) == (6, 8, n * 6 + n * 8 - n * n)  # a cross
    with pytest.raises(ValueError, match=r"layer=0 on a grid.*\[1\]"):
        listened(operator, batch, 0, (5, 2))
