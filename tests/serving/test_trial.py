"""The page for trying a model: what it asks the service for, and what it is refused."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import httpx
import numpy as np
import pytest
from small_service import SIDE, trusted, with_page

from mno.scenarios.base import make_scenario
from mno.serving.app import ServingConfig
from mno.serving.problem import Problem, movable
from tests.support.running_service import Running

JSON = {"Content-Type": "application/json"}
SLOW = 120  # s: the first call starts a process


@pytest.fixture(scope="module")
def trial(tmp_path_factory) -> Iterator[Running]:
    """A service with its page, in a workspace without a dataset."""
    with with_page(tmp_path_factory.mktemp("workspace")) as service:
        yield service


def asked(service: Running, path: str, body: dict) -> dict:
    answer = httpx.post(service.url + path, json=body, timeout=SLOW)
    assert answer.status_code == 200, answer.text
    return answer.json()


def values(field: dict) -> np.ndarray:
    return np.frombuffer(base64.b64decode(field["data"]), "<f4").reshape(field["shape"])


def test_a_drawn_sample_is_predicted_and_solved(trial):
    setup = httpx.get(f"{trial.url}/try/setup", timeout=SLOW).json()
    assert setup["no_solver"] is None and setup["samples"] == 0
    assert "holds no dataset" in setup["no_samples"]
    names = [parameter["name"] for parameter in setup["parameters"]]
    assert names == [
        "low_permeability",
        "high_permeability",
        "covariance_exponent",
        "inverse_length",
    ]
    body = {"seed": 7, "parameters": {"high_permeability": 20.0}}
    found, solution = asked(trial, "/try/ask", body), asked(trial, "/try/solve", body)
    solver = make_scenario("darcy", SIDE, {"high_permeability": 20.0})
    drawn = solver.sample(np.random.default_rng(7))
    assert np.array_equal(values(found["inputs"][0]), drawn["permeability"])
    predicted = trusted()[0].predict({"permeability": drawn["permeability"][None]})["pressure"][0]
    assert np.allclose(values(found["outputs"][0]), predicted, atol=1e-6)
    assert found["trust"]["bounds"]["pressure"]["max_error"][0] > 0.0
    assert found["truth"] is None
    assert np.allclose(values(solution["outputs"][0]), solver.solve(drawn)["pressure"], atol=1e-6)
    assert solution["seconds"] > 0.0
    assert "mno_samples_total{" not in httpx.get(f"{trial.url}/metrics").text  # tried, not served


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({"sample": 0}, "holds no dataset"),
        ({"seed": 1, "sample": 0}, "expected either"),
        ({}, "expected either"),
        ({"seed": -1}, "greater than or equal to 0"),
        ({"seed": 1, "parameters": {"resolution": 4096}}, "cannot be moved"),
        ({"seed": 1, "parameters": {"inverse_length": 1e9}}, "less than or equal to 50"),
        ({"sample": 0, "parameters": {"inverse_length": 1.0}}, "parameters go with a seed"),
        ({"seed": 1, "more": 1}, "Extra inputs"),
    ],
)
def test_what_cannot_be_tried_is_refused(trial, body, why):
    for path in ("/try/ask", "/try/solve"):
        answer = httpx.post(trial.url + path, json=body, timeout=SLOW)
        assert answer.status_code == 400 and why in answer.json()["message"], answer.text
        assert not answer.json()["message"].startswith("params.yaml")


def test_no_page_from_elsewhere_can_ask(trial):
    plain = {"Content-Type": "text/plain"}
    answer = httpx.post(f"{trial.url}/try/solve", content='{"seed": 1}', headers=plain)
    assert answer.status_code == 415
    evil = httpx.get(trial.url, headers={"Host": "evil.example"})
    assert evil.status_code == 400


@pytest.mark.parametrize(
    ("address", "wishes", "language"),
    [
        ("/", "en-US,en", "en"),
        ("/", "fr,ja;q=0.8", "ja"),
        ("/?lang=en", "ja", "en"),
        ("/", "fr", "en"),
    ],
)
def test_the_page_is_whole_and_in_the_readers_language(trial, address, wishes, language):
    page = httpx.get(trial.url + address, headers={"Accept-Language": wishes})
    assert f'<html lang="{language}">' in page.text
    policy = page.headers["Content-Security-Policy"]
    nonce = policy.partition("'nonce-")[2].partition("'")[0]
    assert page.text.count(f'nonce="{nonce}"') == 2
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert "http://" not in page.text and "https://" not in page.text
    again = httpx.get(trial.url + address)
    assert nonce not in again.text


def test_the_token_is_asked_for_by_all_but_the_bare_page(tmp_path):
    with with_page(tmp_path, config=ServingConfig(token="a secret token")) as service:  # noqa: S106
        assert httpx.get(service.url).status_code == 200
        assert httpx.get(f"{service.url}/try/setup").status_code == 401
        for path in ("/try/ask", "/try/solve"):
            assert httpx.post(service.url + path, json={"seed": 1}).status_code == 401


def test_a_solver_that_takes_too_long_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr("mno.serving.problem._TO_START", 0.0)
    with with_page(tmp_path, limit=0.05) as service:
        answer = httpx.post(f"{service.url}/try/ask", json={"seed": 1}, timeout=SLOW)
        assert answer.status_code == 504
        assert "took longer than 0.05 s and was ended" in answer.json()["message"]


def test_only_parameters_that_leave_fields_where_they_are_may_be_moved():
    given = make_scenario("diffusion_reaction", 8, {})
    found = {p["name"]: p for p in movable(Problem("diffusion_reaction", 8, {}, 0))}
    assert given.axes[0].name == "time"
    assert not {"frames", "duration", "sampling"} & set(found)
    assert found["inverse_length"]["least"] < found["inverse_length"]["value"]
    assert found["inverse_length"]["most"] > found["inverse_length"]["value"]
