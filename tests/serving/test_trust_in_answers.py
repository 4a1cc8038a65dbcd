"""Each answer says how far it may be trusted, and what was seen outlives the service."""

from __future__ import annotations

import io

import httpx
import numpy as np
import pytest
from small_service import SIDE, OneVersion, inputs, trusted

from mno.core.absent import Absent
from mno.serving import counts as seen
from mno.serving.app import ServingConfig
from mno.serving.batcher import Batcher
from mno.serving.counts import Counts
from mno.serving.model import Served
from mno.serving.protocol import PredictionRequest
from tests.support.running_service import running

NPZ = {"Content-Type": "application/x-npz"}


def asked(url: str, given: np.ndarray, **params) -> dict:
    body = {"inputs": {"permeability": given.tolist()}, "params": params}
    answer = httpx.post(f"{url}/invocations", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_bounds_and_flags_are_those_of_the_trust_itself():
    surrogate, trust = trusted()
    given = np.concatenate([inputs(3), inputs(1, factor=50.0)])
    predicted = surrogate.predict({"permeability": given})
    expected = trust.assess(surrogate.description, {"permeability": given}, predicted)
    assert expected.unlike_training.tolist() == [False, False, False, True]
    with running(OneVersion(surrogate, trust)) as service:
        answer = asked(service.url, given)
        assert np.allclose(answer["predictions"]["pressure"], predicted["pressure"], atol=1e-6)
        assert answer["model"] == "mno-darcy/3"
        found = answer["trust"]
        assert found["unlike_training"] == expected.unlike_training.tolist()
        assert np.allclose(found["relative_l2_bound"], expected.relative_bound, rtol=1e-4)
        assert found["level"] == 0.9 and found["calibrated_on"] == [SIDE, SIDE]
        assert found["most_unusual"][3].startswith("permeability ")
        assert "bounds" not in found
        bounds = asked(service.url, given, bounds=True)["trust"]["bounds"]["pressure"]
        largest = expected.bounds["pressure"]["max_error"][:, 0]
        assert np.allclose(bounds["max_error"], largest, rtol=1e-4)
        file = io.BytesIO()
        np.savez(file, permeability=given)
        packed = httpx.post(f"{service.url}/invocations", content=file.getvalue(), headers=NPZ)
        arrays = np.load(io.BytesIO(packed.content))
        assert np.allclose(arrays["pressure_max_error_bound"], largest, rtol=1e-4)
        assert arrays["unlike_training"].tolist() == [0, 0, 0, 1]
        told = httpx.get(f"{service.url}/metrics").text
        assert 'mno_samples_total{model="mno-darcy/3"} 12.0' in told
        assert 'mno_flagged_samples_total{model="mno-darcy/3"} 3.0' in told
        assert 'mno_relative_l2_bound_count{model="mno-darcy/3"} 12.0' in told


def test_without_an_estimate_it_says_so_and_answers():
    why = Absent("estimate.older")
    with running(OneVersion(trusted()[0], why)) as service:
        answer = asked(service.url, inputs(1), bounds=True)
        assert answer["trust"] is None and answer["no_trust"] == str(why)
        assert np.shape(answer["predictions"]["pressure"]) == (1, SIDE, SIDE)
        assert httpx.get(f"{service.url}/model").json()["trust"] == str(why)


def test_parts_together_are_one_answer():
    surrogate, trust = trusted()
    served = Served("models:/mno-darcy/3", surrogate, {}, trust)
    batcher = Batcher(lambda: served, 8, 8, 2**24)
    side = 64  # so that each sample is a part
    given = {"permeability": np.random.default_rng(0).random((5, side, side), dtype=np.float32)}
    found = batcher.ask(PredictionRequest(given)).result(60)
    batcher.close()
    whole = surrogate.predict(given)
    assert np.allclose(found.predictions["pressure"], whole["pressure"], atol=1e-6)
    distance = trust.assess(surrogate.description, given, whole).distance
    assert not isinstance(found.estimate, Absent)
    assert np.allclose(found.estimate["training_distance"], distance, rtol=1e-4)
    first, rest = found.split([2, 3])
    assert np.array_equal(first.predictions["pressure"], found.predictions["pressure"][:2])
    assert np.array_equal(rest.predictions["pressure"], found.predictions["pressure"][2:])


def test_an_estimate_that_fails_costs_no_answer():
    surrogate, trust = trusted()
    other = trust.model_copy(update={"bounds": {"depth": trust.bounds["pressure"]}})
    served = Served("models:/mno-darcy/3", surrogate, {}, other)
    batcher = Batcher(lambda: served, 8, 8, 2**24)
    answer = batcher.ask(PredictionRequest({"permeability": inputs(2)})).result(30)
    assert isinstance(answer.estimate, Absent) and "no error estimate" in str(answer.estimate)
    assert answer.predictions["pressure"].shape == (2, SIDE, SIDE)
    batcher.close()


def test_what_was_seen_outlives_the_service(tmp_path):
    path = tmp_path / seen.FOLDER / "mno-darcy@champion.5002.json"
    for _ in range(2):  # it counts on when it is started again
        with running(OneVersion(*trusted()), counts=Counts(path, 0.05)) as service:
            asked(service.url, np.concatenate([inputs(3), inputs(1, factor=50.0)]))
    found = seen.read(tmp_path)["mno-darcy/3"]
    assert (found["samples"], found["judged"], found["flagged"]) == (8, 8, 2)
    assert found["bounded"] == 8 and found["mean_bound"] > 0.0
    assert found["level"] == 0.9 and sum(found["most_unusual"].values()) == 2
    assert found["since"] <= found["last"]
    assert list(path.parent.iterdir()) == [path]
    with running(
        OneVersion(trusted()[0], Absent("estimate.none")), counts=Counts(path, 60.0)
    ) as service:
        asked(service.url, inputs(2))
    assert seen.read(tmp_path)["mno-darcy/3"]["samples"] == 10
    assert seen.read(tmp_path)["mno-darcy/3"]["judged"] == 8


def test_counts_of_several_services_add_up(tmp_path):
    for port in (1, 2):
        path = tmp_path / seen.FOLDER / f"mno-darcy@champion.{port}.json"
        with running(OneVersion(*trusted()), counts=Counts(path, 60.0)) as service:
            asked(service.url, inputs(port))
    path.with_name("other.json").write_text('{"format": 99}')
    path.with_name("broken.json").write_text("{")
    both = seen.read(tmp_path)["mno-darcy/3"]
    assert both["samples"] == both["bounded"] == 3
    assert np.isfinite(both["mean_bound"])


@pytest.mark.parametrize("bounds", ["all", 3, [1]])
def test_bounds_are_asked_for_by_yes_or_no(bounds):
    with running(OneVersion(*trusted()), ServingConfig()) as service:
        body = {"inputs": {"permeability": inputs(1).tolist()}, "params": {"bounds": bounds}}
        answer = httpx.post(f"{service.url}/invocations", json=body)
        assert answer.status_code == 400 and "true or false" in answer.json()["message"]
