"""Random dams: shapes, means over cells, and that the grid does not change what is drawn."""

from __future__ import annotations

import numpy as np
import pytest

from mno.scenarios.shallow_water import (
    Dam,
    ShallowWaterParameters,
    depth_at,
    draw_dams,
    mean_depth,
)


def grid(n: int) -> tuple[np.ndarray, np.ndarray, float]:
    points = 5.0 * ((np.arange(n) + 0.5) / n - 0.5)
    x, y = np.meshgrid(points, points, indexing="ij")
    return x, y, 5.0 / n


def drawn(seed: int, dams: int = 4) -> list[Dam]:
    return draw_dams(ShallowWaterParameters(dams=dams), np.random.default_rng(seed))


@pytest.mark.parametrize("is_rectangle", [False, True])
@pytest.mark.parametrize("angle", [0.0, 0.7, 2.0])
def test_the_volume_behind_a_dam_is_its_area_times_what_it_is_deeper(is_rectangle, angle):
    dam = Dam(1.75, (0.3, -0.4), (0.8, 0.5), angle, is_rectangle)
    x, y, width = grid(40)
    means = mean_depth([dam], 1.0, x, y, width)
    area = 4.0 * 0.8 * 0.5 if is_rectangle else np.pi * 0.8 * 0.5
    assert np.sum(means - 1.0) * width**2 == pytest.approx(0.75 * area, rel=0.03)
    assert np.sum((means - 1.0) * x) / np.sum(means - 1.0) == pytest.approx(0.3, abs=0.02)
    assert np.sum((means - 1.0) * y) / np.sum(means - 1.0) == pytest.approx(-0.4, abs=0.02)


def test_a_rotated_dam_lies_along_its_angle():
    x, y, _ = grid(60)
    for is_rectangle in (False, True):
        raised = depth_at([Dam(2.0, (0.0, 0.0), (1.0, 0.3), np.pi / 6, is_rectangle)], 1.0, x, y)
        points = np.stack([x, y])[:, raised > 1.0]
        _, axes = np.linalg.eigh(np.cov(points))
        assert abs(axes[:, 1] @ [np.cos(np.pi / 6), np.sin(np.pi / 6)]) > 0.999


def test_where_dams_overlap_the_deepest_counts():
    dams = [Dam(2.0, (0.0, 0.0), (1.0, 1.0)), Dam(3.0, (0.5, 0.0), (1.0, 1.0))]
    places = np.array([-0.9, 0.0, 1.4, 2.0])
    np.testing.assert_array_equal(
        depth_at(dams, 1.0, places, np.zeros(4)), np.array([2.0, 3.0, 3.0, 1.0])
    )


@pytest.mark.parametrize("seed", range(4))
def test_means_over_cells_are_those_of_finer_points(seed):
    dams = drawn(seed)
    x, y, width = grid(20)
    x_fine, y_fine, _ = grid(20 * 64)
    fine = depth_at(dams, 1.0, x_fine, y_fine).reshape(20, 64, 20, 64).mean(axis=(1, 3))
    means = mean_depth(dams, 1.0, x, y, width)
    assert np.abs(means - fine).max() < 0.05
    assert np.abs(means - fine).mean() < 2e-3
    whole = np.isin(means, [1.0, *(dam.depth for dam in dams)])
    assert 0.4 < whole.mean() < 1.0
    np.testing.assert_allclose(means[whole], fine[whole], atol=0.05)


def test_numbers_depths_and_shapes_spread_over_what_is_asked_for():
    draws = [drawn(seed) for seed in range(400)]
    counts = np.bincount([len(dams) for dams in draws], minlength=5)
    assert counts[0] == 0
    assert counts[1:].min() > 70
    dams = [dam for draw in draws for dam in draw]
    for values, low, high in (
        ([dam.depth for dam in dams], 1.5, 2.0),
        ([radius for dam in dams for radius in dam.radii], 0.3, 0.7),
        ([place for dam in dams for place in dam.centre], -1.5, 1.5),
        ([dam.angle for dam in dams], 0.0, np.pi),
    ):
        assert low <= min(values) < low + 0.02 * (high - low)
        assert high - 0.02 * (high - low) < max(values) <= high
        assert np.mean(values) == pytest.approx((low + high) / 2, abs=0.05 * (high - low))
    assert np.mean([dam.is_rectangle for dam in dams]) == pytest.approx(0.5, abs=0.06)
    assert {len(drawn(seed, dams=1)) for seed in range(20)} == {1}
