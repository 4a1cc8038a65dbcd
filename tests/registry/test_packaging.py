"""Packages predict what their surrogates do, with gaps, with states, and without the project."""

from __future__ import annotations

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
from mno.nn import ModelConfig
from mno.registry.packaging import (
    check_predictions,
    frames_given,
    load_model,
    requirements,
    save_package,
)
from mno.surrogate.surrogate import Surrogate

CHECKOUT = Path(__file__).parents[2]
FORMATS = CHECKOUT / "tests/surrogate/formats"
INPUTS = {"permeability": np.random.default_rng(0).random((3, 8, 8), dtype=np.float32)}
STATES = INPUTS | {"pressure": np.random.default_rng(1).random((3, 2, 8, 8), dtype=np.float32)}


def packaged(surrogate: Surrogate, folder: Path, inputs=INPUTS, trust=None) -> Path:
    (folder / "candidate").mkdir()
    surrogate.save(folder / "candidate")
    save_package(folder / "candidate", inputs, folder / "model", trust)
    return folder / "model"


@pytest.fixture(scope="module")
def surrogate() -> Surrogate:
    return tiny_surrogate(seed=1)


@pytest.fixture(scope="module")
def package(surrogate, tmp_path_factory) -> Path:
    return packaged(surrogate, tmp_path_factory.mktemp("package"))


def served(model, inputs) -> dict[str, np.ndarray]:
    """What MLflow's own server answers."""
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


def test_signature_and_example_say_what_the_model_takes(package):
    model = load_model(package)
    (given,) = model.metadata.signature.inputs.inputs
    assert (given.name, given.shape) == ("permeability", (-1, -1, -1))
    (predicted,) = model.metadata.signature.outputs.inputs
    assert predicted.name == "pressure"
    example = json.loads((package / "serving_input_example.json").read_text())
    assert np.shape(example["inputs"]["permeability"]) == (2, 8, 8)


def test_holds_no_pickle_and_asks_for_ranges(package):
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


# Models that are told which of their inputs are missing.


@pytest.fixture(scope="module")
def gaps() -> dict[str, np.ndarray]:
    known = dict(np.load(FORMATS / "gaps/prediction.npz"))
    given = {"temperature": known["given temperature"]}
    return given | {name: known[name] for name in ("cover", "loss", "x", "y")}


@pytest.fixture(scope="module")
def gapped(gaps, tmp_path_factory) -> Path:
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
    example = json.loads((gapped / "serving_input_example.json").read_text())
    first = example["inputs"]["cover"][0][1]
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


# Models that continue states.


def continuing(scheme: str) -> Surrogate:
    """A model that continues the pressure for three frames after two, given a permeability."""
    steady = tiny_surrogate(seed=1).description
    torch.manual_seed(0)
    description = replace(
        steady,
        inputs={**steady.inputs, **steady.outputs},
        forecast=Forecast(2, scheme, 3, 0.5),  # pyright: ignore[reportArgumentType]
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
