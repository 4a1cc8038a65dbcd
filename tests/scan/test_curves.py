from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from mno.scan.curves import hilbert_curve, order_points, zigzag_curve

SHAPES = st.one_of(
    st.tuples(st.integers(1, 60)),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.tuples(st.integers(1, 14), st.integers(1, 14), st.integers(1, 14)),
)


def places(order, shape):
    """The points of a walk, `(points, axes)`."""
    return np.stack(np.unravel_index(np.asarray(order), shape), axis=-1)


def grid_points(*axes):
    """The points of a grid in row-major order, `(1, points, axes)`."""
    lines = [torch.as_tensor(axis, dtype=torch.float64) for axis in axes]
    return torch.stack(torch.meshgrid(*lines, indexing="ij"), dim=-1).reshape(1, -1, len(axes))


def steps(order, shape):
    """Axes moved along in each step, counted with the distance."""
    return np.abs(np.diff(places(order, shape), axis=0)).sum(axis=1)


def dilation(order, shape):
    """The largest distance ** axes / steps between any two points of a walk.

    A walk is local where points a few steps apart are near each other: Gotsman and Lindenbaum,
    IEEE Trans. Image Process. 5, 794 (1996), who show that Hilbert's curve keeps it under 6.
    """
    x = places(order, shape).astype(float)
    apart = np.abs(np.subtract.outer(np.arange(len(x)), np.arange(len(x))))
    distance = np.linalg.norm(x[:, None] - x[None], axis=-1)
    return (distance ** len(shape) / np.maximum(apart, 1)).max()


@pytest.mark.parametrize("curve", [hilbert_curve, zigzag_curve])
@settings(max_examples=150, deadline=None)
@given(shape=SHAPES)
@example(shape=(1,))
@example(shape=(1, 1, 1))
@example(shape=(2, 3))
@example(shape=(3, 3, 3))
@example(shape=(5, 4, 3))
@example(shape=(1, 13, 5))
@example(shape=(200, 3))
@example(shape=(2, 3, 300))
def test_a_curve_visits_every_point_once_and_moves_by_one_along_one_axis(curve, shape):
    order = curve(shape)
    assert order.dtype == np.int32
    assert np.array_equal(np.sort(order), np.arange(math.prod(shape)))
    assert (steps(order, shape) == 1).all()


def test_every_small_grid_has_a_hilbert_walk_without_a_diagonal_step():
    planes = [(h, w) for h in range(1, 14) for w in range(1, 14)]
    for shape in planes + [(d, h, w) for h, w in planes[:80] for d in range(1, 7)]:
        order = hilbert_curve(shape)
        assert np.array_equal(np.sort(order), np.arange(math.prod(shape))), shape
        assert (steps(order, shape) == 1).all(), shape


@pytest.mark.parametrize("shape", [(8, 8), (4, 4, 4)])
def test_on_powers_of_two_each_part_of_the_hilbert_walk_fills_a_square_or_cube(shape):
    parts = places(hilbert_curve(shape), shape).reshape(2 ** len(shape), -1, len(shape))
    assert (np.ptp(parts, axis=1) == shape[0] // 2 - 1).all()


@pytest.mark.parametrize(
    ("shape", "bound"),
    [((16, 16), 6), ((32, 32), 6), ((17, 17), 8), ((24, 17), 8), ((31, 30), 8), ((27, 10), 8),
     ((8, 8, 8), 24), ((7, 9, 8), 24), ((11, 10, 9), 24)],
)  # fmt: skip
def test_the_hilbert_walk_is_more_local_than_rows(shape, bound):
    found = dilation(hilbert_curve(shape), shape)
    assert found < bound
    assert found < 0.1 * dilation(np.arange(math.prod(shape)), shape)


def test_a_zigzag_walk_turns_at_the_end_of_every_row():
    assert zigzag_curve((3, 4)).tolist() == [0, 1, 2, 3, 7, 6, 5, 4, 8, 9, 10, 11]


@pytest.mark.parametrize("curve", [hilbert_curve, zigzag_curve])
def test_what_the_cache_hands_out_cannot_be_written_to(curve):
    with pytest.raises(ValueError, match="read-only"):
        curve((3, 4))[0] = 7


@pytest.mark.parametrize("curve", [hilbert_curve, zigzag_curve])
@pytest.mark.parametrize("shape", [(), (3, 0), (2, 2, 2, 2)])
def test_a_shape_without_a_curve_is_refused(curve, shape):
    with pytest.raises(ValueError, match=r"grid of shape \(.*expected one to three axes"):
        curve(shape)


@settings(max_examples=60, deadline=None)
@given(
    samples=st.integers(0, 3), points=st.integers(0, 50), axes=st.integers(1, 3), seed=st.integers()
)
def test_ordered_points_are_all_points(samples, points, axes, seed):
    x = torch.rand(samples, points, axes, generator=torch.Generator().manual_seed(seed % 2**32))
    order = order_points(x)
    assert order.shape == (samples, points)
    assert torch.equal(order.sort(dim=1).values, torch.arange(points).expand(samples, -1))


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_the_order_of_points_does_not_depend_on_where_they_are_or_how_large(axes):
    x = torch.rand(3, 200, axes, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    offset = torch.tensor([[[-7.0, 3.0, 40.0][:axes]]], dtype=torch.float64)
    assert torch.equal(order_points(x), order_points(12.5 * x))
    assert torch.equal(order_points(x), order_points(1e-6 * x + offset))


def test_all_axes_count_alike():
    rng = torch.Generator().manual_seed(0)
    thin = torch.stack([torch.randperm(300, generator=rng), torch.rand(300, generator=rng)], -1)
    walk = thin[order_points(thin[None])[0], 0]
    assert (walk.diff().abs() < 8).all()  # a curve that stretched the axes would go to and fro


@pytest.mark.parametrize("shape", [(8,), (4, 4), (16, 16), (64, 64), (2, 2, 2), (8, 8, 8)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_on_the_points_of_a_grid_the_order_is_a_hilbert_walk(shape, dtype):
    x = grid_points(*((np.arange(n) + 0.5) / n for n in shape)).to(dtype)
    order = order_points(x)[0]
    assert (steps(order, shape) == 1).all()
    parts = places(order, shape).reshape(2 ** len(shape), -1, len(shape))
    assert (np.ptp(parts, axis=1) == shape[0] // 2 - 1).all()


def test_samples_are_ordered_each_by_itself():
    x = torch.rand(4, 50, 2, generator=torch.Generator().manual_seed(0))
    x[2] *= 100
    for one, order in zip(x, order_points(x), strict=True):
        assert torch.equal(order_points(one[None])[0], order)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_points_in_the_same_place_keep_their_order(axes):
    x = torch.rand(1, 20, axes, generator=torch.Generator().manual_seed(0))
    pairs = order_points(x.repeat_interleave(2, dim=1)).reshape(-1, 2)
    assert torch.equal(pairs[:, 0], 2 * order_points(x)[0])
    assert torch.equal(pairs[:, 1], pairs[:, 0] + 1)
    assert torch.equal(order_points(torch.ones(1, 9, axes)), torch.arange(9)[None])


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 40), st.integers(0, 10**6))
def test_points_a_few_steps_apart_are_near(side, seed):
    assume(side > 7)
    rng = torch.Generator().manual_seed(seed)
    x = torch.rand(1, side * side, 2, generator=rng)
    walk = x[0, order_points(x)[0]]
    assert walk.diff(dim=0).norm(dim=-1).mean() < 1.5 / side  # at random it would be 0.52


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_coordinate_that_is_not_finite_is_refused(bad):
    x = torch.rand(2, 5, 2)
    x[1, 3, 0] = bad
    with pytest.raises(ValueError, match=rf"coordinate {bad} at \[1, 3, 0\].*leave the point out"):
        order_points(x)


def test_points_with_four_axes_are_refused():
    with pytest.raises(ValueError, match=r"shape \(1, 5, 4\); expected .* one to three axes"):
        order_points(torch.rand(1, 5, 4))
