"""Following a plant by the log of its sensors: what is told and dropped, what outlives a kill."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from ruamel.yaml import YAML

from flows.cli import main
from mno.serving.plant import Observer, Plant, keep
from tests.support import furnace_runs
from tests.support.workspaces import ROOT

SENSOR = "thermocouple_temperature.roof_front"


@pytest.fixture(scope="module")
def plant(tmp_path_factory):
    """A folder with an observer, the file of a run and its log."""
    root = tmp_path_factory.mktemp("plant")
    furnace_runs.saved_observer(root)
    constant, rows = furnace_runs.log_of()
    YAML(typ="safe").dump(constant, root / "run.yaml")
    write_log(root / "log.csv", rows)
    return root


def written(rows):
    columns = list(rows[0])
    lines = [",".join(columns)]
    for row in rows:
        cells = [row[c] for c in columns]
        lines.append(",".join("" if v != v else str(v) for v in cells))
    return "".join(line + "\n" for line in lines)


def write_log(path, rows):
    path.write_text(written(rows))


@pytest.fixture
def watch(plant, tmp_path, monkeypatch, capsys):
    """Run `mno watch` here, in a folder of its own; return exit code, answers and error stream."""
    monkeypatch.chdir(tmp_path)

    def run(log, *options, run="run.yaml", as_json=True):
        given = ["--run", str(plant / run)] if run else []
        words = [str(plant / "models/candidate"), str(log), "--once", *given, *options]
        monkeypatch.setattr(sys, "argv", ["mno", "watch", *words, *["--json"] * as_json])
        try:
            main()
            code = 0
        except SystemExit as ended:
            code = ended.code or 0
        out, err = capsys.readouterr()
        return code, out, err

    return run


def answers(out):
    return [json.loads(line) for line in out.splitlines()]


def test_what_is_told_step_by_step_is_what_the_model_says_of_the_whole_run(plant, watch):
    code, out, err = watch(plant / "log.csv")
    assert code == 0, err
    surrogate, trust = furnace_runs.observer()
    split = furnace_runs.runs("validation", 1, observed=True)
    given = surrogate.description.given({n: a[:1] for n, a in split.fields.items()})
    whole = surrogate.predict(given)
    told = answers(out)
    assert len(told) == len(given["setpoint"][0]) == 25
    for name in surrogate.description.outputs:
        _, first, last = surrogate.description.readings[name]
        for frame, answer in enumerate(told):
            found = answer["outputs"][name]
            found = list(found.values()) if isinstance(found, dict) else [found]
            expected = whole[name][0, frame, first:last] if whole[name].ndim > 2 else None
            expected = whole[name][0, frame] if expected is None or not expected.size else expected
            there = [k for k, v in enumerate(found) if v is not None]
            np.testing.assert_allclose(
                np.array(found, float)[there], np.ravel(expected)[there], rtol=1e-4
            )
    bound = trust.bounds["core_temperature"]["max_error"]
    assert told[3]["bands"]["core_temperature"] == pytest.approx(bound.values[3])
    assert told[3]["bands_over_run"]["core_temperature"] == pytest.approx(bound.over_run[3])
    pieces = np.isfinite(split.fields["piece_grade"][0]).sum()
    assert sum(v is not None for v in told[0]["outputs"]["core_temperature"].values()) == pieces
    assert "25 readings told" in err


def test_bands_are_interpolated_and_there_is_none_beyond_the_last(plant, watch, tmp_path):
    _, rows = furnace_runs.log_of()
    rows = [{**rows[0], "time": t} for t in (0.0, 900.0, 24 * 1800.0, 24 * 1800.0 + 1.0)]
    write_log(tmp_path / "log.csv", rows)
    code, out, _ = watch("log.csv")
    bands = [answer["bands"]["core_temperature"] for answer in answers(out)]
    values = furnace_runs.observer()[1].bounds["core_temperature"]["max_error"].values
    assert bands[:3] == pytest.approx([values[0], (values[0] + values[1]) / 2, values[24]])
    assert code == 0 and bands[3] is None


def test_what_cannot_be_told_is_counted(watch, tmp_path):
    _, rows = furnace_runs.log_of()
    known = {name: 900.0 for name in rows[0]}
    text = written([{**known, "time": 1800.0 * k} for k in range(6)]).splitlines()
    text[3] = text[3].replace("3600.0,900.0", "3600.0,1e999")  # infinite
    text[4] = text[4].replace("5400.0,900.0", "5400.0,-1")  # below absolute zero
    text[5] = text[5].replace("7200.0,900.0", "7200.0,hot")
    text[6] = text[6].replace("9000.0,900.0", "9000.0,")
    text.insert(3, text[2])  # the same time again
    text.insert(5, text[1])  # earlier
    text.insert(6, "never" + text[1][3:])
    text.insert(7, "1,2")
    (tmp_path / "log.csv").write_text("\n".join(text) + "\n99999.0,9")  # half a line
    code, out, err = watch("log.csv")
    told = answers(out)
    assert code == 0 and len(told) == 6, err
    assert told[-1]["dropped"] == {
        "out_of_order": 1, "repeated": 1, "unreadable": 2, "missing": 1, "impossible": 3
    }  # fmt: skip
    assert told[-1]["missing"] == ["setpoint.front"]
    assert "6 readings told; dropped 1 out of order, 1 repeated, 2 unreadable" in err
    # The half line is told once it is whole.
    with (tmp_path / "log.csv").open("a") as file:
        file.write("00.0" + ",900.0" * (len(text[0].split(",")) - 2) + "\n")
    code, out, err = watch("log.csv")
    assert [answer["time"] for answer in answers(out)] == ["99999.0"]
    assert answers(out)[0]["readings"]["setpoint.front"] == 900.0
    assert "7 readings told" in err


def test_what_is_unlike_training_is_named(watch, tmp_path, plant):
    _, rows = furnace_runs.log_of()
    rows = [dict(row) for row in rows[:3]]
    rows[1][SENSOR] = 5000.0
    write_log(tmp_path / "log.csv", rows)
    code, out, _ = watch("log.csv", as_json=False)
    lines = out.splitlines()
    assert code == 0 and f"UNLIKE TRAINING {SENSOR}" in lines[1]
    assert SENSOR not in lines[0] + lines[2]
    assert "core_temperature" in lines[0] and " K" in lines[0]


def test_readings_are_kept_as_csv_whose_columns_are_those_of_its_header(tmp_path):
    path = tmp_path / "a.csv"
    keep(path, {"time": "2026-03-01T12:00:00,5", "readings": {"a.x": 1.0, "b": None}})
    keep(path, {"time": "2026-03-01T12:00:05", "readings": {"b": 2.0, "a.x": 7.0}})
    before, after = (
        list(csv.DictReader(io.StringIO(file.read_text()))) for file in (tmp_path / "a.1.csv", path)
    )
    assert before == [{"time": "2026-03-01T12:00:00,5", "a.x": "1.0", "b": ""}]
    assert after == [{"time": "2026-03-01T12:00:05", "b": "2.0", "a.x": "7.0"}]


def test_a_sensor_that_is_wrong_is_left_out_of_what_is_told(watch, tmp_path, plant):
    _, rows = furnace_runs.log_of()
    wrong, missing = [dict(row) for row in rows[:4]], [dict(row) for row in rows[:4]]
    wrong[2][SENSOR], missing[2][SENSOR] = 5000.0, ""
    write_log(tmp_path / "wrong.csv", wrong)
    write_log(tmp_path / "missing.csv", missing)
    told, others = (
        answers(watch(f"{name}.csv", "--state", f"of-{name}")[1]) for name in ("wrong", "missing")
    )
    assert [answer["left_out"] for answer in told] == [[], [], [SENSOR], []]
    assert [answer["unlike"] for answer in told] == [[], [], [SENSOR], []]
    for one, other in zip(told, others, strict=True):
        assert one["outputs"] == other["outputs"]
    # Where most are, none can be told to be right.
    for column in rows[3]:
        if column.startswith(("thermocouple", "zone_temperature")):
            wrong[3][column] = 5000.0
    write_log(tmp_path / "most.csv", wrong)
    last = answers(watch("most.csv", "--state", "of-most")[1])[-1]
    assert 0 < len(last["left_out"]) < len(last["unlike"])


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda t: t.replace("setpoint.front", "presssure"), "'presssure', which is not known"),
        (lambda t: t.replace("time", "when"), "expected each once, and time"),
        (lambda t: t.replace("setpoint.rear", "setpoint.front"), "expected each once"),
        (lambda t: "", "no whole line"),
        (lambda t: "time,setpoint.fr", "no whole line"),
    ],
)
def test_a_log_that_does_not_fit_is_refused_in_one_line(watch, tmp_path, plant, change, why):
    (tmp_path / "log.csv").write_text(change((plant / "log.csv").read_text()))
    code, out, err = watch("log.csv", as_json=False)
    errors = [line for line in err.splitlines() if line.startswith("error:")]
    assert code == 2 and out == "" and len(errors) == 1 and why in errors[0], err


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"piece_grade": None}, "piece_grade=null"),
        ({"ambient_temperature": [1.0]}, "expected a number, in K"),
        ({"ambient_temperature": -5.0}, "expected a number, in K"),
        ({"piece_width": [0.3]}, "expected a list of 3 numbers, null where there is none, in m"),
        ({"piece_width": [0.3, "wide", None]}, "expected a list of 3 numbers"),
        ({"piece_width": [0.3, math.inf, None]}, "expected a list of 3 numbers"),
        ({"more": 1.0}, "too much of, more; expected exactly thermocouple_lag [s] of front"),
    ],
)
def test_a_run_that_does_not_fit_is_refused_in_one_line(watch, tmp_path, plant, change, why):
    constant, _ = furnace_runs.log_of()
    YAML(typ="safe").dump({**constant, **change}, tmp_path / "bad.yaml")
    code, out, err = watch(plant / "log.csv", "--run", "bad.yaml", run=None, as_json=False)
    assert code == 2 and out == "" and len(err.splitlines()) == 1 and why in err, err


def test_without_a_run_what_is_wanted_is_said(watch, plant):
    code, _, err = watch(plant / "log.csv", run=None, as_json=False)
    assert code == 2 and "--run is not given: the run lacks, or has too much of, ambient" in err
    assert "piece_width [m] of 1, 2, 3" in err
    code, out, _ = watch(plant / "log.csv", "--describe", run=None, as_json=False)
    assert code == 0 and f"{SENSOR}  K" in out and "thermocouple_lag: [front, rear]  s" in out
    wanted = json.loads(watch(plant / "log.csv", "--describe", run=None)[1])
    assert wanted["columns"][SENSOR] == "K"
    assert wanted["run"]["thermocouple_lag"] == {"unit": "s", "places": ["front", "rear"]}


def test_a_model_that_is_no_observer_is_refused(tmp_path, monkeypatch, capsys):
    surrogate, _ = furnace_runs.trusted()
    folder = tmp_path / "models/candidate"
    folder.mkdir(parents=True)
    surrogate.save(folder)
    log = tmp_path / "log.csv"
    log.write_text("time\n")
    monkeypatch.setattr(sys, "argv", ["mno", "watch", str(folder), str(log)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "candidate is no observer of readings; train one with" in capsys.readouterr().err


def test_the_state_of_another_model_is_refused(watch, plant, tmp_path):
    state, options = tmp_path / "state.safetensors", ("--state", "state.safetensors")
    watch(plant / "log.csv", *options)
    content = state.read_bytes()
    about = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
    model = about["model"].encode()
    state.write_bytes(content.replace(model, b"0" * len(model)))
    code, out, err = watch(plant / "log.csv", *options, as_json=False)
    assert code == 2 and out == "" and "is the state of another model" in err
    state.write_bytes(content[:100])
    code, out, err = watch(plant / "log.csv", *options, as_json=False)
    assert code == 2 and out == "" and "holds no run that can be read" in err


@pytest.mark.parametrize("log", ["x.csv", "x.1.csv", "x.lock", "x.safetensors"])
def test_a_state_that_would_be_kept_in_the_log_is_refused(watch, plant, tmp_path, log):
    content = (plant / "log.csv").read_bytes()
    (tmp_path / log).write_bytes(content)
    code, out, err = watch(log, "--state", "x.safetensors", as_json=False)
    assert code == 2 and out == "" and f"it would be written into {log}; name another" in err
    assert (tmp_path / log).read_bytes() == content


def test_a_state_by_another_ending_than_its_own_is_refused(watch, plant, tmp_path):
    for name in ("charge.csv", "furnace.1"):
        code, out, err = watch(plant / "log.csv", "--state", name, as_json=False)
        assert code == 2 and out == "" and "expected a name that ends in .safetensors" in err
    assert not {*tmp_path.glob("charge*"), *tmp_path.glob("furnace*")}


def test_the_state_of_another_run_is_refused(watch, plant, tmp_path):
    watch(plant / "log.csv", "--state", "state.safetensors")
    constant, _ = furnace_runs.log_of()
    YAML(typ="safe").dump({**constant, "ambient_temperature": 299.0}, tmp_path / "other.yaml")
    code, out, err = watch(
        plant / "log.csv", "--state", "state.safetensors", "--run", "other.yaml", run=None,
        as_json=False,
    )  # fmt: skip
    assert code == 2 and out == "" and "state of another run" in err


MAPPING = """
sensors:
  columns:
    TC1: {quantity: thermocouple_temperature, place: roof_front, units: degC}
    SP1: {quantity: setpoint, place: front, units: K}
"""


def test_columns_are_named_and_converted_by_a_mapping_file(watch, tmp_path):
    (tmp_path / "map.yaml").write_text(MAPPING)
    (tmp_path / "log.csv").write_text(
        "Timestamp;SP1;TC1;operator\n2026-03-01T12:00:00Z;900,5;26,85;A\n"
        "2026-03-01T14:30:00+02:00;900;100;B\n"
    )
    code, out, err = watch("log.csv", "--mapping", "map.yaml")
    first, second = answers(out)
    assert code == 0 and first["readings"][SENSOR] == pytest.approx(300.0)
    assert first["readings"]["setpoint.front"] == 900.5
    assert second["elapsed"] == 1800.0 and second["time"] == "2026-03-01T14:30:00+02:00"
    assert "not in the log: setpoint.rear" in err


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("degC", "bar", "cannot be converted to K"),
        ("degC", "warmth", "is no unit"),
        ("roof_front", "cellar", "'thermocouple_temperature.cellar', which is not known"),
        ("quantity: setpoint", "quantity: volume", "'volume.front', which is not known"),
        ("TC1", "TC9", "names column 'TC9'"),
        ("place", "palce", "palce"),
    ],
)
def test_a_mapping_that_does_not_fit_is_refused_in_one_line(watch, tmp_path, old, new, why):
    (tmp_path / "map.yaml").write_text(MAPPING.replace(old, new, 1))
    (tmp_path / "log.csv").write_text("time,SP1,TC1\n0,900,26\n")
    code, out, err = watch("log.csv", "--mapping", "map.yaml", as_json=False)
    errors = [line for line in err.splitlines() if line.startswith("error:")]
    assert code == 2 and out == "" and len(errors) == 1 and why in errors[0], err


def test_readings_that_are_close_are_told_as_one(watch, tmp_path):
    _, rows = furnace_runs.log_of()
    known = {name: 900.0 for name in rows[0]}
    times = [0.0, 10.0, 20.0, 70.0, 100.0, 200.0]
    write_log(tmp_path / "log.csv", [{**known, SENSOR: 800.0 + t, "time": t} for t in times])
    code, out, _ = watch("log.csv", "--every", "60")
    told = answers(out)
    assert code == 0 and [answer["time"] for answer in told] == ["20.0", "100.0", "200.0"]
    assert [answer["readings"][SENSOR] for answer in told] == [810.0, 885.0, 1000.0]


def test_a_plant_read_back_after_each_reading_is_told_the_same_bit_for_bit(tmp_path):
    constant, rows = furnace_runs.log_of()
    observer = Observer(*furnace_runs.observer(), "0" * 64, "observer")
    whole, again = (Plant(observer, observer.begin(constant)) for _ in range(2))
    for row in rows:
        cells = {name: value for name, value in row.items() if name != "time"}
        date = f"2026-03-01T{int(row['time']) // 3600:02d}:{int(row['time']) // 60 % 60:02d}:00Z"
        again.save(tmp_path / "state.safetensors")
        again, _ = Plant.load(tmp_path / "state.safetensors", observer)
        assert again.take(date, cells) == whole.take(date, cells)


def command(plant, log, *options):
    words = [str(plant / "models/candidate"), str(log), "--run", str(plant / "run.yaml"), "--json"]
    return [sys.executable, "-m", "flows.cli", "watch", *words, *options]


@pytest.fixture
def environment():
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def lines_of(path):
    return path.read_text().splitlines() if path.exists() else []


def wait_for(condition):
    for _ in range(1200):
        if condition():
            return
        time.sleep(0.05)
    raise TimeoutError


@pytest.mark.parametrize("options", [(), ("--every", "3000")])
def test_a_killed_watch_goes_on_as_if_nothing_had_been(plant, tmp_path, environment, options):
    """The log grows, is killed at some time, grows and is rotated; the lines are the same."""
    header, *rows = (plant / "log.csv").read_text().splitlines(keepends=True)
    rows.insert(5, rows[2])  # out of order, to be counted once
    (tmp_path / "whole.csv").write_text(header + "".join(rows))
    whole = subprocess.run(
        command(plant, "whole.csv", "--once", *options), cwd=tmp_path, env=environment,
        capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    log, out = tmp_path / "log.csv", tmp_path / "out.txt"
    (tmp_path / "log.csv").write_text(header + "".join(rows[:4]) + rows[4][:9])
    options = (*options, "--state", "killed.safetensors")
    for end, more in ((signal.SIGKILL, rows[5:12]), (signal.SIGINT, rows[12:20])):
        before = len(lines_of(out))
        with out.open("a") as file, (tmp_path / "err.txt").open("a") as errors:
            process = subprocess.Popen(
                command(plant, "log.csv", *options), cwd=tmp_path, env=environment, stdout=file,
                stderr=errors,
            )  # fmt: skip
            if end == signal.SIGKILL:  # half a line is there, and waits
                wait_for(lambda: len(lines_of(out)) > 0)
                more = [rows[4][9:], *more]
            with log.open("a") as file:
                file.write("".join(more))
            wait_for(lambda before=before: len(lines_of(out)) > before + 2)
            process.send_signal(end)
            assert process.wait(60) == (-9 if end == signal.SIGKILL else 130)
    with log.open("a") as file:
        file.write("".join(rows[20:]))
    last = subprocess.run(
        command(plant, "log.csv", "--once", *options), cwd=tmp_path, env=environment,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = lines_of(out) + last.stdout.splitlines()
    assert list(dict.fromkeys(found)) == whole
    assert len(found) <= len(whole) + 1  # one that was told and not yet kept
    assert "interrupted" in (tmp_path / "err.txt").read_text()


def test_a_log_that_is_rotated_is_followed(plant, tmp_path, environment):
    header, *rows = (plant / "log.csv").read_text().splitlines(keepends=True)
    log, out = tmp_path / "log.csv", tmp_path / "out.txt"
    log.write_text(header + "".join(rows[:3]))
    with out.open("w") as file:
        process = subprocess.Popen(
            command(plant, log), cwd=tmp_path, env=environment, stdout=file,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
    try:
        wait_for(lambda: len(lines_of(out)) == 3)
        log.rename(tmp_path / "log.csv.1")
        with (tmp_path / "log.csv.1").open("a") as file:
            file.write(rows[3])
        log.write_text(header + rows[4])
        wait_for(lambda: len(lines_of(out)) == 5)
        log.write_text(header)  # cut off
        wait_for(lambda: log.stat().st_size == len(header))
        time.sleep(0.5)
        with log.open("a") as file:
            file.write(rows[5])
        wait_for(lambda: len(lines_of(out)) == 6)
    finally:
        process.kill()
        process.wait()
    times = [json.loads(line)["time"] for line in lines_of(out)]
    assert times == [row.partition(",")[0] for row in rows[:6]]


def test_another_log_of_the_same_name_is_read_from_its_beginning(watch, tmp_path):
    _, rows = furnace_runs.log_of()
    write_log(tmp_path / "log.csv", rows[:5])
    assert len(answers(watch("log.csv")[1])) == 5
    write_log(tmp_path / "log.csv", rows[5:20])  # in place, and longer
    assert len(answers(watch("log.csv")[1])) == 15
    write_log(tmp_path / "log.csv", rows[3:22])
    code, out, _ = watch("log.csv")
    assert code == 0 and len(answers(out)) == 2
    assert answers(out)[-1]["dropped"]["out_of_order"] == 16
    assert answers(out)[-1]["dropped"]["repeated"] == 1


def test_standard_input_is_followed(plant, tmp_path, environment):
    text = (plant / "log.csv").read_text()
    done = subprocess.run(
        command(plant, "-"), cwd=tmp_path, env=environment, input=text + "half a li",
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert len(done.stdout.splitlines()) == 25
    state = tmp_path / ".mno/watch"
    kept = next(state.glob("*.csv")).read_text().splitlines()
    assert len(kept) == 26 and kept[0] == text.splitlines()[0]


def test_a_reader_of_the_answers_that_goes_is_no_fault_of_the_states_file(
    plant, tmp_path, environment
):
    watched = subprocess.Popen(
        command(plant, plant / "log.csv", "--once", "--state", "fresh"), cwd=tmp_path,
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert watched.stdout is not None and watched.stderr is not None
    watched.stdout.close()
    said = watched.stderr.read()
    assert watched.wait() == 1, said
    assert "cannot write" not in said and "Traceback" not in said


def test_kept_readings_are_limited(tmp_path):
    for number in range(100):
        answer = {"time": number, "readings": {"a": None if number % 2 else 1.5}}
        keep(tmp_path / "kept.csv", answer, most=200)
    sizes = [path.stat().st_size for path in sorted(tmp_path.iterdir())]
    assert len(sizes) == 2 and max(sizes) < 220
    assert (tmp_path / "kept.1.csv").read_text().startswith("time,a\n")


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.timeout(3600)
def test_memory_is_constant_over_many_readings(tmp_path):
    surrogate, trust = furnace_runs.observer()
    constant, rows = furnace_runs.log_of()
    observer = Observer(surrogate, trust, "0" * 64, "soaked")
    plant = Plant(observer, observer.begin(constant))
    process, sizes = psutil.Process(), []
    for number in range(100_000):
        cells = {name: value for name, value in rows[number % 25].items() if name != "time"}
        assert plant.take(float(number), cells) is not None
        if number % 1000 == 999:
            plant.save(tmp_path / "state.safetensors")
        if number in (20_000, 99_999):
            sizes.append(process.memory_info().rss)
    assert sizes[1] - sizes[0] < 16 * 2**20
    assert plant.counts["told"] == 100_000
    assert Path(tmp_path / "state.safetensors").stat().st_size < 2**20
