"""The residual of the FitzHugh-Nagumo equations: what the solver's frames keep of it, and why."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mno.core.grid import Grid
from mno.scenarios.base import make_scenario
from mno.scenarios.diffusion_reaction import DiffusionReactionParameters
from mno.scenarios.residuals import residual_of

NAMES = ("activator", "inhibitor")


def numbers(**parameters: float) -> dict[str, torch.Tensor]:
    values = DiffusionReactionParameters(**parameters)
    names = ("activator_diffusivity", "inhibitor_diffusivity", "offset")
    return {name: torch.tensor(getattr(values, name), dtype=torch.float64) for name in names}


def space_time(frames: int, n: int, interval: float) -> Grid:
    return Grid((frames, n, n), (interval, 2 / n, 2 / n))


def residual(fields: dict[str, torch.Tensor], grid: Grid, **parameters: float) -> np.ndarray:
    return residual_of("diffusion_reaction")({**fields, **numbers(**parameters)}, grid).numpy()


def solved(frames: int, first: int, samples: int = 6, n: int = 24) -> tuple[dict, Grid]:
    """Solved samples from a frame on, in float64, with their grid in space and time."""
    scenario = make_scenario("diffusion_reaction", n, {"frames": frames})
    drawn = [scenario.sample(np.random.default_rng(seed)) for seed in range(samples)]
    trajectories = [scenario.solve(fields) for fields in drawn]
    fields = {
        name: torch.from_numpy(np.stack([t[name][first:] for t in trajectories]).astype(float))
        for name in NAMES
    }
    return fields, space_time(frames - first, n, 5.0 / (frames - 1))


def test_the_solvers_frames_keep_a_small_residual_of_second_order_from_the_second_frame_on():
    left = [residual(*solved(frames, frames // 20)) for frames in (21, 41, 81)]
    assert left[0].max() < 1e-2
    for coarse, fine in zip(left, left[1:], strict=False):
        order = np.log2(coarse / fine)
        assert 1.8 < order.min() <= order.max() < 2.1


def test_in_the_first_interval_it_is_larger_but_bounded():
    left = residual(*solved(21, 0))
    assert left.max() < 0.2


def test_frames_made_by_its_own_rule_have_no_residual_but_rounding():
    n, dt = 8, 0.1
    x = (np.arange(n) + 0.5) / n
    w = np.stack([np.outer(np.cos(np.pi * x), x), np.outer(x * x, np.cos(np.pi * x))])
    laplacian = np.diag(np.ones(n - 1), 1) + np.diag(np.ones(n - 1), -1)
    laplacian = (laplacian - np.diag(laplacian.sum(axis=1))) * (n / 2) ** 2

    def rate(state: np.ndarray) -> np.ndarray:
        u, v = state
        spread = [d * (laplacian @ f + f @ laplacian) for d, f in ((1e-3, u), (5e-3, v))]
        return np.stack([spread[0] + u - u**3 - 5e-3 - v, spread[1] + u - v])

    frames = [w]
    for _ in range(2):
        after = frames[-1]
        for _ in range(60):  # a contraction for so short an interval
            after = frames[-1] + dt * rate((frames[-1] + after) / 2)
        frames.append(after)
    states = torch.from_numpy(np.stack(frames, axis=1)[:, None])
    fields = dict(zip(NAMES, states, strict=True))
    assert residual(fields, space_time(3, n, dt)).item() < 1e-13
    fields["activator"][0, 1, 2, 3] += 0.1
    assert residual(fields, space_time(3, n, dt)).item() > 0.05


def test_each_sample_has_its_own_relative_to_its_first_frame():
    n, dt, offset = 4, 0.5, 0.0
    still = torch.zeros(3, 2, n, n, dtype=torch.float64)
    u, v = still.clone(), still.clone()
    u[0], v[0] = 1.0, 1.0  # u - u^3 - v = -1 and u - v = 0, but nothing moves
    u[1], v[1] = 2.0, -6.0  # u - u^3 - v = 0 and u - v = 8
    left = residual({"activator": u, "inhibitor": v}, space_time(2, n, dt), offset=offset)
    np.testing.assert_allclose(left, [np.sqrt(1 / 2), np.sqrt(64 / 40), 0.0])


def test_its_gradient_is_that_of_its_values():
    rng = np.random.default_rng(0)
    u, v = (torch.from_numpy(rng.standard_normal((2, 3, 4, 4))).requires_grad_() for _ in NAMES)

    def of_states(u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        fields = {"activator": u, "inhibitor": v, **numbers()}
        return residual_of("diffusion_reaction")(fields, space_time(3, 4, 0.25))

    assert torch.autograd.gradcheck(of_states, (u, v))


@pytest.mark.parametrize("spacing", [(0.1, (0.4, 0.6), 0.5), (0.5, 0.5)])
def test_unequal_cells_and_a_grid_without_time_are_refused(spacing):
    fields = dict.fromkeys(NAMES, torch.zeros(1, 2, 2, 2))
    with pytest.raises(ValueError, match="one width for each of time, x and y"):
        residual(fields, Grid((2,) * len(spacing), spacing))
