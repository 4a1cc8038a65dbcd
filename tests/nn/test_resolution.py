"""A mixer that knows its grid is one operator: on finer grids it converges to one function."""

from __future__ import annotations

import math

import pytest
import torch

from mno.nn import Grid, MambaMixer

WIDTH = 6
TRAINED_ON = 9  # points along an axis at which a step is not scaled


def mixer(path, dims=1, discretization="simplified"):
    torch.manual_seed(0)
    made = MambaMixer(
        WIDTH, d_state=3, expand=1, path=path, dims=dims, discretization=discretization
    )
    with torch.no_grad():
        made.dt_projs_bias.fill_(-1.0)  # long steps and no direct path, so that the scans matter
        made.Ds.zero_()
    return made.double()


def features(*axes):
    """Smooth functions of place at the points of a grid, `(1, points, width)`."""
    places = torch.meshgrid(*(torch.tensor(x, dtype=torch.float64) for x in axes), indexing="ij")
    k = torch.arange(WIDTH)
    waves = [torch.sin((k + 1.3 * axis + 1) * x[..., None] + k) for axis, x in enumerate(places)]
    return torch.stack(waves).sum(0).flatten(0, -2)[None]


def uniform(n, dims=1):
    return Grid((n,) * dims, (1 / n,) * dims, (1 / TRAINED_ON,) * dims)


def answers(operator, grid, *, scaled=True):
    """Outputs on a grid of a power of three, at the points of the coarsest, which it shares."""
    axes = [grid.centres(axis) for axis in range(len(grid.shape))]
    with torch.no_grad():
        y = operator(features(*axes), grid if scaled else grid.shape)
    y = y.reshape(*grid.shape, WIDTH)
    for axis, n in enumerate(grid.shape):
        ratio = n // TRAINED_ON
        y = y.movedim(axis, 0)[ratio // 2 :: ratio].movedim(0, axis)
    return y


def changes(operator, sizes, dims=1, **options):
    ys = [answers(operator, uniform(n, dims), **options) for n in sizes]
    return [((b - a).norm() / b.norm()).item() for a, b in zip(ys, ys[1:], strict=False)]


@pytest.mark.parametrize(
    ("discretization", "expected"), [("simplified", 1), ("zoh", 1), ("centred", 2)]
)
@pytest.mark.parametrize(
    ("path", "dims", "sizes"),
    [("axial", 1, (9, 27, 81, 243)), ("axial", 2, (9, 27, 81)), ("temporal", 1, (9, 27, 81, 243))],
)
def test_a_grid_aware_mixer_converges_as_its_grid_is_refined(
    path, dims, sizes, discretization, expected
):
    found = changes(mixer(path, dims, discretization), sizes, dims)
    order = math.log(found[-2] / found[-1], 3)
    assert expected - 0.25 < order < expected + 0.35, found


@pytest.mark.parametrize("path", ["axial", "temporal"])
def test_without_scaled_steps_a_finer_grid_is_answered_by_another_operator(path):
    operator = mixer(path, discretization="centred")
    coarse, fine = uniform(TRAINED_ON), uniform(243)
    scaled = answers(operator, fine)
    assert (scaled - answers(operator, coarse)).norm() < 0.15 * scaled.norm()
    assert (scaled - answers(operator, fine, scaled=False)).norm() > 0.4 * scaled.norm()


@pytest.mark.parametrize("path", ["axial", "temporal"])
def test_cells_of_unequal_width_are_answered_as_a_fine_grid_is(path):
    operator = mixer(path, discretization="centred")
    fine = uniform(243)
    widths = (5,) * 18 + (3,) * 31 + (1,) * 60  # in fine cells; all middles are those of fine cells
    middles = [sum(widths[:i]) + width // 2 for i, width in enumerate(widths)]
    places = tuple(fine.centres(0)[i] for i in middles)
    spacing = tuple(width / 243 for width in widths)
    uneven = Grid((len(widths),), (spacing,), (1 / TRAINED_ON,))
    taken_as_even = Grid((len(widths),), (1 / len(widths),), (1 / TRAINED_ON,))
    assert uneven.centres(0) == pytest.approx(places)
    with torch.no_grad():
        truth = operator(features(fine.centres(0)), fine)[:, middles]
        aware, unaware = (operator(features(places), g) for g in (uneven, taken_as_even))
    assert (aware - truth).norm() < 0.01 * truth.norm()
    assert (unaware - truth).norm() > 0.1 * truth.norm()
