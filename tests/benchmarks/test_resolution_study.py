"""The truths of the resolution study: one function each, whatever grid it is seen on."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from benchmarks.resolution import Sampled, Task, in_space, in_time
from mno.core.grid import Grid


@pytest.mark.parametrize("size", in_space.SIZES)
def test_values_at_the_points_of_a_coarse_grid_are_exact_for_linear_functions(size):
    def plane(n):
        x = (np.arange(n) + 0.5) / n
        return 3 * x[:, None] - 2 * x

    np.testing.assert_allclose(
        in_space.at_points(plane(in_space.FINE), size), plane(size), atol=1e-14
    )


def test_every_grid_sees_the_same_permeability_and_pressure():
    task = in_space.make(1, 2, 1)
    coarse, _, fine = (kinds[0] for kinds in task.validation.values())
    corners = [fine.targets[:, i::4, j::4] for i in (1, 2) for j in (1, 2)]
    around = [fine.inputs[:, i::4, j::4] for i in (1, 2) for j in (1, 2)]
    agree = (coarse.inputs == sum(around) / 4).float().mean()
    assert ((coarse.targets - sum(corners) / 4).norm() / coarse.targets.norm()) < 0.01
    assert agree > 0.8  # the four neighbours differ only where a jump passes between them


def test_models_that_are_told_of_the_walls_answer_zero_there_in_physical_units():
    pytest.importorskip("neuralop", reason="the FNO that the study compares with is its own")
    from benchmarks.resolution.models import MODELS, build
    from benchmarks.resolution.training import Normalised

    # A square that is all wall: a tenth of a cell of training wide.
    grid = Grid((16, 16), (1 / 16,) * 2, reference_spacing=(10.0, 10.0))
    samples = Sampled(grid, torch.randn(2, 16, 16), 5 + torch.randn(2, 16, 16))

    def largest(options):
        torch.manual_seed(0)
        with torch.no_grad():
            return Normalised(build(options), Task(samples, {}, {}))(samples).abs().max()

    for name, options in MODELS["walls"].items():
        assert largest(options) < 0.2 < 4 < largest(MODELS["space"][name]), name


def test_the_driven_field_is_solved_with_order_two():
    source = in_time.draw_source(np.random.default_rng(0), 3)
    ends = [in_time.solve(source, steps)[-1] for steps in (64, 128, 256, 1024)]
    errors = [np.abs(end - ends[-1]).max() for end in ends[:-1]]
    assert 1.75 < math.log2(errors[0] / errors[1]) < 2.25, errors


def test_frames_are_steps_of_the_solution_and_irregular_ones_lie_within_it():
    task = in_time.make(1, 5, 5)
    few, many = (task.test[str(n)][0] for n in (in_time.FRAMES // 2, 2 * in_time.FRAMES))
    assert few.grid.shape == (16, in_time.CELLS) and many.grid.shape == (64, in_time.CELLS)
    assert len(task.test["irregular"]) == in_time.IRREGULAR
    for sampled in task.test["irregular"]:
        widths = sampled.grid.spacing[0]
        assert isinstance(widths, tuple) and len(widths) == in_time.FRAMES
        assert max(widths) > 1.5 * min(widths)
        assert 0.9 < sum(widths) / in_time.DURATION < 1.1
