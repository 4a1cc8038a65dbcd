"""What the service says beside its answers, what it has seen, and the page for trying a model."""

from __future__ import annotations

import base64
import io
import itertools
import json
import math
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from small_service import SIDE, OneVersion, inputs, trusted, untrained, with_page

from mno.core.absent import Absent
from mno.core.errors import InputError
from mno.core.readings import from_points
from mno.data.normalise import Normaliser
from mno.scenarios.base import make_scenario
from mno.scenarios.part import part_of
from mno.serving import counts as seen
from mno.serving.app import ServingConfig
from mno.serving.batcher import Batcher
from mno.serving.counts import Counts
from mno.serving.model import Served
from mno.serving.problem import Problem, movable
from mno.serving.protocol import (
    JSON,
    NPZ,
    PredictionRequest,
    RefusedError,
    decode,
    encode,
    media_type,
)
from tests.support import furnace_runs
from tests.support.running_service import opened, running

if TYPE_CHECKING:
    pass


SENT = {"Content-Type": "application/x-npz"}


def asked(url, given, **params):
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
        packed = httpx.post(f"{service.url}/invocations", content=file.getvalue(), headers=SENT)
        arrays = np.load(io.BytesIO(packed.content))
        assert np.allclose(arrays["pressure_max_error_bound"], largest, rtol=1e-4)
        assert arrays["unlike_training"].tolist() == [0, 0, 0, 1]
        told = httpx.get(f"{service.url}/metrics").text
        assert 'mno_samples_total{model="mno-darcy/3"} 12.0' in told
        assert 'mno_flagged_samples_total{model="mno-darcy/3"} 3.0' in told
        assert 'mno_relative_l2_bound_count{model="mno-darcy/3"} 12.0' in told


def test_what_would_be_larger_than_an_answer_may_be_is_refused():
    with running(OneVersion(*trusted()), ServingConfig(max_body_mib=1.0)) as service:
        body = {"inputs": {"permeability": inputs(2).tolist()}, "params": {"steps": 999999}}
        answer = httpx.post(f"{service.url}/invocations", json=body, timeout=60)
        assert answer.status_code == 400 and "steps=999999" in answer.json()["message"]


def test_an_answer_without_a_bound_spoils_no_sum():
    with running(OneVersion(*trusted())) as service:
        for factor in (1.0, 1e30):
            body = {"inputs": {"permeability": inputs(1, factor).tolist()}}
            assert httpx.post(f"{service.url}/invocations", json=body, timeout=60).is_success
        told = httpx.get(f"{service.url}/metrics").text.splitlines()
        (total,) = [float(x.split()[-1]) for x in told if "l2_bound_sum" in x and x[0] != "#"]
        assert 0 < total < math.inf


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
    assert found["bounded"] == 8 and found["bound"] > 0.0
    assert list(path.parent.iterdir()) == [path]
    with running(
        OneVersion(trusted()[0], Absent("estimate.none")), counts=Counts(path, 60.0)
    ) as service:
        asked(service.url, inputs(2))
    assert seen.read(tmp_path)["mno-darcy/3"]["samples"] == 10
    assert seen.read(tmp_path)["mno-darcy/3"]["judged"] == 8
    # Those of another service are added.
    path.with_name("mno-darcy@champion.1.json").write_bytes(path.read_bytes())
    path.with_name("other.json").write_text('{"format": 99}')
    path.with_name("broken.json").write_text("{")
    both = seen.read(tmp_path)["mno-darcy/3"]
    assert (both["samples"], both["bounded"]) == (20, 16)
    assert both["bound"] == pytest.approx(2 * found["bound"])


@pytest.mark.parametrize("bounds", ["all", 3, [1]])
def test_bounds_are_asked_for_by_yes_or_no(bounds):
    with running(OneVersion(*trusted()), ServingConfig()) as service:
        body = {"inputs": {"permeability": inputs(1).tolist()}, "params": {"bounds": bounds}}
        answer = httpx.post(f"{service.url}/invocations", json=body)
        assert answer.status_code == 400 and "true or false" in answer.json()["message"]


SLOW = 120  # s: the first call starts a process


@pytest.fixture(scope="module")
def trial(tmp_path_factory):
    """A service with its page, in a workspace without a dataset."""
    with with_page(tmp_path_factory.mktemp("workspace")) as service:
        yield service


def asked_trial(service, path, body):
    answer = httpx.post(service.url + path, json=body, timeout=SLOW)
    assert answer.status_code == 200, answer.text
    return answer.json()


def values(field):
    return np.frombuffer(base64.b64decode(field["data"]), "<f4").reshape(field["shape"])


def test_a_drawn_sample_is_predicted_and_solved(trial):
    setup = httpx.get(f"{trial.url}/try/setup", timeout=SLOW).json()
    assert setup["no_solver"] is None and setup["samples"] == 0
    assert "holds no dataset" in setup["no_samples"]
    assert [parameter["name"] for parameter in setup["parameters"]] == [
        "low_permeability", "high_permeability", "covariance_exponent", "inverse_length",
    ]  # fmt: skip
    body = {"seed": 7, "parameters": {"high_permeability": 20.0}}
    found, solution = asked_trial(trial, "/try/ask", body), asked_trial(trial, "/try/solve", body)
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


@pytest.fixture(scope="module")
def furnace_trial(tmp_path_factory):
    surrogate, trust = furnace_runs.trusted()
    given = surrogate.description.given(furnace_runs.runs("train", 0).fields)
    example = {name: values[:1] for name, values in given.items()}
    root, version = tmp_path_factory.mktemp("furnace"), OneVersion(surrogate, trust, example)
    with with_page(root, version=version) as service:
        yield service


def test_runs_of_a_plant_are_drawn_predicted_and_solved_by_the_places_that_they_are_of(
    furnace_trial,
):
    setup = httpx.get(f"{furnace_trial.url}/try/setup", timeout=SLOW).json()
    assert setup["no_solver"] is None
    (labels,) = (axis["labels"] for axis in setup["axes"] if axis["name"] == "point")
    _, first, last = setup["readings"]["thermocouple_temperature"]
    assert labels[first:last] == ["roof_front", "roof_rear", "wall", "hearth"]
    found = asked_trial(furnace_trial, "/try/ask", {"seed": 3})
    solution = asked_trial(furnace_trial, "/try/solve", {"seed": 3})
    scenario = part_of(furnace_runs.furnace(), "readings")
    solved = scenario.solve(scenario.sample(np.random.default_rng(3)))
    for field, answer in zip(found["outputs"], solution["outputs"], strict=True):
        assert field["name"] == answer["name"] and field["shape"] == answer["shape"] == [24, 10]
        np.testing.assert_allclose(values(answer), solved[field["name"]][1:], rtol=1e-6)


def test_readings_have_bounds_as_fields_have_them():
    surrogate, trust = furnace_runs.trusted()
    description = surrogate.description
    points = description.given(furnace_runs.runs("validation", 1).fields)
    told = from_points(description.readings, points)  # as a dataset has them
    file = io.BytesIO()
    np.savez(file, **told)
    with running(OneVersion(surrogate, trust, told)) as service:
        address = f"{service.url}/invocations"
        answer = httpx.post(address, content=file.getvalue(), headers=SENT, timeout=SLOW)
    assert answer.status_code == 200, answer.text
    found, known = np.load(io.BytesIO(answer.content)), trust.assess(
        description, points, surrogate.predict(points)
    )  # fmt: skip
    np.testing.assert_allclose(
        found["core_temperature_max_error_bound"], known.bounds["core_temperature"]["max_error"]
    )
    assert found["unlike_training"].tolist() == known.unlike_training.astype(int).tolist()


@pytest.mark.browser
@pytest.mark.parametrize("width", [360, 1280])
def test_readings_are_curves_with_the_names_of_places(browser, furnace_trial, width):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page, heard = opened(
        browser, f"{furnace_trial.url}/?lang=en", bypass_csp=True,
        viewport={"width": width, "height": 800},
    )  # fmt: skip
    page.wait_for_selector(DONE)
    said = " ".join(page.locator("#outputs figcaption").all_inner_texts())
    assert "thermocouple roof front" in said and "zone rear" in said and "piece 1" in said
    assert "set-point" in page.locator("#inputs").inner_text()
    found = axe.Axe().run(page).response["violations"]
    assert [(v["id"], [node["html"][:120] for node in v["nodes"]]) for v in found] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert heard == []
    page.context.close()


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
    assert httpx.get(trial.url, headers={"Host": "evil.example"}).status_code == 400


@pytest.mark.parametrize(
    ("address", "wishes", "language"),
    [("/", "fr,ja;q=0.8", "ja"), ("/?lang=en", "ja", "en"), ("/", "fr", "en")],
)
def test_the_page_is_whole_and_in_the_readers_language(trial, address, wishes, language):
    page = httpx.get(trial.url + address, headers={"Accept-Language": wishes})
    assert f'<html lang="{language}">' in page.text
    policy = page.headers["Content-Security-Policy"]
    nonce = policy.partition("'nonce-")[2].partition("'")[0]
    assert page.text.count(f'nonce="{nonce}"') == 2
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert "http://" not in page.text and "https://" not in page.text
    assert nonce not in httpx.get(trial.url + address).text


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


LIMIT = 2**20


def npz(**fields):
    file = io.BytesIO()
    np.savez(file, **fields)
    return file.getvalue()


def archive(members, method=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as out:
        for name, content in members.items():
            out.writestr(name, content)
    return file.getvalue()


def npy(array):
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


@given(arrays(np.float32, array_shapes(min_dims=1, max_dims=4, max_side=5)))
@settings(max_examples=50, deadline=None)
def test_an_archive_comes_back_bit_for_bit(array):
    for body in (npz(a=array), npz(a=np.asfortranarray(array))):
        found = decode(body, NPZ, {"steps": "3"}, LIMIT)
        assert found.steps == 3
        assert np.array_equal(found.inputs["a"], array, equal_nan=True)
    again = decode(encode({"a": array}, NPZ, {}), NPZ, {}, LIMIT)
    assert np.array_equal(again.inputs["a"], array, equal_nan=True)


def test_packed_archives_are_read_too():
    file = io.BytesIO()
    np.savez_compressed(file, a=np.zeros((3, 4)))
    assert decode(file.getvalue(), NPZ, {}, LIMIT).inputs["a"].shape == (3, 4)


def test_json_names_inputs_and_steps_and_null_is_missing():
    body = json.dumps({"inputs": {"a": [[1, None]], "b": [0.5]}, "params": {"steps": 20}})
    found = decode(body.encode(), JSON, {}, LIMIT)
    assert found.steps == 20
    assert np.array_equal(found.inputs["a"], [[1.0, np.nan]], equal_nan=True)
    assert found.inputs["b"].tolist() == [0.5]


def test_json_is_answered_with_null_for_what_is_not_finite():
    content = json.loads(encode({"a": np.array([1.5, np.nan], np.float32)}, JSON, {"model": "m/1"}))
    assert content == {"predictions": {"a": [1.5, None]}, "model": "m/1"}


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"null", b'"text"', b'{"inputs": 3}', b'{"inputs": {"a": "text"}}',
        b'{"inputs": {"a": [[1, 2], [3]]}}', b'{"inputs": {"a": [NaN]}}', b'{"instances": [1]}',
        b'{"inputs": {"a": {"b": 1}}}', b'{"inputs": {"a": [1]}, "params": {"steps": -1}}',
        b'{"inputs": {"a": [1]}, "params": {"steps": 1.5}}', b"[" * 100_000,
        b'{"inputs": {"a": [1]}, "params": {"steps": true}}', b'{"inputs": {}, "more": 1}',
        b'{"inputs": {"a": [1]}, "params": [1]}', b"\xff\xfe", b'{"inputs": {"a": [1e999]}}x',
    ],
)  # fmt: skip
def test_json_that_does_not_fit_is_refused(body):
    with pytest.raises(InputError) as refused:
        decode(body, JSON, {}, LIMIT)
    assert "expected" in str(refused.value)


def claims(shape):
    """An array file whose header claims another shape than it has."""
    return npy(np.zeros(4, np.float32)).replace(b"(4,)", shape.encode().ljust(4))


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"PK nonsense", "no archive"),
        (npz(a=np.zeros(3))[:-10], "no archive"),
        (archive({"a.npy": npy(np.array([{}], object))}), "expected numbers"),
        (archive({"a.npy": npy(np.array(["text"]))}), "expected numbers"),
        (archive({"a.npy": b"nothing of the kind"}), "no archive"),
        (archive({"a.npy": npy(np.zeros(4)).replace(b"False", b"((((:")}), "no archive"),
        (archive({"a.npy": claims("(9,)")}), "does not fit its length"),
        (archive({"bomb.npy": npy(np.zeros(2**20))}, zipfile.ZIP_DEFLATED), "unpacks to"),
        (archive({f"{i}.npy": b"" for i in range(101)}), "members"),
        (archive({"a.npy": npy(np.zeros((1,) * 9))}), "does not fit"),
    ],
)
def test_archives_that_do_not_fit_are_refused(body, why):
    with pytest.raises(InputError, match=why):
        decode(body, NPZ, {}, LIMIT)


@pytest.mark.parametrize("steps", ["0x3", "-1", "1e3", "٣", "9999999", "nan"])
def test_steps_are_whole_numbers(steps):
    with pytest.raises(InputError, match="whole number"):
        decode(npz(a=np.zeros(3)), NPZ, {"steps": steps}, LIMIT)


def test_other_kinds_of_content_are_not_known():
    assert media_type(None) == JSON
    assert media_type("application/json; charset=UTF-8") == JSON
    for other in ("text/csv", "application/json; charset=latin-1", "application/octet-stream"):
        with pytest.raises(RefusedError, match="expected application/json"):
            media_type(other)


@given(st.binary(max_size=400), st.sampled_from([JSON, NPZ]))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_read_or_refused(body, kind):
    try:
        decode(body, kind, {}, LIMIT)
    except InputError as error:
        assert "\n" not in str(error) or kind == NPZ


def surrogate(seed=0):
    names = ("permeability", "pressure")
    return untrained(Normaliser(dict.fromkeys(names, 0.0), dict.fromkeys(names, 1.0)), seed)


class Gate:
    """A model behind a gate, so that requests wait until it is opened."""

    def __init__(self, served):
        self.served, self.opened, self.asked = served, threading.Event(), threading.Event()

    def __call__(self):
        self.asked.set()
        self.opened.wait(30)
        return self.served


@pytest.fixture
def parts_of_two(monkeypatch):
    """Have requests of more than two samples of 8 x 8 points cut."""
    monkeypatch.setattr("mno.serving.batcher.POINTS", 2 * 8 * 8)


@pytest.fixture
def served():
    return Served("models:/mno-darcy/1", surrogate(), {})


def fields(rng, samples, side=8):
    return rng.random((samples, side, side), dtype=np.float32)


def request(permeability):
    return PredictionRequest({"permeability": permeability})


def test_waiting_requests_share_a_pass_and_get_their_own_answers(served):
    gate, sizes = Gate(served), []
    batcher = Batcher(gate, 8, 100, 2**24, sizes.append, cores=1)
    rng = np.random.default_rng(0)
    given = [fields(rng, n, side) for n, side in [(1, 8), (2, 8), (1, 12), (3, 8), (4, 8), (1, 12)]]
    first = batcher.ask(request(given[0]))
    gate.asked.wait(30)
    others = [batcher.ask(request(array)) for array in given[1:]]
    gate.opened.set()
    for array, future in zip(given, [first, *others], strict=True):
        answer = future.result(30)
        alone = served.surrogate.predict({"permeability": array})
        assert answer.served is served
        assert np.allclose(answer.predictions["pressure"], alone["pressure"], atol=1e-6)
    batcher.close()
    # 1 + 2 + 3 share a pass, 4 more would be too many; the two of another grid share one, too.
    assert sizes == [6, 2, 4]


def test_a_bad_request_spoils_none_of_those_that_wait_with_it(served):
    gate = Gate(served)
    batcher = Batcher(gate, 8, 100, 2**24, cores=1)
    rng = np.random.default_rng(1)
    first = batcher.ask(request(fields(rng, 1)))
    gate.asked.wait(30)
    bad = fields(rng, 1)
    bad[0, 3, 3] = np.nan
    good = batcher.ask(request(fields(rng, 1)))
    spoiled = batcher.ask(request(bad))
    gate.opened.set()
    assert np.isfinite(good.result(30).predictions["pressure"]).all()
    assert first.result(30)
    with pytest.raises(InputError, match="missing"):
        spoiled.result(30)
    batcher.close()


def test_too_many_are_turned_away_and_those_who_left_cost_nothing(served):
    gate, sizes = Gate(served), []
    batcher = Batcher(gate, 8, 2, 2**24, sizes.append, cores=1)
    asked = request(fields(np.random.default_rng(2), 1))
    first = batcher.ask(asked)
    gate.asked.wait(30)
    gone, stays = batcher.ask(asked), batcher.ask(asked)
    with pytest.raises(RefusedError, match="2 requests are waiting"):
        batcher.ask(asked)
    assert batcher.waiting == 2
    assert gone.cancel()
    gate.opened.set()
    assert first.result(30) and stays.result(30)
    batcher.close()
    assert sizes == [2]


def test_closing_answers_what_waits(served):
    batcher = Batcher(lambda: served, 8, 100, 2**24)
    asked = request(fields(np.random.default_rng(3), 1))
    futures = [batcher.ask(asked) for _ in range(20)]
    batcher.close()
    assert all(future.done() for future in futures)


def test_a_large_request_is_answered_in_parts_by_all_cores(served, parts_of_two):
    sizes = []
    batcher = Batcher(lambda: served, 8, 100, 2**24, sizes.append, cores=2)
    given = {"permeability": fields(np.random.default_rng(4), 7)}
    answer = batcher.ask(PredictionRequest(given)).result(30)
    batcher.close()
    assert sorted(sizes) == [1, 2, 2, 2]
    whole = served.surrogate.predict(given)
    assert np.allclose(answer.predictions["pressure"], whole["pressure"], atol=1e-6)


def test_a_large_request_does_not_hold_up_small_ones(served, parts_of_two):
    begun, go_on = threading.Event(), threading.Event()
    passes = []

    def told(samples):
        passes.append(samples)
        begun.set()
        go_on.wait(30)

    batcher = Batcher(lambda: served, 8, 100, 2**24, told, cores=1)
    rng = np.random.default_rng(5)
    large = batcher.ask(request(fields(rng, 12)))
    begun.wait(30)  # its first part is at work, the others are cut
    small = [batcher.ask(request(fields(rng, 1, side))) for side in (6, 7)]
    go_on.set()
    batcher.close()
    assert passes == [2, 2, 1, 2, 1, 2, 2, 2]  # they take turns
    assert large.result().predictions["pressure"].shape == (12, 8, 8)
    assert [f.result().predictions["pressure"].shape[1] for f in small] == [6, 7]


def test_a_part_that_fails_fails_its_request_alone(served, parts_of_two):
    batcher = Batcher(lambda: served, 8, 100, 2**24, cores=2)
    rng = np.random.default_rng(6)
    bad = fields(rng, 9)
    bad[5, 3, 3] = np.nan
    spoiled = batcher.ask(request(bad))
    good = [batcher.ask(request(fields(rng, 1))) for _ in range(5)]
    with pytest.raises(InputError, match="missing"):
        spoiled.result(30)
    assert all(np.isfinite(each.result(30).predictions["pressure"]).all() for each in good)
    batcher.close()


def test_an_answer_comes_from_one_model_though_another_takes_over(parts_of_two):
    versions = [Served(f"models:/mno-darcy/{seed}", surrogate(seed), {}) for seed in (1, 2)]
    another = itertools.cycle(versions)  # each time that it is asked for
    batcher = Batcher(lambda: next(another), 8, 100, 2**24, cores=2)
    rng, answers = np.random.default_rng(7), []
    for _ in range(10):
        given = {"permeability": fields(rng, 4)}
        answers.append((given, batcher.ask(PredictionRequest(given))))
    for given, future in answers:
        answer = future.result(30)
        whole = answer.served.surrogate.predict(given)
        assert np.allclose(answer.predictions["pressure"], whole["pressure"], atol=1e-6)
    batcher.close()
    assert {future.result().served.name for _, future in answers} == {"mno-darcy/1", "mno-darcy/2"}


def test_many_clients_of_different_grids_get_their_own_answers(served):
    batcher = Batcher(lambda: served, 8, 100, 2**24, cores=3)

    def client(seed):
        rng = np.random.default_rng(seed)
        for _ in range(8):
            given = {"permeability": fields(rng, int(rng.integers(1, 20)), int(rng.integers(6, 9)))}
            answer = batcher.ask(PredictionRequest(given)).result(60)
            alone = served.surrogate.predict(given)
            assert np.allclose(answer.predictions["pressure"], alone["pressure"], atol=1e-6)

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(client, range(12)))
    batcher.close()


DONE = "#status:text-matches('^(Done|完了)')"


@pytest.fixture(scope="module")
def filled_trial(tmp_path_factory):
    with with_page(tmp_path_factory.mktemp("workspace")) as service:
        yield service


@pytest.mark.browser
@pytest.mark.parametrize("language", ["en", "ja"])
@pytest.mark.parametrize(("scheme", "width"), [("light", 360), ("dark", 1280)])
def test_axe_finds_nothing(browser, filled_trial, scheme, width, language):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page, heard = opened(
        browser, f"{filled_trial.url}/?lang={language}", color_scheme=scheme, bypass_csp=True,
        viewport={"width": width, "height": 800},
    )  # fmt: skip
    page.wait_for_selector(DONE)
    found = axe.Axe().run(page).response["violations"]
    assert [(v["id"], [node["html"][:120] for node in v["nodes"]]) for v in found] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert heard == []
    page.context.close()


@pytest.mark.browser
def test_a_moved_parameter_changes_what_is_drawn(browser, filled_trial):
    page, heard = opened(browser, f"{filled_trial.url}/?lang=en")
    page.wait_for_selector(DONE)
    figures = page.locator("#outputs figcaption").all_inner_texts()
    assert figures == ["predicted", "solver's answer", "size of the difference"]
    before = pictures(page)
    assert len(before) == 4 and len(set(before)) == 4  # and the input
    assert "90 %" in page.locator("#verdict").inner_text()
    assert "(within)" in page.locator("#outputs table").inner_text()
    page.locator("#parameter-high_permeability").fill("900")
    page.locator("#parameter-high_permeability").blur()
    page.wait_for_selector("#verdict.bad")
    page.wait_for_selector(DONE)
    assert "unlike the training data" in page.locator("#verdict").inner_text()
    assert pictures(page)[1] != before[1]
    page.locator("#another").click()
    page.wait_for_selector(DONE)
    assert heard == []
    page.context.close()


@pytest.mark.browser
def test_a_refusal_is_said(browser, filled_trial):
    page, _ = opened(browser, f"{filled_trial.url}/?lang=en")
    page.wait_for_selector(DONE)
    page.locator("#parameter-inverse_length").fill("51")
    page.locator("#parameter-inverse_length").blur()
    page.wait_for_selector("#status.bad")
    assert "less than or equal to 50" in page.locator("#status").inner_text()
    page.context.close()


@pytest.mark.browser
def test_the_token_is_asked_for(browser, tmp_path):
    with with_page(tmp_path, config=ServingConfig(token="a secret token")) as service:  # noqa: S106
        page, _ = opened(browser, f"{service.url}/?lang=en")
        page.locator("#token").fill("a secret token")
        page.locator("#token-form button").click()
        page.wait_for_selector(DONE)
        page.context.close()


def pictures(page):
    return [
        canvas.evaluate("canvas => canvas.toDataURL()")
        for canvas in page.locator("canvas:not(.bar)").all()
    ]
