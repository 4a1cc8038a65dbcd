"""Interpolation of predictions at places: exact where it can be, refused where it must be."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.interpolate import RegularGridInterpolator

from mno.core.fields import Axis
from mno.sensors.pairs import brackets, on_grid, on_points

LENGTHS = (2.0, 1.0, 3.0)


def axes_of(dims: int) -> tuple[Axis, ...]:
    sizes = (9, 6, 4)
    return tuple(
        Axis(name, "m", name, (np.arange(n) + 0.5) * length / n - 0.5, (-0.5, length - 0.5))
        for name, n, length in zip("xyz"[:dims], sizes, LENGTHS, strict=False)
    )


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_a_linear_field_on_a_grid_is_found_exactly(dims: int) -> None:
    axes, rng = axes_of(dims), np.random.default_rng(0)
    grid = np.meshgrid(*(axis.points for axis in axes), indexing="ij")
    slope = rng.normal(size=(5, dims))
    values = np.einsum("fd,d...->f...", slope, np.stack(grid))
    inner = [(axis.points[0], axis.points[-1]) for axis in axes]
    places = np.stack([rng.uniform(*ends, size=40) for ends in inner], axis=-1)
    found = on_grid(axes, places).apply(values)
    np.testing.assert_allclose(found, slope @ places.T, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_any_field_on_a_grid_is_what_scipy_finds(dims: int) -> None:
    axes, rng = axes_of(dims), np.random.default_rng(1)
    values = rng.normal(size=[len(axis.points) for axis in axes])
    places = np.stack(
        [rng.uniform(axis.points[0], axis.points[-1], size=50) for axis in axes], axis=-1
    )
    expected = RegularGridInterpolator([axis.points for axis in axes], values)(places)
    found = on_grid(axes, places).apply(values[None])[0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_between_the_outermost_centres_and_the_walls_it_is_constant() -> None:
    (axis,) = axes_of(1)
    values = np.arange(9.0)[None]
    stencil = on_grid((axis,), np.array([[-0.5], [1.5]]))
    assert stencil.inside.all()
    assert stencil.apply(values).tolist() == [[0.0, 8.0]]


def test_beyond_the_walls_and_nowhere_there_is_no_value() -> None:
    places = np.array([[-0.51, 0.0], [0.0, 0.6], [np.nan, np.nan], [0.0, 0.2]])
    stencil = on_grid(axes_of(2), places)
    assert stencil.inside.tolist() == [False, False, False, True]
    assert np.isnan(stencil.apply(np.ones((1, 9, 6)))[0]).tolist() == [True, True, True, False]


def test_at_a_grid_point_missing_neighbours_have_no_say() -> None:
    (axis,) = axes_of(1)
    values = np.full((1, 9), np.nan)
    values[0, 4] = 3.0
    between = (axis.points[4] + axis.points[5]) / 2
    found = on_grid((axis,), np.array([[axis.points[4]], [between]])).apply(values)[0]
    assert found[0] == 3.0 and np.isnan(found[1])


def test_an_axis_of_one_point_holds_everywhere() -> None:
    axis = Axis("x", "m", "x", np.array([0.5]), (0.0, 1.0))
    assert on_grid((axis,), np.array([[0.1], [0.9]])).apply(np.array([[7.0]])).tolist() == [[7, 7]]


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_a_linear_field_on_unordered_points_is_found_exactly_in_their_hull(dims: int) -> None:
    rng = np.random.default_rng(2)
    corners = np.stack(np.meshgrid(*[[0.0, 1.0]] * dims), axis=-1).reshape(-1, dims)
    points = np.concatenate([rng.random((200, dims)), corners]).astype(np.float32)
    slope = rng.normal(size=(3, dims))
    places = np.concatenate([rng.random((60, dims)), points[:7]])
    stencil = on_points(points.astype(np.float64), places)
    assert stencil.inside.all()
    found = stencil.apply(slope @ points.T.astype(np.float64))
    np.testing.assert_allclose(found, slope @ places.T, rtol=0, atol=1e-5)


def test_at_a_point_its_own_value_is_taken_although_its_coordinates_are_rounded() -> None:
    places = np.random.default_rng(3).random((6, 2))
    points = places.astype(np.float32).astype(np.float64)
    values = np.full((1, 6), np.nan)
    values[0, 2] = 4.0
    found = on_points(points, places).apply(values)[0]
    assert found[2] == 4.0 and np.isnan(np.delete(found, 2)).all()


def test_outside_the_hull_the_nearest_point_holds_as_far_as_points_are_apart() -> None:
    points = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    places = np.array([[1.1, -0.1], [2.9, 0.0], [3.1, 0.0]])
    stencil = on_points(points, places)
    assert stencil.inside.tolist() == [True, True, False]
    assert stencil.apply(np.array([[1.0, 2.0, 3.0, 4.0]]))[0, :2].tolist() == [2.0, 2.0]


def test_points_on_one_line_in_a_plane_give_the_value_of_the_nearest() -> None:
    points = np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]])
    found = on_points(points, np.array([[0.9, 1.0], [1.8, 2.1]])).apply(np.array([[1.0, 2.0, 3.0]]))
    assert found.tolist() == [[2.0, 3.0]]


def test_a_single_point_holds_where_it_is_and_nowhere_else() -> None:
    stencil = on_points(np.array([[np.float32(0.1)]]).astype(float), np.array([[0.1], [0.2]]))
    assert stencil.inside.tolist() == [True, False]


def test_brackets_name_the_point_before_and_the_share_of_the_way() -> None:
    below, share = brackets(np.array([0.0, 1.0, 3.0]), np.array([-1.0, 0.0, 1.0, 2.0, 3.0, 9.0]))
    assert below.tolist() == [0, 0, 1, 1, 1, 1]
    assert share.tolist() == [0.0, 0.0, 0.0, 0.5, 1.0, 1.0]
