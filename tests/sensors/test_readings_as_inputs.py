"""Models of imported sensors' data: the first frames of a log are given, the later compared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from plant_runs import untrained

from mno.core.errors import InputError
from mno.imports.collection import checksum
from mno.imports.convert import FileParameters, convert_file
from mno.imports.mapping import Mapping, SensorRules, validate_mapping
from mno.imports.readings import read_readings
from mno.sensors.compare import compare_with_readings, renamed, units_in_file
from mno.sensors.inputs import can_begin_with, from_readings, from_store
from mno.surrogate.surrogate import Surrogate
from tests.imports.plant_log import POWER, Plant, without, write_long

FRAMES, HISTORY, INTERVAL = 12, 4, 10.0
MAPPING = Mapping(sensors=SensorRules(interval=INTERVAL, frames=FRAMES))
PLANT = Plant(duration=960.0, jitter=0.5, missing=0.1, duplicates=5)
WINDOW = 5


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("imported")
    log = write_long(folder / "last_week.csv", PLANT.rows())
    file = FileParameters.of(log, "csv", MAPPING, "rod")
    convert_file(log, file, lambda: checksum(log), folder / "data", folder / "work")
    return folder / "data"


@pytest.fixture(scope="module")
def surrogate(store: Path) -> Surrogate:
    return untrained(store, HISTORY, "unassigned")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    rows = without(replace(PLANT, seed=1).rows(), "TC3", 590.0, 637.0)  # while frames are given
    return write_long(tmp_path / "today.csv", rows)


def test_later_readings_are_compared_with_what_follows_from_the_first_frames(
    surrogate: Surrogate, log: Path
) -> None:
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
    assert given.points is not None
    for row in np.flatnonzero(pairs.time > times[0]):
        place = pairs.series[pairs.of[row]].place
        point = np.argmin(abs(given.points[:, 0] - place[0]))
        expected_there = np.interp(pairs.time[row], times, predicted[:, point])
        assert pairs.model[row] == pytest.approx(expected_there, rel=1e-5)


def test_a_sample_of_the_imported_dataset_is_the_same_run_as_its_window_of_the_log(
    surrogate: Surrogate, store: Path
) -> None:
    log = store.with_name("last_week.csv")
    readings = renamed(read_readings(log, MAPPING.sensors), MAPPING)
    sides = (from_store(surrogate, store, WINDOW), from_readings(surrogate, log, MAPPING, WINDOW))
    stored, read = (compare_with_readings(surrogate, given, readings) for given in sides)
    assert len(stored.pairs) == len(read.pairs) > 0
    np.testing.assert_allclose(stored.pairs.model, read.pairs.model, rtol=1e-6)
    assert stored.facts["start_seconds"] == read.facts["start_seconds"] == 600.0


def test_a_log_in_other_units_is_compared_alike(
    surrogate: Surrogate, log: Path, tmp_path: Path
) -> None:
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


def test_quantities_are_renamed_as_the_mapping_says(surrogate: Surrogate, tmp_path: Path) -> None:
    rows = [
        row if row.quantity == POWER else replace(row, quantity="TI 100", unit="")
        for row in replace(PLANT, seed=1).rows()
    ]
    log = write_long(tmp_path / "renamed.csv", rows)
    fields = {"TI 100": {"name": "temperature", "units": "degC"}}
    mapping = validate_mapping({"fields": fields}, tmp_path / "mapping.yaml")
    table = read_readings(log, mapping.sensors, units_in_file(mapping))
    readings = renamed(table, mapping)
    assert readings.units == {"heater_power": "kW", "temperature": "degC"}
    given = from_readings(surrogate, log, mapping, WINDOW)
    comparison = compare_with_readings(surrogate, given, readings)
    assert comparison.quantities[0].quantity == "temperature"


def test_two_quantities_of_one_name_are_refused(tmp_path: Path) -> None:
    mapping = validate_mapping(
        {"fields": {"TI 100": {"name": "temperature"}}}, tmp_path / "mapping.yaml"
    )
    rows = [
        replace(row, quantity="TI 100" if row.time > 500 else "temperature")
        for row in PLANT.rows()
        if row.quantity != POWER
    ]
    readings = read_readings(write_long(tmp_path / "log.csv", rows), SensorRules())
    with pytest.raises(InputError, match="would be called temperature; give each a name"):
        renamed(readings, mapping)


@pytest.mark.parametrize("sample", [None, 8, 99])
def test_which_window_must_be_said(surrogate: Surrogate, log: Path, sample: int | None) -> None:
    with pytest.raises(InputError, match="makes 8 windows of 12 frames; say which .* from 0 to 7"):
        from_readings(surrogate, log, MAPPING, sample)


def test_a_model_that_is_given_more_than_readings_cannot_begin_with_them(
    surrogate: Surrogate,
) -> None:
    assert not can_begin_with(surrogate.description, {"temperature"})
    on_a_grid = replace(surrogate.description, coordinates={})
    assert not can_begin_with(on_a_grid, {"temperature", "heater_power"})
