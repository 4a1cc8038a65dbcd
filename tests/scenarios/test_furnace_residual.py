"""The residual of heat conduction in a furnace: what the solver's frames keep of it, and why."""

from __future__ import annotations

import numpy as np
import torch

from mno.core.grid import Grid
from mno.scenarios.base import make_scenario
from mno.scenarios.residuals import residual_of


def solved(
    frames: int, n: int = 24, seed: int = 1, warm_share: float = 0.0
) -> tuple[dict[str, torch.Tensor], Grid]:
    """A sample as a batch of one, in float64, with its grid."""
    scenario = make_scenario("furnace", n, {"frames": frames, "warm_share": warm_share})
    inputs = scenario.sample(np.random.default_rng(seed))
    arrays = {**inputs, **scenario.solve(inputs)}
    fields = {name: torch.from_numpy(np.asarray(a, float))[None] for name, a in arrays.items()}
    fields["heat_transfer_coefficient"] = torch.tensor(10.0, dtype=torch.float64)
    return fields, Grid((frames, n, n), (43200.0 / (frames - 1), 2.0 / n, 2.0 / n))


def frames_of(fields: dict, grid: Grid, first: int, last: int) -> tuple[dict, Grid]:
    part = {name: fields[name][:, first:last] for name in ("power", "temperature")}
    return {**fields, **part}, Grid((last - first, *grid.shape[1:]), grid.spacing)


def residual(fields: dict[str, torch.Tensor], grid: Grid) -> np.ndarray:
    return residual_of("furnace")(fields, grid).detach().numpy()


def test_the_solvers_frames_keep_a_small_residual_that_falls_with_the_interval():
    for seed in range(3):
        left = [residual(*solved(frames, seed=seed)).item() for frames in (25, 49, 97)]
        assert left[0] < 0.15
        assert 1.2 < left[0] / left[1] < 2.2 and 1.2 < left[1] / left[2] < 2.2


def test_where_a_hot_furnace_meets_a_cold_charge_it_is_larger_but_bounded():
    fields, grid = solved(25, warm_share=1.0)
    assert residual(*frames_of(fields, grid, 0, 2)).item() < 10.0
    assert residual(*frames_of(fields, grid, 1, 25)).item() < 0.2


def test_where_nothing_changes_any_more_it_is_zero_but_for_rounding():
    # A constant power for 10^8 s; then the frames are the steady state.
    scenario = make_scenario("furnace", 20, {"duration": 1e7, "frames": 11})
    inputs = scenario.sample(np.random.default_rng(0))
    inputs["power"][:] = inputs["power"][2]
    fields, _ = solved(11, 20)
    arrays = {**inputs, **scenario.solve(inputs)}
    fields |= {name: torch.from_numpy(np.asarray(a, float))[None] for name, a in arrays.items()}
    grid = Grid((11, 20, 20), (1e6, 0.1, 0.1))
    assert residual(*frames_of(fields, grid, 9, 11)).item() < 1e-4
    fields["temperature"][0, 10, 5, 6] += 1.0
    assert residual(*frames_of(fields, grid, 9, 11)).item() > 0.01


def test_frames_made_by_its_own_rule_have_no_residual_but_rounding():
    n, dt = 6, 100.0
    rng = np.random.default_rng(3)
    kappa, capacity = rng.uniform(1.0, 40.0, (n, n)), rng.uniform(1e5, 5e6, (n, n))
    power, film, h = rng.uniform(0.0, 1e4, (3, n, n)), 10.0, 0.1
    matrix, outer = np.zeros((n * n, n * n)), np.zeros((n, n))
    for i, j in np.ndindex(n, n):
        for k, m in ((i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)):
            if 0 <= k < n and 0 <= m < n:
                t = 2.0 / (1.0 / kappa[i, j] + 1.0 / kappa[k, m]) / h**2
                matrix[i * n + j, i * n + j] += t
                matrix[i * n + j, k * n + m] -= t
            else:
                outer[i, j] += 1.0 / (h * (h / 2 / kappa[i, j] + 1.0 / film))
    matrix += np.diag(outer.ravel())
    rise = [rng.uniform(0.0, 500.0, n * n)]
    for q in power[:2]:
        storage = capacity.ravel() / dt
        rise.append(np.linalg.solve(matrix + np.diag(storage), storage * rise[-1] + q.ravel()))
    arrays = {
        "conductivity": kappa,
        "heat_capacity": capacity,
        "power": power,
        "ambient_temperature": np.array(290.0),
        "temperature": 290.0 + np.reshape(rise, (3, n, n)),
    }
    fields = {name: torch.from_numpy(array)[None] for name, array in arrays.items()}
    fields["heat_transfer_coefficient"] = torch.tensor(film, dtype=torch.float64)
    grid = Grid((3, n, n), (dt, h, h))
    assert residual(fields, grid).item() < 1e-9
    fields["heat_transfer_coefficient"] = torch.tensor(1.01 * film, dtype=torch.float64)
    assert residual(fields, grid).item() > 1e-4


def test_a_furnace_that_only_cools_down_has_a_size_and_a_cold_one_no_residual():
    fields, grid = solved(5)
    fields["power"] = torch.zeros_like(fields["power"])
    assert 0.0 < residual(fields, grid).item() < np.inf
    ambient = fields["ambient_temperature"][:, None, None, None]
    fields["temperature"] = ambient.expand_as(fields["temperature"])
    assert residual(fields, grid).item() == 0.0


def test_a_state_of_stress_beside_the_temperature_changes_nothing():
    fields, grid = solved(3)
    stress = torch.full_like(fields["temperature"], 1e8)
    assert residual({**fields, "stress": stress}, grid) == residual(fields, grid)


def test_its_gradient_is_that_of_its_values():
    fields, grid = solved(5, n=20)
    fields, grid = frames_of(fields, grid, 0, 3)

    given, later = fields["temperature"][:, :1], fields["temperature"][:, 1:, :4]

    def of_later(rows: torch.Tensor) -> torch.Tensor:
        frames = torch.cat([rows, fields["temperature"][:, 1:, 4:]], dim=-2)
        temperature = torch.cat([given, frames], dim=1)
        return residual_of("furnace")({**fields, "temperature": temperature}, grid)

    assert torch.autograd.gradcheck(
        of_later, (later.clone().requires_grad_(),), eps=1e-2, atol=1e-10, rtol=1e-4
    )
