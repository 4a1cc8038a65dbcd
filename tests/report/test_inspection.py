"""What an inspection finds in stores of which everything is known."""

import json
import tracemalloc
from contextlib import chdir
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from stores import axis, plan_of, release
from typer.testing import CliRunner

from flows.cli import app
from mno.core.errors import InputError
from mno.core.fields import Axis, Field
from mno.data.generate.run import CheckReport, FieldReport
from mno.data.statistics import Margins
from mno.evaluation.statistics import Space
from mno.imports.csv import SensorLog
from mno.imports.mapping import FieldRule, Mapping, SensorRules
from mno.report.inspected_fields import Spectrum, noise_of_differences
from mno.report.inspected_sensors import Presence, largest_hole
from mno.report.inspection import inspect_store
from mno.report.inspection_page import draw_inspection, write_inspection
from tests.imports.plant_log import Plant, at_value, without, write_long
from tests.report.japanese import english_in

SIZE, FRAMES, SAMPLES = 12, 5, 16
SOURCE = Field("source", "W", "source", "input", ("x", "y"))
HEAT = Field("heat", "K", "temperature", "state", ("time", "x", "y"))
DIFFUSIVITY = Field("diffusivity", "m2 s-1", "diffusivity", "input", ())
WALL = Field("wall", "K", "temperature of the wall", "input", ("time",))
AXES = (axis("time", FRAMES, 2.0), axis("x", SIZE), axis("y", SIZE, 2.0))


def fields_of(samples=SAMPLES):
    rng = np.random.default_rng(3)
    return {
        SOURCE: rng.normal(2, 1, (samples, SIZE, SIZE)).astype(np.float32),
        HEAT: rng.normal(300, 5, (samples, FRAMES, SIZE, SIZE)).astype(np.float32),
        DIFFUSIVITY: rng.uniform(1, 2, samples).astype(np.float32),
        WALL: rng.normal(size=(samples, FRAMES)).astype(np.float32),
    }


def split_numbers(split, samples=SAMPLES):
    return np.flatnonzero(plan_of((SOURCE,), AXES, samples, 4).splits == split).tolist()


@pytest.fixture
def clean(tmp_path):
    return inspect_store(release(tmp_path / "data", fields_of(), AXES))


def test_figures_are_those_of_the_whole_arrays(clean):
    found = clean.to_dict()
    assert clean.problems == []
    assert found["splits"] == {"train": 8, "validation": 4, "test": 4}
    for field, values in fields_of().items():
        ours, values = found["fields"][field.name], values.astype(np.float64)
        assert (ours["min"], ours["max"]) == (values.min(), values.max())
        assert ours["mean"] == pytest.approx(values.mean(), rel=1e-12)
        assert ours["std"] == pytest.approx(values.std(), rel=1e-10)
        assert (ours["role"], ours["units"]) == (field.role, field.units)
        assert ours["shape"] == list(values.shape[1:])
    assert found["axes"]["time"]["spacing"] == [0.5, 0.5]
    assert found["axes"]["y"]["spacing"][0] == pytest.approx(2 / SIZE)
    assert found["axes"]["x"]["equal"] is True
    measured = {m.field.name: m for m in clean.fields}
    assert measured["diffusivity"].spectrum is None and measured["wall"].spectrum is None
    assert measured["heat"].spectrum is not None
    assert measured["source"].noise == pytest.approx(1.0, rel=0.1)


def test_the_size_of_shards_changes_nothing_but_rounding(tmp_path):
    one, many = (
        inspect_store(release(tmp_path / str(size), fields_of(), AXES, size)).to_dict()
        for size in (16, 3)
    )
    for field in (*one["fields"].values(), *many["fields"].values()):
        field["share_at_cutoff"] = field["share_at_cutoff"] and round(field["share_at_cutoff"], 9)
    assert {**one, "data": ""} == {**many, "data": ""}


def test_duplicates_and_leakage_are_told_apart(tmp_path):
    fields = fields_of()
    train, test = split_numbers("train"), split_numbers("test")
    for values in fields.values():
        values[train[1]] = values[train[0]]
    fields[HEAT][train[1], 1:] += 1  # another solution of the same inputs
    found = inspect_store(release(tmp_path / "within", fields, AXES))
    assert (found.duplicates, found.leaks) == (((train[0], train[1]),), 0)
    for values in fields.values():
        values[test[0]] = values[train[0]]
    found = inspect_store(release(tmp_path / "between", fields, AXES))
    assert (len(found.duplicates), found.leaks) == (2, 1)
    assert "leakage" in found.problems[0]


def test_samples_that_differ_in_one_number_are_no_duplicates(tmp_path):
    fields = fields_of()
    for values in fields.values():
        values[:] = values[:1]
    fields[DIFFUSIVITY][:] = np.arange(SAMPLES)
    assert inspect_store(release(tmp_path / "data", fields, AXES)).duplicates == ()


def test_gaps_are_named_with_their_field(tmp_path):
    fields = fields_of()
    fields[SOURCE][3, 0, :6] = np.nan
    fields[SOURCE][4] = np.inf
    fields[SOURCE][7] = 1.5
    fields[HEAT][2, 3] = fields[HEAT][2, 2]
    fields[DIFFUSIVITY][:] = 1.0
    found = inspect_store(release(tmp_path / "data", fields, AXES))
    count = 6 + SIZE**2
    share = f"{100 * count / fields[SOURCE].size:.2g}\u202f%"
    assert found.problems == [
        f"source: {count} values ({share}) are not finite",
        "source: 1 samples are constant (7)",
    ]
    assert "diffusivity is 1 in all samples" in found.remarks
    assert any(r.startswith("heat: 1 frames repeat the one before") for r in found.remarks)
    assert json.dumps(found.to_dict(), allow_nan=False)


def test_a_field_without_any_finite_value_is_no_obstacle(tmp_path):
    fields = fields_of()
    fields[HEAT][:], fields[DIFFUSIVITY][:] = np.nan, np.nan
    found = inspect_store(release(tmp_path / "data", fields, AXES))
    assert json.dumps(found.to_dict(), allow_nan=False)
    assert write_inspection(found, tmp_path / "page").exists()


def test_splits_that_differ_are_remarked_on(tmp_path):
    fields = fields_of(64)
    alike = inspect_store(release(tmp_path / "alike", fields, AXES))
    assert not [remark for remark in alike.remarks if "standard errors" in remark]
    fields[SOURCE][alike.splits == "test"] *= 5
    found = inspect_store(release(tmp_path / "data", fields, AXES))
    off = found.imbalance(found.fields[0])
    assert off["test"] == max(off.values(), key=abs) > 6
    assert any(r.startswith("source: the mean norm of test is +") for r in found.remarks)


def test_unequal_spacing_is_told_and_has_no_spectrum(tmp_path):
    uneven = replace(axis("x", SIZE), points=np.linspace(0, 1, SIZE) ** 2)
    found = inspect_store(release(tmp_path / "data", {SOURCE: fields_of()[SOURCE]},
                                  (uneven, axis("y", SIZE))))  # fmt: skip
    facts = found.to_dict()["axes"]["x"]
    assert facts["equal"] is False and facts["spacing"][0] < facts["spacing"][1] / 5
    assert found.fields[0].spectrum is None


def drawn(found):
    return [figure.name for figure in draw_inspection(found)]


def test_states_in_one_dimension_are_drawn(tmp_path):
    state = Field("height", "m", "height", "state", ("time", "x"))
    values = np.random.default_rng(0).normal(size=(8, FRAMES, SIZE))
    found = inspect_store(release(tmp_path / "data", {state: values}, AXES[:2]))
    assert drawn(found) == ["samples_height", "spectra"]


def points_store(folder, dims):
    rng, count = np.random.default_rng(5), 40
    at = ("point",)
    fields = {
        Field(name, "m", name, "coordinate", at): rng.uniform(size=(8, count))
        for name in "xyz"[:dims]
    }
    fields[Field("load", "1", "load", "input", at)] = rng.normal(size=(8, count))
    return release(folder / f"points{dims}", fields, (axis("point", count),))


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_unordered_points_are_measured_and_drawn(tmp_path, dims):
    found = inspect_store(points_store(tmp_path, dims))
    assert found.problems == [] and all(m.spectrum is None for m in found.fields)
    assert "samples_load" in drawn(found)


def test_memory_does_not_grow_with_the_dataset(tmp_path):
    def peak(samples):
        big = Field("big", "1", "big", "input", ("x", "y"))
        values = np.random.default_rng(0).normal(size=(samples, 64, 64))
        folder = tmp_path / f"{samples}-{len(list(tmp_path.iterdir()))}"
        store = release(folder, {big: values}, (axis("x", 64), axis("y", 64)))
        del values
        tracemalloc.start()
        inspect_store(store)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(8)  # whatever is loaded or cached once
    few, many = peak(8), peak(64)
    assert many - few < (64 - 8) * 64 * 64 * 4 / 4, "a fraction of the values that were added"


def report_of(found):
    values = np.array([1e-8, 3e-8])
    check = CheckReport("balance of heat", 1e-7, 3e-8, 2e-8, Margins.of(values, 1e-7))
    fields = {}
    for m in found.fields:
        values = (getattr(m.total, key) for key in ("min", "max", "mean", "std", "missing"))
        fields[m.field.name] = asdict(FieldReport(m.field.role, m.field.units, (), *values))
    checks = {"balance": asdict(check)}
    report = {"scenario": "given", "samples": SAMPLES, "fields": fields, "checks": checks}
    return json.loads(json.dumps(report))


def test_checks_are_shown_only_of_the_report_that_belongs_to_the_data(clean):
    report = report_of(clean)
    assert inspect_store(clean.store, report).checks == report["checks"]
    assert not clean.checks
    report["fields"]["heat"]["max"] += 1e-3
    assert not inspect_store(clean.store, report).checks


def test_the_page_is_complete_in_itself(clean, tmp_path):
    found = inspect_store(clean.store, report_of(clean))
    page = write_inspection(found, tmp_path / "reports" / "inspection")
    html = page.read_text(encoding="utf-8")
    japanese = page.with_name("index.ja.html").read_text(encoding="utf-8")
    written = {"index.html", "index.ja.html", "inspection.json"}
    assert {path.name for path in page.parent.iterdir()} == written
    assert drawn(found) == [*("samples_source", "samples_heat", "samples_wall", "spectra")]
    assert "http" not in html.replace("http-equiv", "")
    assert html.count("<img") == 4 == html.count('src="data:image/png')
    assert "No duplicates, no leakage between splits, no gaps." in html
    for shown in ("temperature of the wall", "balance of heat", "m2 s-1", "Spacing"):
        assert shown in html
    assert json.loads((page.parent / "inspection.json").read_text()) == found.to_dict()
    assert english_in(japanese) == ["balance of heat", "temperature of the wall"]  # their own
    assert '<html lang="ja">' in japanese and japanese.count("<img") == 4


def test_progress_is_told_after_every_shard(clean):
    told: list[tuple[int, int]] = []
    inspect_store(clean.store, progress=lambda done, total: told.append((done, total)))
    assert told == [(0, 16), (4, 16), (8, 16), (12, 16), (16, 16)]


def flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda store: (store / "zarr.json").unlink(), "holds no dataset"),
        (lambda store: (store / "zarr.json").write_text("{}"), "no released dataset"),
        (lambda store: flip(store / "heat/c/1/0/0/0"), "heat/c/1/0/0/0 does not match"),
        (lambda store: (store / "wall/c/2/0").unlink(), "wall/c/2/0 is missing"),
        (lambda store: (store / "stray").write_text(""), "stray is not part"),
    ],
)
def test_bad_input_is_one_line(clean, damage, words):
    damage(clean.store)
    with pytest.raises(InputError, match=words) as caught:
        inspect_store(clean.store)
    assert "\n" not in str(caught.value) and "mno generate" in str(caught.value)


@pytest.mark.parametrize(
    ("grid", "lengths"), [((64,), (2.0,)), ((48, 40), (2.0, 1.0)), ((24, 16, 20), (2.0, 1.0, 1.0))]
)
def test_a_wave_is_found_at_its_wavenumber_and_noise_at_its_deviation(grid, lengths):
    space = Space(grid, tuple(length / n for n, length in zip(grid, lengths, strict=True)))
    x = (np.arange(grid[0]) + 0.5) * space.spacing[0]
    wave, noisy = Spectrum(space), Spectrum(space)
    along = np.sin(2 * np.pi * 3.0 * x).reshape(1, -1, *[1] * (len(grid) - 1))
    wave.add(np.broadcast_to(along, (1, *grid)))
    k, power = wave.curve
    assert k[np.argmax(power)] == 3.0 and power.max() == 1.0
    assert k[-1] == pytest.approx(min(1 / (2 * h) for h in space.spacing), abs=1 / max(lengths))
    assert wave.share_at_cutoff < 1e-6

    noise = 0.3 * np.random.default_rng(0).normal(size=(60, *grid))
    noisy.add(noise[:20])
    noise[20:30, 0] = np.nan
    noisy.add(noise[20:])
    # Power of white noise is the same everywhere.
    assert np.median(noisy.curve[1]) > 0.3
    estimates = [noise_of_differences(one[None]) for one in (*noise[:20], *noise[30:])]
    assert np.median(estimates) == pytest.approx(0.3, rel=0.05)
    assert 0.3 < noisy.share_at_cutoff < 0.95


def test_few_jumps_do_not_mislead_the_noise():
    steps = np.zeros((1, 64, 64))
    steps[:, 20:, :], steps[:, :, 40:] = 5.0, -3.0
    assert noise_of_differences(steps) == 0.0
    noisy = steps + 0.1 * np.random.default_rng(2).normal(size=steps.shape)
    assert noise_of_differences(noisy) == pytest.approx(0.1, rel=0.1)


def test_curvature_counts_as_noise_and_shrinks_with_the_spacing():
    def estimate(n):
        return noise_of_differences(np.sin(3 * (np.arange(n) + 0.5) / n)[None])

    assert 0 < estimate(128) < 1e-3
    assert estimate(64) / estimate(128) == pytest.approx(4.0, rel=0.1)


WINDOWS, LENGTH, STEP = 64, 16, 5.0
TIME = Axis("time", "s", "time", STEP * np.arange(LENGTH), (0.0, STEP * (LENGTH - 1)))
PLACES = np.stack(np.meshgrid([0.0, 1.0, 2.0], [0.0, 1.0, 2.0]), axis=-1).reshape(-1, 2)
READING = Field("heat", "K", "temperature", "state", ("time", "point"), gaps=True)
STARTS = 1.78e9 + STEP * LENGTH * np.arange(WINDOWS)


def waves(samples=WINDOWS, period=40.0, noise=0.02):
    """Each sensor sees one wave, later the farther it is; shape `(samples, frames, points)`."""
    rng = np.random.default_rng(4)
    frames = np.arange(samples * LENGTH)[:, None]
    values = 300 + np.sin(2 * np.pi * frames / period + PLACES.sum(axis=1))
    values = values + noise * rng.normal(size=values.shape)
    return values.reshape(samples, LENGTH, -1)


def inspect(folder, values, places=PLACES, starts=STARTS, shard_size=16):
    count = len(values)
    store = release(
        folder / "data", at(places, count) | {READING: values}, (TIME, axis("point", len(places))),
        shard_size, None if starts is None else starts[:count], measured=True,
    )  # fmt: skip
    return inspect_store(store)


def at(places, samples):
    return {
        Field(name, "m", name, "coordinate", ("point",)): np.tile(column, (samples, 1))
        for name, column in zip("xyz", places.T, strict=False)
    }


def failing(inspection):
    return {judgement.what for judgement in inspection.judgements if not judgement.holds}


def test_good_data_suffice(tmp_path):
    found = inspect(tmp_path, waves())
    assert failing(found) == set() and found.problems == []
    assert found.verdict == "these data suffice for training on heat"
    assert {j.what for j in found.judgements} >= {
        "values missing", "sensors silent, constant or dead", "largest hole between them",
        "variance between neighbouring frames", "noise over deviation",
        "test beyond the range of training", "in train", "in validation", "in test",
    }  # fmt: skip


def scattered_gaps(values):
    values[np.random.default_rng(0).uniform(size=values.shape) < 0.4] = np.nan


def outage(values):
    values[10:18, :, 4] = np.nan


def constant(values):
    values[:, :, 4] = 301.0


def dead(values):
    values[:, :, 4] = 301 + 0.01 * (values[:, :, 4] - 300)


def noisy(values):
    values += 0.3 * np.random.default_rng(0).normal(size=values.shape)


def beyond(values):
    values[split_numbers("test", WINDOWS)] += 0.5


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
def test_each_planted_defect_is_found_and_nothing_else(tmp_path, plant, judged, told):
    values = waves()
    plant(values)
    found = inspect(tmp_path, values)
    assert failing(found) == {judged}
    assert found.verdict.startswith("these data do not suffice for training on heat: ")
    assert told in found.verdict and found.problems == []


def test_a_rate_too_slow_for_what_changes_is_found(tmp_path):
    found = inspect(tmp_path, waves(period=4.0, noise=0.0))
    assert failing(found) == {"variance between neighbouring frames", "noise over deviation"}
    assert "a higher rate" in found.verdict


def presence_of(values, starts=None):
    unknown = np.full(len(values), np.nan)
    presence = Presence(READING, (TIME, axis("point", 9)), unknown if starts is None else starts)
    presence.add(0, values)
    return presence


@pytest.mark.parametrize("period", [6.0, 8.0, 12.0, 40.0])
def test_the_share_between_frames_is_that_of_the_wave(period):
    presence = presence_of(waves(240, period, 0.0))
    assert presence.change == pytest.approx(1 - np.cos(2 * np.pi / period), rel=0.02)


def test_noise_is_found_at_its_deviation_in_spite_of_gaps():
    values = waves(240, 200.0, 0.1)
    scattered_gaps(values)
    assert presence_of(values).noise == pytest.approx(0.1 / np.nanstd(values), rel=0.1)


def test_sensors_that_leave_a_hole_are_found(tmp_path):
    clumped = np.concatenate([0.1 * PLACES[:8], [[2.0, 2.0]]])
    assert failing(inspect(tmp_path / "hole", waves(), clumped)) == {"largest hole between them"}


def test_a_silent_sensor_is_found_and_leaves_a_hole(tmp_path):
    values = waves()
    values[:, :, 4] = np.nan
    found = inspect(tmp_path, values)
    assert failing(found) == {"sensors silent, constant or dead", "largest hole between them"}
    assert "do not work: (x=1, y=1) is silent" in found.verdict
    hole = next(j for j in found.judgements if j.what == "largest hole between them")
    assert hole.figure == "71\u202f%" and not hole.holds


def test_too_few_samples_are_found(tmp_path):
    assert failing(inspect(tmp_path, waves(8))) == {"in train", "in validation", "in test"}


def test_the_hole_is_the_widest_place_without_a_sensor():
    assert largest_hole(np.array([[0.0], [1.0], [4.0]])) == pytest.approx(0.75, abs=0.01)
    assert largest_hole(PLACES) == pytest.approx(0.5, abs=0.01)
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], float)
    assert largest_hole(corners) == pytest.approx(1.0, abs=0.01)
    assert largest_hole(np.array([[1.0, 2.0]])) == 1.0
    on_a_line = np.array([[0.0, 5.0], [1.0, 5.0], [2.0, 5.0]])
    assert largest_hole(on_a_line) == pytest.approx(0.5, abs=0.01)


def gap_of(starts):
    values = waves(4)
    values[1, 12:, 2], values[2, :3, 2] = np.nan, np.nan
    frames, sensor, sample, _ = presence_of(values, starts).longest_gap
    assert sensor == 2
    return frames, sample


def test_a_gap_goes_on_in_the_sample_that_follows_but_not_over_a_pause():
    length = LENGTH * STEP
    assert gap_of(length * np.arange(4)) == (7, 2)
    assert gap_of(None) == (4, 1)
    assert gap_of(length * np.array([0.0, 1.0, 40.0, 41.0])) == (4, 1)
    # A sample that was left out, in which nothing was measured, is part of the gap.
    assert gap_of(length * np.array([0.0, 1.0, 3.0, 4.0])) == (7 + LENGTH, 2)


def test_parts_measure_what_the_whole_does(tmp_path):
    values = waves()
    scattered_gaps(values)
    one, many = (
        inspect(tmp_path / str(size), values, shard_size=size).to_dict()["sufficiency"]
        for size in (64, 5)
    )
    assert one == many and one["suffices"] is False


def test_a_point_that_measures_another_quantity_is_not_silent(tmp_path):
    values, other = waves(), waves()
    values[:, :, 5:], other[:, :, :5] = np.nan, np.nan
    pressure = Field("pressure", "Pa", "pressure", "state", ("time", "point"), gaps=True)
    fields = at(PLACES, WINDOWS) | {READING: values, pressure: other}
    found = inspect_store(
        release(tmp_path / "data", fields, (TIME, axis("point", 9)), measured=True)
    )
    assert failing(found) == set(), found.verdict


def test_a_silent_sensor_is_found_beside_what_holds_for_the_whole_plant(tmp_path):
    values = waves()
    values[:, :, 0] = np.nan
    power = Field("power", "W", "power", "input", ("time", "point"), gaps=True)
    given = np.repeat(waves()[:, :, :1], 9, axis=2)
    given[3, 4:6] = np.nan
    fields = at(PLACES, WINDOWS) | {power: given, READING: values}
    found = inspect_store(
        release(tmp_path / "data", fields, (TIME, axis("point", 9)), measured=True)
    )
    assert "sensors do not work: (x=0, y=0) is silent" in found.verdict
    sensors = found.to_dict()["sufficiency"]["sensors"]
    assert [one["sensor"] for one in sensors if one["field"] == "power"] == ["power"]
    assert len(sensors) == 10
    drawn = {figure.name for figure in draw_inspection(found)}
    assert {"presence_power", "presence_heat", "samples_heat"} <= drawn


def test_recordings_whose_first_frames_are_missing_are_no_duplicates(tmp_path):
    values = waves()
    values[:, 0] = np.nan
    assert inspect(tmp_path, values).duplicates == ()
    values[7] = values[3]
    assert inspect(tmp_path / "twice", values).duplicates == ((3, 7),)


def test_gaps_on_a_grid_are_judged_and_complete_data_are_not(tmp_path):
    grid = Field("film", "m", "film", "state", ("time", "x", "y"), gaps=True)
    axes = (TIME, axis("x", 3), axis("y", 3))
    values = waves().reshape(WINDOWS, LENGTH, 3, 3)
    values[:, :, 1, 1] = np.nan
    found = inspect_store(release(tmp_path / "gaps", {grid: values}, axes, measured=True))
    assert failing(found) == {"sensors silent, constant or dead"}
    assert "point 4 is silent" in found.verdict.replace("(", "").replace(")", "")
    whole = Field("film", "m", "film", "state", ("time", "x", "y"))
    complete = inspect_store(
        release(tmp_path / "whole", {whole: waves().reshape(values.shape)}, axes, measured=True)
    )
    assert complete.verdict == "" and complete.to_dict()["sufficiency"] is None


def test_the_page_and_the_json_tell_all_of_it(tmp_path):
    values = waves()
    outage(values)
    found = inspect(tmp_path, values)
    page = write_inspection(found, tmp_path / "page").read_text(encoding="utf-8")
    assert "These data do not suffice for training on heat" in page
    assert "What data must keep to suffice for training" in page and "x=1, y=1" in page
    told = json.loads((tmp_path / "page/inspection.json").read_text())["sufficiency"]
    assert told["suffices"] is False and told["verdict"] == found.verdict
    sensors = {one["sensor"]: one for one in told["sensors"]}
    assert sensors["x=1, y=1"]["longest_gap"] == 640.0
    assert sensors["x=1, y=1"]["missing"] == pytest.approx(1 / 8)
    assert sensors["x=0, y=0"]["condition"] == "works"
    assert "not finite" not in " ".join(found.problems)


def log_store(folder, rows):
    rules = Mapping(
        fields={"temperature": FieldRule(units="K")}, sensors=SensorRules(frames=LENGTH)
    )
    with SensorLog(write_long(folder / "log.csv", rows), rules) as log:
        c = log.contents
        values = {field: log.read(field.name, 0, c.samples) for field in c.fields}
        return release(folder / "data", values, c.axes, 16, c.starts, measured=True)


def test_a_plant_log_suffices_until_its_sensors_fail(tmp_path):
    rows = Plant(duration=21_600).rows()
    (tmp_path / "good").mkdir()
    good = inspect_store(log_store(tmp_path / "good", rows))
    assert good.verdict == "these data suffice for training on temperature" and not good.problems
    failed = without(at_value(rows, "TC5", 71.2), "TC3", 3000, 9000)
    found = inspect_store(log_store(tmp_path, failed))
    assert failing(found) == {"longest gap", "sensors silent, constant or dead"}
    assert " s at x=0.3, until 2026-03-01 08:" in found.verdict
    assert "(x=0.55) is constant" in found.verdict


@pytest.fixture
def store(tmp_path):
    values = np.random.default_rng(0).normal(size=(16, 20))
    return release(
        tmp_path / "data", {Field("u", "m", "height", "input", ("x",)): values}, (axis("x", 20),)
    )


def command(folder, *arguments):
    with chdir(folder):
        return CliRunner().invoke(app, ["inspect", "data", *map(str, arguments)])


def test_it_prints_one_screen_and_ends_with_what_to_do_next(store, tmp_path):
    done = command(tmp_path, "--data", "data")
    assert (done.exit_code, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "data  given, 16 samples" and len(lines) < 40
    assert lines[-1] == "Next: open reports/inspection/index.html; then mno train"
    assert any(line.startswith("train") and "50" in line for line in lines)
    assert (tmp_path / "reports/inspection/index.html").is_file()


def test_a_program_can_read_it(store, tmp_path):
    done = command(tmp_path, "--data", store, "--output", tmp_path / "there", "--json")
    found = json.loads(done.stdout)
    assert found["samples"] == 16 and found["problems"] == []
    assert Path(found["page"]) == tmp_path / "there/index.html"
    assert json.loads((tmp_path / "there/inspection.json").read_text())["fields"].keys() == {"u"}


def test_quiet_prints_nothing(store, tmp_path):
    done = command(tmp_path, "--data", store, "--quiet")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "reports/inspection/index.html").is_file()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data", "nothing"], "nothing does not exist; expected the folder of a dataset"),
        (["--data", "data", "--output", "a-file"], "cannot write to a-file: File exists"),
        ([], "is not inside an MNO workspace"),
    ],
)
def test_wrong_use_is_one_line(store, tmp_path, arguments, words):
    (tmp_path / "a-file").write_text("")
    done = command(tmp_path, *arguments)
    assert isinstance(done.exception, InputError) and done.stdout == ""
    assert words in str(done.exception) and "\n" not in str(done.exception)


def test_solved_data_are_no_sensors(tmp_path):
    pieces = Field(
        "core", "K", "temperature in the middle of a piece", "output", ("point",), gaps=True
    )
    values = np.full((16, 3), 300.0)
    values[:, 2] = np.nan
    found = inspect_store(release(tmp_path / "data", {pieces: values}, (axis("point", 3),)))
    assert (found.sensors, found.verdict, found.judgements) == (None, "", ())


def test_data_of_sensors_end_with_a_verdict(tmp_path):
    field = Field("u", "m", "height", "state", ("time", "x"), gaps=True)
    values = np.random.default_rng(0).normal(size=(16, 12, 20))
    values[0, :, 3] = np.nan
    release(tmp_path / "data", {field: values}, (axis("time", 12), axis("x", 20)), measured=True)
    done = command(tmp_path, "--data", "data")
    assert (done.exit_code, done.stderr) == (0, "")
    told = " ".join(done.stdout.split())
    assert "verdict these data do not suffice for training on u: u: a higher rate" in told
    assert "u values missing 0.31 % at most 30 % yes" in told
    assert told.endswith("then add what is missing and import again: mno import --help")
    found = json.loads(command(tmp_path, "--data", "data", "--json").stdout)
    assert found["sufficiency"]["suffices"] is False
