"""Sensor logs beside a model: readings as what it is given, and the command."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray
from plant_runs import dataset, untrained, write_log
from typer.testing import CliRunner

from flows.cli import app
from mno.core.errors import InputError
from mno.imports.collection import checksum
from mno.imports.convert import FileParameters, convert_file
from mno.imports.mapping import AxisRule, Mapping, SensorRules
from mno.imports.readings import read_readings
from mno.sensors.compare import compare_with_readings, renamed
from mno.sensors.inputs import can_begin_with, from_readings, from_store
from mno.surrogate.surrogate import Surrogate
from tests.imports.plant_log import POWER, Plant, without, write_long

FRAMES, HISTORY, INTERVAL = 12, 4, 10.0
MAPPING = Mapping(sensors=SensorRules(interval=INTERVAL, frames=FRAMES))
PLANT = Plant(duration=960.0, jitter=0.5, missing=0.1, duplicates=5)
WINDOW = 5


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("imported")
    log = write_long(folder / "last_week.csv", PLANT.rows())
    file = FileParameters.of(log, "csv", MAPPING, "rod")
    file = file.model_copy(update={"sha256": checksum(log)})
    convert_file(log, file, folder / "data", folder / "work")
    return folder / "data"


@pytest.fixture(scope="module")
def surrogate(store):
    return untrained(store, HISTORY, "unassigned")


@pytest.fixture
def log(tmp_path):
    rows = without(replace(PLANT, seed=1).rows(), "TC3", 590.0, 637.0)  # while frames are given
    return write_long(tmp_path / "today.csv", rows)


def test_later_readings_are_compared_with_what_follows_from_the_first_frames(surrogate, log):
    readings = renamed(read_readings(log, MAPPING.sensors), MAPPING)
    assert can_begin_with(surrogate.description, set(readings.quantities))
    given = from_readings(surrogate, log, MAPPING, WINDOW)
    comparison = compare_with_readings(surrogate, given, readings)
    assert comparison.solver_missing == "no solver for imported data (rod)"
    pairs, begin = comparison.pairs, WINDOW * FRAMES * INTERVAL
    first = begin + (HISTORY - 0.5) * INTERVAL  # what is nearer to a given frame was given
    last = begin + (FRAMES - 1) * INTERVAL
    unknown = pairs.left_out.get("where a frame that is given lacks a value", 0)
    measured = {r for r in replace(PLANT, seed=1).rows() if r.quantity == "temperature"}
    surely = [row for row in measured if first + 0.6 < row.time < last - 0.6]
    assert len(surely) - unknown <= len(pairs) <= len(surely) + 16
    assert np.isnan(given.inputs["temperature"][0, :, 2]).all()
    silent = [k for k, series in enumerate(pairs.series) if series.sensor == "TC3"]
    assert np.isfinite(pairs.model).all() and np.isin(pairs.of, silent).sum() >= 4
    np.testing.assert_allclose(np.ptp(pairs.time), last - first, atol=INTERVAL)
    assert pairs.units == {"temperature": "degC"}
    predicted = surrogate.predict(given.inputs)["temperature"][0]
    times = INTERVAL * np.arange(HISTORY, FRAMES)
    for row in np.flatnonzero(pairs.time > times[0]):
        point = np.argmin(abs(given.points[:, 0] - pairs.series[pairs.of[row]].place[0]))
        expected_there = np.interp(pairs.time[row], times, predicted[:, point])
        assert pairs.model[row] == pytest.approx(expected_there, rel=1e-5)


def test_a_sample_of_the_imported_dataset_is_the_same_run_as_its_window_of_the_log(
    surrogate, store
):
    log = store.with_name("last_week.csv")
    readings = renamed(read_readings(log, MAPPING.sensors), MAPPING)
    sides = (from_store(surrogate, store, WINDOW), from_readings(surrogate, log, MAPPING, WINDOW))
    stored, read = (compare_with_readings(surrogate, given, readings) for given in sides)
    assert len(stored.pairs) == len(read.pairs) > 0
    np.testing.assert_allclose(stored.pairs.model, read.pairs.model, rtol=1e-6)
    assert stored.facts["start_seconds"] == read.facts["start_seconds"] == 600.0


def test_a_log_in_other_units_is_compared_alike(surrogate, log, tmp_path):
    rows = [
        replace(row, x=None if row.x is None else 100 * row.x,
                value=1000 * row.value if row.quantity == POWER else 1.8 * row.value + 32,
                unit="W" if row.quantity == POWER else "degF",
                uncertainty=row.uncertainty and 1.8 * row.uncertainty)
        for row in without(replace(PLANT, seed=1).rows(), "TC3", 590.0, 637.0)
    ]  # fmt: skip
    other = write_long(tmp_path / "other.csv", rows)
    rules = SensorRules(position_units="cm")
    results = []
    for path, mapping in ((log, MAPPING), (other, Mapping(sensors=rules))):
        readings = renamed(read_readings(path, mapping.sensors), mapping)
        given = from_readings(surrogate, path, mapping, WINDOW)
        units = mapping.sensors.position_units
        results.append(compare_with_readings(surrogate, given, readings, units).pairs)
    ours, theirs = results
    assert len(ours) == len(theirs)
    np.testing.assert_allclose(theirs.value, ours.value, rtol=1e-9)
    np.testing.assert_allclose(theirs.uncertainty, ours.uncertainty, rtol=1e-9)
    np.testing.assert_allclose(theirs.model, ours.model, rtol=1e-3)


def test_a_model_whose_times_are_minutes_is_given_the_same_window(surrogate, log):
    description = surrogate.description
    forecast = replace(description.forecast, interval=INTERVAL / 60)
    of_minutes = Surrogate(replace(description, forecast=forecast), surrogate.operator)
    minutes = MAPPING.model_copy(update={"axes": {"time": AxisRule(units="min")}})
    given, expected = (
        from_readings(model, log, mapping, WINDOW)
        for model, mapping in ((of_minutes, minutes), (surrogate, MAPPING))
    )
    temperature = expected.inputs["temperature"]
    np.testing.assert_allclose(given.inputs["temperature"], temperature, rtol=1e-6)
    np.testing.assert_allclose(60 * given.times, expected.times)
    assert 60 * given.known_until == pytest.approx(expected.known_until)
    assert (given.time_units, expected.time_units) == ("min", "s")


def test_quantities_are_renamed_as_the_mapping_says(surrogate, tmp_path):
    rows = [
        row if row.quantity == POWER else replace(row, quantity="TI 100", unit="")
        for row in replace(PLANT, seed=1).rows()
    ]
    log = write_long(tmp_path / "renamed.csv", rows)
    fields = {"TI 100": {"name": "temperature", "units": "degC"}}
    mapping = Mapping.model_validate({"fields": fields})
    readings = renamed(read_readings(log, mapping.sensors, mapping.units_in_file), mapping)
    assert readings.units == {"heater_power": "kW", "temperature": "degC"}
    given = from_readings(surrogate, log, mapping, WINDOW)
    assert compare_with_readings(surrogate, given, readings).quantities[0].quantity == "temperature"


def test_two_quantities_of_one_name_are_refused(tmp_path):
    mapping = Mapping.model_validate({"fields": {"TI 100": {"name": "temperature"}}})
    rows = [
        replace(row, quantity="TI 100" if row.time > 500 else "temperature")
        for row in PLANT.rows()
        if row.quantity != POWER
    ]
    readings = read_readings(write_long(tmp_path / "log.csv", rows), SensorRules())
    with pytest.raises(InputError, match="would be called temperature; give each a name"):
        renamed(readings, mapping)


@pytest.mark.parametrize("sample", [None, 8, 99])
def test_which_window_must_be_said(surrogate, log, sample):
    with pytest.raises(InputError, match="makes 8 windows of 12 frames; say which .* from 0 to 7"):
        from_readings(surrogate, log, MAPPING, sample)


def test_a_model_that_is_given_more_than_readings_cannot_begin_with_them(surrogate):
    assert not can_begin_with(surrogate.description, {"temperature"})
    on_a_grid = replace(surrogate.description, coordinates={})
    assert not can_begin_with(on_a_grid, {"temperature", "heater_power"})


ROOT = Path(__file__).parents[2]
GIVEN = ("sensors.csv", "--model", "model", "--inputs", "data")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a solved run, a saved model and readings, outside of any workspace."""
    folder = tmp_path_factory.mktemp("plant")
    store = dataset(folder, "darcy", 16, {})
    (folder / "model").mkdir()
    untrained(store).save(folder / "model")
    pressure = xarray.open_zarr(store)["pressure"].isel(sample=2)
    rng = np.random.default_rng(0)
    rows = []
    for sensor, (i, j) in enumerate(rng.integers(16, size=(7, 2))):
        at = pressure.isel(x=i, y=j)
        reading = float(at) + 0.01 * rng.normal()
        rows.append([0, f"P{sensor}", float(at.x), float(at.y), "pressure", reading, "1", 0.01])
    rows.append([0, "P9", 1.5, 0.5, "pressure", 0.1, "1", 0.01])
    write_log(folder / "sensors.csv", rows)
    return folder


def mno(folder, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "flows.cli", "compare", *map(str, arguments)],
        cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120"},
    )  # fmt: skip


def test_it_prints_the_errors_of_model_and_solver_and_what_to_do_next(folder):
    done = mno(folder, *GIVEN, "--sample", 2)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "sensors.csv  against model, given data, sample 2"
    assert "pressure  7 readings of 7 sensors" in lines
    assert any(line.startswith("RMSE ") and line.count(" to ") == 3 for line in lines)
    assert any(line.startswith("pressure: RMSE ") for line in lines)
    assert "remark   1 readings are left out: 1 outside the domain" in lines
    assert lines[-1] == "Next: open reports/comparison/index.html"
    assert (folder / "reports/comparison/index.html").is_file()


def called(folder, monkeypatch, *arguments):
    """Call the command in this process, which starts no other: most of a call's time."""
    monkeypatch.chdir(folder)
    return CliRunner().invoke(app, ["compare", *map(str, arguments)])


def test_a_program_can_read_it(folder, tmp_path, monkeypatch):
    there = tmp_path / "there"
    done = called(folder, monkeypatch, *GIVEN, "--sample", 2, "--json", "--output", there)
    found = json.loads(done.stdout)
    assert found["scenario"] == "darcy" and found["readings_compared"] == 7
    pressure = found["quantities"]["pressure"]
    assert pressure["solver"]["rmse_in_uncertainties"]["value"] < 1.7
    assert pressure["model"]["rmse"]["value"] > pressure["solver"]["rmse"]["value"]
    assert Path(found["page"]) == there / "index.html"
    assert json.loads((there / "comparison.json").read_text())["quantities"]["pressure"] == pressure


def test_quiet_prints_nothing(folder, tmp_path, monkeypatch):
    there = tmp_path / "there"
    done = called(folder, monkeypatch, *GIVEN, "--sample", 2, "--quiet", "--output", there)
    assert (done.exit_code, done.output) == (0, "")
    assert (there / "index.html").is_file()


def test_bad_input_is_one_line_and_exit_code_two(folder):
    done = mno(folder, *GIVEN)
    assert done.returncode == 2 and done.stdout == ""
    assert "data holds 4 samples; say which" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((*GIVEN, "--sample", 4), "--sample 4: data holds 4 samples"),
        (("nothing.csv", *GIVEN[1:]), "nothing.csv does not exist"),
        ((*GIVEN[:1], "--model", "data", *GIVEN[3:]), "data does not hold a readable model"),
        ((*GIVEN[:3], "--inputs", "model"), "model cannot be read"),
        ((*GIVEN, "--sample", 2, "--mapping", "none.yaml"), "none.yaml does not exist"),
        ((*GIVEN, "--sample", 2, "--start", "nan"), "--start nan"),
        ((*GIVEN, "--sample", 2, "--output", "sensors.csv"), "cannot write to sensors.csv"),
        (GIVEN[:1], "is not inside an MNO workspace"),
    ],
)
def test_what_cannot_be_used_is_refused_before_anything_is_written(
    folder, monkeypatch, arguments, words
):
    there = sorted(path.name for path in folder.iterdir())
    done = called(folder, monkeypatch, *arguments)
    assert isinstance(done.exception, InputError) and words in str(done.exception)
    assert "\n" not in str(done.exception) and done.output == ""
    assert sorted(path.name for path in folder.iterdir()) == there
