from __future__ import annotations

import pytest
import torch

from mno.grid import Grid
from mno.scan.paths import PATHS, num_sweeps, sweeps

SHAPES = [(5,), (3, 4), (2, 3, 4)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("path", PATHS)
def test_lines_and_back_give_the_points_again(path, shape):
    points = torch.arange(2 * torch.Size(shape).numel() * 3.0).view(2, -1, 3)
    path_sweeps = sweeps(path, shape, points.shape[1])
    assert len(path_sweeps) == num_sweeps(path, len(shape))
    for sweep in path_sweeps:
        lines = sweep.to_lines(points)
        assert torch.equal(sweep.from_lines(lines), points)


def test_axial_lines_run_along_one_axis_at_a_time():
    grid = torch.arange(12.0).view(1, 3, 4, 1)
    rows, columns = sweeps("axial", (3, 4), 12)
    points = grid.view(1, 12, 1)
    assert torch.equal(rows.to_lines(points)[..., 0], grid[0, :, :, 0])
    assert torch.equal(columns.to_lines(points)[..., 0], grid[0, :, :, 0].t())


def test_a_bidirectional_line_visits_all_points_in_row_major_order():
    (line,) = sweeps("bidirectional", (3, 4), 12)
    points = torch.arange(24.0).view(2, 12, 1)
    assert torch.equal(line.to_lines(points), points)


def test_steps_scale_with_the_spacing_of_their_own_axis():
    grid = Grid((3, 4), (0.5, 0.1), (1.0, 0.4))
    assert [s.delta_scale for s in sweeps("axial", grid, 12)] == pytest.approx([0.25, 0.5])
    assert [s.delta_scale for s in sweeps("bidirectional", grid, 12)] == pytest.approx([0.25])
    assert [s.delta_scale for s in sweeps("axial", (3, 4), 12)] == [1.0, 1.0]


@pytest.mark.parametrize(
    ("path", "grid", "message"),
    [
        ("spiral", (3, 4), "path='spiral' is not known; choose one of axial, bidirectional"),
        ("axial", None, "path='axial'; give a grid or its shape, or use path='bidirectional'"),
        ("axial", (3, 5), r"shape \(3, 5\) has 15 points, but the input has 12"),
        ("axial", (3, 0), "expected positive values"),
        ("axial", (1, 1, 3, 4), "from one to three"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_remedy(path, grid, message):
    with pytest.raises(ValueError, match=message):
        sweeps(path, grid, 12)
