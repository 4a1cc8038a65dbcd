"""UM-Bridge's cookies, of eight numbers and one answer: where a simple tool will do."""

from __future__ import annotations

import itertools
import socket
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import numpy as np

from benchmarks.bench_tools import SAMPLES, TOOLS, solved
from benchmarks.cookies_server import CENTRES, Plate
from benchmarks.page import Section, Table, figure
from mno.core.config import validate
from mno.core.forecast import TaskConfig
from mno.evaluation.config import IntervalConfig
from mno.evaluation.tools import measure_tools
from mno.nn.config import ModelConfig
from mno.scenarios.external import External, ExternalParameters
from mno.scenarios.part import part_of
from mno.training.problem import describe

THREADS = 1
LEAST, MOST = -0.99, -0.2
ASKED, PUBLISHED = 0.0642024, 0.0641961
CELLS, LEVELS = (50, 100, 200, 400), (1, 2, 3)
OF_THE_SERVER = 100
ABOUT = f"""**Asked was a mean within 1e-6 of 0.0642024, on 400 x 400 elements; it is 1.2e-5 off.**
Discs cut elements, so that the mean wanders by some 1e-5 from mesh to mesh. The problem:
-div(a grad u) = 100 on a square in the middle of the unit square, a = 1 + y on eight discs, of
which each has a y of its own, uniform from {LEAST} to {MOST}: what is the mean of the integral of u
over that square? UM-Bridge's page says {PUBLISHED}, by splines of degree 4 on 200 x 200 elements
and a sparse grid of 15,713 points; asked was {ASKED} within 1e-6. Here elements are of degree 1
(`benchmarks/cookies_server.py`), and the sparse grid is Smolyak's, by Clenshaw and Curtis; cookies
may be turned and mirrored, so that fewer solves than points are made."""
BEHIND = f"""**Behind a server** of the UM-Bridge protocol, with {OF_THE_SERVER} x {OF_THE_SERVER}
elements, as the scenario `external`: {SAMPLES["train"]} solves to learn from, {SAMPLES["test"]} to
be tested on, for the tools that `mno evaluate` measures beside every model. Its report says to use
one that does as well as the model and costs no more."""


def sparse_grid(level: int) -> dict[tuple[float, ...], float]:
    """Return points and weights of Smolyak's mean by Clenshaw and Curtis, of the cookies' numbers.

    Source:
        Smolyak's combination, as in Novak and Ritter, doi:10.1007/s002110050231: rules of 1, 3, 5,
        9, ... points, of total level at most `level`.
    """
    dims = len(CENTRES)
    found: dict[tuple[float, ...], float] = defaultdict(float)
    for levels in _levels(dims, level):
        missing = level - sum(levels)
        if missing >= dims:
            continue
        sign = (-1) ** missing * _choose(dims - 1, missing)
        rules = [_clenshaw_curtis(one) for one in levels]
        for combined in itertools.product(*rules):
            points, weights = zip(*combined, strict=True)
            found[points] += sign * float(np.prod(weights))
    return found


def _levels(dims: int, most: int) -> list[tuple[int, ...]]:
    if dims == 1:
        return [(one,) for one in range(most + 1)]
    return [(a, *rest) for a in range(most + 1) for rest in _levels(dims - 1, most - a)]


def _choose(of: int, number: int) -> int:
    return int(np.prod([(of - k) / (k + 1) for k in range(number)]).round())


@cache
def _clenshaw_curtis(level: int) -> list[tuple[float, float]]:
    """Return points and weights of a mean, of a uniform number between the ends."""
    if level == 0:
        return [((LEAST + MOST) / 2, 1.0)]
    n = 2**level
    angles = np.pi * np.arange(n + 1) / n
    moments = np.zeros(n + 1)
    moments[::2] = 1.0 / (1.0 - np.arange(0, n + 1, 2) ** 2)  # means of Chebyshev's polynomials
    weights = np.linalg.solve(np.cos(np.outer(np.arange(n + 1), angles)), moments)
    points = (LEAST + MOST) / 2 + (MOST - LEAST) / 2 * np.cos(angles)
    return [(round(float(p), 12), float(w)) for p, w in zip(points, weights, strict=True)]


def mean(plate: Plate, level: int, known: dict[tuple[float, ...], float]) -> float:
    """Return the mean by a sparse grid; what is `known` is not solved again."""
    total = 0.0
    for point, weight in sparse_grid(level).items():
        same = min(tuple(point[n] for n in image) for image in images())
        if same not in known:
            known[same] = plate(np.array(same))
        total += weight * known[same]
    return total


@cache
def images() -> list[list[int]]:
    """Return the orders of the cookies that turn and mirror the plate."""
    turn = np.array([[0, -1], [1, 0]])
    centres, found = np.array(CENTRES) - 0.5, []
    for mirror in (np.eye(2), np.diag([1.0, -1.0])):
        for turns in range(4):
            moved = centres @ (mirror @ np.linalg.matrix_power(turn, turns))
            apart = abs(moved[:, None] - centres).sum(axis=-1)
            found.append(apart.argmin(axis=1).tolist())
    return found


@contextmanager
def server(cells: int) -> Iterator[str]:
    """Have a server with its own process; its address."""
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        port = asked.getsockname()[1]
    line = [sys.executable, "-m", "benchmarks.cookies_server", str(port), str(cells)]
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def behind(address: str) -> External:
    """Return the scenario."""
    given = {
        "name": "cookies", "address": address, "timeout": 60.0, "retries": 8,
        "inputs": {"conductivity": {"size": len(CENTRES), "uniform": [LEAST, MOST]}},
        "outputs": {"integral": {}},
    }  # fmt: skip
    return External(validate(ExternalParameters, given), 8)


def means() -> list[tuple[str, ...]]:
    """Return a row for each number of elements and level."""
    rows = []
    for cells in CELLS:
        plate, known = Plate(cells), {}
        start = time.process_time()
        for level in LEVELS:
            found = mean(plate, level, known)
            rows.append((
                f"{cells} x {cells}", f"{len(sparse_grid(level))} ({len(known)})", f"{found:.7f}",
                f"{found - ASKED:+.1e}", f"{found - PUBLISHED:+.1e}",
                figure(time.process_time() - start),
            ))  # fmt: skip
    return rows


def tools() -> list[tuple[str, ...]]:
    """Return what became of each tool on solves of the server."""
    with server(OF_THE_SERVER) as address:
        scenario = part_of(behind(address), "readings")
        splits, _ = solved(scenario, "readings")
    task = TaskConfig(part="readings")
    model = ModelConfig.model_validate({"width": 8, "layers": 1})
    training, validation, test = splits
    description = describe(training, model, task)
    found = measure_tools(TOOLS, training, validation, test, description, IntervalConfig())
    return [
        (tool["name"].replace("_", " "), f"{100 * tool['error']:.2g} %", figure(tool["ms"]))
        for tool in found
        if "error" in tool
    ]


def run() -> Section:
    """Find the mean, and what tools make of solves behind a server."""
    columns = (
        "elements", "points (solves)", "mean", f"less {ASKED}", f"less {PUBLISHED}",
        "processor's seconds",
    )  # fmt: skip
    measured = Table(("tool", "relative L2", "ms"), tools())
    return Section("Cookies", (ABOUT, Table(columns, means()), BEHIND, measured))
