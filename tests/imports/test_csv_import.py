"""Sensor logs as datasets: frames hold means of readings, and nothing else."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plant_log import POWER, Plant, Row, without, write_long

from mno.core.errors import InputError
from mno.data.config import SamplesConfig
from mno.data.generate.plan import DatasetPlan
from mno.data.generate.work import solve_shard
from mno.imports.convert import FileParameters, FileSource
from mno.imports.csv import SensorLog
from mno.imports.mapping import FieldRule, MappedFile, Mapping, Sensor, SensorRules
from mno.imports.readings import field_name, read_readings

KELVIN = {"temperature": FieldRule(units="K")}


def mapping(frames: int = 16, **rules) -> Mapping:
    fields = rules.pop("fields", {})
    return Mapping(fields=fields, sensors=SensorRules(frames=frames, **rules))


def log(folder: Path, rows: list[Row], rules: Mapping | None = None, **form) -> SensorLog:
    return SensorLog(write_long(folder / "log.csv", rows, **form), rules or mapping())


def text_log(folder: Path, rows: str, **rules) -> SensorLog:
    path = folder / "log.csv"
    path.write_text("time,x,quantity,value,unit\n" + rows, encoding="utf-8")
    return SensorLog(path, mapping(**rules))


def test_a_plant_log_becomes_windows_on_points_with_its_gaps(tmp_path: Path) -> None:
    plant = Plant()
    with log(tmp_path, plant.rows(), mapping(fields=KELVIN)) as found:
        c = found.contents
        assert [(f.name, f.role, f.dims, f.units, f.gaps) for f in c.fields] == [
            ("x", "coordinate", ("point",), "m", False),
            ("temperature", "state", ("time", "point"), "K", True),
            ("heater_power", "input", ("time", "point"), "kW", True),
        ]
        assert c.fields[2].is_forcing and c.sources["heater_power"] == POWER
        assert c.axes[0].points == pytest.approx(
            found.contents.parameters["interval"] * np.arange(16)
        )
        assert c.parameters["interval"] == pytest.approx(10, rel=0.02)
        assert c.samples == len(c.groups) == len(c.starts) == 45  # type: ignore[arg-type]
        assert found.read("x", 0, 2) == pytest.approx(np.tile(plant.places, (2, 1)))
        heat = found.read("temperature", 0, c.samples)
        assert heat.shape == (45, 16, 8) and heat.dtype == np.float32
        share = np.isnan(heat).mean()
        assert 0.04 < share < 0.12 and f"{share:.2%}" in " ".join(c.remarks)
        assert 290 < np.nanmin(heat) < np.nanmax(heat) < 400
        power = found.read("heater_power", 0, 44)
        assert power.shape == (44, 16, 8) and np.isfinite(power).mean() > 0.9
        assert np.array_equal(power, np.broadcast_to(power[..., :1], power.shape), equal_nan=True)
        remarks = " ".join(c.remarks)
        assert "6202 readings by 9 sensors in 8 places" in remarks
        assert "20 readings have the time and sensor of another" in remarks


def test_times_of_dates_begin_at_their_date(tmp_path: Path) -> None:
    rows = Plant(duration=640, jitter=0).rows()
    with log(tmp_path, rows) as found:
        assert found.contents.starts is not None
        assert found.contents.starts[0] == 1772344800.0  # 2026-03-01T06:00:00Z
        assert np.diff(found.contents.starts) == pytest.approx(160.0)
        assert found.contents.parameters["epoch"] == "2026-03-01T06:00:00+00:00"
    with log(tmp_path, rows, dates=False) as found:
        assert found.contents.starts is not None and found.contents.starts[0] == 0.0
        assert "epoch" not in found.contents.parameters


def expected(path: Path, rules: Mapping, sample: int, starts: np.ndarray) -> dict:
    """Means of readings by field, frame and place, the slow way, from the table of readings."""
    readings = read_readings(path, rules.sensors)
    cells: dict = {}
    interval, frames = rules.sensors.interval, rules.sensors.frames
    assert interval is not None
    for time, quantity, at, value in zip(
        readings.time.tolist(), readings.quantity, readings.position[:, 0].tolist(),
        readings.value.tolist(), strict=True,
    ):  # fmt: skip
        frame = round((time - starts[sample]) / interval)
        if 0 <= frame < frames:
            key = (field_name(quantity), frame, None if np.isnan(at) else at)
            cells.setdefault(key, []).append(value)
    return {key: np.mean(values) for key, values in cells.items()}


reading = st.tuples(
    # Tenths of a second: frames begin with the first reading, and, for the intervals below, none is
    # half-way between two frames.
    st.integers(0, 400),
    st.sampled_from([0.0, 0.25, 0.5, None]),
    st.floats(-1e6, 1e6, width=32),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(reading, min_size=2, max_size=80), st.sampled_from([0.7, 0.9, 3.3]))
def test_no_value_is_anything_but_the_mean_of_the_readings_of_its_frame(
    tmp_path_factory: pytest.TempPathFactory, readings: list, interval: float
) -> None:
    folder = tmp_path_factory.mktemp("log")
    rows = "".join(
        f"{tenths / 10},{'' if at is None else at},{'load' if at is None else 'T'},{value!r},1\n"
        for tenths, at, value in readings
    )
    rules = mapping(frames=4, interval=interval)
    try:
        found = text_log(folder, rows, frames=4, interval=interval)
    except InputError as error:
        assert any(words in str(error) for words in ("no reading has a position", "no window of"))
        return
    with found:
        c = found.contents
        assert c.starts is not None
        places = found.read("x", 0, 1)[0].tolist()
        names = [field.name for field in c.fields if field.role != "coordinate"]
        whole = {name: found.read(name, 0, c.samples) for name in names}
        for sample in range(c.samples):
            wanted, used = expected(folder / "log.csv", rules, sample, c.starts), set()
            for name, values in whole.items():
                assert np.array_equal(
                    values[sample], found.read(name, sample, sample + 1)[0], equal_nan=True
                )
                for frame in range(4):
                    for point, place in enumerate(places):
                        key = (name, frame, place if name == "T" else None)
                        used.add(key)
                        mean = wanted.get(key, np.nan)
                        assert values[sample, frame, point] == pytest.approx(
                            mean, rel=1e-6, abs=1e-3, nan_ok=True
                        )
            assert set(wanted) <= used, "every reading of the window is in one of its frames"


def test_the_order_of_rows_in_the_file_changes_nothing(tmp_path: Path) -> None:
    rows = Plant(duration=3200).rows()
    shuffled = [rows[n] for n in np.random.default_rng(1).permutation(len(rows))]
    by_sensor = sorted(rows, key=lambda row: row.sensor)
    with log(tmp_path, rows, mapping(interval=10.0)) as a:
        for number, other in enumerate((shuffled, by_sensor)):
            (tmp_path / str(number)).mkdir()
            with log(tmp_path / str(number), other, mapping(interval=10.0)) as b:
                assert np.array_equal(a.contents.starts, b.contents.starts)  # type: ignore[arg-type]
                assert np.array_equal(a.contents.groups, b.contents.groups)  # type: ignore[arg-type]
                for name in ("x", "temperature", "heater_power"):
                    ours, theirs = (f.read(name, 0, a.contents.samples) for f in (a, b))
                    assert np.allclose(ours, theirs, rtol=1e-6, equal_nan=True), name


def test_many_chunks_give_what_one_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = sorted(Plant(duration=3200).rows(), key=lambda row: row.sensor)
    with log(tmp_path, rows, mapping(interval=10.0)) as one:
        whole = one.read("temperature", 0, one.contents.samples)
    monkeypatch.setattr("mno.imports.csv.CHUNK", 37)
    with log(tmp_path, rows, mapping(interval=10.0)) as many:
        ours, theirs = one.contents.remarks, many.contents.remarks
        assert ours[0] == theirs[0] and ours[2:] == theirs[2:]
        assert np.array_equal(many.contents.groups, one.contents.groups)  # type: ignore[arg-type]
        parts = [many.read("temperature", n, n + 1) for n in range(many.contents.samples)]
        assert np.allclose(np.concatenate(parts), whole, rtol=1e-6, equal_nan=True)


def test_a_pause_longer_than_a_window_parts_runs_and_begins_frames_anew(tmp_path: Path) -> None:
    def run(begin: float) -> str:
        return "".join(f"{begin + 10 * n},0,T,{n},K\n" for n in range(12))

    with text_log(tmp_path, run(0) + run(1003.7) + run(2001.2), frames=4) as found:
        c = found.contents
        assert c.starts is not None and c.groups is not None
        assert c.starts == pytest.approx(
            [b + 40 * n for b in (0, 1003.7, 2001.2) for n in range(3)]
        )
        assert np.array_equal(found.read("T", 3, 6).ravel(), np.arange(12))
        assert (
            "3 runs without a pause longer than 40 s, cut into blocks of 1 windows" in c.remarks[3]
        )


def test_groups_are_runs_where_there_are_enough_and_blocks_of_neighbours_otherwise(
    tmp_path: Path,
) -> None:
    def runs(count: int, windows: int) -> str:
        times = (1000.0 * r + n for r in range(count) for n in range(2 * windows))
        return "".join(f"{t},0,T,1,K\n" for t in times)

    with text_log(tmp_path, runs(12, 3), frames=2) as found:
        assert np.array_equal(found.contents.groups, np.repeat(np.arange(12), 3))  # type: ignore
    with text_log(tmp_path, runs(2, 100), frames=2) as found:
        groups = found.contents.groups
        assert groups is not None and len(np.unique(groups)) == 20
        assert set(np.diff(groups)) == {0, 1} and not set(groups[:100]) & set(groups[100:])


def test_windows_with_readings_in_less_than_two_frames_are_left_out(tmp_path: Path) -> None:
    rows = "".join(f"{t},0,T,{t},K\n" for t in (0, 1, 2, 3, 6, 8, 9, 10, 11))
    with text_log(tmp_path, rows, frames=4, interval=1.0) as found:
        assert found.contents.starts == pytest.approx([0, 8])
        assert np.array_equal(found.read("T", 0, 2)[:, :, 0], [[0, 1, 2, 3], [8, 9, 10, 11]])
        assert any(r.startswith("1 windows with readings") for r in found.contents.remarks)


def test_quantities_at_different_sensors_share_one_set_of_points(tmp_path: Path) -> None:
    rows = "".join(f"{t},0.5,p,{t},bar\n{t},0.1,T,{t},degC\n" for t in range(8))
    fields = {"p": FieldRule(units="Pa"), "T": FieldRule(units="K", role="input")}
    found = text_log(tmp_path, rows, frames=4, fields=fields)
    mapped = MappedFile(found, mapping(fields=fields))
    assert {f.name: (f.units, f.role) for f in mapped.contents.fields} == {
        "x": ("m", "coordinate"), "p": ("Pa", "state"), "T": ("K", "input")
    }  # fmt: skip
    assert mapped.read("x", 0, 1)[0] == pytest.approx([0.1, 0.5])
    assert mapped.read("p", 0, 1)[0] == pytest.approx(
        np.array([[np.nan, 1e5 * t] for t in range(4)]), nan_ok=True
    )
    assert mapped.read("T", 1, 2)[0, :, 0] == pytest.approx(np.arange(4, 8) + 273.15)


def test_a_unit_that_the_file_does_not_give_comes_from_the_mapping(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("time,x,quantity,value\n" + "".join(f"{t},0,T,{t}\n" for t in range(8)))
    rules = mapping(4, fields={"T": FieldRule(units="K", given_in="degC", name="heat")})
    mapped = MappedFile(SensorLog(path, rules), rules)
    assert mapped.contents.fields[1].units == "K"
    assert mapped.read("heat", 0, 1).ravel() == pytest.approx(np.arange(4) + 273.15)


def test_one_column_for_each_sensor_in_two_dimensions(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("t;A;B;load\n" + "".join(f"{t};{t},5;;1\n" for t in range(8)))
    columns = {
        "A": Sensor(quantity="T", units="degC", x=1.0, y=0.0),
        "B": Sensor(quantity="T", units="degC", x=0.0, y=2.0),
        "load": Sensor(quantity="load", units="kW"),
    }
    with SensorLog(path, mapping(4, columns=columns, position_units="mm")) as found:
        assert [f.name for f in found.contents.fields] == ["x", "y", "T", "load"]
        assert found.contents.fields[0].units == "mm"
        assert found.read("y", 0, 1)[0].tolist() == [2.0, 0.0]
        values = found.read("T", 1, 2)[0]
        assert np.isnan(values[:, 0]).all() and values[:, 1].tolist() == [4.5, 5.5, 6.5, 7.5]


@pytest.mark.parametrize(
    ("rows", "words", "given"),
    [
        ("0,,T,1,K\n1,,T,1,K\n", "no reading has a position", {}),
        ("0,0,T,1,K\n1,,T,1,K\n", "T has readings with a position and readings without", {}),
        ("0,0,T,1,K\n", "no sensor was read twice", {}),
        ("0,0,T,1,K\n1e-9,0,T,1,K\n1e11,1,T,1,K\n", "expected fewer frames", {}),
        (
            "0,0,a b,1,K\n1,0,a-b,1,K\n2,0,a b,1,K\n",
            "quantities 'a b' and 'a-b' would be one field",
            {},
        ),
        (
            "0,0,T,1,K\n100,0,T,1,K\n",
            "no window of 4 frames of 1 s has readings in 2 of them",
            {"interval": 1.0},
        ),
    ],
)
def test_logs_that_cannot_be_windows_are_one_line(
    tmp_path: Path, rows: str, words: str, given: dict
) -> None:
    with pytest.raises(InputError) as error:
        text_log(tmp_path, rows, frames=4, **given)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_the_interval_is_that_of_the_schedule_in_spite_of_jitter_and_losses(tmp_path: Path) -> None:
    rows = Plant(jitter=2.0, missing=0.2, duration=36_000).rows()
    with log(tmp_path, rows) as found:
        assert found.contents.parameters["interval"] == 10.0


def test_a_stray_date_does_not_fill_the_memory_with_empty_windows(tmp_path: Path) -> None:
    rows = "".join(f"{t},0,T,1,K\n" for t in range(16)) + "1e10,0,T,1,K\n"
    with text_log(tmp_path, rows, frames=4) as found:
        assert found.contents.samples == 4


def test_an_outage_of_one_sensor_stays_a_gap(tmp_path: Path) -> None:
    rows = without(Plant(missing=0, jitter=0, duplicates=0).rows(), "TC3", 1000, 3000)
    with log(tmp_path, rows) as found:
        heat = found.read("temperature", 0, found.contents.samples).reshape(-1, 8)
        gone = np.isnan(heat)
        assert gone.sum() == 200 and gone[100:300, 2].all()


def test_a_shard_of_a_dataset_is_made_of_a_log_and_gaps_are_no_duplicates(tmp_path: Path) -> None:
    # The heater is as it was, and no sensor was read at the first frame of two windows.
    times = [t for t in range(16) if t not in (4, 8)]
    rows = [f"{t},{x},T,{t + x},degC\n" for t in times for x in (0.0, 0.5)]
    rows += [f"{t},,power,1,kW\n" for t in range(16)]
    rules = mapping(4, interval=1.0, fields={"T": FieldRule(units="K")})
    text_log(tmp_path, "".join(rows), frames=4, interval=1.0).close()
    parameters = FileParameters.of(tmp_path / "log.csv", "csv", rules, "rod")
    config = SamplesConfig(samples=4, resolution=4, shard_size=4, seed=0)
    plan = DatasetPlan(FileSource, parameters, config, code="", root=tmp_path)
    shard, values = solve_shard(plan, 0)
    heat = values["T"]
    assert np.isnan(heat[1:3, 0]).all() and np.isfinite(heat[:, 1:]).all()
    assert heat[3, 2].tolist() == pytest.approx([14 + 273.15, 14.5 + 273.15])
    assert len(set(shard.inputs)) == 4
    assert plan.build().coordinates()["start"].tolist() == [0.0, 4.0, 8.0, 12.0]


def test_memory_grows_by_a_few_numbers_for_each_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mno.imports.csv.CHUNK", 2000)

    def peak(count: int) -> int:
        # sensor after sensor, so that the readings are not in the order of their windows
        rows = "".join(f"{t},{x / 10},T,{t % 7},K\n" for x in range(10) for t in range(count // 10))
        path = tmp_path / "log.csv"
        path.write_text("time,x,quantity,value,unit\n" + rows)
        del rows
        tracemalloc.start()
        with SensorLog(path, mapping(32)) as found:
            for sample in range(found.contents.samples):
                found.read("T", sample, sample + 1)
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    peak(10_000)  # whatever is loaded or cached once
    few, many = peak(10_000), peak(80_000)
    assert many - few < 70_000 * 64, "less than eight numbers for each reading that was added"
