"""Observers as FMUs: validated, stepped, and put back by FMPy."""

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import fmpy
import numpy as np
import pytest

from flows.cli import main
from mno.core.absent import Absent
from mno.core.errors import InputError
from mno.core.forecast import TaskConfig
from mno.core.observing import Sensor
from mno.data.parts import seen
from mno.nn.config import ModelConfig
from mno.portable.fmu import write_fmu
from mno.portable.graph import graph_of
from mno.serving.plant import Observer, Plant
from mno.surrogate.surrogate import Surrogate
from mno.training.problem import describe
from tests.evaluation.small_lines import solved_split
from tests.support import furnace_runs

HEADER = Path("/usr/include/onnxruntime/onnxruntime_c_api.h")
compiled = pytest.mark.skipif(
    not (HEADER.exists() and shutil.which("cc")),
    reason="an FMU is compiled with a C compiler and libonnxruntime-dev, which are not installed",
)
STEP, HOURS = 1800.0, 12
ABOUT = {"title": "batch_furnace", "description": "an observer", "tool": "mno"}


@pytest.fixture(scope="module")
def observer():
    surrogate, trust = furnace_runs.observer()
    return Observer(surrogate, trust, "0" * 64, "it")


def named(observer, values):
    """Return numbers as JSON takes them, by the names of variables."""
    found = {}
    for name, value in values.items():
        places = observer.description.places(name) if np.ndim(value) else ("",)
        for place, one in zip(places, np.ravel(value), strict=True):
            missing = one is None or math.isnan(one)
            found[f"{name}.{place}" if place else name] = None if missing else float(one)
    return found


def inputs(observer, row):
    """Return the inputs of the FMU that a row of the log is."""
    given = {}
    for name in observer.description.forcings:
        places = observer.description.places(name)
        columns = (f"{name.removesuffix('_read')}.{place}" if place else name for place in places)
        given[name] = [row[column] for column in columns]
    return named(observer, given)


@compiled
@pytest.mark.parametrize("fmi", [3, 2])
def test_it_is_what_is_watched_for_twelve_hours_and_goes_on_from_a_kept_state(
    fmi, observer, tmp_path
):
    path = tmp_path / "a plant.fmu"
    write_fmu(graph_of(*furnace_runs.observer()), path, ABOUT, fmi)
    constants, rows = furnace_runs.log_of()
    rows = [row for row in rows if row["time"] <= HOURS * 3600.0]
    outputs = {n: observer.description.places(n) for n in observer.description.outputs}
    read = [f"{n}.{p}" if p else n for n, places in outputs.items() for p in places]
    said = {
        "fmu": str(path), "read": [*read, *(f"{n}_max_error_bound" for n in outputs)],
        "begin": named(observer, constants) | inputs(observer, rows[0]),
        "steps": [[row["time"] - STEP, STEP, inputs(observer, row)] for row in rows[1:]],
        "wrong steps": {
            "backwards": [0.0, STEP, {}], "negative": [HOURS * 3600.0, -STEP, {}],
            "ahead": [HOURS * 3600.0 + STEP, STEP, {}],
        },
        "needed": "ambient_temperature",
    }  # fmt: skip
    (tmp_path / "said.json").write_text(json.dumps(said))
    script = Path(__file__).with_name("drive_fmu.py")
    command = [sys.executable, script, tmp_path / "said.json", tmp_path / "told.json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads((tmp_path / "told.json").read_text())
    assert told["problems"] == []
    assert told["again"] == told["answers"][-1]
    assert len(told["wrong"]) == 5 and all("failed" in said for said in told["wrong"].values())
    watched = Plant(observer, observer.begin(constants))
    for row, answers in zip(rows, told["answers"], strict=True):
        cells = {k: None if v != v else v for k, v in row.items() if k != "time"}
        expected, found = watched.take(row["time"], cells), dict(zip(said["read"], answers))  # noqa: B905
        for name, places in outputs.items():
            values, unit = expected["outputs"][name], observer.description.normaliser.std[name]
            for place in places:
                value = values[place] if place else values
                if value is not None:
                    got = found[f"{name}.{place}" if place else name]
                    assert abs(got - value) <= 1e-5 * unit
            band = expected["bands"][name]
            assert found[f"{name}_max_error_bound"] == pytest.approx(band or math.inf, rel=1e-5)


def observer_of_fields():
    sensors = {"activator": Sensor(noise=0.1)}
    train = seen(solved_split("train", "diffusion_reaction", 3, 0, 8), "fields", sensors=sensors)
    model = ModelConfig(backbone="plain", mixer=["softmax"], width=8, layers=1, heads=2)
    description = describe(train, model, TaskConfig(kind="observe", sensors=sensors))
    return Surrogate(description, description.build())


def test_what_is_no_observer_of_readings_or_no_version_is_refused(tmp_path, monkeypatch):
    for surrogate in (furnace_runs.trusted()[0], observer_of_fields()):
        other = graph_of(surrogate, Absent("estimate.older"))
        with pytest.raises(InputError, match="no observer of readings; export it as .onnx"):
            write_fmu(other, tmp_path / "a.fmu", ABOUT, 3)
    graph = graph_of(*furnace_runs.observer())
    with pytest.raises(InputError, match="--fmi 1: expected 2 or 3"):
        write_fmu(graph, tmp_path / "a.fmu", ABOUT, 1)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="no C compiler; install both, on Debian with: apt-get"):
        write_fmu(graph, tmp_path / "a.fmu", ABOUT, 3)
    assert not list(tmp_path.iterdir())


@compiled
def test_the_command_says_what_came_of_it(tmp_path, monkeypatch, capsys):
    model, path = furnace_runs.saved_observer(tmp_path), tmp_path / "plant.fmu"
    monkeypatch.setattr(sys, "argv", ["mno", "export", str(model), str(path), "--json"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    answer = json.loads(capsys.readouterr().out)
    variables = fmpy.read_model_description(path).modelVariables
    assert answer["variables"] == len(variables) - 1  # which has the time, too
    assert {v.unit for v in variables if v.name.startswith("core_temperature")} == {"K"}
