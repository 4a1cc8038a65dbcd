"""Inspection of data with gaps: each planted defect is found, and none in good data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from stores import axis, plan_of, release

from mno.core.fields import Axis, Field
from mno.imports.csv import SensorLog
from mno.imports.mapping import FieldRule, Mapping, SensorRules
from mno.report.inspected_sensors import Presence
from mno.report.inspection import Inspection, inspect_store
from mno.report.inspection_figures import presence_figures
from mno.report.inspection_page import write_inspection
from mno.report.sufficiency import largest_hole, points_per_axis
from tests.imports.plant_log import Plant, at_value, without, write_long

SAMPLES, FRAMES, STEP = 64, 16, 5.0
TIME = Axis("time", "s", "time", STEP * np.arange(FRAMES), (0.0, STEP * (FRAMES - 1)))
PLACES = np.stack(np.meshgrid([0.0, 1.0, 2.0], [0.0, 1.0, 2.0]), axis=-1).reshape(-1, 2)
HEAT = Field("heat", "K", "temperature", "state", ("time", "point"), gaps=True)
STARTS = 1.78e9 + STEP * FRAMES * np.arange(SAMPLES)


def waves(samples: int = SAMPLES, period: float = 40.0, noise: float = 0.02) -> np.ndarray:
    """Each sensor sees one wave, later the farther it is; shape `(samples, frames, points)`."""
    rng = np.random.default_rng(4)
    frames = np.arange(samples * FRAMES)[:, None]
    values = 300 + np.sin(2 * np.pi * frames / period + PLACES.sum(axis=1))
    values = values + noise * rng.normal(size=values.shape)
    return values.reshape(samples, FRAMES, -1)


def inspect(
    folder: Path,
    values: np.ndarray,
    places: np.ndarray = PLACES,
    starts: np.ndarray | None = STARTS,
    shard_size: int = 16,
) -> Inspection:
    count = len(values)
    store = release(
        folder / "data", at(places, count) | {HEAT: values}, (TIME, axis("point", len(places))),
        shard_size, None if starts is None else starts[:count],
    )  # fmt: skip
    return inspect_store(store)


def at(places: np.ndarray, samples: int) -> dict[Field, np.ndarray]:
    return {
        Field(name, "m", name, "coordinate", ("point",)): np.tile(column, (samples, 1))
        for name, column in zip("xyz", places.T, strict=False)
    }


def failing(inspection: Inspection) -> set[str]:
    return {judgement.what for judgement in inspection.judgements if not judgement.holds}


def split_numbers(split: str) -> np.ndarray:
    return np.flatnonzero(plan_of((HEAT,), (TIME,), SAMPLES, 16).splits() == split)


def test_good_data_suffice(tmp_path: Path) -> None:
    found = inspect(tmp_path, waves())
    assert failing(found) == set() and found.problems == []
    assert found.verdict == "these data suffice for training on heat"
    assert {j.what for j in found.judgements} >= {
        "values missing", "sensors silent, constant or dead", "largest hole between them",
        "variance between neighbouring frames", "noise over deviation", "places along each axis",
        "test beyond the range of training", "in train", "in validation", "in test",
    }  # fmt: skip


def scattered_gaps(values: np.ndarray) -> None:
    values[np.random.default_rng(0).uniform(size=values.shape) < 0.4] = np.nan


def outage(values: np.ndarray) -> None:
    values[10:18, :, 4] = np.nan


def constant(values: np.ndarray) -> None:
    values[:, :, 4] = 301.0


def dead(values: np.ndarray) -> None:
    values[:, :, 4] = 301 + 0.01 * (values[:, :, 4] - 300)


def noisy(values: np.ndarray) -> None:
    values += 0.3 * np.random.default_rng(0).normal(size=values.shape)


def beyond(values: np.ndarray) -> None:
    values[split_numbers("test")] += 0.5


@pytest.mark.parametrize(
    ("plant", "judged", "told"),
    [
        (scattered_gaps, "values missing", "heat: 40\u202f% of the values are missing"),
        (outage, "longest gap", "heat: nothing for 640 s at x=1, y=1, until 2026-05-28 20:50"),
        (constant, "sensors silent, constant or dead", "do not work: (x=1, y=1) is constant"),
        (dead, "sensors silent, constant or dead", "do not work: (x=1, y=1) is dead"),
        (noisy, "noise over deviation", "heat: less noise: it is"),
        (beyond, "test beyond the range of training", "of the test in training: values lie 2"),
    ],
)  # fmt: skip
def test_each_planted_defect_is_found_and_nothing_else(
    tmp_path: Path, plant, judged: str, told: str
) -> None:
    values = waves()
    plant(values)
    found = inspect(tmp_path, values)
    assert failing(found) == {judged}
    assert found.verdict.startswith("these data do not suffice for training on heat: ")
    assert told in found.verdict and found.problems == []


def test_a_rate_too_slow_for_what_changes_is_found(tmp_path: Path) -> None:
    found = inspect(tmp_path, waves(period=4.0, noise=0.0))
    assert failing(found) == {"variance between neighbouring frames", "noise over deviation"}
    assert "a higher rate" in found.verdict


def presence_of(values: np.ndarray, starts: np.ndarray | None = None) -> Presence:
    unknown = np.full(len(values), np.nan)
    presence = Presence(HEAT, (TIME, axis("point", 9)), unknown if starts is None else starts)
    presence.add(0, values)
    return presence


@pytest.mark.parametrize("period", [6.0, 8.0, 12.0, 40.0])
def test_the_share_between_frames_is_that_of_the_wave(period: float) -> None:
    presence = presence_of(waves(240, period, 0.0))
    assert presence.change == pytest.approx(1 - np.cos(2 * np.pi / period), rel=0.02)


def test_noise_is_found_at_its_deviation_in_spite_of_gaps() -> None:
    values = waves(240, 200.0, 0.1)
    scattered_gaps(values)
    assert presence_of(values).noise == pytest.approx(0.1 / np.nanstd(values), rel=0.1)


def test_sensors_that_leave_a_hole_or_lie_on_a_line_are_found(tmp_path: Path) -> None:
    clumped = np.concatenate([0.1 * PLACES[:8], [[2.0, 2.0]]])
    assert failing(inspect(tmp_path / "hole", waves(), clumped)) == {"largest hole between them"}
    rows = PLACES * [1.0, 0.0] + np.arange(9)[:, None] % 2 * [0.1, 1.0]
    assert failing(inspect(tmp_path / "rows", waves(), rows)) == {"places along each axis"}


def test_a_silent_sensor_is_found_and_leaves_a_hole(tmp_path: Path) -> None:
    values = waves()
    values[:, :, 4] = np.nan
    found = inspect(tmp_path, values)
    assert failing(found) == {"sensors silent, constant or dead", "largest hole between them"}
    assert "do not work: (x=1, y=1) is silent" in found.verdict
    hole = next(j for j in found.judgements if j.what == "largest hole between them")
    assert hole.figure == "71\u202f%" and not hole.holds


def test_too_few_samples_are_found(tmp_path: Path) -> None:
    found = inspect(tmp_path, waves(8))
    assert failing(found) == {"in train", "in validation", "in test"}


def test_the_hole_is_the_widest_place_without_a_sensor() -> None:
    assert largest_hole(np.array([[0.0], [1.0], [4.0]])) == pytest.approx(0.75, abs=0.01)
    assert largest_hole(PLACES) == pytest.approx(0.5, abs=0.01)
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], float)
    assert largest_hole(corners) == pytest.approx(1.0, abs=0.01)
    assert largest_hole(np.array([[1.0, 2.0]])) == 1.0
    on_a_line = np.array([[0.0, 5.0], [1.0, 5.0], [2.0, 5.0]])
    assert largest_hole(on_a_line) == pytest.approx(0.5, abs=0.01)
    assert points_per_axis(on_a_line) == [3, 1]


def gap_of(starts: np.ndarray | None) -> tuple[int, int]:
    values = waves(4)
    values[1, 12:, 2], values[2, :3, 2] = np.nan, np.nan
    gap = presence_of(values, starts).longest_gap
    assert gap is not None and gap.sensor == 2
    return gap.frames, gap.sample


def test_a_gap_goes_on_in_the_sample_that_follows_but_not_over_a_pause() -> None:
    length = FRAMES * STEP
    assert gap_of(length * np.arange(4)) == (7, 2)
    assert gap_of(None) == (4, 1)
    assert gap_of(length * np.array([0.0, 1.0, 40.0, 41.0])) == (4, 1)
    # A sample that was left out, in which nothing was measured, is part of the gap.
    assert gap_of(length * np.array([0.0, 1.0, 3.0, 4.0])) == (7 + FRAMES, 2)


def test_parts_measure_what_the_whole_does(tmp_path: Path) -> None:
    values = waves()
    scattered_gaps(values)
    one, many = (
        inspect(tmp_path / str(size), values, shard_size=size).to_dict()["sufficiency"]
        for size in (64, 5)
    )
    assert one == many and one["suffices"] is False


def test_a_point_that_measures_another_quantity_is_not_silent(tmp_path: Path) -> None:
    values, other = waves(), waves()
    values[:, :, 5:], other[:, :, :5] = np.nan, np.nan
    pressure = Field("pressure", "Pa", "pressure", "state", ("time", "point"), gaps=True)
    fields = at(PLACES, SAMPLES) | {HEAT: values, pressure: other}
    found = inspect_store(release(tmp_path / "data", fields, (TIME, axis("point", 9))))
    assert failing(found) == set(), found.verdict


def test_a_silent_sensor_is_found_beside_what_holds_for_the_whole_plant(tmp_path: Path) -> None:
    values = waves()
    values[:, :, 0] = np.nan
    power = Field("power", "W", "power", "input", ("time", "point"), gaps=True)
    given = np.repeat(waves()[:, :, :1], 9, axis=2)
    given[3, 4:6] = np.nan
    fields = at(PLACES, SAMPLES) | {power: given, HEAT: values}
    found = inspect_store(release(tmp_path / "data", fields, (TIME, axis("point", 9))))
    assert "sensors do not work: (x=0, y=0) is silent" in found.verdict
    sensors = found.to_dict()["sufficiency"]["sensors"]
    assert len(sensors["heat"]) == 9 and [one["sensor"] for one in sensors["power"]] == ["power"]
    drawn = {figure.name for figure in presence_figures(found.sensors)}  # type: ignore[arg-type]
    assert drawn == {"presence_power", "presence_heat", "places_heat"}


def test_recordings_whose_first_frames_are_missing_are_no_duplicates(tmp_path: Path) -> None:
    values = waves()
    values[:, 0] = np.nan
    found = inspect(tmp_path, values)
    assert found.duplicates.samples == 0
    values[7] = values[3]
    assert inspect(tmp_path / "twice", values).duplicates.pairs == ((3, 7),)


def test_gaps_on_a_grid_are_judged_and_complete_data_are_not(tmp_path: Path) -> None:
    grid = Field("film", "m", "film", "state", ("time", "x", "y"), gaps=True)
    axes = (TIME, axis("x", 3), axis("y", 3))
    values = waves().reshape(SAMPLES, FRAMES, 3, 3)
    values[:, :, 1, 1] = np.nan
    found = inspect_store(release(tmp_path / "gaps", {grid: values}, axes))
    assert failing(found) == {"sensors silent, constant or dead"}
    assert "point 4 is silent" in found.verdict.replace("(", "").replace(")", "")
    whole = Field("film", "m", "film", "state", ("time", "x", "y"))
    complete = inspect_store(
        release(tmp_path / "whole", {whole: waves().reshape(values.shape)}, axes)
    )
    assert complete.verdict == "" and complete.to_dict()["sufficiency"] is None


def test_the_page_and_the_json_tell_all_of_it(tmp_path: Path) -> None:
    values = waves()
    outage(values)
    found = inspect(tmp_path, values)
    page = write_inspection(found, tmp_path / "page").read_text(encoding="utf-8")
    assert "These data do not suffice for training on heat" in page
    assert "What data must keep to suffice for training" in page and "x=1, y=1" in page
    names = {path.name for path in (tmp_path / "page").iterdir()}
    assert {"presence_heat.png", "places_heat.png", "samples_heat.png"} <= names
    told = json.loads((tmp_path / "page/inspection.json").read_text())["sufficiency"]
    assert told["suffices"] is False and told["verdict"] == found.verdict
    sensors = {one["sensor"]: one for one in told["sensors"]["heat"]}
    assert sensors["x=1, y=1"]["longest_gap"] == 640.0
    assert sensors["x=1, y=1"]["missing"] == pytest.approx(1 / 8)
    assert sensors["x=0, y=0"]["condition"] == "works"
    assert "not finite" not in " ".join(found.problems)


def log_store(folder: Path, rows: list) -> Path:
    rules = Mapping(
        fields={"temperature": FieldRule(units="K")}, sensors=SensorRules(frames=FRAMES)
    )
    with SensorLog(write_long(folder / "log.csv", rows), rules) as log:
        c = log.contents
        values = {field: log.read(field.name, 0, c.samples) for field in c.fields}
        return release(folder / "data", values, c.axes, 16, c.starts)


def test_a_plant_log_suffices_until_its_sensors_fail(tmp_path: Path) -> None:
    rows = Plant(duration=21_600).rows()
    (tmp_path / "good").mkdir()
    good = inspect_store(log_store(tmp_path / "good", rows))
    assert good.verdict == "these data suffice for training on temperature" and not good.problems
    failed = without(at_value(rows, "TC5", 71.2), "TC3", 3000, 9000)
    found = inspect_store(log_store(tmp_path, failed))
    assert failing(found) == {"longest gap", "sensors silent, constant or dead"}
    assert " s at x=0.3, until 2026-03-01 08:" in found.verdict
    assert "(x=0.55) is constant" in found.verdict
