"""Packages predict what their surrogates do, with gaps, with states, and without the project."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from mlflow.exceptions import MlflowException
from mlflow.pyfunc.scoring_server import invocations
from registry_shop import tiny_surrogate

from mno.core.errors import MnoError
from mno.core.forecast import Forecast
from mno.core.imports import imported_files, other_packages
from mno.lineage.audit import Verdict
from mno.lineage.audit.code import check_snapshot, check_stages
from mno.lineage.audit.data import check_sources
from mno.lineage.seal import SealPointer, seal_text
from mno.nn import ModelConfig
from mno.registry.catalogue import existing_workspace, find_version_of, registry_of
from mno.registry.evidence import gather, read_chain, read_facts
from mno.registry.packaging import (
    check_predictions,
    frames_given,
    load_model,
    requirements,
    save_package,
)
from mno.registry.settings import Workspace
from mno.surrogate.surrogate import Surrogate

CHECKOUT = Path(__file__).parents[2]
FORMATS = CHECKOUT / "tests/surrogate/formats"
INPUTS = {"permeability": np.random.default_rng(0).random((3, 8, 8), dtype=np.float32)}
STATES = INPUTS | {"pressure": np.random.default_rng(1).random((3, 2, 8, 8), dtype=np.float32)}


def packaged(surrogate, folder, inputs=INPUTS, trust=None):
    (folder / "candidate").mkdir()
    surrogate.save(folder / "candidate")
    save_package(folder / "candidate", inputs, folder / "model", trust)
    return folder / "model"


@pytest.fixture(scope="module")
def surrogate():
    return tiny_surrogate(seed=1)


@pytest.fixture(scope="module")
def package(surrogate, tmp_path_factory):
    return packaged(surrogate, tmp_path_factory.mktemp("package"))


def served(model, inputs):
    body = json.dumps({"inputs": inputs}, allow_nan=False)
    answer = invocations(body, "application/json", model, model.metadata.get_input_schema())
    assert answer.status == 200, answer.response
    return {n: np.array(x) for n, x in json.loads(answer.response)["predictions"].items()}


def test_predicts_what_the_surrogate_predicts(package, surrogate):
    expected, model = surrogate.predict(INPUTS), load_model(package)
    assert check_predictions(model, INPUTS, expected) is None
    shifted = {"pressure": expected["pressure"] + 1e-3}
    assert "differs" in (check_predictions(model, INPUTS, shifted) or "")
    found = served(model, {"permeability": INPUTS["permeability"].tolist()})
    assert np.allclose(found["pressure"], expected["pressure"], rtol=1e-6)
    assert frames_given(model) == 0


def test_a_package_asks_for_neuraloperator_only_where_the_model_is_made_of_it(
    surrogate, package, tmp_path
):
    pytest.importorskip("neuralop", reason="the extra fno is not installed")
    model = ModelConfig(backbone="fno", width=4, layers=1, modes=2)
    description = replace(surrogate.description, model=model)
    other = packaged(Surrogate(description, description.build()), tmp_path)
    needed, others = ((folder / "requirements.txt").read_text() for folder in (other, package))
    assert "neuraloperator" in needed and "neuraloperator" not in others


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
@pytest.mark.parametrize("shape", [(1, 8, 8), (2, 12, 10)])
def test_takes_any_numbers_on_any_grid(package, surrogate, dtype, shape):
    field = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    found = load_model(package).predict({"permeability": field})["pressure"]
    assert found.dtype == np.float32
    assert np.array_equal(found, surrogate.predict({"permeability": field})["pressure"])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"pressure": np.ones((1, 8, 8))}, "takes exactly.*permeability"),
        ({"permeability": np.ones((8, 8))}, r"expected numbers of shape \(samples, x, y\)"),
        ({"permeability": [[["a"]]]}, "expected numbers"),
        (np.ones((1, 8, 8)), "expected arrays.*by field name"),
    ],
)
def test_wrong_input_is_answered_with_what_is_expected(package, given, message):
    with pytest.raises(MlflowException, match=message) as caught:
        load_model(package).predict(given)
    assert caught.value.get_http_status_code() == 400


def test_says_what_it_takes_holds_no_pickle_and_asks_for_ranges(package):
    model = load_model(package)
    (given,) = model.metadata.signature.inputs.inputs
    assert (given.name, given.shape) == ("permeability", (-1, -1, -1))
    (predicted,) = model.metadata.signature.outputs.inputs
    assert predicted.name == "pressure"
    example = json.loads((package / "serving_input_example.json").read_text())
    assert np.shape(example["inputs"]["permeability"]) == (2, 8, 8)
    assert not [p for p in package.rglob("*") if p.suffix in (".pkl", ".pickle", ".pt", ".ckpt")]
    asked = (package / "requirements.txt").read_text()
    assert "torch" in asked and "==" not in asked and "+" not in asked


# However the project is installed here, this process must not find it.
ALONE = f"""\
import sys
sys.path = [p for p in sys.path if p != {str(CHECKOUT)!r}]
sys.meta_path = [f for f in sys.meta_path if "__editable" not in getattr(f, "__module__", "")]
import numpy as np
import mlflow.pyfunc
model = mlflow.pyfunc.load_model(sys.argv[1])
field = np.load(sys.argv[2])
np.save(sys.argv[3], model.predict({{"permeability": field}})["pressure"])
import mno
print(mno.__file__)
"""


@pytest.mark.slow
def test_loads_where_the_project_is_not_installed(package, surrogate, tmp_path):
    np.save(tmp_path / "in.npy", INPUTS["permeability"])
    arguments = [package, tmp_path / "in.npy", tmp_path / "out.npy"]
    done = subprocess.run(
        [sys.executable, "-I", "-B", "-c", ALONE, *arguments], cwd=tmp_path, text=True,
        env={**os.environ, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}, capture_output=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(package)
    assert np.array_equal(np.load(tmp_path / "out.npy"), surrogate.predict(INPUTS)["pressure"])


def test_load_that_fails_names_why(package, tmp_path):
    copy = tmp_path / "model"
    shutil.copytree(package, copy)
    (copy / "artifacts/candidate/weights.safetensors").write_bytes(b"short")
    with pytest.raises(MnoError, match="does not load.*does not hold a readable model"):
        load_model(copy)
    with pytest.raises(MnoError, match="missing.*does not load"):
        load_model(tmp_path / "missing")


def test_closure_follows_imports_and_lazy_names(tmp_path):
    files = {
        "mno/__init__.py": "",
        "mno/a.py": "from mno import b\nimport os, numpy.linalg\n",
        "mno/b.py": "def f():\n    from mno.deep.c import X\n",
        "mno/deep/__init__.py": "LAZY = {'D': 'mno.deep.d'}\n",
        "mno/deep/c.py": "import torch\n",
        "mno/deep/d.py": "",
        "mno/unused.py": "import optuna\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = imported_files(tmp_path, ["mno/a.py"], lazy=True)
    assert found == set(files) - {"mno/unused.py"}
    assert imported_files(tmp_path, ["mno/a.py"]) == found - {"mno/deep/d.py"}
    packages = other_packages(tmp_path, found)
    assert packages == ["numpy", "torch"]
    assert [r.split(">=")[0] for r in requirements(packages)] == packages


def test_what_predictions_are_judged_by_lies_beside_and_changes_no_prediction(
    package, surrogate, tmp_path
):
    judged = packaged(surrogate, tmp_path, trust=b'{"format": 1}\n')
    assert (judged / "artifacts/trust.json").read_bytes() == b'{"format": 1}\n'
    assert not (package / "artifacts/trust.json").exists()
    assert check_predictions(load_model(judged), INPUTS, surrogate.predict(INPUTS)) is None


@pytest.fixture(scope="module")
def gaps():
    known = dict(np.load(FORMATS / "gaps/prediction.npz"))
    given = {"temperature": known["given temperature"]}
    return given | {name: known[name] for name in ("cover", "loss", "x", "y")}


@pytest.fixture(scope="module")
def gapped(gaps, tmp_path_factory):
    folder = tmp_path_factory.mktemp("package") / "model"
    save_package(FORMATS / "gaps", gaps, folder)
    return folder


def test_a_package_predicts_with_gaps_what_its_surrogate_does(gapped, gaps):
    assert np.isnan(gaps["cover"]).any() and np.isnan(gaps["temperature"]).any()
    expected, model = Surrogate.load(FORMATS / "gaps").predict(gaps), load_model(gapped)
    assert check_predictions(model, gaps, expected) is None
    other = model.predict(gaps | {"cover": np.nan_to_num(gaps["cover"], nan=0.5)})
    assert "differs" in (check_predictions(model, gaps, other) or "")
    # A server takes null for a missing value, and the example shows one.
    found = served(model, {n: np.where(np.isnan(x), None, x).tolist() for n, x in gaps.items()})
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-5)
    first = json.loads((gapped / "serving_input_example.json").read_text())["inputs"]["cover"][0][1]
    assert first is None or np.isnan(first)


@pytest.mark.parametrize(
    ("name", "where", "words"),
    [("x", (0, 1), "field x has a value that is missing"), ("loss", 1, "field loss has a value")],
)
def test_what_may_not_be_missing_is_refused(gapped, gaps, name, where, words):
    broken = gaps | {name: gaps[name].copy()}
    broken[name][where] = np.nan
    with pytest.raises(MlflowException, match=words):
        load_model(gapped).predict(broken)
    with pytest.raises(MlflowException, match="could not convert string to float"):
        load_model(gapped).predict(gaps | {"loss": [None, "much"]})


def continuing(scheme):
    """A model that continues the pressure for three frames after two, given a permeability."""
    steady = tiny_surrogate(seed=1).description
    torch.manual_seed(0)
    description = replace(
        steady, inputs={**steady.inputs, **steady.outputs}, forecast=Forecast(2, scheme, 3, 0.5)
    )
    return Surrogate(description, description.build())


@pytest.mark.parametrize("scheme", ["rollout", "horizon"])
def test_a_package_continues_states_as_its_surrogate_does(tmp_path, scheme):
    surrogate = continuing(scheme)
    model, expected = load_model(packaged(surrogate, tmp_path, STATES)), surrogate.predict(STATES)
    assert expected["pressure"].shape == (3, 3, 8, 8)
    assert check_predictions(model, STATES, expected) is None
    assert frames_given(model) == 2
    given, predicted = model.metadata.get_input_schema(), model.metadata.get_output_schema()
    shapes = {spec.name: spec.shape for spec in given.inputs}
    assert shapes == {"permeability": (-1, -1, -1), "pressure": (-1, 2, -1, -1)}
    assert [spec.shape for spec in predicted.inputs] == [(-1, -1, -1, -1)]
    with pytest.raises(MlflowException, match="frames=2"):
        model.predict({**STATES, "pressure": STATES["pressure"][:, :1]})
    if scheme == "rollout":  # any number of steps
        found = model.predict(STATES, params={"steps": 5})["pressure"]
        np.testing.assert_array_equal(found, surrogate.predict(STATES, steps=5)["pressure"])
        with pytest.raises(MlflowException, match="steps=0 must be at least 1"):
            model.predict(STATES, params={"steps": 0})


def test_a_package_is_given_forcings_and_numbers(tmp_path):
    known = dict(np.load(FORMATS / "frames/prediction.npz"))
    expected = {"temperature": known.pop("temperature")}
    inputs = known | {"temperature": known.pop("given temperature")}
    save_package(FORMATS / "frames", inputs, tmp_path / "model")
    model = load_model(tmp_path / "model")
    shapes = {spec.name: spec.shape for spec in model.metadata.get_input_schema().inputs}
    assert shapes == {"power": (-1, -1, -1), "loss": (-1,), "temperature": (-1, 2, -1)}
    assert check_predictions(model, inputs, expected) is None
    nested = {name: array.tolist() for name, array in inputs.items()}
    assert check_predictions(model, nested, expected) is None


NAME = "mno-darcy"
LOCK = """\
schema: '2.0'
stages:
  train:
    cmd: python -m pipelines.train
    deps:
    - path: data
      md5: {data}.dir
    - path: mno/code.py
      md5: {code}
    params:
      params.yaml:
        seed: {seed}
    outs:
    - path: models/candidate
      md5: {model}.dir
"""


def chain(shop):
    return list(read_chain(registry_of(existing_workspace(shop.root)), NAME))


def findings(shop, check, version=1, originals=()):
    with gather(existing_workspace(shop.root), NAME, version, [], originals) as evidence:
        return list(check(evidence))


def test_the_database_and_mlflows_client_say_the_same(shop, tmp_path, monkeypatch):
    shop.register(shop.train(1))

    def facts(scratch):
        registry = registry_of(Workspace(shop.root))
        version = find_version_of(registry, f"models:/{NAME}/1")
        return read_facts(registry, version, tmp_path / scratch)

    read = facts("read")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:////{shop.root}/./mlflow.db")
    assert not Workspace(shop.root).embedded
    assert facts("asked") == read


def test_each_version_is_sealed_once_with_what_was_registered_and_names_the_seal_before(
    shop, tmp_path
):
    first = shop.train(1)
    registered = shop.register(first)
    (seal,) = chain(shop)
    assert (seal.version, seal.previous, seal.problem) == (1, None, None)
    assert seal.content["record"] == registered["record"]
    assert seal.content["aliases"] == {"champion": 1}
    assert seal.content["version"]["tags"]["mno.decision"] == "champion"
    assert "artifacts/candidate/weights.safetensors" in seal.content["package"]
    assert {"record.json", "environment.txt"} <= set(seal.content["run"]["files"])
    shop.register(first)
    assert chain(shop) == [seal]
    # As after a kill before the version names its seal.
    client = existing_workspace(shop.root).client
    client.delete_model_version_tag(NAME, "1", "mno.seal")
    shop.register(first)
    assert client.get_model_version(NAME, "1").tags["mno.seal"] == str(seal.pointer)
    assert chain(shop) == [seal]
    shop.register(shop.train(2))
    latest, before = chain(shop)
    assert (latest.version, latest.previous) == (2, before.pointer)
    assert before == seal


def test_pointers_lead_nowhere_else(tmp_path):
    good = SealPointer("0f", "a" * 64)
    assert SealPointer.parse(str(good)) == good
    for text in ("", "0f", f"../{'a' * 64}", f"0f/../{'a' * 61}", f"0f/{'a' * 63}", "/" + "a" * 64):
        assert SealPointer.parse(text) is None
    assert json.loads(seal_text({"schema": 1}, None))["previous"] is None


def test_code_in_no_commit_is_named_until_it_is_and_a_forged_mark_is_found(shop):
    (shop.root / "mno/code.py").write_text("A = 2\n")
    evaluated = shop.train(1)
    allowed = {**shop.request.params, "registry": {"allow_uncommitted": True}}
    shop.register(evaluated, params=allowed)
    client = existing_workspace(shop.root).client
    for verdict in (Verdict.UNKNOWN, Verdict.CHANGED):
        (other,) = [f for f in findings(shop, check_snapshot) if f.verdict is not Verdict.VERIFIED]
        assert other.verdict is verdict and "mno/code.py" in other.found
        client.set_model_version_tag(NAME, "1", "mno.uncommitted", "false")
    shop.git("commit", "-q", "-a", "-m", "more")
    shop.register(evaluated)
    assert {f.verdict for f in findings(shop, check_snapshot)} == {Verdict.VERIFIED}


@pytest.mark.parametrize(
    ("lie", "subject"),
    [
        ({"code": "0" * 32}, "mno/code.py of train"),
        ({"data": "b" * 32}, "data of train"),
        ({"seed": 7}, "parameter seed of train"),
    ],
)
def test_a_lock_that_was_edited_to_look_right_is_found(shop, lie, subject):
    evaluated = shop.train(1)
    code = hashlib.md5((shop.root / "mno/code.py").read_bytes()).hexdigest()
    truth = {"data": "a" * 32, "code": code, "seed": 1, "model": "c" * 32}
    (shop.root / "dvc.lock").write_text(LOCK.format(**truth | lie))
    shop.register(evaluated)
    assert [f.subject for f in findings(shop, check_stages) if f.verdict.is_difference] == [subject]


def test_files_that_were_imported_are_held_against_their_digests(shop, tmp_path):
    original = tmp_path / "plant.csv"
    original.write_text("time,temperature\n0,300\n")
    sha256 = hashlib.sha256(original.read_bytes()).hexdigest()
    file = {"file": original.name, "sha256": sha256, "content": "0" * 64}
    params = {"scenario": "imported", "seed": 1}
    params["scenarios"] = {"imported": {"name": "plant", "files": [file], "split": {}}}
    (shop.root / "params.yaml").write_text(json.dumps(params))
    shop.register(shop.train(1))

    def verdict(*originals):
        found = findings(shop, check_sources, originals=originals)
        (ours,) = [f for f in found if f.subject.startswith("plant.csv") and "as" not in f.subject]
        return ours.verdict

    assert verdict() is Verdict.UNKNOWN
    assert verdict(tmp_path) is Verdict.VERIFIED
    original.write_text("time,temperature\n0,301\n")
    assert verdict(tmp_path) is Verdict.CHANGED


def test_copies_of_a_distant_store_go_when_the_process_ends(tmp_path):
    program = (
        "import os; from mno.registry.evidence import _folder; "
        "print(_folder('nowhere://models/1', None), os.listdir(os.environ['TMPDIR']))"
    )
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("None ['mno-package-")
    assert list(tmp_path.iterdir()) == []
