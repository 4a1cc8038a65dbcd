"""Serving: what HTTP adds to a forward pass, and many clients against MLflow's own server."""

from __future__ import annotations

import http.client
import io
import multiprocessing
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
import torch
import uvicorn

from benchmarks.page import Section, Table, figure
from mno.core.absent import Absent
from mno.core.config import read_params, section
from mno.core.memory import keep_freed_memory
from mno.data.normalise import Normaliser
from mno.nn.config import ModelConfig
from mno.registry.packaging import save_package
from mno.serving.app import Monitor, Service, ServingConfig, build_app
from mno.serving.batcher import POINTS
from mno.serving.model import Follower
from mno.surrogate.description import Description
from mno.surrogate.surrogate import Surrogate

THREADS = 2
RESOLUTION = 64
GRIDS = (24, 32, 64)  # the first is that of the data of params.yaml
ALONE = 60
CLIENTS = 32
REQUESTS = 640
ROOT = Path(__file__).parent.parent
Arrays = Mapping[str, np.ndarray]
ABOUT = f"""The model of `params.yaml` with fresh weights, one sample on {RESOLUTION} x {RESOLUTION}
points per request, clients and server on one machine. **Alone** is the median over {ALONE}
requests, one after the other, in turn with the bare `Surrogate.predict`; what HTTP adds should be
at most 10 ms."""
MANY = f"""**Many clients**: {REQUESTS} requests of {CLIENTS} clients at once, against the same
requests one at a time through `mlflow models serve` (one worker, JSON, its only form for fields);
three times as many per second are asked for. The data of `params.yaml` have {GRIDS[0]} x {GRIDS[0]}
points. Clients share the cores with the servers.
On 64 x 64 points nearly all of a request is the forward pass: decoding and encoding a field take
0.1 to 0.3 ms, an error estimate, which the model here has none of, 1 to 3 ms. A lone request to
MLflow's server has all cores, too, so that two of them cannot make three times as many there. What
can be gained is what a pass of one sample wastes: threads that wait for each other, and memory that
is mapped anew.
Each core takes what waits longest, {POINTS} points at a time, waits for no other, and keeps freed
memory for the next pass. Each server has {THREADS} threads and a process of its own."""


class Folder:
    """A registry of one model in a folder."""

    def __init__(self, surrogate: Surrogate, example: Arrays) -> None:
        self._loaded = surrogate, example

    def named(self) -> str:
        """Return the address of the model."""
        return "models:/mno-benchmark/1"

    def load(self, uri: str) -> tuple[Surrogate, Arrays, Absent]:
        """Return the model, its example, and why there is no error estimate."""
        return *self._loaded, Absent("estimate.none")


def run() -> Section:
    keep_freed_memory()  # as every service does
    surrogate = fresh_model()
    field = np.random.default_rng(0).random((1, RESOLUTION, RESOLUTION), dtype=np.float32)
    given = {"permeability": field}
    fields = {n: np.random.default_rng(0).random((1, n, n), dtype=np.float32) for n in GRIDS}
    many: dict[tuple[int, str], tuple[float, list[float]]] = {}
    with ours(surrogate, given) as url:
        forms = {"JSON": as_json(url, field), "npz": as_npz(url, field)}
        alone = in_turn({"bare": lambda: surrogate.predict(given), **forms})
        for n, one in fields.items():
            many[n, "JSON"] = of_many(as_json(url, one))
            many[n, "npz"] = of_many(as_npz(url, one))
    peers = {}
    with mlflows(surrogate, given) as url:
        for n, one in fields.items():
            ask = as_json(url, one)
            for _ in range(5):
                ask()
            start = time.perf_counter()
            times = [seconds(ask) for _ in range(ALONE)]
            peers[n] = ALONE / (time.perf_counter() - start), times
    rows = [
        (name, figure(1e3 * alone[name]), figure(1e3 * (alone[name] - alone["bare"])))
        for name in forms
    ]
    throughput = []
    for n, (peer, times) in peers.items():
        theirs = "mlflow models serve, one at a time"
        throughput.append((f"{n} x {n}", theirs, figure(peer), "1", *tails(times)))
        for form in forms:
            rate, times = many[n, form]
            what = f"ours, {form}, {CLIENTS} clients"
            ratio = figure(rate / peer)
            throughput.append((f"{n} x {n}", what, figure(rate), ratio, *tails(times)))
    bare = f"The bare prediction takes {figure(1e3 * alone['bare'])} ms."
    return Section(
        "Serving",
        (
            ABOUT, bare, Table(("form", "alone, ms", "more than bare, ms"), rows), MANY,
            Table(("grid", "service", "requests/s", "ratio", "median, ms", "p99, ms"), throughput),
        ),
    )  # fmt: skip


def fresh_model() -> Surrogate:
    """Return the operator of `params.yaml`, untrained."""
    torch.manual_seed(0)
    description = Description(
        scenario="darcy",
        inputs={"permeability": "1"},
        outputs={"pressure": "1"},
        extent=(1.0, 1.0),
        reference_spacing=(1 / RESOLUTION, 1 / RESOLUTION),
        normaliser=Normaliser(
            {"permeability": 0.5, "pressure": 0.0}, {"permeability": 0.3, "pressure": 1.0}
        ),
        model=section(read_params(ROOT), "model", ModelConfig),
    )
    return Surrogate(description, description.build())


@contextmanager
def ours(surrogate: Surrogate, example: Arrays) -> Iterator[str]:
    """Serve in a process of its own, as `mno serve` does."""
    port = free_port()
    with tempfile.TemporaryDirectory() as scratch:
        surrogate.save(Path(scratch))
        spawned = multiprocessing.get_context("spawn")
        server = spawned.Process(target=serve, args=(scratch, dict(example), port), daemon=True)
        server.start()
        try:
            wait_for(f"http://127.0.0.1:{port}/ping", server.is_alive)
            yield f"http://127.0.0.1:{port}/invocations"
        finally:
            server.terminate()
            server.join()


def serve(folder: str, example: Arrays, port: int) -> None:
    """Serve a model from its folder, on as many threads as MLflow's server has."""
    torch.set_num_threads(THREADS)
    config = ServingConfig()
    follower = Follower(Folder(Surrogate.load(folder), example), 60.0, lambda *_: None)
    app = build_app(Service(follower, config, Monitor()), config.hosts)
    uvicorn.run(app, port=port, log_level="error", lifespan="off", access_log=False)


@contextmanager
def mlflows(surrogate: Surrogate, example: Arrays) -> Iterator[str]:
    """Serve the packaged model by MLflow's own server."""
    port = free_port()
    with tempfile.TemporaryDirectory() as scratch:
        candidate, package = Path(scratch) / "candidate", Path(scratch) / "package"
        candidate.mkdir()
        surrogate.save(candidate)
        save_package(candidate, example, package)
        command = [
            sys.executable, "-m", "mlflow", "models", "serve", "-m", str(package), "-p", str(port),
            "--env-manager", "local",
        ]  # fmt: skip
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        server = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            env={**os.environ, "PATH": path, "OMP_NUM_THREADS": str(THREADS)},
        )  # fmt: skip
        try:
            wait_for(f"http://127.0.0.1:{port}/ping", lambda: server.poll() is None)
            yield f"http://127.0.0.1:{port}/invocations"
        finally:
            os.killpg(server.pid, 15)
            server.wait()


def free_port() -> int:
    """Return a port of this machine that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(url: str, is_alive: Callable[[], bool]) -> None:
    """Wait until a server answers."""
    deadline = time.monotonic() + 120
    while is_alive() and time.monotonic() < deadline:
        try:
            if httpx.get(url).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    raise RuntimeError(f"no server answers at {url}")


def as_json(url: str, field: np.ndarray) -> Callable[[], None]:
    """Return a request in JSON, whose content is made once."""
    content = httpx.Request("POST", url, json={"inputs": {"permeability": field.tolist()}}).content
    return asking(url, content, "application/json")


def as_npz(url: str, field: np.ndarray) -> Callable[[], None]:
    """Return a request in arrays, whose content is made once."""
    file = io.BytesIO()
    np.savez(file, permeability=field)
    return asking(url, file.getvalue(), "application/x-npz")


def asking(url: str, content: bytes, kind: str) -> Callable[[], None]:
    """Return a request; each thread keeps a connection, and takes little time for itself."""
    parts, kept = urlsplit(url), threading.local()

    def ask() -> None:
        if not hasattr(kept, "connection"):
            kept.connection = http.client.HTTPConnection(parts.netloc, timeout=120)
        kept.connection.request("POST", parts.path, content, {"Content-Type": kind})
        response = kept.connection.getresponse()
        answer = response.read()
        if response.status != 200:
            raise RuntimeError(f"{response.status}: {answer[:200]!r}")

    return ask


def in_turn(sides: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Return each side's median time, s."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(ALONE + 5):
        for name, call in sides.items():
            taken = seconds(call)
            if number >= 5:
                times[name].append(taken)
    return {name: statistics.median(values) for name, values in times.items()}


def of_many(ask: Callable[[], object]) -> tuple[float, list[float]]:
    """Return requests per second of many clients, and the time of each."""
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(lambda _: ask(), range(CLIENTS)))
        start = time.perf_counter()
        times = list(pool.map(lambda _: seconds(ask), range(REQUESTS)))
        return REQUESTS / (time.perf_counter() - start), times


def seconds(call: Callable[[], object]) -> float:
    """Return how long a call takes, s."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def tails(times: list[float]) -> tuple[str, str]:
    """Return the median and the 99th percentile, ms."""
    return figure(1e3 * statistics.median(times)), figure(1e3 * float(np.percentile(times, 99)))
