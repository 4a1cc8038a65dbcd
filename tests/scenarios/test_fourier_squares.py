"""Squares of periodic functions by compiled transforms, and the coefficients of ETDRK4."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import mno
from mno.scenarios.kernels import transforms, vorticity
from mno.scenarios.kernels.runge_kutta import etdrk4
from mno.scenarios.kernels.transforms import (
    line_points,
    line_square,
    square_on_line,
    square_on_torus,
    torus_points,
    torus_square,
)


def squared_on_line(u: np.ndarray, points: int) -> np.ndarray:
    out = np.empty_like(u)
    square_on_line(u, line_square(len(u) - 1, points), out)
    return out / points


def squared_on_torus(z: np.ndarray, points: int) -> tuple[np.ndarray, float]:
    """The square of a function whose waves `z` run from minus the cutoff on along both axes."""
    waves, cutoff = len(z), len(z) // 2
    shape, squaring = torus_square(cutoff, points)
    rows, out = np.zeros((2, *shape))
    up, down = rows[:, : shape[1] // 2], rows[:, shape[1] // 2 :]
    for half, part in ((up, z[:, cutoff:]), (down, z[:, cutoff::-1])):
        lanes = np.zeros((waves, half.shape[1] * 8), np.complex128)
        lanes[:, : cutoff + 1] = part
        lanes = lanes.reshape(waves, -1, 8)
        half[:, :, 0], half[:, :, 1] = lanes.real, lanes.imag
    largest = square_on_torus(rows, squaring, out)
    square = (out[:, :, 0] + 1j * out[:, :, 1]).reshape(waves, 2, -1)[:, :, : cutoff + 1]
    np.testing.assert_array_equal(square[:, 0, 0], square[:, 1, 0])
    return np.concatenate([square[:, 1, :0:-1], square[:, 0]], axis=1) / points**2, largest


def random_waves(shape: tuple[int, ...]) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)


@pytest.mark.parametrize("points", [128, 256, 384, 512, 640, 768, 1152, 1280, 1920, 2048, 3200])
def test_the_square_on_a_circle_is_that_of_numpys_transforms(points):
    u = random_waves(((points - 1) // 3 + 1,))
    u[0] = u[0].real
    expected = np.fft.rfft((np.fft.irfft(u, points) * points) ** 2)[: len(u)] / points
    found = squared_on_line(u, points)
    assert np.max(np.abs(found - expected)) < 1e-14 * np.max(np.abs(expected))


@pytest.mark.parametrize("points", [8, 16, 24, 32, 40, 48, 64, 72, 80, 96, 120, 128, 160, 200, 240])
def test_the_square_on_a_torus_is_that_of_numpys_transforms(points):
    cutoff = (points - 1) // 3
    z = random_waves((2 * cutoff + 1, 2 * cutoff + 1))
    index = np.arange(-cutoff, cutoff + 1)
    full = np.zeros((points, points), np.complex128)
    full[np.ix_(index, index)] = z
    values = np.fft.ifft2(full) * points**2
    expected = np.fft.fft2(values**2)[np.ix_(index, index)] / points**2
    found, largest = squared_on_torus(z, points)
    assert np.max(np.abs(found - expected)) < 1e-14 * np.max(np.abs(expected))
    assert largest == pytest.approx(np.max(np.abs(values)) ** 2, rel=1e-13)


@pytest.mark.parametrize("cutoff", [1, 5, 31, 42, 43, 63, 100, 170])
def test_products_are_free_of_aliasing_on_the_fewest_points(cutoff):
    u = random_waves((cutoff + 1,))
    u[0] = u[0].real
    points = line_points(cutoff)
    assert 3 * cutoff < points < 3 * cutoff + 128 + 0.4 * points
    both = np.concatenate([u[:0:-1].conj(), u])
    exact = np.convolve(both, both)[2 * cutoff : 3 * cutoff + 1]
    assert np.max(np.abs(squared_on_line(u, points) - exact)) < 1e-13 * np.max(np.abs(exact))
    assert 3 * cutoff < torus_points(cutoff) < 3 * cutoff + 8 + 0.4 * cutoff


def test_one_wave_along_each_axis_ends_where_it_should():
    z = np.zeros((7, 7), np.complex128)
    z[3 + 1, 3 - 2] = 2.0  # exp(2 pi i (x - 2 y)), whose square is beyond the cutoff along y
    z[3, 3 + 1] = 1j
    found, _ = squared_on_torus(z, torus_points(3))
    expected = np.zeros_like(z)
    expected[3 + 1, 3 - 1], expected[3, 3 + 2] = 4j, -1.0
    np.testing.assert_allclose(found, expected, atol=1e-15)


def test_the_coefficients_of_etdrk4_are_those_of_contour_integrals():
    rates = -np.concatenate([[0.0], np.geomspace(1e-8, 1e4, 60), [3.99, 4.0, 4.01]])
    step = 0.5
    circle = np.exp(2j * np.pi * (np.arange(64) + 0.5) / 64)
    z = step * rates[:, None] + circle
    e = np.exp(z)
    formulas = (
        np.expm1(z / 2) / z,
        (-4 - z + e * (4 - 3 * z + z**2)) / z**3,
        2 * (2 + z + e * (z - 2)) / z**3,
        (-4 - 3 * z - z**2 + e * (4 - z)) / z**3,
    )
    expected = [step * np.mean(formula, axis=1).real for formula in formulas]
    found = etdrk4(rates, step)
    np.testing.assert_allclose(found[0], np.exp(step * rates), rtol=1e-14)
    np.testing.assert_allclose(found[1], np.exp(step * rates / 2), rtol=1e-14)
    np.testing.assert_allclose(found[2:], expected, rtol=1e-8, atol=1e-15)


USE = """
import sys, numpy as np
from mno.scenarios.base import make_scenario
for name in sys.argv[1:]:
    scenario = make_scenario(name, 16, {"frames": 2})
    inputs = scenario.sample(np.random.default_rng(0))
    measured = scenario.check(inputs, scenario.solve(inputs))
    assert all(measured[check.name] <= check.tolerance for check in scenario.checks), measured
"""


@pytest.mark.slow
@pytest.mark.nightly
def test_kernels_that_different_processes_have_compiled_get_along(tmp_path):
    env = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    for names in (["burgers"], ["navier_stokes"], ["burgers", "navier_stokes"]):
        for order in (names, names[::-1]):
            command = [sys.executable, "-c", USE, *order]
            subprocess.run(command, cwd=Path(mno.__file__).parents[1], env=env, check=True)


def test_kernels_that_functions_have_made_have_names_of_their_own():
    stages = [vars(vorticity)[f"_stage_{kind}"] for kind in ("a", "b", "c", "end")]
    kernels = [*stages, *transforms._STAGES.values(), transforms.to_points, transforms.to_waves]
    assert len({kernel.py_func.__qualname__ for kernel in kernels}) == len(kernels) == 16
