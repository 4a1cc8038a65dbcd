"""The whole line on imported data: from files of others to a registered model."""

import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest
from ruamel.yaml import YAML

from tests.support.workspaces import Workspace, make_workspace

pytestmark = pytest.mark.slow

MAPPING = """
fields:
  x: {name: permeability}
  y: {name: pressure, units: bar, given_in: Pa}
axes:
  x: {units: m, extent: [0, 2]}
"""


def write(path, samples, seed):
    """Write arrays of which one is a smoothed form of the other."""
    rng = np.random.default_rng(seed)
    x = np.kron(rng.random((samples, 4, 4)), np.ones((1, 3, 3))).astype(np.float32)
    np.savez(path, x=x, y=(x + np.roll(x, 1, 1) + np.roll(x, 1, 2)) * 1e5)
    return path


@pytest.fixture(scope="module")
def line(tmp_path_factory, prefect_api):
    """A fresh workspace in which arrays were imported and the line has run."""
    folder = tmp_path_factory.mktemp("imported")
    made = make_workspace(folder / "workspace")
    workspace = Workspace(made.root, variables={"PREFECT_API_URL": prefect_api})
    write(folder / "first.npz", 60, 0)
    (folder / "mapping.yaml").write_text(MAPPING)
    workspace.mno(
        "import", "npz", str(folder / "first.npz"), "--name", "plant", "--mapping",
        str(folder / "mapping.yaml"), check=True,
    )  # fmt: skip
    params = YAML(typ="safe").load(workspace.root / "params.yaml")
    assert params["task"]["part"] == "fields" and params["model"]["backbone"] == "latent"
    again = ("--set", "scenario=imported", "--set", "train.epochs=4")
    workspace.mno("run", "--preset", "quick", *again, check=True)
    return workspace


def read(workspace, name):
    return json.loads((workspace.root / "reports" / name).read_text(encoding="utf-8"))


def test_the_model_is_registered_by_the_name_of_the_data(line):
    registered = read(line, "registered.json")
    assert (registered["name"], registered["version"]) == ("mno-plant", 1)
    status = json.loads(line.mno("status", "--json", check=True).stdout)
    assert status["scenario"] == "plant"
    assert [version["version"] for version in status["registry"]] == [1]


@pytest.mark.nightly
def test_it_is_made_again_from_the_converted_files_or_it_is_said_that_they_lack(line):
    words = ("replay", "models:/mno-plant/1", "--json")
    parts = line.root / "build/imported"
    away = parts.rename(line.root.parent / "imported")
    try:
        done = line.mno(*words)
        assert done.returncode == 1
        assert "is not in this workspace; import it again" in done.stderr
        pulled = json.loads(line.mno(*words, "--pull").stdout)["replay"]
    finally:
        away.rename(parts)
    made = json.loads(line.mno(*words).stdout)["replay"]
    for told in (pulled, made):
        assert {item["agreement"] for item in told["items"]} == {"identical"}, told
    assert "dataset" in {item["name"] for item in made["items"]}


def test_lineage_and_report_name_the_file_by_its_checksum(line):
    sha = hashlib.sha256((line.root.parent / "first.npz").read_bytes()).hexdigest()
    code = (
        "import json, sys; from pathlib import Path; from mno.registry.settings import "
        "use_workspace; from mlflow import artifacts; w = use_workspace(Path.cwd()); "
        "run = w.client.get_model_version('mno-plant', '1').run_id; "
        "print(Path(w.client.download_artifacts(run, 'record.json', sys.argv[1])).read_text())"
    )
    scratch = line.root.parent / "record"
    scratch.mkdir(exist_ok=True)
    record = json.loads(line.run(sys.executable, "-c", code, str(scratch), check=True).stdout)
    assert record["data"]["files"] == [
        {"file": "first.npz", "sha256": sha, "importer": "npz", "importer_version": 1}
    ]
    assert sha in (line.root / "reports/report.html").read_text(encoding="utf-8")


def test_the_model_predicts_in_the_units_of_the_mapping(line):
    line.mno("predict", "models:/mno-plant@champion", "data", "predictions.zarr", check=True)
    import zarr

    found = zarr.open_group(line.root / "predictions.zarr", mode="r")["pressure"]
    assert found.attrs["units"] == "bar"
    assert 0.5 < float(np.abs(found[:]).mean()) < 3.0


@pytest.mark.nightly
def test_more_files_are_a_new_dataset_version_and_only_what_depends_on_it_is_redone(line):
    before = (line.root / "data.dvc").read_text()
    file = str(line.root.parent / "first.npz")
    again = json.loads(
        line.mno("import", "npz", file, "--name", "plant", "--json", check=True).stdout
    )
    assert (again["added"], again["known"], again["changed"]) == ([], ["first.npz"], [])
    nothing = json.loads(line.mno("generate", "--json", check=True).stdout)
    assert {stage["action"] for stage in nothing["stages"]} == {"reused"}

    more = write(line.root.parent / "second.npz", 20, 1)
    line.mno("import", "npz", str(more), "--name", "plant", check=True)
    done = json.loads(line.mno("run", "--json", check=True).stdout)
    assert {s["target"]: s["action"] for s in done["stages"]} == dict.fromkeys(
        ("generate", "data.dvc", "train", "evaluate", "learning_curve", "register", "report"), "ran"
    )
    assert read(line, "dataset.json")["samples"] == 80
    assert (line.root / "data.dvc").read_text() != before
    assert read(line, "registered.json")["version"] == 2


@pytest.mark.nightly
def test_switching_to_a_scenario_and_back_converts_nothing_again(line):
    before = (line.root / "data.dvc").read_text()
    line.mno("generate", "--set", "scenario=burgers", check=True)
    back = json.loads(
        line.mno("generate", "--set", "scenario=imported", "--json", check=True).stdout
    )
    assert {s["target"]: s["action"] for s in back["stages"]}["generate"] == "restored"
    assert (line.root / "data.dvc").read_text() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("npz", "nothing.npz"), "nothing.npz does not exist"),
        (("excel", "params.yaml"), "expected one of pdebench, the-well"),
        (("npz", "params.yaml"), "params.yaml"),
        (("npz", "{first}", "--name", "darcy"), "--name darcy: that is a scenario"),
        (("npz", "{first}", "--name", "../x"), "must be lower-case letters"),
        (("npz", "{first}", "--mapping", "Makefile"), "Makefile"),
    ],
)
def test_wrong_use_is_one_line_and_changes_nothing(line, arguments, message):
    before = (line.root / "params.yaml").read_text()
    listed = sorted((line.root / "build/imported").iterdir())
    file = str(line.root.parent / "first.npz")
    done: subprocess.CompletedProcess[str] = line.mno(
        "import", *(text.format(first=file) for text in arguments)
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert (line.root / "params.yaml").read_text() == before
    assert sorted((line.root / "build/imported").iterdir()) == listed
