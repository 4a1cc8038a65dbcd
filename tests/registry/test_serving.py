"""The service follows the alias, loses nothing on the way, and cannot be talked into anything."""

import http.client
import io
import json
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
from mlflow.deployments import PredictionsResponse
from registry_shop import open_shop, tiny_surrogate

from mno.core.errors import InputError
from mno.registry.reading import NamedModel
from mno.registry.settings import use_workspace
from mno.serving.app import MODEL_HEADER, ServingConfig
from tests.support.running_service import running

NAME = "mno-darcy"


def serving(shop, config):
    return running(NamedModel(shop.root, f"models:/{NAME}@champion"), config)


@pytest.fixture(scope="module")
def registered(tmp_path_factory, prepared_database):
    """Two versions, which several tests serve and none changes."""
    shop = open_shop(tmp_path_factory.mktemp("serving") / "shop", prepared_database)
    for seed in (1, 2):
        shop.register(shop.train(seed), score=lambda _: 0.05)
    return shop


@pytest.fixture
def two_versions(registered):
    name_champion(registered, 1)
    return registered


def fields(samples=1, seed=0):
    return np.random.default_rng(seed).random((samples, 8, 8), dtype=np.float32)


def npz(array):
    file = io.BytesIO()
    np.savez(file, permeability=array)
    return file.getvalue()


def name_champion(shop, version):
    use_workspace(shop.root).client.set_registered_model_alias(NAME, "champion", str(version))


def test_json_and_npz_are_answered_like_the_model_itself(two_versions):
    given = fields(3)
    expected = tiny_surrogate(1).predict({"permeability": given})["pressure"]
    with serving(two_versions, ServingConfig()) as service:
        body = {"inputs": {"permeability": given.tolist()}}
        answer = httpx.post(f"{service.url}/invocations", json=body)
        assert answer.status_code == 200, answer.text
        assert answer.json()["model"] == answer.headers[MODEL_HEADER] == f"{NAME}/1"
        assert np.allclose(answer.json()["predictions"]["pressure"], expected, atol=1e-6)
        assert answer.json()["trust"] is None
        assert "registered before there was one" in answer.json()["no_trust"]
        # MLflow's own clients read it so.
        read = PredictionsResponse.from_json(answer.text).get_predictions()
        assert np.allclose(read["pressure"].iloc[0], expected[0], atol=1e-6)
        kind = {"Content-Type": "application/x-npz"}
        answer = httpx.post(f"{service.url}/invocations", content=npz(given), headers=kind)
        assert np.allclose(np.load(io.BytesIO(answer.content))["pressure"], expected, atol=1e-6)
        asked = {**kind, "Accept": "application/json"}
        answer = httpx.post(f"{service.url}/invocations", content=npz(given), headers=asked)
        assert "predictions" in answer.json()
        for path in ("/ping", "/health"):
            assert httpx.get(service.url + path).status_code == 200
        assert httpx.get(f"{service.url}/model").json()["inputs"] == {"permeability": "m2"}
        counted = httpx.get(f"{service.url}/metrics").text
        assert 'mno_requests_total{status="200"} 3.0' in counted
        assert f'mno_model_since_seconds{{model="{NAME}/1"}}' in counted


def test_a_thousand_requests_across_ten_changes_are_each_answered_wholly_by_one(two_versions):
    given = fields(2)
    by_version = {
        f"{NAME}/{n}": tiny_surrogate(n).predict({"permeability": given})["pressure"]
        for n in (1, 2)
    }
    body, kind = npz(given), {"Content-Type": "application/x-npz"}
    with serving(two_versions, ServingConfig(poll_interval=0.05)) as service:
        done = threading.Event()

        def change():
            for turn in range(10):
                named = 2 - turn % 2
                name_champion(two_versions, named)
                while service.follower.current.name != f"{NAME}/{named}":
                    time.sleep(0.01)
            done.set()

        changing = threading.Thread(target=change)
        with httpx.Client(timeout=60) as client, ThreadPoolExecutor(8) as pool:

            def ask(_):
                answer = client.post(f"{service.url}/invocations", content=body, headers=kind)
                assert answer.status_code == 200, answer.text
                by = answer.headers[MODEL_HEADER]
                found = np.load(io.BytesIO(answer.content))["pressure"]
                assert np.allclose(found, by_version[by], atol=1e-6), by
                return by

            changing.start()
            answered = list(pool.map(ask, range(1000)))
            while not done.is_set():
                answered.append(ask(0))
        changing.join()
        assert set(answered) == set(by_version)
        assert [went_well for went_well, _ in service.told] == [True] * 10


def test_a_version_whose_files_are_damaged_is_not_served(shop):
    for seed in (1, 2):
        shop.register(shop.train(seed), score=lambda _: 0.05)
    with serving(shop, ServingConfig(poll_interval=0.05)) as service:
        for weights in (shop.root / "mlartifacts").rglob("weights.safetensors"):
            content = bytearray(weights.read_bytes())
            content[-1] ^= 1
            weights.write_bytes(content)
        name_champion(shop, 2)
        while service.follower.problem is None:
            time.sleep(0.01)
        body = {"inputs": {"permeability": fields().tolist()}}
        answer = httpx.post(f"{service.url}/invocations", json=body)
        assert answer.headers[MODEL_HEADER] == f"{NAME}/1"
        problem = httpx.get(f"{service.url}/model").json()["problem"]
        assert "missing or altered" in problem and f"{NAME}/1 goes on" in problem


def test_what_cannot_be_served_is_not_loaded_at_each_look_and_a_way_back_counts_at_once(shop):
    for seed in (1, 2):
        shop.register(shop.train(seed), score=lambda _: 0.05)
    damaged = set((shop.root / "mlartifacts").rglob("weights.safetensors"))
    whole = {weights: weights.read_bytes() for weights in damaged}
    loaded = []

    class Watched(NamedModel):
        def load(self, uri):
            loaded.append(uri)
            return super().load(uri)

    registry = Watched(shop.root, f"models:/{NAME}@champion")
    with running(registry, ServingConfig(poll_interval=0.02)) as service:
        for weights, content in whole.items():
            weights.write_bytes(content[:-1])
        name_champion(shop, 2)
        while service.follower.problem is None:
            time.sleep(0.01)
        time.sleep(0.5)
        assert loaded == [f"models:/{NAME}/1", f"models:/{NAME}/2"]
        name_champion(shop, 1)
        while service.follower.problem is not None:
            time.sleep(0.01)
        for weights, content in whole.items():
            weights.write_bytes(content)
        name_champion(shop, 2)
        while service.follower.current.name != f"{NAME}/2":
            time.sleep(0.01)
    assert loaded[2:] == [f"models:/{NAME}/2"]


def test_a_model_that_does_not_exist_is_one_line(shop):
    with pytest.raises(InputError, match="is not in the registry"):
        NamedModel(shop.root, f"models:/{NAME}@champion")
    with pytest.raises(InputError, match="expected models:/"):
        NamedModel(shop.root, "runs:/abc")


def test_refusals_say_why_and_good_requests_go_on(two_versions):
    config = ServingConfig(max_body_mib=0.1, token="a secret token", read_timeout=0.3)  # noqa: S106
    with serving(two_versions, config) as service:
        url, auth = f"{service.url}/invocations", {"Authorization": "Bearer a secret token"}

        def ask(**request):
            return httpx.post(url, headers={**auth, **request.pop("headers", {})}, **request)

        good = {"inputs": {"permeability": fields().tolist()}}
        assert httpx.post(url, json=good).status_code == 401
        assert httpx.get(f"{service.url}/metrics").status_code == 401
        assert httpx.get(f"{service.url}/ping").status_code == 200
        assert ask(content=b"x" * 200_000).status_code == 413
        assert ask(content=(b"x" * 50_000 for _ in range(4))).status_code == 413
        assert ask(content=b"a,b\n1,2", headers={"Content-Type": "text/csv"}).status_code == 415
        assert ask(json=good, headers={"Host": "evil.example"}).status_code == 400
        wrong = ask(json={"inputs": {"pressure": [[[1.0]]]}})
        assert wrong.status_code == 400
        assert "takes exactly ['permeability']" in wrong.json()["message"]
        slow = http.client.HTTPConnection("127.0.0.1", service.port, timeout=10)
        slow.putrequest("POST", "/invocations")
        slow.putheader("Authorization", auth["Authorization"])
        slow.putheader("Content-Length", "1000")
        slow.endheaders(b"{")
        assert slow.getresponse().status == 408
        assert ask(json=good).status_code == 200


def test_two_thousand_malformed_requests_leave_it_answering(two_versions):
    draw = random.Random(0)
    good = json.dumps({"inputs": {"permeability": fields().tolist()}}).encode()
    packed = npz(fields())

    def spoiled(body):
        content = bytearray(body)
        for _ in range(draw.randint(1, 8)):
            match draw.randint(0, 3):
                case 0:
                    content[draw.randrange(len(content))] = draw.randrange(256)
                case 1:
                    del content[draw.randrange(len(content)) :]
                case 2:
                    at = draw.randrange(len(content) + 1)
                    content[at:at] = draw.randbytes(draw.randint(1, 20))
                case 3:
                    at = draw.randrange(len(content) + 1)
                    content[at:at] = content[: draw.randint(1, 50)]
            content = content or bytearray(b"0")
        return bytes(content)

    with serving(two_versions, ServingConfig()) as service, httpx.Client(timeout=60) as client:
        url, seen = f"{service.url}/invocations", set()
        for number in range(2000):
            body, kind = draw.choice([(good, "application/json"), (packed, "application/x-npz")])
            answer = client.post(url, content=spoiled(body), headers={"Content-Type": kind})
            seen.add(answer.status_code)
            assert answer.status_code in (200, 400), (number, answer.text)
            if answer.status_code == 400:
                assert answer.json()["message"]
            if number % 200 == 0:
                assert client.post(url, content=good).status_code == 200
        assert 400 in seen
        assert client.post(url, content=good).json()["model"] == f"{NAME}/1"
