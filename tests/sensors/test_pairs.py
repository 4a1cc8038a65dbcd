"""Sensors planted on a field that is known: their bias, noise and units are found, and no more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plant_runs import HEADER, readings_of

from mno.core.errors import InputError
from mno.core.fields import Axis
from mno.sensors.inputs import RunInputs, axes_of_points
from mno.sensors.pairs import Pairs, Predicted, pair
from mno.sensors.scores import Comparison, compare

SIZE = 12
TIMES = np.array([10.0, 20.0, 30.0, 40.0])
UNITS = {"temperature": "K", "pressure": "Pa"}


def field(t: Any, x: Any, y: Any) -> Any:
    """A temperature that is linear in time and space."""
    return 300 + 0.5 * t + 3 * x - 2 * y


def axis(name: str) -> Axis:
    return Axis(name, "m", name, (np.arange(SIZE) + 0.5) / SIZE, (0.0, 1.0))


def given(**changes: Any) -> RunInputs:
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


def predicted(offset: float = 0.0) -> Predicted:
    t, x, y = np.meshgrid(TIMES, axis("x").points, axis("y").points, indexing="ij")
    return Predicted({"temperature": field(t, x, y) + offset}, TIMES)


def rows(
    sensors: int = 8, readings: int = 40, bias: float = 0.0, noise: float = 0.0,
    uncertainty: float | None = 0.5,
) -> list[list[object]]:  # fmt: skip
    """Return readings of sensors between the centres, at any times after the given frame."""
    rng = np.random.default_rng(2)
    found: list[list[object]] = []
    for sensor in range(sensors):
        x, y = rng.uniform(0.1, 0.9, size=2)
        for t in rng.uniform(10.5, 40.0, size=readings):
            value = field(t, x, y) + bias + noise * rng.normal()
            found.append([t, f"T{sensor}", x, y, "temperature", value, "K", uncertainty])
    return found


def paired(tmp_path: Path, table: list[list[object]], **changes: Any) -> Pairs:
    options = {"given": given(), "predictions": (predicted(),)} | changes
    header = options.pop("header", HEADER)
    return pair(readings_of(tmp_path, table, header), UNITS, **options)


def test_a_prediction_that_is_right_has_no_error_between_points_and_frames(tmp_path: Path) -> None:
    pairs = paired(tmp_path, rows())
    assert len(pairs) == 8 * 40 and not pairs.left_out
    np.testing.assert_allclose(pairs.model, pairs.value, rtol=0, atol=1e-9)


def test_planted_bias_and_noise_of_sensors_are_recovered(tmp_path: Path) -> None:
    comparison = compare(paired(tmp_path, rows(bias=-1.5, noise=0.5)), {})
    (scores,) = comparison.quantities
    assert scores.model["bias"].value == pytest.approx(1.5, abs=0.1)
    assert scores.model["rmse"].value == pytest.approx(np.hypot(1.5, 0.5), abs=0.1)
    assert scores.model["reduced_chi_square"].value == pytest.approx(10.0, rel=0.15)
    assert scores.sensors == 8 and scores.readings == 320 == scores.judged
    unbiased = compare(paired(tmp_path, rows(noise=0.5)), {}).quantities[0].model
    assert unbiased["bias"].low is not None and unbiased["bias"].high is not None
    assert unbiased["bias"].low < 0 < unbiased["bias"].high
    assert unbiased["reduced_chi_square"].value == pytest.approx(1.0, abs=0.2)
    assert unbiased["within_two_uncertainties"].value == pytest.approx(0.954, abs=0.03)


def test_each_sensor_has_a_row_of_its_own(tmp_path: Path) -> None:
    table = rows(sensors=3)
    for row in table:
        if row[1] == "T1":
            row[5] = float(row[5]) + 4.0  # type: ignore[arg-type]
    found = {row["sensor"]: row for row in compare(paired(tmp_path, table), {}).sensors}
    assert found["T1"]["model"]["bias"] == pytest.approx(-4.0)
    assert found["T0"]["model"]["rmse"] == pytest.approx(0.0, abs=1e-9)
    assert found["T2"]["uncertainty"] == pytest.approx(0.5) and found["T2"]["readings"] == 40


def test_values_uncertainties_and_positions_are_converted(tmp_path: Path) -> None:
    table = [[t, s, 100 * x, 100 * y, q, 1.8 * (v - 273.15) + 32, "degF", 1.8 * u]  # type: ignore[operator]
             for t, s, x, y, q, v, _, u in rows(noise=0.3)]  # fmt: skip
    pairs, plain = paired(tmp_path, table, position_units="cm"), paired(tmp_path, rows(noise=0.3))
    np.testing.assert_allclose(pairs.value, plain.value, rtol=1e-9)
    np.testing.assert_allclose(pairs.model, plain.model, rtol=1e-9)
    np.testing.assert_allclose(pairs.uncertainty, 0.5, rtol=1e-9)


def test_times_are_those_of_the_prediction_after_the_start_and_in_its_unit(tmp_path: Path) -> None:
    table = [[3600 * float(row[0]) + 7200, *row[1:]] for row in rows()]  # type: ignore[arg-type]
    pairs = paired(tmp_path, table, given=given(time_units="h"), start=7200.0)
    np.testing.assert_allclose(pairs.model, pairs.value, rtol=0, atol=1e-6)


def test_what_cannot_be_compared_is_left_out_and_counted(tmp_path: Path) -> None:
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


def test_a_field_without_time_is_compared_with_readings_of_any_time(tmp_path: Path) -> None:
    steady = Predicted({"pressure": np.full((1, SIZE, SIZE), 7.0)}, np.empty(0))
    table = [[t, "P", 0.5, 0.5, "pressure", 9.0, "Pa", None] for t in (-5.0, 0.0, 1e9)]
    pairs = paired(tmp_path, table, predictions=(steady,), given=given(times=np.empty(0)))
    assert pairs.model.tolist() == [7.0] * 3


def test_readings_of_the_time_between_given_and_predicted_frames_need_both(tmp_path: Path) -> None:
    model = predicted()
    model.fields["temperature"][0] = np.nan  # what was given lacks values
    table = [[t, "A", 0.5, 0.5, "temperature", 300.0, "K", None] for t in (15.0, 20.0, 25.0)]
    pairs = paired(tmp_path, table, predictions=(model,))
    assert pairs.time.tolist() == [20.0, 25.0] and np.isfinite(pairs.model).all()
    assert pairs.left_out == {"where a frame that is given lacks a value": 1}


def test_unordered_points_are_compared_in_their_hull(tmp_path: Path) -> None:
    corners = [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]
    points = np.concatenate([np.random.default_rng(2).random((80, 2)), corners])
    values = field(TIMES[:, None], points[:, 0], points[:, 1])
    there = given(axes=axes_of_points({"x": "m", "y": "m"}), points=points)
    pairs = paired(
        tmp_path, rows(), given=there, predictions=(Predicted({"temperature": values}, TIMES),)
    )
    assert len(pairs) == 320
    np.testing.assert_allclose(pairs.model, pairs.value, rtol=0, atol=1e-9)


def compared(tmp_path: Path, solver_offset: float, model_offset: float) -> Comparison:
    sides = (predicted(model_offset), predicted(solver_offset))
    return compare(paired(tmp_path, rows(noise=0.5), predictions=sides), {})


def test_a_model_as_good_as_the_solver_cannot_be_told_apart_a_worse_one_can(
    tmp_path: Path,
) -> None:
    same = compared(tmp_path, solver_offset=0.02, model_offset=-0.02).to_dict()
    assert same["quantities"]["temperature"]["told_apart"] is False
    worse = compared(tmp_path, solver_offset=0.0, model_offset=0.4).to_dict()
    assert worse["quantities"]["temperature"]["told_apart"] is True
    difference = worse["quantities"]["temperature"]["model_less_solver"]["rmse"]
    assert difference["low"] > 0
    better = compared(tmp_path, solver_offset=0.4, model_offset=0.0).to_dict()
    assert better["overall"]["model_less_solver"]["rmse"]["high"] < 0


def test_several_quantities_are_put_together_without_their_units(tmp_path: Path) -> None:
    model = predicted()
    both = Predicted({**model.fields, "pressure": 1e5 + 0 * model.fields["temperature"]}, TIMES)
    table = rows(noise=0.5)
    table += [[15.0, f"P{k}", 0.2 * k, 0.5, "pressure", 0.98, "bar", 0.01] for k in range(5)]
    comparison = compare(paired(tmp_path, table, predictions=(both,)), {})
    assert [s.quantity for s in comparison.quantities] == ["temperature", "pressure"]
    assert comparison.quantities[1].model["bias"].value == pytest.approx(2000.0)
    assert comparison.overall.readings == 325 and comparison.overall.sensors == 13
    assert "rmse" not in comparison.overall.model
    squares = 320 * 0.5**2 / np.mean(np.square([row[5] for row in rows(noise=0.5)]))  # type: ignore[arg-type]
    expected = np.sqrt((squares + 5 * (0.02 / 0.98) ** 2) / 325)
    assert comparison.overall.model["relative_l2"].value == pytest.approx(expected, rel=0.05)
    assert comparison.overall.model["within_two_uncertainties"].value > 0.9


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
def test_what_does_not_fit_is_refused_in_one_line(
    tmp_path: Path, table: list[list[object]], header: str, words: str
) -> None:
    with pytest.raises(InputError, match=words) as caught:
        paired(tmp_path, table, header=header)
    assert "\n" not in str(caught.value)


def test_positions_in_another_kind_of_unit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="position along x is given in s"):
        paired(tmp_path, rows(), position_units="s")
