"""The table of readings: what is in a file of them, whoever wrote it, or one clear line."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plant_log import POWER, Plant, write_long

from mno.core.errors import InputError
from mno.imports.mapping import Sensor, SensorRules
from mno.imports.readings import Readings, read_readings

HEADER = "time,x,quantity,value,unit\n"


def read(folder: Path, text: str, units: dict[str, str] | None = None, **rules) -> Readings:
    path = folder / "log.csv"
    path.write_bytes(text.encode())
    return read_readings(path, SensorRules(**rules), units)


def test_every_reading_of_a_plant_log_is_there_in_kelvin(tmp_path: Path) -> None:
    rows = Plant(drift=1.0).rows()
    found = read_readings(write_long(tmp_path / "a.csv", rows), SensorRules(), {"temperature": "K"})
    assert len(found) == len(rows) and found.duplicates == 20 and found.unreadable == 0
    assert found.units == {"temperature": "K", POWER: "kW"} and found.axes == ("x",)
    assert found.epoch is not None and found.epoch.startswith("2026-03-01T05:59:59")
    first = rows[0].time
    ours = Counter(
        (round(t, 3), s, q, round(v, 2), p if p == p else None)
        for t, s, q, v, p in zip(
            found.time.tolist(), found.sensor, found.quantity, found.value.tolist(),
            found.position[:, 0].tolist(), strict=True,
        )
    )  # fmt: skip
    theirs = Counter(
        (round(r.time - first, 3), r.sensor, r.quantity,
         round(r.value + 273.15 * (r.unit == "degC"), 2), r.x)
        for r in rows
    )  # fmt: skip
    assert ours == theirs
    given = found.uncertainty[found.quantity == "temperature"]
    assert np.allclose(given, 0.2) and np.isnan(found.uncertainty[found.quantity == POWER]).all()


def test_decimal_commas_dates_and_seconds_say_the_same(tmp_path: Path) -> None:
    rows = Plant(duration=600).rows()
    dates = read_readings(write_long(tmp_path / "a.csv", rows), SensorRules())
    comma = read_readings(write_long(tmp_path / "b.csv", rows, comma=True), SensorRules())
    plain = read_readings(write_long(tmp_path / "c.csv", rows, dates=False), SensorRules())
    assert dates.epoch == comma.epoch and plain.epoch is None
    assert plain.time[0] == rows[0].time
    for other in (comma, plain):
        assert np.array_equal(dates.value, other.value)
        assert np.array_equal(dates.position, other.position, equal_nan=True)
        assert np.allclose(dates.time, other.time - other.time[0], atol=1e-9)


def test_headers_and_cells_may_be_written_in_many_ways(tmp_path: Path) -> None:
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
    assert found.position.tolist() == [[0.1, 2.0]] * 2 and found.axes == ("x", "y")
    assert found.uncertainty[1] == pytest.approx(1000.0) and math.isnan(found.uncertainty[0])
    assert found.unreadable == 2


def test_the_first_unit_of_a_quantity_counts_if_no_other_is_wanted(tmp_path: Path) -> None:
    found = read(tmp_path, HEADER + "0,0,T,20,degC\n1,0,T,293.15,K\n1,,p,1,bar\n")
    assert found.units == {"T": "degC", "p": "bar"}
    assert found.value == pytest.approx([20.0, 20.0, 1.0])
    unnamed = read(tmp_path, "time,x,quantity,value\n0,0,T,20\n", {"T": "degC"})
    assert unnamed.units == {"T": "degC"} and unnamed.value.tolist() == [20.0]


def test_sensors_without_names_are_named_by_their_places(tmp_path: Path) -> None:
    found = read(tmp_path, HEADER + "0,0.5,T,1,K\n0,0.25,T,2,K\n1,0.50,T,3,K\n1,,p,4,Pa\n")
    assert list(found.sensor) == ["x=0.5", "x=0.25", "x=0.5", "p"]
    assert np.isnan(found.position[-1]).all()


def test_rows_in_any_order_are_sorted_by_time_and_duplicates_counted(tmp_path: Path) -> None:
    found = read(
        tmp_path, HEADER + "3,0,T,1,K\n1,0,T,2,K\n1,0,T,5,K\n1,0,q,5,K\n1,1,T,5,K\n2,0,T,3,K\n"
    )
    assert found.time.tolist() == [1, 1, 1, 1, 2, 3]
    assert found.value.tolist() == [2, 5, 5, 5, 3, 1]
    assert found.duplicates == 1


def test_one_column_for_each_sensor(tmp_path: Path) -> None:
    columns = {
        "T in": Sensor(quantity="temperature", units="degC", x=0.0, uncertainty=0.5),
        "T out": Sensor(quantity="temperature", units="K", x=1.0),
        "load": Sensor(quantity="load", units="kW"),
    }
    text = "time,T in,other,T out,load\n0,20,x,300,1\n10,,x,301,\n20,21,x,-,3\n"
    found = read(tmp_path, text, {"temperature": "K"}, columns=columns)
    assert found.time.tolist() == [0, 0, 0, 10, 20, 20] and found.unreadable == 3
    assert found.value == pytest.approx([293.15, 300, 1, 301, 294.15, 3])
    assert set(found.sensors) == {"T in", "T out", "load"}
    assert found.uncertainty[found.sensor == "T in"].tolist() == [0.5, 0.5]
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
    (HEADER + "0,0,T,1,K\n\x00\x00,0,T,1,K\n", "line 3: NUL bytes"),
    (HEADER + '0,0,"T"x,1,K\n', "expected quotes around"),
    (HEADER + '0,0,"T,1,K\n' + "1,0,T,1,K\n" * 50_000, "expected quotes around"),
    (HEADER + '0,0,"a\nb",1,K\n0,0,"a\nb",1,"m\nm"\n', "line 6: a b is given in m m"),
    (HEADER + "9" * 1_000_001, "line 2: more than 1000000 characters"),
    (HEADER + "0,0,,1,K\n", "quantity ''"),
    (HEADER + "0,0," + "T" * 300 + ",1,K\n", "expected names of 1 to 200"),
    (HEADER, "has no readings (0 cells without a value)"),
    (HEADER + "0,0,T,,K\n", "has no readings (1 cells without a value)"),
    ("", "has no header"),
    ("1,2,3\n4,5,6\n", "has no column 'time'"),
    ("time,x,value\n0,0,1\n", "has no column 'quantity' (it has time, x, value)"),
    ("time,x,x,quantity,value\n0,0,0,T,1\n", "has the columns x twice"),
    (HEADER + "noon,0,T,1,K\n", "line 2: time 'noon'; expected seconds, or a date"),
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
def test_what_is_no_table_of_readings_is_one_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(InputError) as error:
        read(tmp_path, text)
    assert words in str(error.value) and "\n" not in str(error.value)
    assert len(str(error.value)) < 700 + len(str(tmp_path))


def test_bytes_that_are_no_utf8_and_files_that_are_not_there_are_one_line(tmp_path: Path) -> None:
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


def test_a_column_of_readings_named_like_a_position_is_refused(tmp_path: Path) -> None:
    rows = "".join(f"{n},{n},T,1,K\n" for n in range(100_001))
    with pytest.raises(InputError, match="more than 100000 sensors and places"):
        read(tmp_path, HEADER + rows)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.text('0123456789.,;-e"#\r\n\tx\ufeff\0 nNaT:', max_size=40), max_size=8))
def test_whatever_stands_in_the_rows_is_read_or_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str]
) -> None:
    path = tmp_path_factory.mktemp("log") / "log.csv"
    path.write_bytes((HEADER + "0,0,T,1,K\n" + "\n".join(lines)).encode())
    try:
        found = read_readings(path, SensorRules())
    except InputError as error:
        assert "\n" not in str(error) and "\r" not in str(error)
    else:
        assert np.isfinite(found.value).all() and np.isfinite(found.time).all()
