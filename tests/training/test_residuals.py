"""Residuals of equations in torch: zero on the solver's output, and felt by training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from darcy_problem import darcy, make_darcy_split
from smoothing_problem import CONFIG, run

from mno.core.errors import InputError
from mno.core.grid import Grid
from mno.scenarios.base import scenario_names
from mno.scenarios.kernels.multigrid import solve_diffusion
from mno.scenarios.residuals import residual_names, residual_of


def tensors(fields: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {n: torch.from_numpy(field.astype(np.float64)) for n, field in fields.items()}


def unit_square(n: int) -> Grid:
    return Grid((n, n), (1 / n, 1 / n))


def residual(fields: dict[str, np.ndarray]) -> np.ndarray:
    given = tensors(fields)
    return residual_of("darcy")(given, unit_square(len(fields["pressure"][0]))).numpy()


def solved(n: int, seed: int, tolerance: float) -> dict[str, np.ndarray]:
    """A permeability and its pressure in float64, solved to a relative residual."""
    permeability = darcy(n).sample(np.random.default_rng(seed))["permeability"].astype(np.float64)
    pressure, _, reached = solve_diffusion(permeability, np.ones((n, n)), tolerance, 500)
    assert reached <= tolerance
    return {"permeability": permeability[None], "pressure": pressure[None]}


@pytest.mark.parametrize("n", [8, 36])
@pytest.mark.parametrize("seed", range(3))
def test_what_the_solver_solves_has_no_residual_but_rounding(n, seed):
    assert residual(solved(n, seed, 1e-12)) < 1e-11


def test_what_is_solved_in_a_channel_has_no_residual_but_as_a_channel():
    n = 24
    permeability = darcy(n).sample(np.random.default_rng(0))["permeability"].astype(np.float64)
    pressure, _, _ = solve_diffusion(permeability, np.ones((n, n)), 1e-13, 500, 0.7)
    fields = tensors({"permeability": permeability[None], "pressure": pressure[None]})
    inlet = {"inlet_pressure": torch.tensor(0.7, dtype=torch.float64)}
    assert residual_of("darcy")({**fields, **inlet}, unit_square(n)) < 1e-8
    assert residual_of("darcy")(fields, unit_square(n)) > 1.0


@pytest.mark.parametrize("tolerance", [1e-4, 1e-7])
def test_it_is_the_solvers_own_measure_of_what_is_left(tolerance):
    fields = solved(24, 0, tolerance)
    _, _, reached = solve_diffusion(fields["permeability"][0], np.ones((24, 24)), tolerance, 500)
    assert residual(fields) == pytest.approx(reached, rel=1e-3)


def test_samples_as_they_are_stored_are_as_good_as_float32_allows():
    split = make_darcy_split("train", 3, seed=5, resolution=24)
    # Terms of a cell's equation are up to 8 a p / h^2; each is rounded to 2^-24 of it.
    terms = 8 * 12.0 * split.fields["pressure"].max() * 24**2
    assert (residual(split.fields) < terms * 2.0**-24).all()


def test_each_sample_has_its_own_and_a_wrong_pressure_has_one():
    fields = {n: np.repeat(field, 3, axis=0) for n, field in solved(8, 0, 1e-12).items()}
    fields["pressure"][1] *= 1.5  # the residual of a multiple is that of its excess
    fields["pressure"][2, 3, 4] += 0.01
    found = residual(fields)
    assert found[0] < 1e-11
    assert found[1] == pytest.approx(0.5)
    assert found[2] > 0.1


def test_cells_need_not_be_square():
    # a = 1 + x, u = x (1 - x): the fluxes of the scheme do not depend on y but at its walls.
    n, m = 8, 16
    x = (np.arange(n) + 0.5) / n
    fields = {
        "permeability": np.broadcast_to((1 + x)[:, None], (1, n, m)),
        "pressure": np.broadcast_to((x * (1 - x))[:, None], (1, n, m)),
    }
    grid = Grid((n, m), (1 / n, 1 / m))
    found = residual_of("darcy")(tensors(fields), grid).item()
    a, u = fields["permeability"][0], fields["pressure"][0]
    means = 2 * a[1:] * a[:-1] / (a[1:] + a[:-1])
    flux_x = np.concatenate([-2 * a[:1] * u[:1], means * -np.diff(u, axis=0), 2 * a[-1:] * u[-1:]])
    flux_y = np.zeros((n, m + 1))
    flux_y[:, 0], flux_y[:, -1] = -2 * a[:, 0] * u[:, 0], 2 * a[:, -1] * u[:, -1]
    left = np.diff(flux_x, axis=0) * n**2 + np.diff(flux_y, axis=1) * m**2 - 1
    assert found == pytest.approx(np.sqrt(np.mean(left**2)))


def test_unequal_cells_are_refused():
    grid = Grid((2, 2), ((0.4, 0.6), 0.5))
    with pytest.raises(ValueError, match="one width per axis"):
        residual_of("darcy")(tensors(solved(8, 0, 1e-6)), grid)


def test_points_may_lie_anywhere_in_their_cells():
    # u = x (1 - x) / 2 solves the equation along x for a = 1, and the scheme is exact for it where
    # a face lies halfway between its points: all but those of the first and the last cell.
    n, m, share = 16, 4, 0.1
    places = (tuple((i + share) / n for i in range(n)), tuple((j + 0.5) / m for j in range(m)))
    grid = Grid((n, m), (1 / n, 1 / m), places=places)
    x = np.array(places[0])
    pressure = np.broadcast_to((x * (1 - x) / 2)[:, None], (1, n, m))
    fields = {"permeability": np.ones_like(pressure), "pressure": pressure}
    faces = np.concatenate([[0.0], (x[1:] + x[:-1]) / 2, [1.0]])
    ends = np.concatenate([[0.0], x, [1.0]])
    slopes = np.diff(ends * (1 - ends) / 2) / np.diff(ends)
    along_x = -np.diff(slopes) / np.diff(faces)
    assert along_x[1:-1] == pytest.approx(1.0)
    through_walls = np.zeros(m)  # of y
    through_walls[[0, -1]] = 2 * m**2
    left = along_x[:, None] + pressure[0] * through_walls - 1
    found = residual_of("darcy")(tensors(fields), grid).item()
    assert found == pytest.approx(np.sqrt(np.mean(left**2)))


def test_a_point_on_the_wall_is_refused():
    grid = Grid((8, 8), (1 / 8, 1 / 8), places=(tuple(i / 8 for i in range(8)),) * 2)
    with pytest.raises(ValueError, match="axis 0 lie from 0 to 0.875 .* within the walls"):
        residual_of("darcy")(tensors(solved(8, 0, 1e-6)), grid)


def test_its_gradient_is_that_of_its_values():
    rng = np.random.default_rng(0)
    permeability = torch.from_numpy(rng.uniform(1, 5, (2, 4, 4)))
    pressure = torch.from_numpy(rng.standard_normal((2, 4, 4))).requires_grad_()

    def of_pressure(u: torch.Tensor) -> torch.Tensor:
        fields = {"permeability": permeability, "pressure": u}
        return residual_of("darcy")(fields, unit_square(4))

    assert torch.autograd.gradcheck(of_pressure, pressure)


def test_every_residual_is_that_of_a_scenario():
    assert "darcy" in residual_names()
    assert set(residual_names()) <= set(scenario_names())


def test_training_by_the_residual_lowers_it_and_says_what_it_minimises(tmp_path):
    training, validation = make_darcy_split("train", 12, 1), make_darcy_split("validation", 6, 2)
    left = {}
    for weight in (0.0, 0.1):
        config = CONFIG.model_copy(update={"residual_weight": weight, "epochs": 12})
        surrogate, history = run(
            tmp_path / str(weight), training=training, validation=validation, config=config
        )
        inputs = {"permeability": training.fields["permeability"]}
        left[weight] = residual({**inputs, **surrogate.predict(inputs)}).mean()
        for record in history.records:
            assert (record.train_loss is None) == (weight == 0)
            if record.train_loss is not None:
                assert record.train_loss > record.train_relative_l2
                assert record.metrics["train_loss"] == record.train_loss
    assert left[0.1] < 0.8 * left[0.0]


def test_a_scenario_without_a_residual_is_refused_in_one_line(tmp_path):
    config = CONFIG.model_copy(update={"residual_weight": 0.1})
    with pytest.raises(InputError, match="scenario=smoothing has no residual.*darcy") as caught:
        run(tmp_path, config=config)
    assert "\n" not in str(caught.value)


def test_h1_is_minimised_where_it_is_asked_for(tmp_path):
    _, history = run(tmp_path, config=CONFIG.model_copy(update={"loss": "h1"}))
    first, last = history.records[0], history.records[-1]
    assert first.train_loss is not None
    assert last.train_loss is not None
    assert last.train_loss < first.train_loss
    assert history.to_dict()["epochs"][0]["train_loss"] == first.train_loss
