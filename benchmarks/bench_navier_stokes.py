"""The solver of the navier_stokes scenario against the same method written in numpy."""

from __future__ import annotations

import numpy as np

from benchmarks.page import Section, Table, figure
from benchmarks.timing import in_turn, median_ms, median_ratio
from mno.scenarios.base import make_scenario
from mno.scenarios.kernels.runge_kutta import etdrk4
from mno.scenarios.kernels.vorticity import STEP, VorticityFlow, values_of, waves_of

THREADS = 1
ROUNDS = 5
VISCOSITY = 1e-3
DURATION = 4.0
FORCING = 0.1


class NumpyFlow:
    """The pseudo-spectral method on all waves, `v . grad omega` as it stands, `numpy.fft.fft2`."""

    def __init__(self, points: int, cutoff: int, forcing: np.ndarray, step: float) -> None:
        k = np.fft.fftfreq(points, 1.0 / points)
        x, y = np.meshgrid(k, k, indexing="ij")
        squares = 4.0 * np.pi**2 * (x**2 + y**2)
        self.along_x, self.along_y = 2j * np.pi * x, 2j * np.pi * y
        self.inverse = 1.0 / np.where(squares > 0.0, squares, 1.0)
        self.kept = ((np.abs(x) <= cutoff) & (np.abs(y) <= cutoff)).astype(np.float64)
        self.forcing = np.fft.fft2(forcing)
        self.weights = etdrk4(-VISCOSITY * squares, step)

    def term(self, omega: np.ndarray) -> np.ndarray:
        """Return the nonlinear term and the forcing."""
        psi = omega * self.inverse
        u = np.fft.ifft2(self.along_y * psi).real
        v = np.fft.ifft2(-self.along_x * psi).real
        by_x = np.fft.ifft2(self.along_x * omega).real
        by_y = np.fft.ifft2(self.along_y * omega).real
        return self.forcing - self.kept * np.fft.fft2(u * by_x + v * by_y)

    def integrate(self, vorticity: np.ndarray, steps: int) -> np.ndarray:
        """Return the vorticity after some steps."""
        whole, half, q, first, middle, last = self.weights
        w = self.kept * np.fft.fft2(vorticity)
        for _ in range(steps):
            n_0 = self.term(w)
            a = half * w + q * n_0
            n_a = self.term(a)
            b = half * w + q * n_a
            n_b = self.term(b)
            c = half * a + q * (2.0 * n_b - n_0)
            w = whole * w + first * n_0 + middle * (n_a + n_b) + last * self.term(c)
        return np.fft.ifft2(w).real


def run() -> Section:
    columns = ("points", "steps", "ours, ms", "numpy, ms", "ratio", "error, ours", "error, numpy")
    about = (
        "One sample of navier_stokes at its defaults up to a time of 4, with as many waves as "
        "the rule of two thirds leaves of the points. The peer is the same method in numpy, with "
        "complex transforms of the two velocities, the two slopes and their products, and the same "
        "steps. Errors are relative L2, against the method with eight times as many steps."
    )
    rows = [_compare(n) for n in (64, 128, 256)]
    return Section("Navier-Stokes solver", (about, Table(columns, rows)))


def _compare(n: int) -> tuple[str, ...]:
    cutoff = (n - 1) // 3
    drawn = make_scenario("navier_stokes", n, {}).sample(np.random.default_rng(0))["vorticity"]
    start = waves_of(drawn.astype(np.float64), cutoff)
    places = np.add.outer(np.arange(n), np.arange(n)) / n + 1.0 / n
    forcing = FORCING * (np.sin(2.0 * np.pi * places) + np.cos(2.0 * np.pi * places))
    initial = values_of(start, n)

    def flow_of() -> VorticityFlow:
        return VorticityFlow(cutoff, VISCOSITY, waves_of(forcing, cutoff), points=n)

    flow = flow_of()
    omega = flow.rows(start)
    flow.integrate(omega, DURATION)  # the force makes it faster all the time
    steps = int(np.ceil(DURATION * 2.0 * np.pi * cutoff * flow.speed(omega) / STEP))

    def ours(steps: int = steps) -> np.ndarray:
        flow = flow_of()
        omega = flow.rows(start)
        flow.take(omega, DURATION, steps)
        return values_of(flow.coefficients(omega), n)

    def peer() -> np.ndarray:
        return NumpyFlow(n, cutoff, forcing, DURATION / steps).integrate(initial, steps)

    exact = ours(8 * steps)
    errors = [np.linalg.norm(found - exact) / np.linalg.norm(exact) for found in (ours(), peer())]
    times = in_turn({"ours": ours, "numpy": peer}, ROUNDS)
    return (
        f"{n} x {n}",
        str(steps),
        figure(median_ms(times, "ours")),
        figure(median_ms(times, "numpy")),
        figure(median_ratio(times, "numpy", "ours")),
        *(f"{error:.0e}" for error in errors),
    )
