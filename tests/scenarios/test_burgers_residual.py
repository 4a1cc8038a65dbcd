"""The residual of Burgers' equation: what the solver's frames keep of it, and why."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mno.core.grid import Grid
from mno.scenarios.base import make_scenario
from mno.scenarios.residuals import residual_of


def residual(velocity: np.ndarray, viscosity: float, interval: float) -> np.ndarray:
    batch, frames, n = velocity.shape
    numbers = torch.full((batch,), viscosity, dtype=torch.float64)
    fields = {"velocity": torch.from_numpy(velocity), "viscosity": numbers}
    return residual_of("burgers")(fields, Grid((frames, n), (interval, 1 / n))).numpy()


def solved(frames: int, first: int) -> np.ndarray:
    """What is left in solved samples from a frame on."""
    parameters = {"frames": frames, "viscosity_low": 0.05, "viscosity_high": 0.05}
    scenario = make_scenario("burgers", 32, parameters)
    drawn = [scenario.sample(np.random.default_rng(seed)) for seed in range(6)]
    velocity = np.stack([scenario.solve(inputs)["velocity"] for inputs in drawn])
    return residual(velocity[:, first:].astype(np.float64), 0.05, 1.0 / (frames - 1))


def test_the_solvers_frames_keep_a_small_residual_of_second_order():
    left = [solved(frames, frames // 10) for frames in (41, 81, 161)]
    assert left[0].max() < 2e-2
    for coarse, fine in zip(left, left[1:], strict=False):
        order = np.log2(coarse / fine)
        assert 1.8 < order.min() <= order.max() < 2.2


@pytest.mark.parametrize("n", [15, 16])
def test_frames_made_by_its_own_rule_have_no_residual_but_rounding(n):
    dt, viscosity = 0.01, 0.05
    x = np.arange(n) / n
    k = np.fft.fftfreq(n, 1 / n)
    k[np.abs(k) == n / 2] = 0.0
    derivative = np.fft.ifft(2j * np.pi * k[:, None] * np.fft.fft(np.eye(n), axis=0), axis=0).real

    def rate(u: np.ndarray) -> np.ndarray:
        return derivative @ (viscosity * (derivative @ u) - u**2 / 2)

    frames = [np.sin(2 * np.pi * x) + 0.2 + 0.5 * np.cos(6 * np.pi * x)]
    for _ in range(2):
        after = frames[-1]
        for _ in range(200):  # a contraction for so short an interval
            after = frames[-1] + dt * rate((frames[-1] + after) / 2)
        frames.append(after)
    velocity = np.stack(frames)[None]
    assert residual(velocity, viscosity, dt).item() < 1e-11
    velocity[0, 1, 2] += 0.1
    assert residual(velocity, viscosity, dt).item() > 0.05


def test_each_sample_has_its_own_viscosity():
    x = np.arange(16) / 16
    wave = 1e-3 * np.sin(2 * np.pi * x)  # so small that it only diffuses
    velocity = torch.from_numpy(np.tile(wave, (2, 2, 1)))
    fields = {"velocity": velocity, "viscosity": torch.tensor([0.01, 0.1], dtype=torch.float64)}
    left = residual_of("burgers")(fields, Grid((2, 16), (0.1, 1 / 16)))
    size = np.sqrt(np.mean(wave**2)) / max(1e-3, np.sqrt(np.mean(wave**2)))
    np.testing.assert_allclose(left, 4 * np.pi**2 * np.array([0.01, 0.1]) * size, rtol=1e-2)


def test_its_gradient_is_that_of_its_values():
    rng = np.random.default_rng(0)
    velocity = torch.from_numpy(rng.standard_normal((2, 3, 6))).requires_grad_()
    viscosity = torch.tensor([0.1, 0.2], dtype=torch.float64, requires_grad=True)

    def of_fields(velocity: torch.Tensor, viscosity: torch.Tensor) -> torch.Tensor:
        fields = {"velocity": velocity, "viscosity": viscosity}
        return residual_of("burgers")(fields, Grid((3, 6), (0.25, 1 / 6)))

    assert torch.autograd.gradcheck(of_fields, (velocity, viscosity))


@pytest.mark.parametrize("spacing", [(0.1, (0.4, 0.6)), (0.5, 0.5, 0.5)])
def test_unequal_cells_and_another_number_of_axes_are_refused(spacing):
    fields = {"velocity": torch.zeros(1, 2, 2), "viscosity": torch.zeros(1)}
    with pytest.raises(ValueError, match="one width for each of time and x"):
        residual_of("burgers")(fields, Grid((2,) * len(spacing), spacing))
