"""The residual of plane flows: what the solver's frames keep of it, and why."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mno.core.grid import Grid
from mno.scenarios.base import make_scenario
from mno.scenarios.residuals import residual_of

FORCING = 0.1


def residual(vorticity: np.ndarray, viscosity: float, interval: float) -> np.ndarray:
    batch, frames, n, _ = vorticity.shape
    fields = {
        "vorticity": torch.from_numpy(vorticity),
        "viscosity": torch.full((batch,), viscosity, dtype=torch.float64),
        "forcing": torch.tensor(FORCING, dtype=torch.float64),
    }
    grid = Grid((frames, n, n), (interval, 1 / n, 1 / n))
    return residual_of("navier_stokes")(fields, grid).numpy()


def solved(frames: int, first: int, n: int = 24) -> np.ndarray:
    """What is left in solved samples from a frame on."""
    scenario = make_scenario("navier_stokes", n, {"frames": frames, "viscosity_low": 1e-3})
    drawn = [scenario.sample(np.random.default_rng(seed)) for seed in range(6)]
    vorticity = np.stack([scenario.solve(inputs)["vorticity"] for inputs in drawn])
    return residual(vorticity[:, first:].astype(np.float64), 1e-3, 10.0 / (frames - 1))


def test_the_solvers_frames_keep_a_small_residual_of_second_order_from_the_second_frame_on():
    left = [solved(frames, frames // 10) for frames in (11, 21, 41)]
    assert left[0].max() < 5e-3
    for coarse, fine in zip(left, left[1:], strict=False):
        order = np.log2(coarse / fine)
        assert 1.8 < order.min() <= order.max() < 2.2


@pytest.mark.parametrize("n", [9, 10])
def test_frames_made_by_its_own_rule_have_no_residual_but_rounding(n):
    # Dense matrices of derivatives, no transform.
    dt, viscosity = 0.02, 0.01
    k = np.arange(1, (n + 1) // 2)
    places = (np.arange(n) + 0.5) / n
    distance = np.subtract.outer(places, places)
    first = -4 * np.pi / n * np.sum(k * np.sin(2 * np.pi * distance[..., None] * k), axis=-1)
    second = first @ first
    laplacian = np.kron(second, np.eye(n)) + np.kron(np.eye(n), second)
    inverse = np.linalg.pinv(laplacian, rcond=1e-9)
    angle = 2 * np.pi * np.add.outer(places, places)
    force = FORCING * (np.sin(angle) + np.cos(angle))

    def rate(w: np.ndarray) -> np.ndarray:
        psi = (-inverse @ w.ravel()).reshape(n, n)
        u, v = psi @ first.T, -first @ psi
        spread = second @ w + w @ second.T
        return viscosity * spread - u * (first @ w) - v * (w @ first.T) + force

    x = 2 * np.pi * places
    frames = [3 * np.outer(np.sin(x), np.cos(2 * x)) + 2 * np.outer(np.cos(x), np.ones(n))]
    for _ in range(2):
        after = frames[-1]
        for _ in range(100):  # a contraction for so short an interval
            after = frames[-1] + dt * rate((frames[-1] + after) / 2)
        frames.append(after)
    vorticity = np.stack(frames)[None]
    assert residual(vorticity, viscosity, dt).item() < 1e-11
    vorticity[0, 1, 2, 3] += 0.5
    assert residual(vorticity, viscosity, dt).item() > 0.05


def test_each_sample_has_its_own_viscosity():
    n = 8
    places = (np.arange(n) + 0.5) / n
    angle = 2 * np.pi * np.add.outer(places, places)
    wave = np.sin(angle) + np.cos(angle)  # moves nothing of itself
    fields = {
        "vorticity": torch.from_numpy(np.tile(wave, (2, 2, 1, 1))),
        "viscosity": torch.tensor([1e-3, 1e-2], dtype=torch.float64),
        "forcing": torch.tensor(FORCING, dtype=torch.float64),
    }
    left = residual_of("navier_stokes")(fields, Grid((2, n, n), (0.5, 1 / n, 1 / n)))
    expected = np.abs(8 * np.pi**2 * np.array([1e-3, 1e-2]) - FORCING)
    np.testing.assert_allclose(left, expected, rtol=1e-10)


def test_its_gradient_is_that_of_its_values():
    rng = np.random.default_rng(0)
    vorticity = torch.from_numpy(rng.standard_normal((2, 2, 4, 5))).requires_grad_()
    viscosity = torch.tensor([0.1, 0.2], dtype=torch.float64, requires_grad=True)

    def of_fields(vorticity: torch.Tensor, viscosity: torch.Tensor) -> torch.Tensor:
        fields = {"vorticity": vorticity, "viscosity": viscosity, "forcing": torch.tensor(0.1)}
        return residual_of("navier_stokes")(fields, Grid((2, 4, 5), (0.25, 1 / 4, 1 / 5)))

    assert torch.autograd.gradcheck(of_fields, (vorticity, viscosity))


@pytest.mark.parametrize("spacing", [(0.1, (0.4, 0.6), 0.5), (0.5, 0.5)])
def test_unequal_cells_and_a_grid_without_time_are_refused(spacing):
    fields = {"vorticity": torch.zeros(1, 2, 2, 2), "viscosity": torch.zeros(1)}
    with pytest.raises(ValueError, match="one width for each of time, x and y"):
        residual_of("navier_stokes")(fields, Grid((2,) * len(spacing), spacing))
