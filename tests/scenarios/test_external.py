"""A solver behind a server of the UM-Bridge protocol, as the protocol's own package serves it."""

import re
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from ruamel.yaml import YAML

from mno.core.config import validate
from mno.core.errors import InputError, MnoError
from mno.core.files import folder_sha256
from mno.core.forecast import TaskConfig
from mno.data.config import ExecutionConfig, GenerateConfig
from mno.data.generate.plan import make_plan
from mno.data.generate.run import generate
from mno.data.parts import open_parts
from mno.data.reading import read_split
from mno.scenarios.external import External, ExternalParameters
from mno.scenarios.part import part_of

ROOT = Path(__file__).parents[2]
SERVER = ROOT / "tests/support/rod_server.py"
KINDS = ("python", "yaml")
ON_LOOPBACK = """
import functools, umbridge
umbridge.um.web.run_app = functools.partial(umbridge.um.web.run_app, host="127.0.0.1")
"""
ROD = {
    "name": "rod",
    "model": "rod",
    "inputs": {
        "conductivity": {"dims": ["x"], "lognormal": [0.0, 0.5], "correlation": 0.2},
        "power": {"uniform": [10.0, 100.0], "units": "W"},
    },
    "outputs": {"temperature": {"dims": ["x"], "units": "K"}, "hottest": {"units": "K"}},
    "retries": 0,
    "timeout": 20.0,
}


def free_port():
    with socket.socket() as any_port:
        any_port.bind(("127.0.0.1", 0))
        return any_port.getsockname()[1]


@contextmanager
def server(port, code=SERVER):
    process = subprocess.Popen(
        [sys.executable, str(code), str(port)], stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        until = time.monotonic() + 60.0
        while time.monotonic() < until and process.poll() is None:
            with socket.socket() as asked:
                if asked.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def address():
    port = free_port()
    with server(port):
        yield f"http://127.0.0.1:{port}"


def rod(url, resolution=8, **changes):
    return External(validate(ExternalParameters, {**ROD, "address": url, **changes}), resolution)


def plan_at(address, derivatives=None, **changes):
    given = validate(ExternalParameters, {**ROD, "address": address, **changes})
    split = {"train": 0.5, "validation": 0.25, "test": 0.25}
    config = GenerateConfig(
        samples=12, resolution=8, shard_size=3, seed=0, split=split, derivatives=derivatives
    )
    return make_plan(External, given, config, "")


def test_what_a_server_solves_is_what_its_code_solves(address):
    scenario = rod(address)
    scenario.compile()
    given = scenario.sample(np.random.default_rng(0))
    solved = scenario.solve(given)
    kappa, power = given["conductivity"].astype(float), float(given["power"])
    # The heat that leaves by the two ends is all that is supplied.
    ends = 2.0 * 8 * kappa[[0, -1]] * (solved["temperature"][[0, -1]] - 293.0)
    assert np.isclose(ends.sum(), power, rtol=1e-5)
    assert solved["hottest"] == pytest.approx([solved["temperature"].max()])
    assert {field.name: field.dims for field in scenario.fields} == {
        "conductivity": ("x",), "power": (), "temperature": ("x",), "hottest": ("hottest_number",)
    }  # fmt: skip


def test_its_derivatives_are_those_of_what_it_answers(address):
    scenario = rod(address)
    given, other = (scenario.sample(np.random.default_rng(seed)) for seed in (0, 1))
    assert scenario.has_derivatives
    along = {n: np.stack([other[n] - given[n], given[n]]).astype(float) for n in given}
    solved, rates = scenario.solve_along(given, along)
    for name, values in scenario.solve(given).items():
        np.testing.assert_array_equal(solved[name], values)
        for row, rate in enumerate(rates[name]):
            ahead, behind = (
                scenario.solve({n: given[n] + step * along[n][row] for n in given})[name]
                for step in (0.01, -0.01)
            )
            np.testing.assert_allclose(rate, (ahead - behind) / 0.02, rtol=0.02, atol=0.02)
    alone = scenario.solve_along(given, {"power": np.ones((1, *given["power"].shape))})[1]
    np.testing.assert_allclose(
        alone["temperature"][0], (solved["temperature"] - 293) / given["power"], rtol=1e-3
    )


def test_a_dataset_may_hold_its_derivatives(address, tmp_path):
    plan = plan_at(address, derivatives=2)
    generate(plan, tmp_path / "work", tmp_path / "data", ExecutionConfig(workers=1))
    rates = read_split(tmp_path / "data", "train").rates
    assert rates["temperature"].shape == (6, 2, 8) and np.isfinite(rates["temperature"]).all()
    fields, readings = (
        open_parts(tmp_path / "data", TaskConfig(part=part), "train")[0].rates
        for part in ("fields", "readings")
    )
    assert set(fields) == {"conductivity", "power", "temperature"} and not readings
    for name, rate in fields.items():
        np.testing.assert_array_equal(rate, rates[name])


def test_a_dataset_is_the_same_by_any_number_of_workers_and_after_a_server_died(tmp_path):
    port = free_port()
    address, digests = f"http://127.0.0.1:{port}", []
    with server(port):
        for workers in (1, 2):
            work, destination = tmp_path / f"w{workers}", tmp_path / f"d{workers}"
            generate(plan_at(address), work, destination, ExecutionConfig(workers=workers))
            digests.append(folder_sha256(destination))
    with server(port) as process:

        def kill(progress):
            if progress.shards_done == 2:
                process.kill()

        with pytest.raises(MnoError, match="gives no answer .* run again to go on"):
            generate(
                plan_at(address), tmp_path / "w3", tmp_path / "d3", ExecutionConfig(workers=1), kill
            )
    assert not (tmp_path / "d3").exists()
    begun = []
    with server(port):
        generate(
            plan_at(address), tmp_path / "w3", tmp_path / "d3", ExecutionConfig(workers=1),
            lambda progress: begun.append(progress.shards_done),
        )  # fmt: skip
    assert begun[0] >= 1
    assert [folder_sha256(tmp_path / "d3")] == [*{*digests}]
    schema = read_split(tmp_path / "d3", "train").schema
    assert schema.scenario == "external"


def test_the_page_serves_a_solver_and_asks_it(tmp_path):
    page = (ROOT / "docs/how-to/use-your-own-solver.md").read_text(encoding="utf-8")
    (code,), (preset,) = (re.findall(rf"```{kind}\n(.*?)```", page, re.DOTALL) for kind in KINDS)
    (tmp_path / "server.py").write_text(ON_LOOPBACK + code, encoding="utf-8")
    said, port = YAML(typ="safe").load(preset), free_port()
    own = said["scenarios"]["external"] | {"address": f"http://127.0.0.1:{port}"}
    with server(port, tmp_path / "server.py"):
        scenario = External(validate(ExternalParameters, own), said["generate"]["resolution"])
        scenario.compile()
        solved = scenario.solve(scenario.sample(np.random.default_rng(0)))
    assert solved["hottest"] == pytest.approx([solved["temperature"].max()])


def test_smooth_fields_vary_as_much_as_is_said():
    scenario = rod("http://127.0.0.1:1", resolution=32)
    drawn = [scenario.sample(np.random.default_rng(seed)) for seed in range(1500)]
    logarithms = np.log([sample["conductivity"] for sample in drawn])
    assert np.allclose(logarithms.std(axis=0), 0.5, rtol=0.08)
    assert np.corrcoef(logarithms[:, 10], logarithms[:, 11])[0, 1] > 0.98
    assert abs(np.corrcoef(logarithms[:, 0], logarithms[:, 31])[0, 1]) < 0.1
    powers = np.array([sample["power"] for sample in drawn])
    assert 10.0 <= powers.min() < 11.0 and 99.0 < powers.max() <= 100.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "bar"}, "scenarios.external.model=bar, but .* has rod"),
        (
            {"outputs": {"temperature": {"dims": ["x"]}}},
            r"outputs are vectors of \[8\] .* \[8, 1\]",
        ),
    ],
)
def test_a_server_with_another_model_is_refused(address, changes, message):
    with pytest.raises(InputError, match=message):
        rod(address, **changes).compile()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("error", r"gives no answer \(status 500\), asked 1 times"),
        ("short", "refuses: InvalidOutput: .*declared 8 but returned 7"),
        ("nan", "answered .*nan.* expected a JSON object of finite numbers"),
    ],
)
def test_a_wrong_answer_is_one_clear_line(address, answer, message):
    scenario = rod(address, config={"answer": answer})
    with pytest.raises(MnoError, match=message):
        scenario.solve(scenario.sample(np.random.default_rng(0)))


def test_a_server_that_breaks_off_an_error_is_asked_again():
    asked, ended = [], threading.Event()

    class Stuck(BaseHTTPRequestHandler):
        def do_POST(self):
            asked.append(self.path)
            self.send_response(500)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b'{"error"')
            self.wfile.flush()
            ended.wait()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Stuck) as stuck:
        threading.Thread(target=stuck.serve_forever, daemon=True).start()
        scenario = rod(f"http://127.0.0.1:{stuck.server_port}", timeout=0.2, retries=1)
        try:
            with pytest.raises(MnoError, match=r"no answer \(status 500\), asked 2 times"):
                scenario.solve(scenario.sample(np.random.default_rng(0)))
        finally:
            ended.set()
            stuck.shutdown()
    assert asked == ["/Evaluate"] * 2


def test_numbers_alone_are_not_the_same_on_any_grid():
    scenario = rod("http://127.0.0.1:1")
    assert not part_of(scenario, "readings").same_on_any_grid


def test_rates_of_another_length_are_one_clear_line(address):
    scenario = rod(address, config={"answer": "short rates"})
    given = scenario.sample(np.random.default_rng(0))
    with pytest.raises(MnoError, match="refuses: InvalidOutput|expected vectors of"):
        scenario.solve_along(given, {"power": np.ones((1, *given["power"].shape))})


def test_an_answer_of_other_vectors_is_one_clear_line(address):
    scenario = rod(address, outputs={"temperature": {"dims": ["x"]}})
    with pytest.raises(MnoError, match="expected vectors of {'temperature': 8} numbers"):
        scenario.solve(scenario.sample(np.random.default_rng(0)))


def test_a_wrong_answer_releases_nothing(address, tmp_path):
    plan = plan_at(address, config={"answer": "nan"})
    with pytest.raises(MnoError, match="expected a JSON object"):
        generate(plan, tmp_path / "work", tmp_path / "data", ExecutionConfig(workers=1))
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"address": "127.0.0.1"}, "address"),
        ({"inputs": {"power": {}}}, "says none of uniform"),
        ({"inputs": {"power": {"uniform": [2.0, 1.0]}}}, r"uniform: \[2, 1\]"),
        ({"inputs": {"power": {"loguniform": [0.0, 1.0]}}}, "positive numbers"),
        ({"inputs": {"hottest": {"normal": [0.0, 1.0]}}}, "all of different names"),
        ({"inputs": {}}, "the inputs none"),
        ({"outputs": {"heat": {"dims": ["y", "x"]}}}, "expected one grid for all"),
        *(
            ({"outputs": {"all": {}, name: {}}}, f"a vector cannot be called '{name}'; expected")
            for name in ("x", "split", "the heat", "../heat", "rate_of_all", "all_number", "")
        ),
    ],
)
def test_what_cannot_be_asked_is_refused(changes, message):
    with pytest.raises(InputError, match=message):
        rod("http://127.0.0.1:1", **changes)
