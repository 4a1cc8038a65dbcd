"""Tables of readings, and sensor logs as datasets: frames hold means of readings, nothing else."""

import math
import tracemalloc
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plant_log import POWER, Plant, without, write_long

from mno.core.errors import InputError
from mno.core.fields import Axis, Field
from mno.data.config import SamplesConfig
from mno.data.generate.plan import DatasetPlan
from mno.data.generate.work import solve_shard
from mno.data.reading import difference
from mno.imports.convert import FileParameters, FileSource
from mno.imports.csv import SensorLog
from mno.imports.mapping import FieldRule, MappedFile, Mapping, Sensor, SensorRules
from mno.imports.readings import Log, field_name, read_readings

HEADER = "time,x,quantity,value,unit\n"


class Columns:
    """What is known of each reading by itself."""

    def __init__(self, found):
        places = np.concatenate([found.places, np.full((1, len(found.axes)), np.nan)])
        self.sensor = np.array(found.sensors, dtype=object)[found.series_sensor[found.series]]
        quantity = found.series_quantity[found.series]
        self.quantity = np.array(found.quantities, dtype=object)[quantity]
        self.position = places[found.series_place[found.series]]


def read(folder, text, units=None, **rules):
    path = folder / "log.csv"
    path.write_bytes(text.encode())
    return read_readings(path, SensorRules(**rules), units)


def test_every_reading_of_a_plant_log_is_there_in_kelvin(tmp_path):
    rows = Plant(drift=1.0).rows()
    found = read_readings(write_long(tmp_path / "a.csv", rows), SensorRules(), {"temperature": "K"})
    assert len(found) == len(rows)
    each = Columns(found)
    assert found.units == {"temperature": "K", POWER: "kW"} and found.axes == ("x",)
    assert found.epoch is not None and found.epoch.startswith("2026-03-01T05:59:59")
    first = rows[0].time
    ours = Counter(
        (round(t, 3), s, q, round(v, 2), p if p == p else None)
        for t, s, q, v, p in zip(
            found.time.tolist(), each.sensor, each.quantity, found.value.tolist(),
            each.position[:, 0].tolist(), strict=True,
        )
    )  # fmt: skip
    theirs = Counter(
        (round(r.time - first, 3), r.sensor, r.quantity,
         round(r.value + 273.15 * (r.unit == "degC"), 2), r.x)
        for r in rows
    )  # fmt: skip
    assert ours == theirs
    given = found.uncertainty[each.quantity == "temperature"]
    assert np.allclose(given, 0.2) and np.isnan(found.uncertainty[each.quantity == POWER]).all()


def test_decimal_commas_dates_and_seconds_say_the_same(tmp_path):
    rows = Plant(duration=600).rows()
    dates = read_readings(write_long(tmp_path / "a.csv", rows), SensorRules())
    comma = read_readings(write_long(tmp_path / "b.csv", rows, comma=True), SensorRules())
    plain = read_readings(write_long(tmp_path / "c.csv", rows, dates=False), SensorRules())
    assert dates.epoch == comma.epoch and plain.epoch is None
    assert plain.time[0] == rows[0].time
    for other in (comma, plain):
        assert np.array_equal(dates.value, other.value)
        ours, theirs = Columns(dates).position, Columns(other).position
        assert np.array_equal(ours, theirs, equal_nan=True)
        assert np.allclose(dates.time, other.time - other.time[0], atol=1e-9)


def test_headers_and_cells_may_be_written_in_many_ways(tmp_path):
    text = (
        "\ufeff# exported\n\nTimestamp;Tag;X;Y;Variable;Reading;Units;Sigma\n"
        '"2026-03-01 12:00:05+01:00";"A";0,1;2;"p";"1,5";bar;0,01\r\n'
        "# a remark\n2026-03-01T11:00:00Z;A;0,10;2,0;p;150;kPa;\n"
        "2026-03-01T11:00:10Z;A;0,10;2,0;p;;kPa;\n2026-03-01T11:00:11Z;A;0,1;2;p;NaN;kPa;1\n"
    )
    found = read(tmp_path, text, {"p": "Pa"})
    assert found.time.tolist() == [0.0, 5.0] and found.value == pytest.approx([150e3, 150e3])
    assert found.epoch == "2026-03-01T12:00:00+01:00"
    assert len(found.sensors) == len(found.places) == 1
    assert Columns(found).position.tolist() == [[0.1, 2.0]] * 2 and found.axes == ("x", "y")
    assert found.uncertainty[1] == pytest.approx(1000.0) and math.isnan(found.uncertainty[0])
    assert Log(tmp_path / "log.csv", SensorRules(), {}).unreadable == 2


def test_the_first_unit_of_a_quantity_counts_if_no_other_is_wanted(tmp_path):
    found = read(tmp_path, HEADER + "0,0,T,20,degC\n1,0,T,293.15,K\n1,,p,1,bar\n")
    assert found.units == {"T": "degC", "p": "bar"}
    assert found.value == pytest.approx([20.0, 20.0, 1.0])
    unnamed = read(tmp_path, "time,x,quantity,value\n0,0,T,20\n", {"T": "degC"})
    assert unnamed.units == {"T": "degC"} and unnamed.value.tolist() == [20.0]


def test_sensors_without_names_are_named_by_their_places(tmp_path):
    each = Columns(read(tmp_path, HEADER + "0,0.5,T,1,K\n0,0.25,T,2,K\n1,0.50,T,3,K\n1,,p,4,Pa\n"))
    assert list(each.sensor) == ["x=0.5", "x=0.25", "x=0.5", "p"]
    assert np.isnan(each.position[-1]).all()


def test_readings_of_the_whole_plant_need_no_place(tmp_path):
    found = read(tmp_path, "time,quantity,value,unit\n0,load,5,kW\n60,load,6,kW\n")
    assert found.places.shape == (0, 0)
    assert found.value.tolist() == [5.0, 6.0]


def test_rows_in_any_order_are_sorted_by_time(tmp_path):
    rows = "3,0,T,1,K\n1,0,T,2,K\n1,0,T,5,K\n1,0,q,5,K\n1,1,T,5,K\n2,0,T,3,K\n"
    found = read(tmp_path, HEADER + rows)
    assert found.time.tolist() == [1, 1, 1, 1, 2, 3]
    assert found.value.tolist() == [2, 5, 5, 5, 3, 1]


def test_one_column_for_each_sensor(tmp_path):
    columns = {
        "T in": Sensor(quantity="temperature", units="degC", x=0.0, uncertainty=0.5),
        "T out": Sensor(quantity="temperature", units="K", x=1.0),
        "load": Sensor(quantity="load", units="kW"),
    }
    text = "time,T in,other,T out,load\n0,20,x,300,1\n10,,x,301,\n20,21,x,-,3\n"
    found = read(tmp_path, text, {"temperature": "K"}, columns=columns)
    assert found.time.tolist() == [0, 0, 0, 10, 20, 20]
    assert Log(tmp_path / "log.csv", SensorRules(columns=columns), {}).unreadable == 3
    assert found.value == pytest.approx([293.15, 300, 1, 301, 294.15, 3])
    assert set(found.sensors) == {"T in", "T out", "load"}
    assert found.uncertainty[Columns(found).sensor == "T in"].tolist() == [0.5, 0.5]
    with pytest.raises(InputError, match="names column 'T up'; the file has time, T in"):
        read(tmp_path, text, columns={"T up": Sensor(quantity="T", x=0.0)})
    mixed = {"T in": Sensor(quantity="T", x=0.0), "T out": Sensor(quantity="T", x=0.0, y=1.0)}
    with pytest.raises(InputError, match="column T in: position 0,  is not complete"):
        read(tmp_path, text, columns=mixed)


BROKEN = [
    (HEADER + "0,0,T,warm,K\n", "line 2, value: 'warm'; expected a number"),
    (HEADER + "0,0,T,1_000,K\n", "line 2, value: '1_000'"),
    (HEADER + "0,0,T,inf,K\n", "line 2, value: 'inf'"),
    (HEADER + "0,0,T,1e39,K\n", "line 2, value: '1e39'"),
    (HEADER + "0,0,T,1,K\n1,left,T,1,K\n", "line 3, x: 'left'"),
    (HEADER + "0,0,T,1,K\n1,0,T,1,bar\n", "line 3: T is given in bar"),
    (HEADER + "0,0,T,1,K\n1,0,T,1,wurst\n", "line 3: T: 'wurst' is no unit"),
    (HEADER + "0,0,T,1,9**9**9**9\n", "is no unit that is known here"),
    (HEADER + "0,0,T,1,K\n1,0,T\n", "line 3: 3 cells; expected 5"),
    (HEADER + "0,0,T,1,K\n1,0,T,1,K,9\n", "line 3: 6 cells; expected 5"),
    (HEADER + "0,0,T,1,K\n\x00\x00,0,T,1,K\n", "line 3: time '\\x00\\x00'; expected seconds"),
    (HEADER + '0,0,"T"x,1,K\n', "expected quotes around"),
    (HEADER + '0,0,"T,1,K\n' + "1,0,T,1,K\n" * 50_000, "expected quotes around"),
    (HEADER + '0,0,"a\nb",1,K\n0,0,"a\nb",1,"m\nm"\n', "line 6: a b is given in m m"),
    (HEADER + "9" * 200_000, "line 2: field larger than field limit"),
    (HEADER + "0,0,,1,K\n", "quantity ''"),
    (HEADER + "0,0," + "T" * 300 + ",1,K\n", "expected names of 1 to 200"),
    (HEADER, "has no readings (0 cells without a value)"),
    (HEADER + "0,0,T,,K\n", "has no readings (1 cells without a value)"),
    ("", "has no header"),
    ("1,2,3\n4,5,6\n", "has no column 'time'"),
    ("time,x,value\n0,0,1\n", "has no column 'quantity' (it has time, x, value)"),
    ("time,x,x,quantity,value\n0,0,0,T,1\n", "has the columns x twice"),
    (HEADER + "noon,0,T,1,K\n", "line 2: time 'noon'; expected seconds, or a date"),
    (
        HEADER + "202603011250,0,T,1,K\n",
        "time '202603011250'; expected seconds below 1e+11, or a date",
    ),
    (HEADER + ",0,T,1,K\n", "line 2: time ''"),
    (HEADER + "nan,0,T,1,K\n", "line 2: time 'nan'"),
    (HEADER + "0,0,T,1,K\n2026-01-01,0,T,1,K\n", "line 3: time '2026-01-01'; expected seconds"),
    (
        HEADER + "2026-01-01T00:00Z,0,T,1,K\n2026-01-01T00:01,0,T,1,K\n",
        "line 3: time '2026-01-01T00:01'; it has no zone, unlike those before",
    ),
    ("time,x,y,quantity,value\n0,1,,T,1\n", "line 2: position 1,  is not complete"),
    ("time,x,quantity,value,sigma\n0,1,T,1,-1\n", "line 2, uncertainty: '-1'"),
]


@pytest.mark.parametrize(("text", "words"), BROKEN, ids=[words for _, words in BROKEN])
def test_what_is_no_table_of_readings_is_one_line(tmp_path, text, words):
    with pytest.raises(InputError) as error:
        read(tmp_path, text)
    assert words in str(error.value) and "\n" not in str(error.value)
    assert len(str(error.value)) < 700 + len(str(tmp_path))


def test_bytes_that_are_no_utf8_and_files_that_are_not_there_are_one_line(tmp_path):
    path = tmp_path / "log.csv"
    path.write_bytes(b"time,x,quantity,value,unit\n0,0,T,1,\xb0C\n")
    with pytest.raises(InputError, match="is not UTF-8 text"):
        read_readings(path, SensorRules())
    path.write_text(HEADER, encoding="utf-16")
    with pytest.raises(InputError, match="is not UTF-8 text"):
        read_readings(path, SensorRules())
    for place in (tmp_path / "nothing.csv", tmp_path):
        with pytest.raises(InputError, match="cannot be read: .*; expected a CSV file"):
            read_readings(place, SensorRules())


def test_a_column_of_readings_named_like_a_position_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("mno.imports.readings.MAX_SERIES", 1000)
    rows = "".join(f"{n},{n},T,1,K\n" for n in range(1001))
    with pytest.raises(InputError, match="more than 1000 sensors and places"):
        read(tmp_path, HEADER + rows)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.text('0123456789.,;-e"#\r\n\tx\ufeff\0 nNaT:', max_size=40), max_size=8))
def test_whatever_stands_in_the_rows_is_read_or_refused_in_one_line(tmp_path_factory, lines):
    path = tmp_path_factory.mktemp("log") / "log.csv"
    path.write_bytes((HEADER + "0,0,T,1,K\n" + "\n".join(lines)).encode())
    try:
        found = read_readings(path, SensorRules())
    except InputError as error:
        assert "\n" not in str(error) and "\r" not in str(error)
    else:
        assert np.isfinite(found.value).all() and np.isfinite(found.time).all()


KELVIN = {"temperature": FieldRule(units="K")}


def mapping(frames=16, **rules):
    return Mapping(fields=rules.pop("fields", {}), sensors=SensorRules(frames=frames, **rules))


def log(folder, rows, rules=None, **form):
    return SensorLog(write_long(folder / "log.csv", rows, **form), rules or mapping())


def text_log(folder, rows, **rules):
    path = folder / "log.csv"
    path.write_text("time,x,quantity,value,unit\n" + rows, encoding="utf-8")
    return SensorLog(path, mapping(**rules))


def test_a_plant_log_becomes_windows_on_points_with_its_gaps(tmp_path):
    plant = Plant()
    with log(tmp_path, plant.rows(), mapping(fields=KELVIN)) as found:
        c = found.contents
        assert [(f.name, f.role, f.dims, f.units, f.gaps) for f in c.fields] == [
            ("x", "coordinate", ("point",), "m", False),
            ("temperature", "state", ("time", "point"), "K", True),
            ("heater_power", "input", ("time", "point"), "kW", True),
        ]
        assert c.fields[2].is_forcing and c.sources["heater_power"] == POWER
        assert c.axes[0].points == pytest.approx(c.parameters["interval"] * np.arange(16))
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


def test_times_of_dates_begin_at_their_date(tmp_path):
    rows = Plant(duration=640, jitter=0).rows()
    with log(tmp_path, rows) as found:
        assert found.contents.starts[0] == 1772344800.0  # 2026-03-01T06:00:00Z
        assert np.diff(found.contents.starts) == pytest.approx(160.0)
        assert found.contents.parameters["epoch"] == "2026-03-01T06:00:00+00:00"
    with log(tmp_path, rows, dates=False) as found:
        assert found.contents.starts is not None and found.contents.starts[0] == 0.0
        assert "epoch" not in found.contents.parameters


def expected(path, rules, sample, starts):
    """Means of readings by field, frame and place, the slow way, from the table of readings."""
    readings = read_readings(path, rules.sensors)
    each = Columns(readings)
    cells: dict = {}
    interval, frames = rules.sensors.interval, rules.sensors.frames
    for time, quantity, at, value in zip(
        readings.time.tolist(), each.quantity, each.position[:, 0].tolist(),
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
    tmp_path_factory, readings, interval
):
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
        places = found.read("x", 0, 1)[0].tolist()
        names = [field.name for field in c.fields if field.role != "coordinate"]
        whole = {name: found.read(name, 0, c.samples) for name in names}
        for sample in range(c.samples):
            wanted, used = expected(folder / "log.csv", rules, sample, c.starts), set()
            for name, values in whole.items():
                alone = found.read(name, sample, sample + 1)[0]
                assert np.array_equal(values[sample], alone, equal_nan=True)
                for frame in range(4):
                    for point, place in enumerate(places):
                        key = (name, frame, place if name == "T" else None)
                        used.add(key)
                        assert values[sample, frame, point] == pytest.approx(
                            wanted.get(key, np.nan), rel=1e-6, abs=1e-3, nan_ok=True
                        )
            assert set(wanted) <= used, "every reading of the window is in one of its frames"


def test_the_order_of_rows_in_the_file_changes_nothing(tmp_path):
    rows = Plant(duration=3200).rows()
    shuffled = [rows[n] for n in np.random.default_rng(1).permutation(len(rows))]
    by_sensor = sorted(rows, key=lambda row: row.sensor)
    with log(tmp_path, rows, mapping(interval=10.0)) as a:
        for number, other in enumerate((shuffled, by_sensor)):
            (tmp_path / str(number)).mkdir()
            with log(tmp_path / str(number), other, mapping(interval=10.0)) as b:
                assert np.array_equal(a.contents.starts, b.contents.starts)
                assert np.array_equal(a.contents.groups, b.contents.groups)
                for name in ("x", "temperature", "heater_power"):
                    ours, theirs = (f.read(name, 0, a.contents.samples) for f in (a, b))
                    assert np.allclose(ours, theirs, rtol=1e-6, equal_nan=True), name


def test_many_chunks_give_what_one_gives(tmp_path, monkeypatch):
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


def test_a_pause_longer_than_a_window_parts_runs_and_begins_frames_anew(tmp_path):
    def run(begin):
        return "".join(f"{begin + 10 * n},0,T,{n},K\n" for n in range(12))

    with text_log(tmp_path, run(0) + run(1003.7) + run(2001.2), frames=4) as found:
        c = found.contents
        begins = [b + 40 * n for b in (0, 1003.7, 2001.2) for n in range(3)]
        assert c.starts == pytest.approx(begins)
        assert np.array_equal(found.read("T", 3, 6).ravel(), np.arange(12))
        told = "3 runs without a pause longer than 40 s, cut into blocks of 1 windows"
        assert told in c.remarks[3]


def test_groups_are_runs_where_there_are_enough_and_blocks_of_neighbours_otherwise(tmp_path):
    def runs(count, windows):
        times = (1000.0 * r + n for r in range(count) for n in range(2 * windows))
        return "".join(f"{t},0,T,1,K\n" for t in times)

    with text_log(tmp_path, runs(12, 3), frames=2) as found:
        assert np.array_equal(found.contents.groups, np.repeat(np.arange(12), 3))  # type: ignore
    with text_log(tmp_path, runs(2, 100), frames=2) as found:
        groups = found.contents.groups
        assert groups is not None and len(np.unique(groups)) == 20
        assert set(np.diff(groups)) == {0, 1} and not set(groups[:100]) & set(groups[100:])


def test_windows_with_readings_in_less_than_two_frames_are_left_out(tmp_path):
    rows = "".join(f"{t},0,T,{t},K\n" for t in (0, 1, 2, 3, 6, 8, 9, 10, 11))
    with text_log(tmp_path, rows, frames=4, interval=1.0) as found:
        assert found.contents.starts == pytest.approx([0, 8])
        assert np.array_equal(found.read("T", 0, 2)[:, :, 0], [[0, 1, 2, 3], [8, 9, 10, 11]])
        assert any(r.startswith("1 windows with readings") for r in found.contents.remarks)


def test_quantities_at_different_sensors_share_one_set_of_points(tmp_path):
    rows = "".join(f"{t},0.5,p,{t},bar\n{t},0.1,T,{t},degC\n" for t in range(8))
    fields = {"p": FieldRule(units="Pa"), "T": FieldRule(units="K", role="input")}
    mapped = MappedFile(text_log(tmp_path, rows, frames=4, fields=fields), mapping(fields=fields))
    assert {f.name: (f.units, f.role) for f in mapped.contents.fields} == {
        "x": ("m", "coordinate"), "p": ("Pa", "state"), "T": ("K", "input")
    }  # fmt: skip
    assert mapped.read("x", 0, 1)[0] == pytest.approx([0.1, 0.5])
    assert mapped.read("p", 0, 1)[0] == pytest.approx(
        np.array([[np.nan, 1e5 * t] for t in range(4)]), nan_ok=True
    )
    assert mapped.read("T", 1, 2)[0, :, 0] == pytest.approx(np.arange(4, 8) + 273.15)


def test_a_unit_that_the_file_does_not_give_comes_from_the_mapping(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("time,x,quantity,value\n" + "".join(f"{t},0,T,{t}\n" for t in range(8)))
    rules = mapping(4, fields={"T": FieldRule(units="K", given_in="degC", name="heat")})
    mapped = MappedFile(SensorLog(path, rules), rules)
    assert mapped.contents.fields[1].units == "K"
    assert mapped.read("heat", 0, 1).ravel() == pytest.approx(np.arange(4) + 273.15)


def test_one_column_for_each_sensor_in_two_dimensions(tmp_path):
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
        ("0,0,T,1,K\n1e-9,0,T,1,K\n9e10,1,T,1,K\n", "expected fewer frames", {}),
        ("0,0,a b,1,K\n1,0,a-b,1,K\n2,0,a b,1,K\n", "'a b' and 'a-b' would be one field", {}),
        ("0,0,T,1,K\n100,0,T,1,K\n", "no window of 4 frames of 1 s has", {"interval": 1.0}),
    ],
)
def test_logs_that_cannot_be_windows_are_one_line(tmp_path, rows, words, given):
    with pytest.raises(InputError) as error:
        text_log(tmp_path, rows, frames=4, **given)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_the_interval_is_that_of_the_schedule_in_spite_of_jitter_and_losses(tmp_path):
    with log(tmp_path, Plant(jitter=2.0, missing=0.2, duration=36_000).rows()) as found:
        assert found.contents.parameters["interval"] == 10.0


def test_a_stray_date_does_not_fill_the_memory_with_empty_windows(tmp_path):
    rows = "".join(f"{t},0,T,1,K\n" for t in range(16)) + "1e10,0,T,1,K\n"
    with text_log(tmp_path, rows, frames=4) as found:
        assert found.contents.samples == 4


def test_an_outage_of_one_sensor_stays_a_gap(tmp_path):
    rows = without(Plant(missing=0, jitter=0, duplicates=0).rows(), "TC3", 1000, 3000)
    with log(tmp_path, rows) as found:
        gone = np.isnan(found.read("temperature", 0, found.contents.samples).reshape(-1, 8))
        assert gone.sum() == 200 and gone[100:300, 2].all()


def test_a_shard_of_a_dataset_is_made_of_a_log_and_gaps_are_no_duplicates(tmp_path):
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


def test_memory_grows_by_a_few_numbers_for_each_reading(tmp_path, monkeypatch):
    monkeypatch.setattr("mno.imports.csv.CHUNK", 2000)

    def peak(count):
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


def cooling(seed, moments):
    """Two bodies that cool, each read at times of its own; a plant's set-point now and then."""
    rng = np.random.default_rng(seed)
    times = rng.uniform(20.0, 180.0, moments).cumsum().round(2)
    rows = [
        (t, 0.25 + 0.5 * (n % 2), "T", math.exp(-t / 1000)) for n, t in enumerate(times.tolist())
    ]
    return times, rows + [(t, "", "load", 1.0) for t in times[::7].tolist()]


def moments_log(folder, rows, name="log.csv", frames=8, **rules):
    folder.mkdir(exist_ok=True)
    path = folder / name
    text = "".join(f"{t!r},{x},{quantity},{value!r},1\n" for t, x, quantity, value in rows)
    path.write_text(HEADER + text, encoding="utf-8")
    return SensorLog(path, mapping(frames=frames, interval="readings", **rules))


@pytest.mark.parametrize("seed", [0, 1])
def test_each_moment_of_reading_is_a_frame_at_its_own_time(tmp_path, seed):
    times, rows = cooling(seed, 40)
    with moments_log(tmp_path, rows) as found:
        c = found.contents
        assert [(f.name, f.role, f.dims) for f in c.fields] == [
            ("x", "coordinate", ("point",)),
            ("elapsed", "times", ("time",)),
            ("T", "state", ("time", "point")),
            ("load", "input", ("time", "point")),
        ]
        assert c.samples == 5
        elapsed = found.read("elapsed", 0, 5)
        assert np.array_equal(found.read("elapsed", 3, 5), elapsed[3:])
        read_at = times.reshape(5, 8)
        np.testing.assert_allclose(elapsed, read_at - read_at[:, :1], rtol=1e-6)
        assert c.starts == pytest.approx(read_at[:, 0])
        heat = found.read("T", 0, 5)
        assert np.isfinite(heat).sum() == 40  # one reading a moment
        np.testing.assert_allclose(np.nanmax(heat, axis=2), np.exp(-read_at / 1000), rtol=1e-5)
        mean = np.diff(times).mean()
        assert c.axes[0].points == pytest.approx(mean * np.arange(8), rel=1e-3)
        assert f"8 moments of reading, {mean:.4g} s apart in the mean" in " ".join(c.remarks)


def test_readings_close_to_each_other_share_a_moment_and_a_pause_ends_a_run(tmp_path):
    moments = [0.0, 10.0, 25.0, 31.0, 1000.0, 1004.0, 1030.0]
    rows = [(t + late, x, "T", t) for t in moments for late, x in ((0.0, 0.5), (0.03, 0.75))]
    with moments_log(tmp_path, rows, frames=3) as found:
        elapsed, interval = found.read("elapsed", 0, 3), found.contents.parameters["interval"]
        assert interval == pytest.approx((31 + 30) / 5)
        # The second window of the first run has one moment; so little is left out.
        assert found.contents.samples == 2 and found.contents.starts == pytest.approx([0, 1000])
        np.testing.assert_allclose(elapsed, [[0, 10, 25], [0, 4, 30]])
        assert np.isfinite(found.read("T", 0, 2)).all()
    with moments_log(tmp_path, rows, frames=4, name="b.csv") as found:
        # Behind a run's last moment frames go on by the mean interval, and nothing is read there.
        elapsed = found.read("elapsed", 1, 2)[0]
        np.testing.assert_allclose(elapsed, [0, 4, 30, 30 + interval], rtol=1e-3)
        assert np.isnan(found.read("T", 1, 2)[0, 3]).all()


def test_readings_that_never_pause_are_parted_into_moments(tmp_path):
    rng = np.random.default_rng(0)
    times = np.sort(rng.uniform(0.0, 100.0, 4000)).round(4)
    rows = [(t, 0.001 * (n % 200), "T", 1.0) for n, t in enumerate(times.tolist())]
    with moments_log(tmp_path, rows) as found:
        elapsed = found.read("elapsed", 0, found.contents.samples)
        assert np.diff(elapsed).min() > 0.02
        assert found.contents.samples * 8 == pytest.approx(100 / 0.05, rel=0.5)


def test_files_that_differ_in_gaps_or_by_nanometres_are_told_apart():
    def contents(length, **changed):
        x = Axis("x", "m", "x", length * (np.arange(4) + 0.5), (0.0, 4 * length))
        field = Field("T", "K", "temperature", "state", ("time", "x"))
        time = Axis("time", "s", "time", np.arange(3.0), (0.0, 2.0))
        return SimpleNamespace(fields=(replace(field, **changed),), axes=(time, x))

    ours = contents(1e-8)
    assert difference(ours, contents(1e-8, long_name="T of the rod")) is None
    assert "along x, at other places" in str(difference(ours, contents(1.1e-8)))
    found = difference(ours, contents(1e-8, gaps=True))
    assert found == (
        "has fields T[K] state with gaps (time, x); the others have T[K] state (time, x)"
    )


def test_logs_of_other_times_are_one_dataset(tmp_path):
    schemas = []
    for seed in (0, 1):
        with moments_log(tmp_path, cooling(seed, 40)[1], f"{seed}.csv") as found:
            schemas.append(found.contents)
    assert not np.allclose(schemas[0].axes[0].points, schemas[1].axes[0].points)
    assert difference(*schemas) is None
    with moments_log(tmp_path, cooling(0, 40)[1], "2.csv", frames=4) as found:
        assert "has 4 points along time" in str(difference(schemas[0], found.contents))
