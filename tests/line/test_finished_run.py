"""What a person finds after `mno run --preset quick`."""

import json
import subprocess
import sys
import warnings
from collections import Counter

import numpy as np
import pytest
import xarray

from mno.surrogate.surrogate import Surrogate
from tests.support.workspaces import Workspace

REPORTS = (
    "dataset.json", "train.json", "metrics.json", "per_sample.json", "cost.json", "check.npz",
    "robustness.json", "learning_curve.json", "report.html", "report.ja.html", "registered.json",
)  # fmt: skip


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", REPORTS)
def test_every_report_is_there(finished, name):
    assert (finished.root / "reports" / name).stat().st_size > 0


def test_the_model_is_registered_as_champion_with_its_lineage(finished):
    registered = read(finished.root / "reports/registered.json")
    assert (registered["name"], registered["version"]) == ("mno-darcy", 1)
    assert registered["alias"] == "champion"
    record = registered["record"]
    snapshot = record["snapshot"]["commit"]
    assert finished.run("git", "cat-file", "-t", snapshot, check=True).stdout == "commit\n"
    assert record["data"]["md5"] in (finished.root / "data.dvc").read_text()
    assert record["model"]["md5"] in (finished.root / "dvc.lock").read_text()
    assert record["ids"]["prefect_flow_run"]


def test_a_run_touches_no_tracked_file_but_parameters_and_hashes(finished):
    changed = finished.run("git", "status", "--short", check=True).stdout.split()[1::2]
    assert set(changed) <= {"params.yaml", "data.dvc", "dvc.lock"}
    assert "dvc.lock" in changed


def test_dvc_finds_everything_up_to_date(finished):
    assert json.loads(finished.run("dvc", "status", "--json", check=True).stdout) == {}


@pytest.mark.parametrize(
    "command",
    [
        ("dvc", "dag"),
        ("dvc", "repro"),
        ("dvc", "params", "diff"),
        ("dvc", "metrics", "show"),
        ("dvc", "metrics", "diff"),
        ("dvc", "exp", "show", "--json"),
    ],
    ids=" ".join,
)
def test_dvc_works_by_itself(finished, command):
    assert finished.run(*command, check=True).stdout


def test_the_dataset_opens_in_xarray_without_a_warning(finished):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = xarray.open_zarr(finished.root / "data")
    assert data.sizes == {"sample": 160, "x": 16, "y": 16}
    assert set(data.data_vars) == {"permeability", "pressure"}
    assert Counter(map(str, data["split"].values)) == {"train": 128, "validation": 16, "test": 16}
    assert float(data["pressure"].min()) > 0


@pytest.mark.slow
def test_the_registered_model_predicts_from_numpy_in_another_process(finished, tmp_path):
    code = """
import sys, mlflow, numpy as np
mlflow.set_tracking_uri(f"sqlite:///{sys.argv[1]}/mlflow.db")
model = mlflow.pyfunc.load_model("models:/mno-darcy@champion")
for n in (16, 24):
    given = {"permeability": np.where(np.random.default_rng(0).random((2, n, n)) < .5, 3., 12.)}
    print(model.predict(given)["pressure"].shape)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(finished.root)], cwd=tmp_path, env=finished.environment,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines() == ["(2, 16, 16)", "(2, 24, 24)"]


def test_every_epoch_and_the_dataset_are_in_mlflow(finished):
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{finished.root}/mlflow.db")
    registered = read(finished.root / "reports/registered.json")
    run = client.get_run(registered["run_id"])
    losses = client.get_metric_history(run.info.run_id, "train_relative_l2")
    history = read(finished.root / "reports/train.json")["epochs"]
    assert [point.step for point in losses] == [epoch["epoch"] for epoch in history]
    assert [point.value for point in losses] == [e["train_relative_l2"] for e in history]
    assert run.inputs.dataset_inputs[0].dataset.digest == registered["record"]["data"]["md5"]
    kept = {file.path for file in client.list_artifacts(run.info.run_id, "evaluation")}
    assert {"evaluation/report.html", "evaluation/report.ja.html", "evaluation/figures"} <= kept
    assert run.data.params["train.epochs"] == "20"


def test_predict_writes_what_the_model_says(finished, tmp_path):
    out = tmp_path / "predictions.zarr"
    finished.mno("predict", "models:/mno-darcy@champion", "data", str(out), check=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        predictions = xarray.open_zarr(out)
    data = xarray.open_zarr(finished.root / "data")
    surrogate = Surrogate.load(finished.root / "models/candidate")
    expected = surrogate.predict({"permeability": data["permeability"].values})["pressure"]
    np.testing.assert_allclose(predictions["pressure"].values, expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(predictions["x"], data["x"])
    # The registered model carries what its predictions are judged by.
    assert {"unlike_training", "training_distance", "equation_residual"} <= set(predictions)


@pytest.mark.parametrize(
    ("model", "source", "expected"),
    [
        ("models:/mno-darcy@best", "data", "best"),
        ("models/nothing", "data", "models/nothing"),
        ("models:/mno-darcy@champion", "reports", "expected a Zarr group"),
        ("models:/mno-darcy@champion", "nowhere", "nowhere does not exist; expected a Zarr store"),
    ],
)
def test_predict_refuses_in_one_line(finished, tmp_path, model, source, expected):
    done = finished.mno("predict", model, source, str(tmp_path / "out.zarr"))
    assert done.returncode == 2
    assert expected in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.glob("out.zarr*"))


@pytest.mark.slow
def test_the_champion_is_compared_with_sensors_and_with_the_solver(finished, tmp_path):
    data = xarray.open_zarr(finished.root / "data")
    rows = ["time,x,y,quantity,value,unit,uncertainty"]
    for i, j in ((3, 5), (8, 8), (12, 4), (6, 13), (14, 10), (10, 2)):
        at = data["pressure"].isel(sample=0, x=i, y=j)
        rows.append(f"0,{float(at.x)},{float(at.y)},pressure,{float(at)},1,0.001")
    log = tmp_path / "sensors.csv"
    log.write_text("\n".join(rows), encoding="utf-8")
    arguments = (str(log), "--sample", "0", "--output", str(tmp_path / "page"))
    found = json.loads(finished.mno("compare", *arguments, "--json", check=True).stdout)
    assert found["model"] == "models:/mno-darcy@champion"
    pressure = found["quantities"]["pressure"]
    assert pressure["solver"]["relative_l2"]["value"] < 1e-6
    assert 1e-6 < pressure["model"]["relative_l2"]["value"] < 1
    assert (tmp_path / "page/index.html").is_file()


def test_status_shows_what_is_current_and_registered(finished):
    status = json.loads(finished.mno("status", "--json", check=True).stdout)
    assert [stage["state"] for stage in status["stages"]] == ["current"] * 7
    assert status["running"] is None
    assert status["registry"][0]["aliases"] == ["champion"]
    shown = finished.mno("status", check=True).stdout
    assert "champion" in shown
    assert len(shown.splitlines()) < 24


def test_doctor_finds_nothing_wrong(finished):
    findings = json.loads(finished.mno("doctor", "--json", check=True).stdout)
    assert {finding["verdict"] for finding in findings} <= {"good", "note"}


def test_nothing_changed_is_reported_as_reused(finished):
    result = json.loads(finished.mno("run", "--json", check=True).stdout)
    assert [stage["target"] for stage in result["stages"]] == [
        "generate", "data.dvc", "train", "evaluate", "learning_curve", "register", "report",
    ]  # fmt: skip
    assert {stage["action"] for stage in result["stages"]} == {"reused"}
    assert result["registered"]["version"] == 1
    # What later stages have found may be of another model.
    result = json.loads(finished.mno("generate", "--json", check=True).stdout)
    assert (result["metrics"], result["decision"]) == (None, None)


@pytest.mark.slow
def test_a_scheduled_run_finds_nothing_to_do(finished, prefect_api):
    workspace = Workspace(finished.root, variables={"PREFECT_API_URL": prefect_api})
    before = (finished.root / "params.yaml").read_bytes()
    run = json.loads(workspace.mno("schedule", "run", "--json", check=True).stdout)
    assert (run["outcome"], run["reasons"]) == ("nothing changed", [])
    assert (finished.root / "params.yaml").read_bytes() == before
    assert len(workspace.run("dvc", "status", "--json", check=True).stdout.strip()) == 2  # {}
