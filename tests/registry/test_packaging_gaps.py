"""Packages of models that are told which of their inputs are missing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from mlflow.exceptions import MlflowException

from mno.registry.packaging import check_predictions, load_model, save_package
from mno.surrogate.surrogate import Surrogate

SAVED = Path(__file__).parents[1] / "surrogate/formats/gaps"


@pytest.fixture(scope="module")
def inputs() -> dict[str, np.ndarray]:
    known = dict(np.load(SAVED / "prediction.npz"))
    given = {name: known[f"given {name}"] for name in ("temperature",)}
    return given | {name: known[name] for name in ("cover", "loss", "x", "y")}


@pytest.fixture(scope="module")
def package(inputs, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("package") / "model"
    save_package(SAVED, inputs, folder)
    return folder


def test_a_package_predicts_with_gaps_what_its_surrogate_does(package, inputs):
    assert np.isnan(inputs["cover"]).any() and np.isnan(inputs["temperature"]).any()
    expected = Surrogate.load(SAVED).predict(inputs)
    assert check_predictions(load_model(package), inputs, expected) is None
    filled = inputs | {"cover": np.nan_to_num(inputs["cover"], nan=0.5)}
    other = load_model(package).predict(filled)
    assert "differs" in (check_predictions(load_model(package), inputs, other) or "")


def test_the_example_shows_what_is_missing(package):
    text = (package / "serving_input_example.json").read_text()
    (first, *_) = json.loads(text)["inputs"]["cover"]
    assert first[1] is None or np.isnan(first[1])


def test_a_server_takes_null_for_a_missing_value(package, inputs):
    from mlflow.pyfunc.scoring_server import invocations

    model = load_model(package)
    lists = {n: np.where(np.isnan(x), None, x).tolist() for n, x in inputs.items()}
    body = json.dumps({"inputs": lists}, allow_nan=False)
    answer = invocations(body, "application/json", model, model.metadata.get_input_schema())
    assert answer.status == 200, answer.response
    found = json.loads(answer.response)["predictions"]
    for name, expected in Surrogate.load(SAVED).predict(inputs).items():
        np.testing.assert_allclose(np.array(found[name]), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "where", "words"),
    [("x", (0, 1), "field x has a value that is missing"), ("loss", 1, "field loss has a value")],
)
def test_what_may_not_be_missing_is_refused(package, inputs, name, where, words):
    broken = inputs | {name: inputs[name].copy()}
    broken[name][where] = np.nan
    with pytest.raises(MlflowException, match=words):
        load_model(package).predict(broken)


def test_text_in_place_of_a_number_is_refused(package, inputs):
    lists = inputs | {"loss": [None, "much"]}
    with pytest.raises(MlflowException, match="could not convert string to float"):
        load_model(package).predict(lists)
