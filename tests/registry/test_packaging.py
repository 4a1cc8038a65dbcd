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
from registry_shop import tiny_surrogate

from mno.core.errors import MnoError
from mno.core.imports import imported_files, other_packages
from mno.nn import ModelConfig
from mno.registry.packaging import check_predictions, load_model, requirements, save_package
from mno.surrogate.surrogate import Surrogate

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def surrogate():
    return tiny_surrogate(seed=1)


@pytest.fixture(scope="module")
def inputs():
    return {"permeability": np.random.default_rng(0).random((3, 8, 8), dtype=np.float32)}


@pytest.fixture(scope="module")
def package(surrogate, inputs, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("package")
    (folder / "candidate").mkdir()
    surrogate.save(folder / "candidate")
    save_package(folder / "candidate", inputs, folder / "model")
    return folder / "model"


def test_predicts_what_the_surrogate_predicts(package, surrogate, inputs):
    expected = surrogate.predict(inputs)
    assert check_predictions(load_model(package), inputs, expected) is None
    shifted = {"pressure": expected["pressure"] + 1e-3}
    assert "differs" in (check_predictions(load_model(package), inputs, shifted) or "")


def test_a_package_asks_for_neuraloperator_only_where_the_model_is_made_of_it(
    surrogate, package, inputs, tmp_path
):
    pytest.importorskip("neuralop", reason="the extra fno is not installed")
    model = ModelConfig(backbone="fno", width=4, layers=1, modes=2)
    description = replace(surrogate.description, model=model)
    (tmp_path / "candidate").mkdir()
    Surrogate(description, description.build()).save(tmp_path / "candidate")
    save_package(tmp_path / "candidate", inputs, tmp_path / "model")
    needed, others = (
        (folder / "requirements.txt").read_text() for folder in (tmp_path / "model", package)
    )
    assert "neuraloperator" in needed and "neuraloperator" not in others


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
@pytest.mark.parametrize("shape", [(1, 8, 8), (2, 12, 10)])
def test_takes_any_numbers_on_any_grid(package, surrogate, dtype, shape):
    field = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    found = load_model(package).predict({"permeability": field})["pressure"]
    assert found.dtype == np.float32
    assert np.array_equal(found, surrogate.predict({"permeability": field})["pressure"])


def test_answers_json_as_mlflows_server_does(package, surrogate, inputs):
    from mlflow.pyfunc.scoring_server import invocations

    model = load_model(package)
    body = json.dumps({"inputs": {"permeability": inputs["permeability"].tolist()}})
    answer = invocations(body, "application/json", model, model.metadata.get_input_schema())
    found = np.array(json.loads(answer.response)["predictions"]["pressure"])
    assert answer.status == 200
    assert np.allclose(found, surrogate.predict(inputs)["pressure"], rtol=1e-6)


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
    from mlflow.exceptions import MlflowException

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
    assert "torch" in asked
    assert "==" not in asked
    assert "+" not in asked


ALONE = """\
import sys
import numpy as np
import mlflow.pyfunc
model = mlflow.pyfunc.load_model(sys.argv[1])
field = np.load(sys.argv[2])
np.save(sys.argv[3], model.predict({"permeability": field})["pressure"])
import mno
print(mno.__file__)
"""


# However the project is installed here, this process must not find it.
HIDE = f"""\
import sys
sys.path = [p for p in sys.path if p != {str(CHECKOUT)!r}]
sys.meta_path = [f for f in sys.meta_path if "__editable" not in getattr(f, "__module__", "")]
"""


def test_loads_where_the_project_is_not_installed(package, surrogate, inputs, tmp_path):
    np.save(tmp_path / "in.npy", inputs["permeability"])
    env = {**os.environ, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
    arguments = [package, tmp_path / "in.npy", tmp_path / "out.npy"]
    done = subprocess.run(
        [sys.executable, "-I", "-B", "-c", HIDE + ALONE, *arguments],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(package)
    assert np.array_equal(np.load(tmp_path / "out.npy"), surrogate.predict(inputs)["pressure"])


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
    package, surrogate, inputs, tmp_path
):
    (tmp_path / "candidate").mkdir()
    surrogate.save(tmp_path / "candidate")
    save_package(tmp_path / "candidate", inputs, tmp_path / "model", trust=b'{"format": 1}\n')
    assert (tmp_path / "model/artifacts/trust.json").read_bytes() == b'{"format": 1}\n'
    assert not (package / "artifacts/trust.json").exists()
    expected = surrogate.predict(inputs)
    assert check_predictions(load_model(tmp_path / "model"), inputs, expected) is None
