import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mno.core.grid import Grid
from mno.core.points import Points

WIDTHS = st.lists(st.floats(0.01, 10.0), min_size=1, max_size=20).map(tuple)


def test_steps_scale_with_the_spacing_relative_to_the_reference():
    grid = Grid((3, 2), (0.5, (0.1, 0.3)), (1.0, 0.2))
    assert grid.num_points == 6
    assert grid.delta_scale == (0.5, pytest.approx((0.5, 1.5)))


def test_without_a_reference_a_grid_is_its_own():
    assert Grid((3, 4), (0.5, 0.1)).delta_scale == (1.0, 1.0)
    assert Grid((2,), ((0.1, 0.3),)).reference_spacing == pytest.approx((0.2,))


def test_equal_cells_have_their_points_in_the_middle_and_equal_volumes():
    grid = Grid((4, 2), (0.5, 7.0))
    assert grid.centres(0) == (0.125, 0.375, 0.625, 0.875)
    assert grid.centres(1) == (0.25, 0.75)
    assert grid.volumes() == (0.25, 0.5)


@given(WIDTHS)
def test_the_points_of_unequal_cells_lie_in_the_middle_of_each(widths):
    grid = Grid((len(widths),), (widths,))
    edges = np.concatenate([[0], np.cumsum(widths)]) / sum(widths)
    assert np.allclose(grid.centres(0), (edges[1:] + edges[:-1]) / 2)


@given(WIDTHS)
def test_the_volumes_of_unequal_cells_are_their_shares_of_the_axis(widths):
    (volumes,) = Grid((len(widths),), (widths,)).volumes()
    assert isinstance(volumes, tuple)
    assert math.fsum(volumes) == pytest.approx(1)
    assert np.allclose(np.array(volumes) * sum(widths), widths)


def test_a_width_for_each_cell_says_the_same_as_one_for_equal_cells():
    one, each = Grid((5,), (0.2,), (0.1,)), Grid((5,), ((0.2,) * 5,), (0.1,))
    assert each.centres(0) == pytest.approx(one.centres(0))
    assert each.volumes()[0] == pytest.approx((one.volumes()[0],) * 5)
    assert each.delta_scale[0] == pytest.approx((one.delta_scale[0],) * 5)


def test_points_need_not_lie_in_the_middle_of_their_cells():
    shares = ((0.0, 0.4, 0.9),)
    made = Grid((3,), ((1.0, 1.5, 2.0),), (0.5,), shares)
    assert made.centres(0) == shares[0] and made.delta_scale == ((2.0, 3.0, 4.0),)
    assert made.in_time(2, 0.1).centres(1) == shares[0]
    assert {made: 1}[Grid((3,), ((1.0, 1.5, 2.0),), (0.5,), shares)] == 1
    assert made != Grid((3,), made.spacing, (0.5,))


@pytest.mark.parametrize(
    ("shape", "spacing", "reference", "message"),
    [
        ((), (), (), r"shape \(\) .* expected the same number of axes, from one to three"),
        ((1, 1, 1, 1), (1.0,) * 4, (), "from one to three"),
        ((3, 4), (0.1,), (), r"shape \(3, 4\) with spacing \(0.1,\).* the same number of axes"),
        ((3,), (0.1,), (0.1, 0.2), "the same number of axes"),
        ((3,), ((0.1, 0.2),), (), "axis of 3 points is given 2 cell widths; give one for each"),
        ((3,), ((),), (), "axis of 3 points is given 0 cell widths; give one for each"),
        ((0,), (0.1,), (), r"shape \(0,\).* expected positive values"),
        ((3,), (-0.1,), (), r"spacing \(-0.1,\).* expected positive values"),
        ((2,), ((0.1, math.nan),), (0.1,), "expected positive values"),
        ((3,), (math.inf,), (0.1,), "expected positive values"),
        ((3,), (0.1,), (0.0,), r"reference spacing \(0.0,\): expected positive values"),
    ],
)
def test_a_grid_that_cannot_be_is_refused(shape, spacing, reference, message):
    with pytest.raises(ValueError, match=message):
        Grid(shape, spacing, reference)


def test_points_know_how_many_they_are():
    assert Points(torch.rand(5, 2)).num_points == 5
    assert Points(torch.rand(3, 7, 1)).num_points == 7


@pytest.mark.parametrize("shape", [(5,), (5, 0), (5, 4), (2, 2, 5, 2)])
def test_coordinates_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"coordinates have shape \(.*expected \(points, axes\)"):
        Points(torch.rand(shape))


@pytest.mark.parametrize("reference", [0.0, -1.0, math.nan])
def test_a_reference_distance_that_is_not_positive_is_refused(reference):
    with pytest.raises(ValueError, match=f"reference_spacing={reference} must be positive"):
        Points(torch.rand(5, 2), reference)


def test_lists_of_widths_are_taken_as_tuples():
    # In a process without the checks of types.
    code = "from mno.core.grid import Grid; g = Grid([3], [[1.0, 2.0, 3.0]]); print(hash(g), g)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "shape=(3,), spacing=((1.0, 2.0, 3.0),)" in done.stdout
