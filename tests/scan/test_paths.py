"""Curves and paths: every point once, neighbours near, steps scaled by lengths."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from mno.core.grid import Grid
from mno.core.points import Points
from mno.scan.curves import hilbert_curve, order_points, zigzag_curve
from mno.scan.paths import PATHS, num_directions, scan_path
from mno.scan.plain import visited_points

SHAPES = [(1,), (5,), (3, 4), (1, 6), (5, 2), (2, 3, 4), (3, 1, 2)]
UNEVEN = Grid((3, 4), ((0.5, 0.1, 0.2), (1.0, 2.0, 3.0, 4.0)), (0.1, 2.0))


def walks(path, domain, num_points):
    """The points each direction visits, `(K, points)`."""
    return visited_points(scan_path(path, domain, num_points), num_points)[0]


def numbered(shape):
    return torch.arange(math.prod(shape)).reshape(shape)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("path", PATHS)
def test_every_direction_visits_every_point_once_in_whole_lines(path, shape):
    points = math.prod(shape)
    laid = scan_path(path, shape, points)
    assert len(laid.directions) == num_directions(path, len(shape))
    visited = visited_points(laid, points)
    assert visited.shape == (1, len(laid.directions), points)
    assert torch.equal(visited.sort().values[0], torch.arange(points).expand(visited.shape[1:]))
    assert all(points % direction.line == 0 for direction in laid.directions)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(PATHS), st.lists(st.integers(1, 7), min_size=1, max_size=3).map(tuple))
def test_every_direction_but_those_along_time_is_walked_back_too(path, shape):
    visited = walks(path, shape, math.prod(shape))
    there, back = (visited, None) if path == "temporal" else (visited[::2], visited[1::2])
    if path == "cross":
        there, back = visited.chunk(2)
    assert back is None or torch.equal(back, there.flip(-1))
    assert len(there) == (len(shape) if path in ("axial", "cross") else 1)


@pytest.mark.parametrize("shape", SHAPES)
def test_axial_lines_are_the_lines_of_the_grid_the_fastest_axis_first(shape):
    points = math.prod(shape)
    laid = scan_path("axial", shape, points)
    for axis, direction, visited in zip(
        reversed(range(len(shape))), laid.directions[::2], walks("axial", shape, points)[::2],
        strict=True,
    ):  # fmt: skip
        lines = numbered(shape).movedim(axis, -1).reshape(-1, shape[axis])
        assert torch.equal(visited.reshape(-1, direction.line), lines)


def test_cross_is_row_major_and_column_major_in_one_line_each():
    laid = scan_path("cross", (3, 5), 15)
    assert {direction.line for direction in laid.directions} == {15}
    rows, columns, *_ = walks("cross", (3, 5), 15)
    assert torch.equal(rows, torch.arange(15))
    assert torch.equal(columns, numbered((3, 5)).t().flatten())


def test_in_three_dimensions_cross_has_each_axis_as_the_fastest():
    for walk, axis in zip(walks("cross", (2, 3, 4), 24)[:3], (2, 1, 0), strict=True):
        assert torch.equal(walk, numbered((2, 3, 4)).movedim(axis, -1).flatten())


@pytest.mark.parametrize("domain", [(3, 5), None])
def test_bidirectional_takes_all_points_in_one_line_as_they_lie(domain):
    laid = scan_path("bidirectional", domain, 15)
    assert [direction.line for direction in laid.directions] == [15, 15]
    forwards, backwards = laid.directions
    assert forwards.stride == 1 and not forwards.reverse
    assert backwards.stride == 1 and backwards.reverse
    assert torch.equal(walks("bidirectional", domain, 15)[0], torch.arange(15))


@pytest.mark.parametrize("shape", SHAPES)
def test_temporal_follows_every_other_point_along_the_first_axis(shape):
    (direction,) = scan_path("temporal", shape, math.prod(shape)).directions
    lines = walks("temporal", shape, math.prod(shape)).reshape(-1, direction.line)
    assert torch.equal(lines, numbered(shape).reshape(shape[0], -1).t())


@pytest.mark.parametrize(("path", "curve"), [("hilbert", hilbert_curve), ("zigzag", zigzag_curve)])
def test_curves_are_followed_in_one_line(path, curve):
    laid = scan_path(path, (4, 6), 24)
    assert [direction.line for direction in laid.directions] == [24, 24]
    assert walks(path, (4, 6), 24)[0].tolist() == curve((4, 6)).tolist()


@pytest.mark.parametrize("path", PATHS)
def test_steps_are_not_scaled_where_nothing_says_so(path):
    assert scan_path(path, (3, 4), 12).scale is None
    assert scan_path(path, Grid((3, 4), (0.5, 0.1)), 12).scale is None
    assert scan_path("bidirectional", None, 12).scale is None


@pytest.mark.parametrize(("grid", "down", "across"), [
    (Grid((3, 4), (0.5, 0.1), (1.0, 0.4)), [0.5] * 3, [0.25] * 4),
    (UNEVEN, [5.0, 1.0, 2.0], [0.5, 1.0, 1.5, 2.0]),
])  # fmt: skip
@pytest.mark.parametrize(("path", "axes"), [
    ("axial", [1, 1, 0, 0]), ("cross", [1, 0, 1, 0]), ("bidirectional", [1, 1]), ("temporal", [0]),
])  # fmt: skip
def test_a_step_scales_with_its_points_own_width_along_its_axis(path, axes, grid, down, across):
    scale = scan_path(path, grid, 12).scale
    assert scale is not None and scale.dtype == torch.float32
    widths = torch.tensor(down)[:, None].expand(3, 4), torch.tensor(across).expand(3, 4)
    assert torch.allclose(scale[0], torch.stack([widths[axis].flatten() for axis in axes]))


@pytest.mark.parametrize("path", ["hilbert", "zigzag"])
def test_along_a_curve_a_step_scales_with_the_distance_to_the_points_before_and_after(path):
    scale = scan_path(path, UNEVEN, 12).scale
    assert scale is not None
    x = np.array([2.5, 5.5, 7.0])  # middles of cells of widths 5, 1, 2
    y = np.array([0.25, 1.0, 2.25, 4.0])  # of widths 0.5, 1, 1.5, 2
    walk = walks(path, UNEVEN, 12)[0].numpy()
    apart = np.linalg.norm(np.diff(np.stack([x[walk // 4], y[walk % 4]], axis=-1), axis=0), axis=1)
    mean = (np.append(apart[0], apart) + np.append(apart, apart[-1])) / 2
    assert np.allclose(scale[0, :, walk], mean)


@pytest.mark.parametrize("path", ["hilbert", "zigzag"])
def test_a_curve_on_a_grid_of_half_the_spacing_has_steps_of_half_the_length(path):
    scale = scan_path(path, Grid((3, 4), (0.1, 0.1), (0.2, 0.2)), 12).scale
    assert scale is not None
    assert torch.allclose(scale, torch.full((1, 2, 12), 0.5))


def test_frames_at_irregular_times_scale_the_steps_along_time():
    times = Grid((3,), ((1.0, 1.5, 2.0),), (0.5,))
    scale = scan_path("temporal", times, 3).scale
    assert scale is not None
    assert scale.tolist() == [[[2.0, 3.0, 4.0]]]


@pytest.mark.parametrize("path", ["bidirectional", "hilbert"])
def test_points_without_a_grid_are_visited_along_a_curve(path):
    x = torch.rand(2, 9, 2, generator=torch.Generator().manual_seed(0))
    laid = scan_path(path, Points(x), 9)
    assert laid.scale is None and laid.order is not None and laid.order.dtype == torch.int32
    visited = visited_points(laid, 9)
    assert torch.equal(visited[:, 0], order_points(x))
    assert torch.equal(visited[:, 1], order_points(x).flip(-1))


def test_points_shared_by_all_samples_are_ordered_once():
    x = torch.rand(9, 2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(
        visited_points(scan_path("hilbert", Points(x), 9), 9),
        visited_points(scan_path("hilbert", Points(x[None]), 9), 9),
    )


def test_between_points_a_step_scales_with_the_distance_travelled():
    x = torch.tensor([[[3.0], [0.0], [1.0]], [[0.0], [2.0], [6.0]]])
    scale = scan_path("hilbert", Points(x, reference_spacing=2.0), 3).scale
    assert scale is not None
    expected = torch.tensor([[2.0, 1.0, 1.5], [2.0, 3.0, 4.0]]) / 2
    assert torch.allclose(scale, expected[:, None].expand(2, 2, 3))


@pytest.mark.parametrize("count", [0, 1])
def test_a_single_point_and_none_at_all_are_points_too(count):
    laid = scan_path("hilbert", Points(torch.rand(2, count, 2), 0.1), count)
    assert laid.scale is not None
    assert laid.scale.shape == (2, 2, count)


def test_no_gradient_reaches_the_coordinates_through_the_steps():
    scale = scan_path("hilbert", Points(torch.rand(9, 2, requires_grad=True), 0.1), 9).scale
    assert scale is not None and not scale.requires_grad


def test_a_path_and_its_tensors_go_to_a_device():
    laid = scan_path("hilbert", UNEVEN, 12).to(torch.device("meta"))
    assert laid.order is not None and laid.order.device.type == "meta"
    assert laid.scale is not None and laid.scale.device.type == "meta"


SCATTERED = Points(torch.zeros(5, 2))


@pytest.mark.parametrize(
    ("path", "domain", "message"),
    [
        ("spiral", (3, 4), "path='spiral' is not known; choose one of axial, bidirectional"),
        ("axial", None, "path='axial' needs a grid.*give a grid or its shape, or use path='bidir"),
        ("zigzag", SCATTERED, "path='zigzag' needs a grid"),
        ("hilbert", None, "path='hilbert' needs to know where the points are; give a grid or"),
        ("hilbert", SCATTERED, "5 points are given, but the input has 12"),
        ("axial", (3, 5), r"shape \(3, 5\) has 15 points, but the input has 12; give the grid"),
        ("axial", (3, 0), "expected positive values"),
        ("axial", (1, 1, 3, 4), "from one to three"),
        ("hilbert", (), "from one to three"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_remedy(path, domain, message):
    with pytest.raises(ValueError, match=message):
        scan_path(path, domain, 12)


@pytest.mark.slow
@pytest.mark.nightly
def test_paths_become_part_of_traced_graphs():
    # In a process without the checks of shapes, which cannot be traced.
    command = [sys.executable, "-m", "tests.scan.run_traced", "paths"]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    paths = ["axial", "axial", "hilbert", "hilbert", "zigzag", "zigzag", "points"]
    assert done.stdout.split() == paths


SHAPES_curves = st.one_of(
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
@given(shape=SHAPES_curves)
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
    order = order_points(grid_points(*((np.arange(n) + 0.5) / n for n in shape)).to(dtype))[0]
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
    x = torch.rand(1, side * side, 2, generator=torch.Generator().manual_seed(seed))
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
