"""The whole line on fields over time: from the solver to a registered model that continues them."""

import json
import subprocess
import sys
import warnings

import mlflow
import numpy as np
import pytest
import xarray

from mno.surrogate.surrogate import Surrogate
from tests.support.workspaces import Workspace, make_workspace

pytestmark = [pytest.mark.slow, pytest.mark.nightly]

SMALL = (
    "scenario=diffusion_reaction",
    "scenarios.diffusion_reaction.frames=9",
    "generate.samples=60",
    "generate.resolution=12",
    "generate.split.train=0.7",
    "generate.split.validation=0.15",
    "generate.split.test=0.15",
    "task.history=2",
    "task.scheme=rollout",
    "train.unroll=2",
    "train.epochs=12",
)


@pytest.fixture(scope="module")
def line(tmp_path_factory, prefect_api):
    """A fresh workspace in which the line has run on a small dataset of states."""
    made = make_workspace(tmp_path_factory.mktemp("states") / "workspace")
    workspace = Workspace(made.root, variables={"PREFECT_API_URL": prefect_api})
    settings = [word for key in SMALL for word in ("--set", key)]
    workspace.mno("run", "--preset", "quick", *settings, check=True)
    return workspace


def read(workspace, name):
    return json.loads((workspace.root / "reports" / name).read_text(encoding="utf-8"))


def test_the_model_is_registered_and_better_than_keeping_the_last_frame(line):
    registered, metrics = read(line, "registered.json"), read(line, "metrics.json")
    assert (registered["name"], registered["version"]) == ("mno-diffusion_reaction", 1)
    assert registered["alias"] == "champion"
    assert metrics["relative_l2"] < metrics["persistence_relative_l2"]
    over_time = read(line, "per_sample.json")["over_time"]
    assert len(over_time["time"]) == 7
    assert over_time["time"][-1] == 5.0


def test_the_report_shows_the_error_over_time(line):
    html = (line.root / "reports/report.html").read_text(encoding="utf-8")
    assert "Growth over time" in html
    assert "Keeping the last given frame" in html
    assert (line.root / "reports/figures/robustness_over_time.png").stat().st_size > 0


def test_the_dataset_opens_in_xarray_with_its_frames(line):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = xarray.open_zarr(line.root / "data")
    assert data.sizes == {"sample": 60, "time": 9, "x": 12, "y": 12}
    assert data["activator"].dims == ("sample", "time", "x", "y")
    assert data["activator"].attrs["role"] == "state"


def test_predict_continues_the_first_frames_of_a_store(line, tmp_path):
    model = "models:/mno-diffusion_reaction@champion"
    data = xarray.open_zarr(line.root / "data")
    surrogate = Surrogate.load(line.root / "models/candidate")
    given = {name: data[name].values[:, :2] for name in ("activator", "inhibitor")}
    for steps, more in ((7, ()), (10, ("--steps", "10"))):
        out = tmp_path / f"{steps}.zarr"
        line.mno("predict", model, "data", str(out), *more, check=True)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            predictions = xarray.open_zarr(out)
        assert predictions.sizes == {"sample": 60, "time": steps, "x": 12, "y": 12}
        np.testing.assert_allclose(predictions["time"], 0.625 * np.arange(2, 2 + steps))
        for name, field in surrogate.predict(given, steps=steps).items():
            np.testing.assert_allclose(predictions[name].values, field, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(predictions["x"], data["x"])


def test_the_registered_model_continues_frames_in_another_process(line, tmp_path):
    code = """
import sys, mlflow, numpy as np
mlflow.set_tracking_uri(f"sqlite:///{sys.argv[1]}/mlflow.db")
model = mlflow.pyfunc.load_model("models:/mno-diffusion_reaction@champion")
draw = np.random.default_rng(0)
given = {name: draw.standard_normal((3, 2, 8, 8)) for name in ("activator", "inhibitor")}
print(model.predict(given)["activator"].shape)
print(model.predict(given, params={"steps": 4})["inhibitor"].shape)
print(model.metadata.get_input_schema().inputs[0].shape)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(line.root)], cwd=tmp_path, env=line.environment,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines() == ["(3, 7, 8, 8)", "(3, 4, 8, 8)", "(-1, 2, -1, -1)"]


def test_impossible_tasks_are_refused_before_any_work(line):
    for key, words in (
        ("task.history=9", "task.history=9 leaves none of the 9 frames to predict"),
        ("train.unroll=8", "train.unroll=8 is more than the 7 frames"),
        ("task.scheme=both", "task.scheme='both'"),
    ):
        done = line.mno("run", "--set", key)
        assert done.returncode == 2
        assert words in done.stderr
        assert done.stderr.count("\n") == 1


def test_another_task_trains_anew_on_the_same_data_and_is_compared_on_its_own_frames(line):
    settings = ("--set", "task.scheme=horizon", "--set", "task.history=3")
    result = json.loads(line.mno("run", *settings, "--json", check=True).stdout)
    assert {stage["target"]: stage["action"] for stage in result["stages"]} == {
        "generate": "reused", "data.dvc": "reused", "train": "ran", "learning_curve": "ran",
        "evaluate": "ran", "register": "ran", "report": "ran",
    }  # fmt: skip
    assert read(line, "registered.json")["version"] == 2
    # The champion was asked for the frames that this model is measured by, one fewer than its own.
    assert read(line, "registered.json")["champion_relative_l2"] is not None
    assert len(read(line, "per_sample.json")["over_time"]["time"]) == 6


def test_along_time_frames_are_predicted_at_the_times_of_a_store(line, tmp_path):
    settings = ("task.time=axis", "task.predict=change", "task.scheme=rollout", "task.history=2")
    line.mno("run", *(word for key in settings for word in ("--set", key)), check=True)
    metrics = read(line, "metrics.json")
    assert metrics["relative_l2"] < metrics["persistence_relative_l2"]
    surrogate = Surrogate.load(line.root / "models/candidate")
    data = xarray.open_zarr(line.root / "data").isel(sample=slice(0, 3))
    kept = [0, 1, 3, 4, 7]  # at unequal distances
    source = tmp_path / "uneven.zarr"
    uneven = data[["activator", "inhibitor"]].isel(time=kept).drop_vars("split", errors="ignore")
    uneven.to_zarr(source, encoding={name: {"compressors": None} for name in uneven})
    line.mno("predict", "models/candidate", str(source), str(tmp_path / "p.zarr"), "--steps", "4",
             check=True)  # fmt: skip
    found = xarray.open_zarr(tmp_path / "p.zarr")
    times = 0.625 * np.array([0, 1, 3, 4, 7, 8])
    np.testing.assert_allclose(found["time"], times[2:])
    given = {name: data[name].values[:, :2] for name in ("activator", "inhibitor")}
    for name, field in surrogate.predict(given, steps=4, times=times).items():
        np.testing.assert_allclose(found[name].values, field, rtol=1e-4, atol=1e-5)
    evenly = surrogate.predict(given, steps=4)["activator"]
    assert not np.allclose(evenly, found["activator"].values, rtol=1e-2)


def test_an_observer_tells_fields_from_what_a_store_has_of_readings(line, tmp_path):
    settings = ("task.kind=observe", "task.sensors={activator: {noise: 0.02}}")
    line.mno("run", *(word for key in settings for word in ("--set", key)), check=True)
    metrics, trust = read(line, "metrics.json"), read(line, "trust.json")
    assert metrics["relative_l2"] < metrics["baseline_relative_l2"]
    assert len(trust["bounds"]["inhibitor"]["rmse"]["values"]) == 9  # one for each frame
    assert trust["misfit"]["activator"] > 0.02
    name = json.loads(line.mno("status", "--json", check=True).stdout)["registry"][0]["name"]
    assert name == "mno-diffusion_reaction-observer"
    data = xarray.open_zarr(line.root / "data").isel(sample=slice(0, 3), time=slice(0, 5))
    data = data[["activator"]].drop_vars("split", errors="ignore")
    data.to_zarr(tmp_path / "log.zarr", encoding={"activator": {"compressors": None}})
    done = line.mno("predict", "models/candidate", str(tmp_path / "log.zarr"),
                    str(tmp_path / "told.zarr"))  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = xarray.open_zarr(tmp_path / "told.zarr")
    surrogate = Surrogate.load(line.root / "models/candidate")
    told = surrogate.predict({"activator_read": data["activator"].values})
    for field in ("activator", "inhibitor"):
        assert found[field].dims == ("sample", "time", "x", "y")
        np.testing.assert_allclose(found[field].values, told[field], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["time"], data["time"])
    (tmp_path / "r.csv").write_text("time,quantity,value\n0,activator,0.1\n")
    for words, why in (
        (("compare", str(tmp_path / "r.csv")), "is an observer, which is given readings"),
        (("predict", "models/candidate", "data", str(tmp_path / "p"), "--steps", "2"),
         "tells as many frames as it is given"),
    ):  # fmt: skip
        refused = line.mno(*words)
        assert refused.returncode == 2 and why in refused.stderr
        assert refused.stderr.count("\n") == 1


def experiments(workspace):
    """Names of DVC experiments by MLflow run, for the runs of finished trainings."""
    client = mlflow.MlflowClient(f"sqlite:///{workspace.root}/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("darcy").experiment_id])
    return {run.info.run_id: run.data.tags.get("mno.experiment", "") for run in runs}


def versions(workspace):
    status = json.loads(workspace.mno("status", "--json", check=True).stdout)
    return [version["version"] for version in status["registry"]]


@pytest.mark.parametrize("where", [[], ["--temp"]], ids=["here", "in a copy"])
def test_an_experiment_is_logged_and_not_registered(workspace, where):
    workspace.mno("run", check=True)
    assert versions(workspace) == [1]
    changes = ("-S", "model.width=16", "-S", "train.epochs=2")
    command = ("dvc", "exp", "run", "-n", "wide", *changes, *where)
    workspace.run(*command, check=True)
    assert "wide" in experiments(workspace).values()
    assert versions(workspace) == [1]
    shown = json.loads(workspace.run("dvc", "exp", "show", "--json", check=True).stdout)
    assert "wide" in json.dumps(shown)
    # What was tried can be taken, and is then registered like any other model.
    workspace.run("dvc", "exp", "apply", "wide", check=True)
    workspace.mno("run", check=True)
    assert versions(workspace) == [2, 1]


def test_queued_experiments_run_one_after_another(workspace):
    workspace.mno("run", check=True)
    for epochs in (1, 2):
        workspace.run(
            "dvc", "exp", "run", "--queue", "-n", f"epochs-{epochs}", "-S",
            f"train.epochs={epochs}", check=True,
        )  # fmt: skip
    workspace.run("dvc", "exp", "run", "--run-all", check=True)
    assert {"epochs-1", "epochs-2"} <= set(experiments(workspace).values())
    assert versions(workspace) == [1]
