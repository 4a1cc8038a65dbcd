"""Burgers' equation: waves that steepen into viscous shocks."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, final

import numpy as np
from pydantic import Field as Parameter

from mno.core.errors import InputError
from mno.core.fields import Field
from mno.scenarios.base import Changes, Check, Fields, Parameters, Solved, space_axes
from mno.scenarios.kernels.burgers import BurgersFlow, cole_hopf
from mno.scenarios.kernels.line_flow import START, values_on_line, waves_on_line
from mno.scenarios.kernels.random_fields import log_uniform, periodic_field, periodic_spectrum
from mno.scenarios.time_dependent import INITIAL, Frames, TimeDependent

LOWEST, HIGHEST = 1e-3, 1e-1  # viscosity
LARGEST = 10.0  # velocity of an initial state; the time a solution takes grows with its square
MODES = 128  # waves of a Gaussian random field, at every resolution
LEGS = 16  # of the duration, at least; each has steps of its own length
CHECKED = 8  # frames that `check` compares with the exact solution, at most
NEGLIGIBLE = 20.0  # powers of e by which a rate's weight is below the largest, to be left out
AT_ONCE = 256  # points of a rate: more would take gigabytes

Viscosity = Annotated[float, Parameter(ge=LOWEST, le=HIGHEST)]


class BurgersParameters(Parameters):
    """The viscosity, and the random initial state."""

    ORDERED = (("viscosity_low", "viscosity_high"),)

    viscosity_low: Viscosity = 2e-2
    """Lowest viscosity (nondimensional); samples draw theirs log-uniformly. Layers are about
    4 viscosity / (jump of the velocity) wide: `generate.resolution` of about 1 / (2 viscosity)
    shows them. What is stored comes from a resolved solution in any case."""
    viscosity_high: Viscosity = 2e-2
    """Highest viscosity (nondimensional); all samples have the same if equal."""
    duration: float = Parameter(1.0, ge=1e-2, le=10.0)
    """Time of the last frame (nondimensional)."""
    frames: Frames = 2
    sampling: Literal["grf", "sines"] = "grf"
    """Initial state: a Gaussian random field of covariance 625 (-Laplacian + 25)^-2; or a sum of
    sines of random amplitudes up to 1, wave numbers and phases."""
    num_sines: int = Parameter(2, ge=1, le=8)
    """Sines in the sum (sines)."""
    highest_wave: int = Parameter(4, ge=1, le=64)
    """Largest wave number, in waves per period (sines)."""


@final
class Burgers(TimeDependent):
    """Velocity that carries itself along and diffuses.

    `u_t + (u^2 / 2)_x = nu u_xx` on the unit interval, periodic; everything is nondimensional. The
    viscosity `nu` is an input of its own, one number for each sample.

    The default initial state is that of the Fourier neural operator's data (Li et al. 2021,
    doi:10.48550/arXiv.2010.08895, section 5.1), a Gaussian random field without its constant, as
    the authors draw it. It is a sum of 128 cosines and sines; what is left out holds 4e-7 of the
    variance. Sums of sines are in the manner of PDEBench (Takamoto et al. 2022,
    doi:10.48550/arXiv.2210.07182). Either is the same function at every resolution, and is solved
    as the trigonometric polynomial through the points, without waves of two points and shorter.

    The solver does not depend on the stored points: its waves resolve layers of the width that the
    viscosity and the range of the initial state allow, its products are free of aliasing, and time
    is ETDRK4 with steps for those layers. Stored frames are its solution at the points, so that a
    coarse grid holds samples of a resolved solution. The equation has an exact solution, which
    `check` compares with. Mirroring turns the velocity's sign, so there is no symmetry to declare.
    """

    name = "burgers"
    title = "Burgers' equation"
    Parameters = BurgersParameters
    fields = (
        Field("viscosity", "1", "viscosity", "input", ()),
        Field("velocity", "1", "velocity", "state", ("time", "x")),
    )
    walls, has_derivatives = "periodic", True
    checks = (
        INITIAL,
        Check(
            "exact",
            "largest difference between a frame and the exact solution by quadrature, over the "
            "largest initial velocity, in up to 8 frames (rounding to float32 leaves up to 6e-8)",
            5e-6,
        ),
        Check(
            "range",
            "how far any frame lies outside the range of the initial state, over its largest "
            "velocity",
            2e-6,
        ),
    )

    def __init__(self, parameters: BurgersParameters, resolution: int) -> None:
        super().__init__(parameters, resolution, least=8)
        if parameters.sampling == "sines" and resolution <= 2 * parameters.highest_wave:
            raise InputError(
                f"scenarios.burgers.highest_wave={parameters.highest_wave} needs "
                f"generate.resolution={2 * parameters.highest_wave + 1} at least, it is "
                f"{resolution}; raise that or lower the wave number"
            )
        self._points = (np.arange(resolution) + 0.5) / resolution
        self._space = space_axes("x", self._points, (0.0, 1.0))
        spectrum = periodic_spectrum(exponent=2.0, inverse_length=5.0, waves=MODES, axes=1)
        self._field = periodic_field(self._points, 625.0 * spectrum)

    def outside(self) -> Changes:
        """Return other viscosities and the other kind of initial states."""
        p = self.parameters
        below, above = 0.5 * p.viscosity_low, 2.0 * p.viscosity_high
        return {
            "half the viscosity": {"viscosity_low": below, "viscosity_high": below},
            "twice the viscosity": {"viscosity_low": above, "viscosity_high": above},
            "other initial states": {"sampling": "sines" if p.sampling == "grf" else "grf"},
        }

    def sample(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Draw a viscosity, shape `()`, and an initial velocity, shape `(x,)`."""
        p = self.parameters
        viscosity = log_uniform(rng, p.viscosity_low, p.viscosity_high)
        velocity = self._field.draw(rng) if p.sampling == "grf" else self._sines(rng)
        return {
            "viscosity": np.array(viscosity, np.float32),
            "velocity": velocity.astype(np.float32),
        }

    def _sines(self, rng: np.random.Generator) -> np.ndarray:
        count, highest = self.parameters.num_sines, self.parameters.highest_wave
        amplitudes = rng.uniform(0.0, 1.0, count)
        waves = rng.integers(1, highest, count, endpoint=True)
        phases = rng.uniform(0.0, 2.0 * np.pi, count)
        angles = 2.0 * np.pi * np.outer(self._points, waves) + phases
        return np.sum(amplitudes * np.sin(angles), axis=1)

    def solve(self, inputs: Fields) -> dict[str, np.ndarray]:
        """Solve for all frames of the velocity, shape `(time, x)`."""
        checked = self.within(inputs, viscosity=(LOWEST, HIGHEST), velocity=(-LARGEST, LARGEST))
        viscosity, n = float(checked["viscosity"]), self.resolution
        frames = self.parameters.frames
        cutoff = self._cutoff(waves_on_line(checked["velocity"], (n - 1) // 2), viscosity)
        waves = waves_on_line(checked["velocity"], cutoff)
        flow = BurgersFlow(cutoff, viscosity)
        legs = np.full(math.ceil(LEGS / (frames - 1)), 1.0)
        legs *= self._interval / len(legs)
        start = legs[0] * START
        stored = np.empty((frames, n), np.float32)
        stored[0] = inputs["velocity"]
        for frame in range(1, frames):
            for leg in np.concatenate([start, legs[1:]]) if frame == 1 else legs:
                flow.advance(waves, leg)
            stored[frame] = values_on_line(waves, n)
        return {"velocity": stored}

    def solve_along(self, inputs: Fields, directions: Fields) -> tuple[Solved, Solved]:
        """Solve, and along directions of both inputs: the exact solution's rates, by quadrature.

        Where `cole_hopf` has weights `w = exp(-a / (2 nu))`, the velocity is the mean of
        `(x - y) / t`, and its rate the covariance of that with the rate of `-a / (2 nu)`.
        """
        n, nu = self.resolution, float(inputs["viscosity"])
        values = np.stack([inputs["velocity"].astype(np.float64), *directions["velocity"]])
        waves = np.fft.rfft(values)[:, : (n + 1) // 2] / n
        means, integrals = waves[:, :1].real, np.zeros_like(waves)
        integrals[:, 1:] = waves[:, 1:] / (2j * np.pi * np.arange(1, waves.shape[1]))
        steepest = n * max(0.0, np.max(np.diff(values[0], append=values[0, 0])))
        rates = np.repeat(values[1:, None], self.parameters.frames, axis=1)
        for frame in range(1, self.parameters.frames):
            time = frame * self._interval
            finely = max(2 * n, math.ceil(math.sqrt((1.0 / time + 2.0 * steepest) / nu)))
            potentials = np.fft.irfft(integrals, finely) * finely
            reach = math.sqrt(2.0 * time * (np.ptp(potentials[0]) + 2.0 * nu * NEGLIGIBLE))
            for part in np.array_split(np.arange(n), -(-n // AT_ONCE)):
                places = part[:, None] / n - means[0] * time
                first, last = finely * (places[[0, -1], 0] + [-reach, reach])
                nodes = np.arange(math.floor(first), math.ceil(last) + 1)
                apart, there = places - nodes / finely, potentials[:, nodes % finely]
                action = there[0] + apart**2 / (2.0 * time)
                weights = np.exp((np.min(action, axis=1, keepdims=True) - action) / (2.0 * nu))
                weights /= weights.sum(axis=1, keepdims=True)
                apart -= np.sum(weights * apart, axis=1, keepdims=True)
                weights *= apart / (2.0 * nu * time)
                thinner = directions["viscosity"][:, None] / nu * np.sum(weights * action, axis=1)
                moved = there[1:] + means[1:] * nodes / finely
                rates[:, frame, part] = thinner - moved @ weights.T
        return self.solve(inputs), {"velocity": rates}

    def _cutoff(self, given: np.ndarray, viscosity: float) -> int:
        """Return the largest wave number that the solution needs.

        A layer is a hyperbolic tangent, whose waves fall off as `exp(-4 pi^2 nu k / jump)`: to
        1e-7 at `k = 0.4 jump / nu`. The waves given, and what they make of each other, matter as
        far as the first frame still has something of them.
        """
        layers = 0.4 * np.ptp(values_on_line(given, 8 * len(given))) / viscosity
        lasting = 0.7 / math.sqrt(viscosity * self._interval)
        return math.ceil(max(48.0, layers, min(4.0 * len(given), lasting)))

    def _measure(self, given: Fields, frames: Fields) -> Mapping[str, Any]:
        initial, states, viscosity = given["velocity"], frames["velocity"], given["viscosity"]
        last, n = len(states) - 1, len(initial)
        size = np.maximum(np.max(np.abs(initial)), np.finfo(np.float32).tiny)
        polynomial = values_on_line(waves_on_line(initial, (n - 1) // 2), 8 * n)
        between = np.max(np.abs(np.diff(polynomial, n=2, append=polynomial[:2]))) / 8.0
        above = np.max(states[1:]) - polynomial.max() - between
        below = polynomial.min() - np.min(states[1:]) - between
        errors = [
            np.max(np.abs(states[k] - cole_hopf(initial, float(viscosity), k * self._interval)))
            for k in np.unique(np.linspace(1, last, min(last, CHECKED)).astype(int))
        ]
        return {"exact": np.max(errors) / size, "range": np.max([above, below, 0.0]) / size}

    def compile(self) -> None:
        """Compile the solver, or load it from numba's cache."""
        BurgersFlow(16, LOWEST).advance(np.zeros(17, np.complex128), 1.0)


SCENARIO = Burgers
