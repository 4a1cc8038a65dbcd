"""The Kuramoto-Sivashinsky equation: long waves that grow, short ones that decay, and chaos."""

import math
from collections.abc import Mapping
from typing import Any, final

import numpy as np
from pydantic import Field as Parameter

from mno.core.errors import InputError
from mno.core.fields import Field
from mno.scenarios.base import Changes, Check, Fields, Parameters, space_axes
from mno.scenarios.kernels.line_flow import START, LineFlow, values_on_line, waves_on_line
from mno.scenarios.time_dependent import INITIAL, Frames, TimeDependent

LEAST = 16  # points
FINEST = 10.0  # wave vector that is solved for, times the root of the viscosity: 1e-12 of the peak
HELD = 6.0  # the same, of waves that points must hold so that a frame tells the next: 1e-7
STEP = 0.02  # in units of the viscosity, as are the next two
STATED_STEP = 0.005  # of the second statement
PREDICTABLE = 10.0  # time between frames; errors grow by e in 10 to 20
LARGEST = 10.0  # velocity of an initial state times the root of the viscosity; chaos has up to 3.5


class KuramotoSivashinskyParameters(Parameters):
    """Domain and viscosity, the random initial state, and the frames."""

    length: float = Parameter(22.0, ge=8.0, le=400.0)
    """Length of the domain (nondimensional). With a viscosity of 1, 22 is chaotic
    (Cvitanovic, Davidchack and Siminos 2010); in longer ones more happens at a time."""
    viscosity: float = Parameter(1.0, ge=0.05, le=10.0)
    """Factor nu of the fourth derivative (nondimensional). Waves longer than 2 pi sqrt(nu) grow,
    at a rate of up to 1 / (4 nu)."""
    duration: float = Parameter(40.0, ge=1e-2, le=1000.0)
    """Time of the last frame (nondimensional); up to 10 nu from one frame to the next."""
    frames: Frames = 41
    warm_up: float = Parameter(100.0, ge=0.0, le=1000.0)
    """Time from the random smooth state to the first frame (nondimensional). The statistics are
    those of the attractor after about 25 nu."""
    initial_waves: int = Parameter(3, ge=1, le=7)
    """Waves of the random smooth state, from one in the domain on; fewer are smoother. It has a
    mean of 0 and a mean square of about 1."""
    coarsest: int = Parameter(LEAST, ge=LEAST, le=1024)
    """Points of the coarsest grid. The first frame has but the waves that they hold, so that it is
    the same function on every grid; the equation makes shorter ones anew within 0.2 nu."""


@final
class KuramotoSivashinsky(TimeDependent):
    """Velocity of a front that is unstable to long waves.

    `u_t + u u_x + u_xx + nu u_xxxx = 0` on a periodic domain; everything is nondimensional. A wave
    of wave vector `q` grows at the rate `q^2 - nu q^4`, and `u u_x` hands its energy on to shorter
    ones. In a domain of 22 with `nu = 1` this is chaos of few degrees of freedom: the leading
    Lyapunov exponent is 0.048 (Cvitanovic, Davidchack and Siminos 2010, doi:10.1137/070705623).
    Frames 1 apart, the default, differ by a fifth of their size; 8 apart they correlate by 0.4.

    A sample begins as a sum of a few waves of random normal amplitudes, runs for the warm-up, and
    loses those of its waves that the coarsest grid cannot hold: 1.5 % of its size with 16 points.
    So the same problem is solved on every grid, and a coarse one stores the values of a resolved
    solution at its points. In a long domain, or with little viscosity, a first frame with all waves
    that grow needs a `coarsest` of more than `length / (pi sqrt(nu))`.

    The method is pseudo-spectral, with waves down to 1e-12 of the largest, products without
    aliasing, and ETDRK4 in time (Kassam and Trefethen 2005, doi:10.1137/S1064827502410633, solve
    this equation) with steps of 0.02 nu. Mirroring turns the velocity's sign, so there is no
    symmetry to declare.
    """

    name = "kuramoto_sivashinsky"
    title = "Kuramoto-Sivashinsky equation"
    Parameters = KuramotoSivashinskyParameters
    fields = (Field("velocity", "1", "velocity", "state", ("time", "x")),)
    walls = "periodic"
    checks = (
        INITIAL,
        Check(
            "defect",
            "largest difference between a frame and what another method makes of the one before, "
            "over the largest velocity, in the first interval and, where the points hold all "
            "waves, in the last (rounding and the other method leave up to 1e-6)",
            1e-5,
        ),
        Check(
            "momentum",
            "largest change of the mean velocity, over the largest velocity, where the points "
            "hold all waves",
            1e-6,
        ),
    )

    def __init__(self, parameters: KuramotoSivashinskyParameters, resolution: int) -> None:
        super().__init__(parameters, resolution, least=LEAST, multiple=2)
        p, unit = parameters, "scenarios.kuramoto_sivashinsky"
        if resolution < p.coarsest:
            raise InputError(
                f"{unit}.coarsest={p.coarsest} must be at most generate.resolution={resolution}; "
                "lower it or raise that"
            )
        longest = PREDICTABLE * p.viscosity
        if self._interval > longest * (1.0 + 1e-12):
            raise InputError(
                f"{unit}.frames={p.frames} are {self._interval:g} apart; with "
                f"viscosity={p.viscosity} expected {longest:g} at most, choose "
                f"{math.ceil(p.duration / longest) + 1} or shorten the duration"
            )
        points = (np.arange(resolution) + 0.5) / resolution * p.length
        self._space = space_axes("x", points, (0.0, p.length))
        self._cutoff = max(self._wave(FINEST), LEAST, p.coarsest // 2)
        self._holds = (resolution - 1) // 2 >= self._wave(HELD)

    def _wave(self, vector: float) -> int:
        """Return the number of a wave of some wave vector times the root of the viscosity."""
        p = self.parameters
        return math.ceil(vector * p.length / (2.0 * math.pi * math.sqrt(p.viscosity)))

    def outside(self) -> Changes:
        """Return other viscosities."""
        viscosity = self.parameters.viscosity
        return {
            "half the viscosity": {"viscosity": 0.5 * viscosity},
            "twice the viscosity": {"viscosity": 2.0 * viscosity},
        }

    def sample(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Draw an initial velocity, shape `(x,)`."""
        p, count = self.parameters, self.parameters.initial_waves
        waves = np.zeros(self._cutoff + 1, np.complex128)
        drawn = rng.standard_normal((count, 2)) / (2.0 * math.sqrt(count))
        waves[1 : count + 1] = drawn[:, 0] + 1j * drawn[:, 1]
        self._follow(self._flow(), waves, p.warm_up)
        waves[(p.coarsest + 1) // 2 :] = 0.0
        # The first point lies half a distance from the wall.
        waves *= np.exp(1j * np.pi / self.resolution * np.arange(len(waves)))
        return {"velocity": values_on_line(waves, self.resolution).astype(np.float32)}

    def solve(self, inputs: Fields) -> dict[str, np.ndarray]:
        """Solve for all frames of the velocity, shape `(time, x)`."""
        largest = LARGEST / math.sqrt(self.parameters.viscosity)
        initial = self.within(inputs, velocity=(-largest, largest))["velocity"]
        flow, waves = self._flow(), waves_on_line(initial, self._cutoff)
        stored = np.empty((self.parameters.frames, self.resolution), np.float32)
        stored[0] = inputs["velocity"]
        for frame in range(1, len(stored)):
            self._follow(flow, waves, self._interval, rough=frame == 1)
            stored[frame] = values_on_line(waves, self.resolution)
        return {"velocity": stored}

    def _vectors(self) -> np.ndarray:
        return 2.0 * np.pi / self.parameters.length * np.arange(self._cutoff + 1)

    def _flow(self) -> LineFlow:
        squares = self._vectors() ** 2
        rates = squares * (1.0 - self.parameters.viscosity * squares)
        return LineFlow(rates, self.parameters.length)

    def _follow(self, flow: LineFlow, waves: np.ndarray, time: float, rough: bool = True) -> None:
        """Advance waves in place; what is rough takes its first step in parts."""
        steps = math.ceil(time / (STEP * self.parameters.viscosity))
        step = time / max(steps, 1)
        if rough and steps > 0:
            steps -= 1
            for part in START:
                flow.advance(waves, part * step, 1)
        if steps > 0:
            flow.advance(waves, steps * step, steps)

    def _measure(self, given: Fields, frames: Fields) -> Mapping[str, Any]:
        states = frames["velocity"]
        size = np.maximum(np.max(np.abs(states)), np.finfo(np.float32).tiny)
        starts = np.array([0, len(states) - 2] if self._holds else [0])
        gaps = self._stated_again(states[starts]) - states[starts + 1]
        means = np.mean(states, axis=1)
        drift = np.max(np.abs(means - means[0])) if self._holds else 0.0
        return {"defect": np.max(np.abs(gaps)) / size, "momentum": drift / size}

    def _stated_again(self, frames: np.ndarray) -> np.ndarray:
        """Take frames to those after them: the classical Runge-Kutta method for `exp(-l t) u`.

        NaN where the velocities are so large that the steps cannot follow.
        """
        viscosity, vectors, points = self.parameters.viscosity, self._vectors(), 4 * self._cutoff
        steps = math.ceil(self._interval / (STATED_STEP * viscosity))
        step = self._interval / steps

        def change(waves: np.ndarray) -> np.ndarray:
            values = np.fft.irfft(waves, points, norm="forward")
            return -0.5j * vectors * np.fft.rfft(values * values, norm="forward")[:, : len(vectors)]

        waves = np.stack([waves_on_line(frame, self._cutoff) for frame in frames])
        with np.errstate(over="ignore", invalid="ignore"):
            for h in (*(step * START), *np.full(steps - 1, step)):
                half = np.exp(0.5 * h * (vectors**2 - viscosity * vectors**4))
                first = h * change(waves)
                second = h * change(half * (waves + 0.5 * first))
                third = h * change(half * waves + 0.5 * second)
                fourth = h * change(half * (half * waves + third))
                waves = half * (half * (waves + first / 6.0) + (second + third) / 3.0)
                waves += fourth / 6.0
            return np.stack([values_on_line(row, self.resolution) for row in waves])

    def compile(self) -> None:
        """Compile the solver, or load it from numba's cache."""
        self._flow().advance(np.zeros(self._cutoff + 1, np.complex128), 1.0, 1)


SCENARIO = KuramotoSivashinsky
