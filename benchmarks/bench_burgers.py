"""The solver of the burgers scenario against scipy's integrators of the same waves."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.integrate import solve_ivp

from benchmarks.page import Section, Table, figure
from benchmarks.timing import in_turn, median_ms, median_ratio
from mno.scenarios.base import make_scenario
from mno.scenarios.burgers import LEGS
from mno.scenarios.kernels.burgers import BurgersFlow, cole_hopf

THREADS = 1
ROUNDS = 3
POINTS = 1024
CUTOFF = (POINTS - 1) // 3
VISCOSITY = 0.01
PEERS = (("RK45", 1e-3), ("RK45", 1e-6), ("LSODA", 1e-3), ("LSODA", 1e-6))

Solve = Callable[[], np.ndarray]


def run() -> Section:
    initial = make_scenario("burgers", POINTS, {}).sample(np.random.default_rng(0))["velocity"]
    waves = np.fft.rfft(initial.astype(np.float64))[: CUTOFF + 1] / POINTS
    start = np.fft.irfft(waves, POINTS) * POINTS
    exact = cole_hopf(start, VISCOSITY, 1.0)
    functions: dict[str, Solve] = {"ours, ETDRK4": lambda: ours(waves)}
    for method, tolerance in PEERS:
        functions[f"scipy {method}, rtol={tolerance:.0e}"] = peer(start, method, tolerance)
    errors = {name: np.max(np.abs(solve() - exact)) for name, solve in functions.items()}
    times = in_turn(functions, ROUNDS, warm_up=0)
    rows = [
        (
            name,
            figure(median_ms(times, name)),
            figure(median_ratio(times, name, "ours, ETDRK4")),
            f"{errors[name] / np.max(np.abs(exact)):.0e}",
        )
        for name in functions
    ]
    about = (
        f"One sample of Burgers' equation, viscosity {VISCOSITY}, from time 0 to 1, on {POINTS} "
        f"points with waves up to {CUTOFF}. The peers are scipy's `solve_ivp` with the same "
        "derivatives and products by numpy's real transforms. The error is the largest at the "
        "end, against the Cole-Hopf solution, over the largest velocity; the ratio is the time "
        "over ours."
    )
    return Section("Burgers solver", (about, Table(("method", "ms", "ratio", "error"), rows)))


def ours(waves: np.ndarray) -> np.ndarray:
    flow, state = BurgersFlow(CUTOFF, VISCOSITY), waves.copy()
    for _ in range(LEGS):
        flow.advance(state, 1.0 / LEGS)
    return np.fft.irfft(state, POINTS) * POINTS


def peer(start: np.ndarray, method: str, tolerance: float) -> Solve:
    k = np.arange(CUTOFF + 1)
    slope, spread = -1j * np.pi * k, -VISCOSITY * (2.0 * np.pi * k) ** 2

    def rate(_: float, values: np.ndarray) -> np.ndarray:
        u = np.fft.rfft(values)[: CUTOFF + 1]
        flux = np.fft.rfft(values * values)[: CUTOFF + 1]
        return np.fft.irfft(slope * flux + spread * u, POINTS)

    return lambda: solve_ivp(
        rate, (0.0, 1.0), start, method, (1.0,), rtol=tolerance, atol=1e-3 * tolerance
    ).y[:, -1]
