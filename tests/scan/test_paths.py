from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
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
    visited = walks("cross", (2, 3, 4), 24)
    for walk, axis in zip(visited[:3], (2, 1, 0), strict=True):
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
    laid = scan_path("temporal", shape, math.prod(shape))
    (direction,) = laid.directions
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
    places = np.stack([x[walk // 4], y[walk % 4]], axis=-1)
    apart = np.linalg.norm(np.diff(places, axis=0), axis=1)
    mean = (np.append(apart[0], apart) + np.append(apart, apart[-1])) / 2
    assert np.allclose(scale[0, :, walk], mean)


@pytest.mark.parametrize("path", ["hilbert", "zigzag"])
def test_a_curve_on_a_grid_of_half_the_spacing_has_steps_of_half_the_length(path):
    scale = scan_path(path, Grid((3, 4), (0.1, 0.1), (0.2, 0.2)), 12).scale
    assert scale is not None
    assert torch.allclose(scale, torch.full((1, 2, 12), 0.5))


def test_frames_at_irregular_times_scale_the_steps_along_time():
    times = Grid.from_centres((0.0, 1.0, 3.0), reference_spacing=(0.5,))
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
    x = torch.rand(9, 2, requires_grad=True)
    scale = scan_path("hilbert", Points(x, 0.1), 9).scale
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
