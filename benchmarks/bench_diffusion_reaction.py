"""The solver of the scenario diffusion_reaction against scipy's RK45."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from scipy.integrate import solve_ivp
from scipy.sparse import csr_array, diags_array, eye_array, kron

from benchmarks.page import Section, Table, figure
from benchmarks.timing import in_turn, median_ms, median_ratio
from mno.scenarios.base import make_scenario
from mno.scenarios.diffusion_reaction import SIDE
from mno.scenarios.kernels.reaction_diffusion import solve_reaction_diffusion

THREADS = 1
ROUNDS = 7
CELLS = 128
D_U, D_V, OFFSET = 1e-3, 5e-3, 5e-3
TIMES = np.linspace(0.0, 5.0, 101)
MOBILITIES = (D_U * (CELLS / SIDE) ** 2, D_V * (CELLS / SIDE) ** 2)
PEER_TOLERANCE = 1e-3  # relative: PDEBench's own, scipy's default
EXACT_TOLERANCE = 1e-8

RightSide: TypeAlias = Callable[[float, np.ndarray], np.ndarray]


def run() -> Section:
    scenario = make_scenario("diffusion_reaction", CELLS, {"sampling": "pdebench"})
    inputs = scenario.sample(np.random.default_rng(0))
    initial = np.stack([inputs["activator"], inputs["inhibitor"]]).astype(np.float64)
    codes = {"ours": lambda: ours(initial)} | {
        f"RK45, {name}": lambda right_side=right_side: peer(initial, right_side, PEER_TOLERANCE)
        for name, right_side in RIGHT_SIDES.items()
    }
    times = in_turn(codes, ROUNDS)
    reference = peer(initial, by_slices, EXACT_TOLERANCE)
    rows = [
        (
            name,
            figure(median_ms(times, name)),
            "" if name == "ours" else figure(median_ratio(times, name, "ours")),
            f"{np.linalg.norm(code() - reference) / np.linalg.norm(reference):.1e}",
        )
        for name, code in codes.items()
    ]
    about = (
        f"An activator and an inhibitor from noise in every cell, the data of PDEBench: {CELLS} x "
        f"{CELLS} cells, {len(TIMES)} frames. The peers integrate the same scheme in space with "
        f"scipy's RK45 at rtol {PEER_TOLERANCE:g}, as PDEBench's generator does: the Laplacian as "
        "a sparse matrix, like there, or by differences of slices in numpy. Errors are relative "
        f"L2 over all frames, from RK45 at rtol {EXACT_TOLERANCE:g}."
    )
    columns = ("code", "ms", "its time by ours", "error")
    return Section("Diffusion-reaction solver", (about, Table(columns, rows)))


def ours(initial: np.ndarray) -> np.ndarray:
    """Return all frames of both species, shape `(species, time, n, n)`."""
    frames = np.empty((2, len(TIMES), CELLS, CELLS), np.float32)
    interval = float(TIMES[1])
    solve_reaction_diffusion(*initial, *MOBILITIES, OFFSET, interval, 1.0, *frames)
    return frames


def peer(initial: np.ndarray, right_side: RightSide, tolerance: float) -> np.ndarray:
    """Return the same from scipy."""
    found = solve_ivp(
        right_side, (0.0, TIMES[-1]), initial.ravel(), "RK45", TIMES,
        rtol=tolerance, atol=tolerance * 1e-3,
    )  # fmt: skip
    return found.y.reshape(*initial.shape, len(TIMES)).transpose(0, 3, 1, 2)


def by_slices(_: float, flat: np.ndarray) -> np.ndarray:
    """The rate of a state, by what passes the faces."""
    state = flat.reshape(2, CELLS, CELLS)
    rate = np.zeros_like(state)
    for species, mobility in enumerate(MOBILITIES):
        along_x = mobility * np.diff(state[species], axis=0)
        along_y = mobility * np.diff(state[species], axis=1)
        rate[species, :-1] += along_x
        rate[species, 1:] -= along_x
        rate[species, :, :-1] += along_y
        rate[species, :, 1:] -= along_y
    return (rate + reaction(state)).ravel()


def by_matrix(_: float, flat: np.ndarray) -> np.ndarray:
    """The rate of a state, by a sparse matrix."""
    u, v = flat.reshape(2, -1)
    spread = np.stack([MOBILITIES[0] * (LAPLACIAN @ u), MOBILITIES[1] * (LAPLACIAN @ v)])
    return (spread + reaction(flat.reshape(2, -1))).ravel()


def reaction(state: np.ndarray) -> np.ndarray:
    """The rate of both species without diffusion."""
    u, v = state
    return np.stack([u - u * u * u - OFFSET - v, u - v])


def _laplacian() -> csr_array:
    """The five-point scheme on cells of unit width, without flux through the wall."""
    ones = np.ones(CELLS)
    middle = -2.0 * ones
    middle[[0, -1]] = -1.0
    offsets: Any = [-1, 0, 1]  # scipy's stubs know a single offset only
    line = diags_array([ones[:-1], middle, ones[:-1]], offsets=offsets)
    return csr_array(kron(line, eye_array(CELLS)) + kron(eye_array(CELLS), line))


LAPLACIAN = _laplacian()
RIGHT_SIDES: dict[str, RightSide] = {"sparse matrix": by_matrix, "slices": by_slices}
