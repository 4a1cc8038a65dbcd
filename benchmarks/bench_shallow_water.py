"""The solver of the scenario shallow_water against PyClaw."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

import numpy as np

from benchmarks.page import Section, Table, figure
from benchmarks.timing import Times, in_turn, median_ms, median_ratio
from mno.scenarios.kernels.shallow_water import STEP, solve_shallow_water
from mno.scenarios.shallow_water import SIDE

THREADS = 1
ROUNDS = 9
CELLS, REFERENCE = 128, 512
RADIUS = 0.5
TIMES = np.linspace(0.0, 1.0, 101)
LOOKED_AT = (10, 50, 100)  # frames

PEERS = {
    "PyClaw, both axes at once, transverse waves": False,
    "PyClaw, one axis after the other": True,
}
MISSING = (
    'clawpack is not installed, so it is not compared; `pip install -e ".[pyclaw]"` adds it, where '
    "there is gfortran."
)


def run() -> Section:
    depth = _disc(CELLS)
    fine = _ours(_disc(REFERENCE))[list(LOOKED_AT)]
    share = REFERENCE // CELLS
    reference = fine.reshape(-1, CELLS, share, CELLS, share).mean(axis=(2, 4))

    codes: dict[str, Callable[[], np.ndarray]] = {"ours": lambda: _ours(depth)}
    if find_spec("clawpack") is not None:
        from benchmarks.clawpack_peer import solve_with_pyclaw

        for name, split in PEERS.items():
            codes[name] = lambda split=split: solve_with_pyclaw(depth, SIDE, TIMES, split=split)
    times = in_turn(codes, ROUNDS)

    columns = ("code", "ms", "its time by ours", *(f"error at {TIMES[k]:g}" for k in LOOKED_AT))
    rows = [_row(name, code(), times, reference) for name, code in codes.items()]
    about = (
        f"A round dam of radius {RADIUS} breaks, the data of PDEBench: {CELLS} x {CELLS} cells, "
        f"{len(TIMES)} frames. PyClaw is classic Clawpack in Fortran: Roe's solver with an entropy "
        "fix, MC limiter. Errors are integrals of the absolute difference "
        f"from means of a run of ours on {REFERENCE} x {REFERENCE} cells."
    )
    return Section(
        "Shallow water solver",
        (about, Table(columns, rows), *([MISSING] if len(codes) == 1 else [])),
    )


def _disc(n: int) -> np.ndarray:
    points = SIDE * ((np.arange(n) + 0.5) / n - 0.5)
    return np.where(np.hypot.outer(points, points) <= RADIUS, 2.0, 1.0)


def _ours(depth: np.ndarray) -> np.ndarray:
    n = len(depth)
    frames = np.full((len(TIMES), n, n), np.nan)
    solve_shallow_water(depth, float(TIMES[1]) * n / SIDE, STEP, frames)
    return frames


def _row(name: str, found: np.ndarray, times: Times, reference: np.ndarray) -> tuple[str, ...]:
    area = (SIDE / CELLS) ** 2
    errors = np.abs(found[list(LOOKED_AT)] - reference).sum(axis=(1, 2)) * area
    ratio = "" if name == "ours" else figure(median_ratio(times, name, "ours"))
    return name, figure(median_ms(times, name)), ratio, *(f"{error:.4f}" for error in errors)
