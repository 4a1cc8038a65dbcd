"""UM-Bridge's cookies, of eight numbers and one answer: where a simple tool will do."""

from __future__ import annotations

import itertools
import json
import socket
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.bench_startup import MNO, ROOT, environment
from benchmarks.cookies_server import CENTRES, Plate
from benchmarks.page import Section, Table, figure

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
LINE: dict[str, Any] = {
    "task": {"part": "readings"},
    "generate": {"samples": 600, "resolution": 8, "shard_size": 50},
    "model": {"backbone": "plain", "mixer": "softmax", "width": 24, "layers": 2},
    "train": {
        "epochs": 20, "batch_size": 8, "optimizer": "adamw", "learning_rate": 5e-3,
        "augment": False,
    },
}  # fmt: skip
BEHIND = f"""**Behind a server** of the UM-Bridge protocol, with {OF_THE_SERVER} x {OF_THE_SERVER}
elements, as the scenario `external`, {LINE["generate"]["samples"]} solves through the whole line:
what `mno run` says of its model, and what `mno evaluate` has measured beside it."""


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


def preset(address: str) -> dict[str, Any]:
    """Return what the line is told of a server."""
    own = {
        "name": "cookies", "address": address, "model": "forward", "timeout": 60.0, "retries": 8,
        "inputs": {"conductivity": {"size": len(CENTRES), "uniform": [LEAST, MOST]}},
        "outputs": {"integral": {}},
    }  # fmt: skip
    return {"scenario": "external", "scenarios": {"external": own}, **LINE}


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


def line() -> tuple[str, list[tuple[str, ...]]]:
    """Run the line on solves of the server; return its verdict, and a row for each tool."""
    with tempfile.TemporaryDirectory() as scratch, server(OF_THE_SERVER) as address:
        workspace = Path(scratch) / "workspace"
        clone = ["git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(workspace)]
        subprocess.run(clone, check=True)
        told = workspace / "presets/cookies.yaml"
        told.write_text(yaml.safe_dump(preset(address)), encoding="utf-8")
        command = (*MNO, "run", "--preset", "cookies", "--quiet")
        subprocess.run(command, cwd=workspace, env=environment(), check=True)
        decision, cost = (
            json.loads((workspace / f"reports/{name}.json").read_text(encoding="utf-8"))
            for name in ("decision", "cost")
        )
    better = [r["values"]["tool"] for r in decision["reasons"] if r["code"] == "tool_as_good"]
    said = f"The verdict: {decision['verdict'].replace('_', ' ')}. "
    if better:
        said += f"It says to use another tool in its place: {better[0].replace('_', ' ')}."
    own = {"name": "the model", "error": decision["error"], "ms": cost["latency_ms"]}
    rows = [
        (tool["name"].replace("_", " "), f"{100 * tool['error']:.2g} %", figure(tool["ms"]))
        for tool in (own, *cost["tools"])
        if "error" in tool
    ]
    return said, rows


def run() -> Section:
    """Find the mean, and what tools make of solves behind a server."""
    columns = (
        "elements", "points (solves)", "mean", f"less {ASKED}", f"less {PUBLISHED}",
        "processor's seconds",
    )  # fmt: skip
    said, rows = line()
    measured = Table(("tool", "relative L2", "ms"), rows)
    return Section("Cookies", (ABOUT, Table(columns, means()), BEHIND, measured, said))
