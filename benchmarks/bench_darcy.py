"""The solver of the darcy scenario against scipy's sparse LU factorisation."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import csc_array, diags_array
from scipy.sparse.linalg import splu

from benchmarks.page import Section, Table, figure
from benchmarks.timing import in_turn, median_ms, median_ratio
from mno.scenarios.base import make_scenario
from mno.scenarios.darcy import TOLERANCE
from mno.scenarios.kernels.multigrid import solve_diffusion

THREADS = 1
ROUNDS = 25
PEER = "scipy `splu` with assembly, minimum degree ordering, symmetric mode"


def sparse_matrix(permeability: np.ndarray) -> csc_array:
    """The five-point scheme as a sparse matrix, times the cell's area."""
    n = len(permeability)
    face_x = _transmissibility(permeability)
    face_y = _transmissibility(permeability.T).T
    diagonal = face_x[:-1] + face_x[1:] + face_y[:, :-1] + face_y[:, 1:]
    beside = np.zeros((n, n))
    beside[:, :-1] = -face_y[:, 1:-1]
    below = -face_x[1:-1].ravel()
    bands = [diagonal.ravel(), below, below, beside.ravel()[:-1], beside.ravel()[:-1]]
    offsets: Any = [0, n, -n, 1, -1]  # scipy's stubs know a single offset only
    return csc_array(diags_array(bands, offsets=offsets, format="csc"))


def _transmissibility(permeability: np.ndarray) -> np.ndarray:
    before, after = permeability[:-1], permeability[1:]
    harmonic = 2.0 * before * after / (before + after)
    return np.concatenate([2.0 * permeability[:1], harmonic, 2.0 * permeability[-1:]])


def run() -> Section:
    columns = ("cells", "ours, ms", "peer, ms", "ratio", "largest difference of the two")
    about = (
        "One sample of Darcy flow from permeability to pressure. The peer is "
        f"{PEER}. The difference is in units of the largest pressure."
    )
    rows = [_compare(n) for n in (64, 128)]
    return Section("Darcy solver", (about, Table(columns, rows)))


def _compare(n: int) -> tuple[str, ...]:
    inputs = make_scenario("darcy", n, {}).sample(np.random.default_rng(0))
    permeability = inputs["permeability"].astype(np.float64)
    source = np.ones((n, n))

    def ours() -> np.ndarray:
        return solve_diffusion(permeability, source, TOLERANCE, 500)[0]

    def peer() -> np.ndarray:
        # The fastest of splu's orderings for this matrix, which is symmetric.
        factors = splu(
            sparse_matrix(permeability),
            permc_spec="MMD_AT_PLUS_A",
            diag_pivot_thresh=0.0,
            options={"SymmetricMode": True},
        )
        return factors.solve(source.ravel() / n**2).reshape(n, n)

    direct = peer()
    difference = np.abs(ours() - direct).max() / direct.max()
    times = in_turn({"ours": ours, "peer": peer}, ROUNDS, warm_up=2)
    return (
        f"{n} x {n}",
        figure(median_ms(times, "ours")),
        figure(median_ms(times, "peer")),
        figure(median_ratio(times, "peer", "ours")),
        f"{difference:.0e}",
    )
