"""UM-Bridge: the protocol's own client asks a served model, and what it hears is the model's."""

import httpx
import numpy as np
import pytest
import umbridge
from small_service import SIDE, OneVersion, inputs, trusted

from mno.core.readings import from_points
from mno.serving.umbridge import Bridge
from tests.support import furnace_runs
from tests.support.running_service import running


@pytest.fixture(scope="module")
def served():
    with running(OneVersion(*trusted()), more=lambda *of: Bridge(*of).routes()) as service:
        yield service


@pytest.fixture
def client(served):
    return umbridge.HTTPModel(served.url, "mno-darcy")


def one(given):
    return [given.ravel().tolist()]


def test_a_stock_client_finds_the_model_and_what_it_can(served, client):
    assert umbridge.supported_models(served.url) == ["mno-darcy"]
    assert client.get_input_sizes() == [SIDE**2] and client.get_output_sizes() == [SIDE**2]
    assert client.supports_evaluate() and client.supports_gradient()
    assert client.supports_apply_jacobian() and not client.supports_apply_hessian()


def test_answers_and_slopes_are_those_of_the_model(client):
    surrogate, _ = trusted()
    given, rng = inputs(1), np.random.default_rng(0)
    permeability = {"permeability": given}
    (told,) = client(one(given))
    truth = surrogate.predict(permeability)["pressure"]
    assert np.allclose(told, truth.ravel(), rtol=1e-5, atol=1e-6)
    weights, direction = rng.standard_normal((2, *given.shape))
    slope = client.gradient(0, 0, one(given), weights.ravel().tolist())
    expected = surrogate.gradient(permeability, {"pressure": weights})["permeability"]
    assert np.allclose(slope, expected.ravel(), rtol=1e-5)
    moved = client.apply_jacobian(0, 0, one(given), direction.ravel().tolist())
    expected = surrogate.product(permeability, {"permeability": direction})["pressure"]
    assert np.allclose(moved, expected.ravel(), rtol=1e-6)
    assert np.isclose(np.dot(slope, direction.ravel()), np.dot(moved, weights.ravel()), rtol=1e-3)


def test_what_does_not_fit_is_refused_as_the_protocol_does(served, client):
    with pytest.raises(Exception, match=f"InvalidInput: input has vectors of .* {SIDE**2}"):
        client([[1.0]])
    asked = {"name": "mno-darcy", "input": one(inputs(1)), "outWrt": 0, "inWrt": 3, "sens": []}
    answer = httpx.post(f"{served.url}/Gradient", json=asked)
    assert answer.status_code == 400 and "inWrt=3; expected 0" in answer.json()["error"]["message"]
    for asked, words in (({"name": "other"}, "ask mno-darcy"), ({"nome": "x"}, "name")):
        error = httpx.post(f"{served.url}/Evaluate", json=asked).json()["error"]
        assert error["type"] == "InvalidInput" and words in error["message"]


def test_missing_values_come_and_go_as_null():
    surrogate, trust = furnace_runs.trusted()
    description = surrogate.description
    given = description.given(furnace_runs.runs("train", 0).fields)
    given = from_points(description.readings, given)  # as a dataset has them
    registry = OneVersion(surrogate, trust, given)
    with running(registry, more=lambda *of: Bridge(*of).routes()) as service:
        vectors = [
            [None if np.isnan(x) else float(x) for x in given[name][0].ravel()]
            for name in description.given_names
            if name in given
        ]
        client = umbridge.HTTPModel(service.url, "mno-darcy")
        told = client(vectors)
        slope = client.gradient(0, 0, vectors, [1.0 for _ in told[0]])
    assert len(slope) == len(vectors[0]) and any(slope)
    names = list(description.outputs)
    sample = {name: values[:1] for name, values in given.items()}
    for name, found in zip(names, told, strict=True):
        truth = surrogate.predict(sample)[name].ravel()
        assert [x is None for x in found] == np.isnan(truth).tolist()
        known = ~np.isnan(truth)
        assert np.allclose(np.array(found, float)[known], truth[known], rtol=1e-4, atol=1e-4)
