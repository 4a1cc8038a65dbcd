"""Predictions at places of sensors, and readings of a field that is known: no more is found."""

import math

import numpy as np
import pytest
from plant_runs import HEADER, readings_of
from scipy.interpolate import RegularGridInterpolator

from mno.core.errors import InputError
from mno.core.fields import Axis
from mno.sensors.inputs import RunInputs, axes_of_points
from mno.sensors.pairs import Predicted, on_grid, on_points, pair
from mno.sensors.scores import SensorErrors, compare, estimate

SIZE = 12
TIMES = np.array([10.0, 20.0, 30.0, 40.0])
UNITS = {"temperature": "K", "pressure": "Pa"}


def field(t, x, y):
    """A temperature that is linear in time and space."""
    return 300 + 0.5 * t + 3 * x - 2 * y


def axis(name):
    return Axis(name, "m", name, (np.arange(SIZE) + 0.5) / SIZE, (0.0, 1.0))


def given(**changes):
    known = {
        "inputs": {},
        "axes": (axis("x"), axis("y")),
        "points": None,
        "times": TIMES[:1],
        "known_until": TIMES[0],
        "time_units": "s",
        "steps": None,
        "source": "a run",
    }
    return RunInputs(**(known | changes))


def predicted(offset=0.0):
    t, x, y = np.meshgrid(TIMES, axis("x").points, axis("y").points, indexing="ij")
    return Predicted({"temperature": field(t, x, y) + offset}, TIMES)


def rows(sensors=8, readings=40, bias=0.0, noise=0.0, uncertainty=0.5):
    """Return readings of sensors between the centres, at any times after the given frame."""
    rng = np.random.default_rng(2)
    found = []
    for sensor in range(sensors):
        x, y = rng.uniform(0.1, 0.9, size=2)
        for t in rng.uniform(10.5, 40.0, size=readings):
            value = field(t, x, y) + bias + noise * rng.normal()
            found.append([t, f"T{sensor}", x, y, "temperature", value, "K", uncertainty])
    return found


def paired(tmp_path, table, **changes):
    options = {"given": given(), "predictions": (predicted(),)} | changes
    return pair(readings_of(tmp_path, table, options.pop("header", HEADER)), UNITS, **options)


def test_a_prediction_that_is_right_has_no_error_between_points_and_frames(tmp_path):
    pairs = paired(tmp_path, rows())
    assert len(pairs) == 8 * 40 and not pairs.left_out
    np.testing.assert_allclose(pairs.model, pairs.value, rtol=0, atol=1e-9)


def test_planted_bias_and_noise_of_sensors_are_recovered(tmp_path):
    (scores,) = compare(paired(tmp_path, rows(bias=-1.5, noise=0.5)), {}).quantities
    assert scores.model["bias"].value == pytest.approx(1.5, abs=0.1)
    assert scores.model["rmse"].value == pytest.approx(np.hypot(1.5, 0.5), abs=0.1)
    assert scores.model["rmse_in_uncertainties"].value == pytest.approx(10.0**0.5, rel=0.075)
    assert scores.sensors == 8 and scores.readings == 320 == scores.judged
    unbiased = compare(paired(tmp_path, rows(noise=0.5)), {}).quantities[0].model
    assert unbiased["bias"].low < 0 < unbiased["bias"].high
    assert unbiased["rmse_in_uncertainties"].value == pytest.approx(1.0, abs=0.1)
    assert unbiased["within_two_uncertainties"].value == pytest.approx(0.954, abs=0.03)


def test_each_sensor_has_a_row_of_its_own(tmp_path):
    table = rows(sensors=3)
    for row in table:
        row[5] += 4.0 * (row[1] == "T1")
    found = {row["sensor"]: row for row in compare(paired(tmp_path, table), {}).sensors}
    assert found["T1"]["model"]["bias"] == pytest.approx(-4.0)
    assert found["T0"]["model"]["rmse"] == pytest.approx(0.0, abs=1e-9)
    assert found["T2"]["uncertainty"] == pytest.approx(0.5) and found["T2"]["readings"] == 40


def test_values_uncertainties_and_positions_are_converted(tmp_path):
    table = [[t, s, 100 * x, 100 * y, q, 1.8 * (v - 273.15) + 32, "degF", 1.8 * u]
             for t, s, x, y, q, v, _, u in rows(noise=0.3)]  # fmt: skip
    pairs, plain = paired(tmp_path, table, position_units="cm"), paired(tmp_path, rows(noise=0.3))
    np.testing.assert_allclose(pairs.value, plain.value, rtol=1e-9)
    np.testing.assert_allclose(pairs.model, plain.model, rtol=1e-9)
    np.testing.assert_allclose(pairs.uncertainty, 0.5, rtol=1e-9)


def test_times_are_those_of_the_prediction_after_the_start_and_in_its_unit(tmp_path):
    table = [[3600 * t + 7200, *row] for t, *row in rows()]
    pairs = paired(tmp_path, table, given=given(time_units="h"), start=7200.0)
    np.testing.assert_allclose(pairs.model, pairs.value, rtol=0, atol=1e-6)


def test_what_cannot_be_compared_is_left_out_and_counted(tmp_path):
    inside = [15.0, "A", 0.5, 0.5, "temperature", 1.0, "K", None]
    table = [
        inside,
        inside,
        [10.0, *inside[1:]],
        [5.0, *inside[1:]],
        [40.1, *inside[1:]],
        [15.0, "B", 1.2, 0.5, *inside[4:]],
        [15.0, "C", None, None, *inside[4:]],
        [15.0, "D", 0.5, 0.5, "flow", 1.0, "kg/s", None],
    ]
    pairs = paired(tmp_path, table)
    assert len(pairs) == 1 and pairs.value.tolist() == [1.0]
    assert pairs.left_out == {
        "of quantities that the model does not predict": 1,
        "again of the same time and sensor": 1,
        "without a place": 1,
        "outside the domain": 1,
        "from the time of the frames that are given": 2,
        "after the last frame that is predicted": 1,
    }


def test_a_field_without_time_is_compared_with_readings_of_any_time(tmp_path):
    steady = Predicted({"pressure": np.full((1, SIZE, SIZE), 7.0)}, np.empty(0))
    table = [[t, "P", 0.5, 0.5, "pressure", 9.0, "Pa", None] for t in (-5.0, 0.0, 1e9)]
    pairs = paired(tmp_path, table, predictions=(steady,), given=given(times=np.empty(0)))
    assert pairs.model.tolist() == [7.0] * 3


def test_readings_of_the_time_between_given_and_predicted_frames_need_both(tmp_path):
    model = predicted()
    model.fields["temperature"][0] = np.nan  # what was given lacks values
    table = [[t, "A", 0.5, 0.5, "temperature", 300.0, "K", None] for t in (15.0, 20.0, 25.0)]
    pairs = paired(tmp_path, table, predictions=(model,))
    assert pairs.time.tolist() == [20.0, 25.0] and np.isfinite(pairs.model).all()
    assert pairs.left_out == {"where a frame that is given lacks a value": 1}


def test_unordered_points_are_compared_in_their_hull(tmp_path):
    corners = [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]
    points = np.concatenate([np.random.default_rng(2).random((80, 2)), corners])
    values = field(TIMES[:, None], points[:, 0], points[:, 1])
    there = given(axes=axes_of_points({"x": "m", "y": "m"}), points=points)
    pairs = paired(
        tmp_path, rows(), given=there, predictions=(Predicted({"temperature": values}, TIMES),)
    )
    assert len(pairs) == 320
    np.testing.assert_allclose(pairs.model, pairs.value, rtol=0, atol=1e-9)


def compared(tmp_path, solver_offset, model_offset):
    sides = (predicted(model_offset), predicted(solver_offset))
    return compare(paired(tmp_path, rows(noise=0.5), predictions=sides), {})


def test_a_model_as_good_as_the_solver_cannot_be_told_apart_a_worse_one_can(tmp_path):
    same = compared(tmp_path, solver_offset=0.02, model_offset=-0.02).to_dict()
    assert same["quantities"]["temperature"]["told_apart"] is False
    worse = compared(tmp_path, solver_offset=0.0, model_offset=0.4).to_dict()
    assert worse["quantities"]["temperature"]["told_apart"] is True
    assert worse["quantities"]["temperature"]["model_less_solver"]["rmse"]["low"] > 0
    better = compared(tmp_path, solver_offset=0.4, model_offset=0.0).to_dict()
    assert better["quantities"]["temperature"]["model_less_solver"]["rmse"]["high"] < 0


def test_each_quantity_has_errors_in_its_unit(tmp_path):
    model = predicted()
    both = Predicted({**model.fields, "pressure": 1e5 + 0 * model.fields["temperature"]}, TIMES)
    table = rows(noise=0.5)
    table += [[15.0, f"P{k}", 0.2 * k, 0.5, "pressure", 0.98, "bar", 0.01] for k in range(5)]
    comparison = compare(paired(tmp_path, table, predictions=(both,)), {})
    assert [s.quantity for s in comparison.quantities] == ["temperature", "pressure"]
    assert [(s.readings, s.sensors) for s in comparison.quantities] == [(320, 8), (5, 5)]
    assert comparison.quantities[1].model["bias"].value == pytest.approx(2000.0)


@pytest.mark.parametrize(
    ("table", "header", "words"),
    [
        ([[15, "A", 0.5, 0.5, "flow", 1, "kg/s", ""]], HEADER, "readings are of flow; the model"),
        ([[15, "A", 0.5, 0.5, "temperature", 1, "Pa", ""]], HEADER, "cannot be converted to K"),
        ([[15, "A", 0.5, "temperature", 1, "K"]], "time,sensor,x,quantity,value,unit",
         "positions along x; the model has x, y"),
        ([[15, "A", 7, 0.5, "temperature", 1, "K", ""]], HEADER, "none of 1 readings can be"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_in_one_line(tmp_path, table, header, words):
    with pytest.raises(InputError, match=words) as caught:
        paired(tmp_path, table, header=header)
    assert "\n" not in str(caught.value)


def test_positions_in_another_kind_of_unit_are_refused(tmp_path):
    with pytest.raises(InputError, match="position along x is given in s"):
        paired(tmp_path, rows(), position_units="s")


LENGTHS = (2.0, 1.0, 3.0)


def axes_of(dims):
    sizes = (9, 6, 4)
    return tuple(
        Axis(name, "m", name, (np.arange(n) + 0.5) * length / n - 0.5, (-0.5, length - 0.5))
        for name, n, length in zip("xyz"[:dims], sizes, LENGTHS, strict=False)
    )


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_any_field_on_a_grid_is_what_scipy_finds(dims):
    axes, rng = axes_of(dims), np.random.default_rng(1)
    values = rng.normal(size=[2, *(len(axis.points) for axis in axes)])
    places = np.stack(
        [rng.uniform(axis.points[0], axis.points[-1], size=50) for axis in axes], axis=-1
    )
    for found, frame in zip(on_grid(axes, places).apply(values), values, strict=True):
        expected = RegularGridInterpolator([axis.points for axis in axes], frame)(places)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_between_the_outermost_centres_and_the_walls_it_is_constant():
    (axis,) = axes_of(1)
    values = np.arange(9.0)[None]
    stencil = on_grid((axis,), np.array([[-0.5], [1.5]]))
    assert stencil.inside.all()
    assert stencil.apply(values).tolist() == [[0.0, 8.0]]


def test_beyond_the_walls_and_nowhere_there_is_no_value():
    places = np.array([[-0.51, 0.0], [0.0, 0.6], [np.nan, np.nan], [0.0, 0.2]])
    stencil = on_grid(axes_of(2), places)
    assert stencil.inside.tolist() == [False, False, False, True]
    assert np.isnan(stencil.apply(np.ones((1, 9, 6)))[0]).tolist() == [True, True, True, False]


def test_at_a_grid_point_missing_neighbours_have_no_say():
    (axis,) = axes_of(1)
    values = np.full((1, 9), np.nan)
    values[0, 4] = 3.0
    between = (axis.points[4] + axis.points[5]) / 2
    found = on_grid((axis,), np.array([[axis.points[4]], [between]])).apply(values)[0]
    assert found[0] == 3.0 and np.isnan(found[1])


def test_an_axis_of_one_point_holds_everywhere():
    axis = Axis("x", "m", "x", np.array([0.5]), (0.0, 1.0))
    assert on_grid((axis,), np.array([[0.1], [0.9]])).apply(np.array([[7.0]])).tolist() == [[7, 7]]


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_a_linear_field_on_unordered_points_is_found_exactly_in_their_hull(dims):
    rng = np.random.default_rng(2)
    corners = np.stack(np.meshgrid(*[[0.0, 1.0]] * dims), axis=-1).reshape(-1, dims)
    points = np.concatenate([rng.random((200, dims)), corners]).astype(np.float32)
    slope = rng.normal(size=(3, dims))
    places = np.concatenate([rng.random((60, dims)), points[:7]])
    stencil = on_points(points.astype(np.float64), places)
    assert stencil.inside.all()
    found = stencil.apply(slope @ points.T.astype(np.float64))
    np.testing.assert_allclose(found, slope @ places.T, rtol=0, atol=1e-5)


def test_at_a_point_its_own_value_is_taken_although_its_coordinates_are_rounded():
    places = np.random.default_rng(3).random((6, 2))
    points = places.astype(np.float32).astype(np.float64)
    values = np.full((1, 6), np.nan)
    values[0, 2] = 4.0
    found = on_points(points, places).apply(values)[0]
    assert found[2] == 4.0 and np.isnan(np.delete(found, 2)).all()


def test_outside_the_hull_the_nearest_point_holds_as_far_as_points_are_apart():
    points = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    stencil = on_points(points, np.array([[1.1, -0.1], [2.9, 0.0], [3.1, 0.0]]))
    assert stencil.inside.tolist() == [True, True, False]
    assert stencil.apply(np.array([[1.0, 2.0, 3.0, 4.0]]))[0, :2].tolist() == [2.0, 2.0]


def test_points_on_one_line_in_a_plane_give_the_value_of_the_nearest():
    points = np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]])
    found = on_points(points, np.array([[0.9, 1.0], [1.8, 2.1]])).apply(np.array([[1.0, 2.0, 3.0]]))
    assert found.tolist() == [[2.0, 3.0]]


def test_a_single_point_holds_where_it_is_and_nowhere_else():
    stencil = on_points(np.array([[np.float32(0.1)]]).astype(float), np.array([[0.1], [0.2]]))
    assert stencil.inside.tolist() == [True, False]


SENSORS, READINGS = 20, 50


def planted(rng, bias, spread, noise, sensors=SENSORS):
    """Return errors with a bias of all, one of each sensor, and noise; readings; and sensors."""
    sensor = np.repeat(np.arange(sensors), READINGS)
    own = spread * rng.normal(size=sensors)
    error = bias + own[sensor] + noise * rng.normal(size=len(sensor))
    return error, 300 + 10 * rng.normal(size=len(sensor)), sensor


def test_figures_are_what_they_are_called():
    error = np.array([1.0, -3.0, 2.0, 0.0])
    reading = np.array([1.0, 2.0, 3.0, 4.0])
    errors = SensorErrors(error, reading, np.array([1.0, 1.0, np.nan, 2.0]), np.array([0, 0, 1, 1]))
    assert {name: float(values[0]) for name, values in errors.figures().items()} == pytest.approx(
        {
            "bias": 0.0,
            "rmse": math.sqrt(14 / 4),
            "mae": 1.5,
            "max": 3.0,
            "relative_l2": math.sqrt(14 / 30),
            "within_two_uncertainties": 2 / 3,
            "rmse_in_uncertainties": math.sqrt(10 / 6),
        }
    )


def test_draws_of_sensors_take_all_readings_of_a_sensor_together():
    error, reading, sensor = planted(np.random.default_rng(1), 0.3, 1.0, 0.2, sensors=4)
    sigma = np.where(sensor == 2, np.nan, 0.5)
    times = np.array([0, 2, 1, 1])
    rows = np.concatenate(
        [np.flatnonzero(sensor == s) for s, n in enumerate(times) for _ in range(n)]
    )
    drawn = SensorErrors(error, reading, sigma, sensor).figures(times[None].astype(float))
    _, again = np.unique(sensor[rows], return_inverse=True)
    whole = SensorErrors(error[rows], reading[rows], sigma[rows], again).figures()
    for name, values in drawn.items():
        assert values[0] == pytest.approx(whole[name][0], rel=1e-12), name


def test_uncertainties_that_are_right_are_those_of_the_errors():
    rng = np.random.default_rng(2)
    sensor = np.repeat(np.arange(SENSORS), READINGS)
    sigma = rng.uniform(0.1, 3.0, size=len(sensor))
    error = sigma * rng.normal(size=len(sensor))
    found, *_ = estimate(SensorErrors(error, np.ones_like(error), sigma, sensor), None)
    assert found["within_two_uncertainties"].value == pytest.approx(0.954, abs=0.03)
    assert found["rmse_in_uncertainties"].value == pytest.approx(1.0, abs=0.15)


def test_without_uncertainties_nothing_is_said_of_them():
    error, reading, sensor = planted(np.random.default_rng(3), 1.0, 0.1, 0.1)
    found, *_ = estimate(SensorErrors(error, reading, np.full_like(error, np.nan), sensor), None)
    assert math.isnan(found["rmse_in_uncertainties"].value)
    assert math.isnan(found["within_two_uncertainties"].value)
    assert math.isfinite(found["rmse"].value)


@pytest.mark.parametrize("sensors", [6, 20])
def test_intervals_hold_what_is_planted_as_often_as_they_say(sensors):
    held = 0
    for trial in range(150):
        error, reading, sensor = planted(
            np.random.default_rng([5, trial]), bias=0.7, spread=1.0, noise=0.3, sensors=sensors
        )
        found, *_ = estimate(SensorErrors(error, reading, np.ones_like(error), sensor), None)
        held += found["bias"].low <= 0.7 <= found["bias"].high
    # Intervals that took readings for independent would hold it in less than a third.
    assert 0.88 <= held / 150 <= 0.995


def test_one_sensor_gives_no_interval():
    error = np.array([1.0, 2.0, 3.0])
    found, _, difference = estimate(*[SensorErrors(error, error, error, np.zeros(3, int))] * 2)
    assert found["rmse"].low is None and difference["rmse"].differs_from_zero is None


def test_errors_that_model_and_solver_share_are_in_no_difference():
    rng = np.random.default_rng(6)
    shared, reading, sensor = planted(rng, bias=0.0, spread=5.0, noise=1.0)
    sigma = np.ones_like(shared)
    solver = SensorErrors(shared, reading, sigma, sensor)
    alike = SensorErrors(shared + 0.05 * rng.normal(size=len(shared)), reading, sigma, sensor)
    worse = SensorErrors(1.2 * shared, reading, sigma, sensor)
    ours, _, difference = estimate(alike, solver)
    assert difference["rmse"].differs_from_zero is False
    told = estimate(worse, solver)[2]["rmse"]
    assert told.differs_from_zero is True and told.value > 0
    assert told.high - told.low < 0.4 * (ours["rmse"].high - ours["rmse"].low)
