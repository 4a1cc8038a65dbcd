"""What is minimised, against formulas written out in numpy; and the options of training."""

from itertools import product

import numpy as np
import pytest
import torch
from darcy_problem import darcy, make_darcy_split
from smoothing_problem import TRAINING, run

from mno.core.config import section
from mno.core.errors import InputError
from mno.core.fields import Axis, Field
from mno.core.forecast import TaskConfig, forecast_of
from mno.core.grid import Grid
from mno.data.normalise import Normaliser
from mno.scenarios.base import scenario_names
from mno.scenarios.kernels.multigrid import solve_diffusion
from mno.scenarios.residuals import residual_names, residual_of
from mno.training.config import TrainConfig, nested_samples, with_as_many_steps
from mno.training.objective import NORM_FLOOR, relative_error, samples_with_truth

NORMALISER = Normaliser(mean={"u": 7.0, "v": -1.0}, std={"u": 3.0, "v": 0.5})
# A domain of 2 by 1 in some unit: steps of 1/4 and 1/10 of its longest side.
GRID = Grid((4, 5), (0.5, 0.2))
SHAPE = (6, 4, 5)


def encoded(fields):
    return {n: torch.from_numpy(NORMALISER.encode(n, field)) for n, field in fields.items()}


def make_fields(seed, share=0.0):
    rng = np.random.default_rng(seed)
    fields = {name: 3 * rng.standard_normal(SHAPE) for name in "uv"}
    for field in fields.values():
        field[rng.random(SHAPE) < share] = np.nan
    return fields


PREDICTED, TRUTH = make_fields(0), make_fields(1, share=0.4)
TRUTH["u"][2] = np.nan  # a sample without this field
for field in TRUTH.values():
    field[4] = np.nan  # a sample without any
FLOORED = 5  # a sample too weak to be measured by itself
TRUTH["u"][FLOORED] = np.where(np.isnan(TRUTH["u"][FLOORED]), np.nan, 0.001)


def l2_terms(values):
    return [value**2 for value in values.ravel() if not np.isnan(value)]


def h1_terms(values):
    terms = l2_terms(values)
    for i, j in product(range(4), range(5)):
        if i < 3:
            terms += [((values[i + 1, j] - values[i, j]) / 0.25) ** 2]
        if j < 4:
            terms += [((values[i, j + 1] - values[i, j]) / 0.1) ** 2]
    return [term for term in terms if not np.isnan(term)]


def expected(terms, truth):
    errors = []
    for sample in range(SHAPE[0]):
        ratios = []
        for name in "uv":
            p, t = PREDICTED[name][sample], truth[name][sample]
            present = int((~np.isnan(t)).sum())
            if present:
                floor = NORM_FLOOR * NORMALISER.std[name] * np.sqrt(present)
                norm = max(np.sqrt(sum(terms(t))), floor)
                ratios.append(np.sqrt(sum(terms(p - t))) / norm)
        errors.append(float(np.mean(ratios)) if ratios else 0.0)
    return errors


def l2(predicted, truth, grid=GRID):
    return relative_error(predicted, truth, NORMALISER)


def h1(predicted, truth, grid=GRID):
    return relative_error(predicted, truth, NORMALISER, grid)


both = pytest.mark.parametrize(("loss", "terms"), [(l2, l2_terms), (h1, h1_terms)])


@both
@pytest.mark.parametrize("truth", [make_fields(1), TRUTH], ids=["whole", "gaps"])
def test_it_is_the_error_over_what_is_present_in_physical_units(loss, terms, truth):
    found = loss(encoded(PREDICTED), encoded(truth)).numpy()
    np.testing.assert_allclose(found, expected(terms, truth), rtol=1e-12)
    assert (found[4] == 0.0) == (truth is TRUTH)


@both
def test_an_exact_prediction_has_no_error_and_a_finite_gradient(loss, terms):
    truth = encoded(make_fields(0))
    predicted = {name: field.clone().requires_grad_() for name, field in truth.items()}
    error = loss(predicted, truth)
    error.sum().backward()
    assert error.tolist() == pytest.approx([0.0] * 6)
    assert all(torch.isfinite(field.grad).all() for field in predicted.values())


def test_a_field_of_zeros_is_measured_against_the_floor():
    truth, predicted = encoded({"u": np.zeros((1, 4))}), encoded({"u": np.full((1, 4), 0.3)})
    np.testing.assert_allclose(l2(predicted, truth).numpy(), 0.3 / (NORM_FLOOR * 3.0), rtol=1e-12)


def test_h1_does_not_depend_on_the_unit_of_length():
    predicted, truth = encoded(make_fields(0)), encoded(make_fields(1))
    in_millimetres = h1(predicted, truth, Grid((4, 5), (500.0, 200.0)))
    np.testing.assert_allclose(in_millimetres, h1(predicted, truth), rtol=1e-12)


def test_h1_takes_frames_and_unequal_cells():
    truth = {"u": np.random.default_rng(0).standard_normal((2, 3, 4))}
    predicted = {"u": np.random.default_rng(1).standard_normal((2, 3, 4))}

    def norm(field: np.ndarray) -> np.ndarray:
        slopes = np.diff(field, axis=2) / (np.array([1.0, 1.5, 3.0]) / 8.0)
        return np.sqrt((field**2).sum(axis=(1, 2)) + (slopes**2).sum(axis=(1, 2)))

    ratio = norm(predicted["u"] - truth["u"]) / norm(truth["u"])
    found = h1(encoded(predicted), encoded(truth), Grid((4,), ((1.0, 1.0, 2.0, 4.0),)))
    np.testing.assert_allclose(found, ratio, rtol=1e-12)


def test_h1_minds_a_ripple_that_l2_hardly_sees():
    x = (np.arange(32) + 0.5) / 32
    truth = {"u": np.sin(np.pi * x)[None]}
    ripple = 0.01 * np.cos(np.pi * 32 * x)[None] + 0.01 * (-1.0) ** np.arange(32)
    predicted = {"u": truth["u"] + ripple}
    assert l2(encoded(predicted), encoded(truth)).item() < 0.02
    assert h1(encoded(predicted), encoded(truth), Grid((32,), (1 / 32,))).item() > 0.1


@both
def test_gradients_are_finite_and_vanish_where_the_truth_is_missing(loss, terms):
    predicted = {name: field.requires_grad_() for name, field in encoded(PREDICTED).items()}
    loss(predicted, encoded(TRUTH)).sum().backward()
    for name, field in predicted.items():
        missing = torch.from_numpy(np.isnan(TRUTH[name]))
        assert field.grad is not None and field.grad.isfinite().all()
        assert (field.grad[missing] == 0).all()
        assert (field.grad[~missing] != 0).all()


@both
def test_what_is_predicted_where_the_truth_is_missing_does_not_matter(loss, terms):
    other = {n: np.where(np.isnan(TRUTH[n]), 1e6, field) for n, field in PREDICTED.items()}
    found = loss(encoded(other), encoded(TRUTH))
    assert torch.equal(found, loss(encoded(PREDICTED), encoded(TRUTH)))


@both
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_gap_elsewhere_changes_no_bit_of_a_whole_sample(loss, terms, dtype):
    predicted, truth = (
        {name: field.to(dtype) for name, field in encoded(make_fields(seed)).items()}
        for seed in (3, 4)
    )
    before = loss(predicted, truth)
    truth["u"][0, 1, 1] = torch.nan
    after = loss(predicted, truth)
    assert torch.equal(after[1:], before[1:]) and after[0] != before[0]


@both
def test_a_prediction_that_is_no_number_is_not_hidden(loss, terms):
    broken = {name: field.copy() for name, field in PREDICTED.items()}
    broken["v"][0][~np.isnan(TRUTH["v"][0])] = np.nan
    assert loss(encoded(broken), encoded(TRUTH))[0].isnan()


def test_samples_without_truth_are_not_counted():
    assert samples_with_truth(encoded(TRUTH)) == 5
    assert samples_with_truth(encoded(PREDICTED)) == 6


def tensors(fields):
    return {n: torch.from_numpy(field.astype(np.float64)) for n, field in fields.items()}


def unit_square(n):
    return Grid((n, n), (1 / n, 1 / n))


def residual(fields):
    given = tensors(fields)
    return residual_of("darcy")(given, unit_square(len(fields["pressure"][0]))).numpy()


def solved(n, seed, tolerance):
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
        surrogate, history = run(
            tmp_path / str(weight),
            training=training,
            validation=validation,
            residual_weight=weight,
            epochs=12,
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
    with pytest.raises(InputError, match="scenario=smoothing has no residual.*darcy") as caught:
        run(tmp_path, residual_weight=0.1)
    assert "\n" not in str(caught.value)


def test_h1_is_minimised_where_it_is_asked_for(tmp_path):
    _, history = run(tmp_path, loss="h1")
    first, last = history.records[0], history.records[-1]
    assert first.train_loss is not None
    assert last.train_loss is not None
    assert last.train_loss < first.train_loss
    assert history.to_dict()["epochs"][0]["train_loss"] == first.train_loss


def test_whole_numbers_are_taken_where_real_numbers_are_expected():
    config = section({"train": {"learning_rate": 1, "weight_decay": 0}}, "train", TrainConfig)
    assert (config.learning_rate, config.weight_decay) == (1.0, 0.0)


REFUSED = {
    "epochs": [0, 1.5, True, "10"],
    "batch_size": [-1],
    "learning_rate": [0, "1e-3", True, float("nan")],
    "weight_decay": [-0.1],
    "warmup_fraction": [1.0],
    "gradient_clip": [0.0, float("inf")],
    "patience": [0],
    "threads": [0],
    "loss": ["l1"],
    "residual_weight": [-1.0],
    "augment": [1],
    "input_noise": [float("inf")],
    "input_mask": [1.0],
    "ema_decay": [1.0],
    "accumulate": [0],
    "precision": [16, "32"],
    "warm_start": [3],
    "momentum": [0.9],
}


@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for key, values in REFUSED.items() for value in values]
)
def test_a_value_that_does_not_fit_is_named_in_one_line(key, value):
    with pytest.raises(InputError) as caught:
        section({"train": {key: value}}, "train", TrainConfig)
    assert f"train.{key}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_parameter_is_described():
    assert all(field.description for field in TrainConfig.model_fields.values())


def test_a_larger_share_holds_the_smaller_ones():
    chosen = [set(nested_samples(100, share, 0)) for share in (0.1, 0.25, 0.8)]
    assert [len(samples) for samples in chosen] == [10, 25, 80]
    assert chosen[0] < chosen[1] < chosen[2]


def test_the_seed_draws_the_samples_and_none_twice():
    first, again, other = (nested_samples(100, 0.5, seed) for seed in (0, 0, 1))
    assert first.tolist() == again.tolist() == sorted(set(first.tolist()))
    assert first.tolist() != other.tolist()
    assert first.dtype == np.int64


@pytest.mark.parametrize(("samples", "share"), [(40, 0.01), (40, 0.99), (1, 0.5)])
def test_a_share_of_none_or_all_is_refused(samples, share):
    with pytest.raises(InputError, match="learning_curve.shares"):
        nested_samples(samples, share, 0)


@pytest.mark.parametrize(
    ("samples", "chosen", "epochs", "patience"),
    # 200 steps of an epoch are 8 times 25; 5 of 40 samples are one step, 40 are three.
    [(3200, 400, 40, 80), (3200, 1600, 10, 20), (40, 5, 15, 30)],
)
def test_a_share_takes_as_many_steps(samples, chosen, epochs, patience):
    config = TrainConfig(epochs=5, batch_size=16, patience=10)
    scaled = with_as_many_steps(config, samples, chosen)
    assert (scaled.epochs, scaled.patience) == (epochs, patience)
    assert scaled.model_copy(update={"epochs": 5, "patience": 10}) == config


def test_a_step_of_several_batches_counts_once():
    config = TrainConfig(epochs=6, batch_size=4, accumulate=2)  # 10 batches: 5 steps; 3 batches: 2
    assert with_as_many_steps(config, 40, 12).epochs == 15


def test_the_samples_of_a_share_are_those_of_the_split():
    taken = TRAINING.take(np.array([1, 4]))
    assert taken.indices.tolist() == TRAINING.indices[[1, 4]].tolist()
    for name, field in taken.fields.items():
        np.testing.assert_array_equal(field, TRAINING.fields[name][[1, 4]])


def interval(times):
    axis = Axis("time", "s", "time", np.asarray(times, np.float64), (times[0], times[-1]))
    state = Field("heat", "K", "heat", "state", ("time", "x"))
    return forecast_of(TaskConfig(), (state,), (axis,)).interval


@pytest.mark.parametrize(("start", "end", "frames"), [(0, 5, 101), (0, 2, 101), (90, 100, 1001)])
def test_frames_are_as_far_apart_as_the_first_two_but_for_rounding_to_float32(start, end, frames):
    times, step = np.linspace(start, end, frames), (end - start) / (frames - 1)
    assert interval(times) == times[1] - times[0]
    assert interval(times.astype(np.float32)) == pytest.approx(step, rel=1e-12)


@pytest.mark.parametrize(
    "times",
    [
        np.linspace(0, 5, 101, dtype=np.float32) + 1e-4 * (np.arange(101) == 50),
        np.linspace(0, 5, 101, dtype=np.float32) - 1e-4 * (np.arange(101) == 50),
        np.float32(1e7) + np.array([0, 1, 3, 4], dtype=np.float32),  # too late to tell them apart
        1e-9 * np.array([0, 1, 6, 7]),
    ],
    ids=["late", "early", "far", "short"],
)
def test_frames_that_are_off_by_more_than_rounding_are_refused(times):
    with pytest.raises(InputError, match="expected equal distances"):
        interval(times)
