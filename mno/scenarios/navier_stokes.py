"""The Navier-Stokes equations of a plane flow on a torus, stirred by a steady force."""

import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any, final

import numpy as np
from pydantic import Field as Parameter

from mno.core.errors import InputError
from mno.core.fields import Field
from mno.scenarios.base import Changes, Check, Fields, Parameters, space_axes
from mno.scenarios.kernels.random_fields import log_uniform, periodic_field, periodic_spectrum
from mno.scenarios.kernels.transforms import torus_points
from mno.scenarios.kernels.vorticity import PlainFlow, VorticityFlow, values_of, waves_of
from mno.scenarios.time_dependent import INITIAL, Frames, TimeDependent

LOWEST, HIGHEST = 1e-5, 1e-2  # viscosity
MODES = 32  # waves of the initial state along each axis, at every resolution
CUTOFF = 255  # largest wave number along an axis that is solved for
FINENESS = 2.0  # of the waves solved for; the last third of them then holds 1e-3 of the vorticity
PEAKS = 8.0  # standard deviations that an initial vorticity is taken to reach

Viscosity = Annotated[float, Parameter(ge=LOWEST, le=HIGHEST)]


class NavierStokesParameters(Parameters):
    """The fluid, the force, and the random initial state."""

    ORDERED = (("viscosity_low", "viscosity_high"),)

    viscosity_low: Viscosity = 1e-3
    """Lowest viscosity (nondimensional); samples draw theirs log-uniformly. What the points cannot
    hold is solved for on finer ones, of up to 768 along each axis."""
    viscosity_high: Viscosity = 1e-3
    """Highest viscosity (nondimensional); all samples have the same if equal."""
    forcing: float = Parameter(0.1, ge=0.0, le=1.0)
    """Amplitude of the curl of the force, forcing (sin 2 pi (x + y) + cos 2 pi (x + y))
    (nondimensional)."""
    vorticity_scale: float = Parameter(4.3, gt=0.0, le=20.0)
    """Factor on the initial vorticity. With 1 its covariance is 7^(3/2) (-Laplacian + 49)^(-5/2),
    the formula of the Fourier neural operator's authors; 4.3 = 7^(3/4) is what their script
    draws."""
    duration: float = Parameter(10.0, gt=0.0, le=100.0)
    """Time of the last frame (nondimensional)."""
    frames: Frames = 11


@final
class NavierStokes(TimeDependent):
    """Vorticity of an incompressible flow on the unit torus.

        omega_t + v . grad omega = nu Laplacian omega + f
        v = (psi_y, -psi_x),   -Laplacian psi = omega

    with `f = forcing (sin 2 pi (x + y) + cos 2 pi (x + y))`; everything is nondimensional. The
    viscosity `nu` is an input of its own, one number for each sample. These are the flows of the
    Fourier neural operator's data (Li et al. 2021, doi:10.48550/arXiv.2010.08895, section 5.3),
    which end at 50, 30 and 20 for viscosities of 1e-3, 1e-4 and 1e-5.

    The initial vorticity is a Gaussian random field, a sum of products of 33 cosines and 32 sines
    along each axis without the constant, the same function at every resolution. The waves left out
    hold 6e-5 of the variance. By default it is as large as in the authors' script; as small as the
    paper's formula states it, the force makes all flows alike by a time of 5.

    The method is pseudo-spectral: products without aliasing, and ETDRK4 in time with steps for the
    fastest speed. Where the points hold all waves that the flow needs, these are all that the
    points hold (but those of two points), and each interval begins with the frame as it is stored,
    so that it can be computed again. Where they do not, the flow is solved for on finer points
    and its values at the stored ones are kept. A vorticity changes its sign in a mirror, and the
    force has no turn to itself, so there is no symmetry to declare.
    """

    name = "navier_stokes"
    title = "Navier-Stokes equations of a plane flow"
    Parameters = NavierStokesParameters
    fields = (
        Field("viscosity", "1", "viscosity", "input", ()),
        Field("vorticity", "1", "vorticity", "state", ("time", "x", "y")),
    )
    walls = "periodic"
    checks = (
        INITIAL,
        Check(
            "defect",
            "largest difference between a frame and what a second statement of the method makes "
            "of the one before, over the largest vorticity, in the first interval and, where the "
            "points hold all waves, in the last (rounding to float32 leaves up to 6e-8)",
            1e-6,
        ),
        Check(
            "range",
            "how far the largest vorticity of any frame lies above that which the force can have "
            "made by then, over the latter",
            1e-6,
        ),
        Check(
            "mean",
            "largest change of the mean vorticity, over the largest vorticity, where the points "
            "hold all waves",
            1e-6,
        ),
    )

    def __init__(self, parameters: NavierStokesParameters, resolution: int) -> None:
        super().__init__(parameters, resolution, least=8, most=2 * CUTOFF + 2)
        points = (np.arange(resolution) + 0.5) / resolution
        self._space = space_axes("xy", points, (0.0, 1.0))
        spectrum = periodic_spectrum(exponent=2.5, inverse_length=7.0, waves=MODES, axes=2)
        spectrum *= 7.0**1.5 * parameters.vorticity_scale**2
        self._field = periodic_field(points, spectrum)
        orders = np.where(np.arange(MODES + 1) > 0, 2.0, 1.0)
        self._largest = PEAKS * math.sqrt(np.sum(np.outer(orders, orders) * spectrum))
        needed = self._needed(self._largest, parameters.viscosity_low)
        if needed > CUTOFF:
            raise InputError(
                f"scenarios.navier_stokes.viscosity_low={parameters.viscosity_low} needs waves up "
                f"to {needed} with this forcing, duration and vorticity_scale, {CUTOFF} can be "
                "solved for; raise it, or lower one of the others"
            )

    def outside(self) -> Changes:
        """Return other viscosities, stronger initial states and a stronger force."""
        p = self.parameters
        below, above = 0.5 * p.viscosity_low, 2.0 * p.viscosity_high
        return {
            "half the viscosity": {"viscosity_low": below, "viscosity_high": below},
            "twice the viscosity": {"viscosity_low": above, "viscosity_high": above},
            "stronger initial vorticity": {"vorticity_scale": 1.5 * p.vorticity_scale},
            "twice the force": {"forcing": 2.0 * p.forcing},
        }

    def sample(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Draw a viscosity, shape `()`, and an initial vorticity, shape `(x, y)`."""
        p = self.parameters
        viscosity = log_uniform(rng, p.viscosity_low, p.viscosity_high)
        return {
            "viscosity": np.array(viscosity, np.float32),
            "vorticity": self._field.draw(rng).T.astype(np.float32),
        }

    def solve(self, inputs: Fields) -> dict[str, np.ndarray]:
        """Solve for all frames of the vorticity, shape `(time, x, y)`."""
        low, largest = self.parameters.viscosity_low, self._largest
        checked = self.within(inputs, viscosity=(low, HIGHEST), vorticity=(-largest, largest))
        viscosity, initial = float(checked["viscosity"]), checked["vorticity"]
        n = self.resolution
        cutoff, holds = self._cutoff(initial, viscosity)
        forcing = np.zeros((2 * cutoff + 1, cutoff + 1), np.complex128)
        # Of exp(2 pi i (x + y)), counted from the first point.
        forcing[cutoff + 1, 1] = self.parameters.forcing * (1 - 1j) / 2 * np.exp(2j * np.pi / n)
        flow = VorticityFlow(cutoff, viscosity, forcing)
        stored = np.empty((self.parameters.frames, n, n), np.float32)
        stored[0] = inputs["vorticity"]
        omega = flow.rows(waves_of(initial, cutoff))
        for frame in range(1, len(stored)):
            flow.integrate(omega, self._interval)
            stored[frame] = values_of(flow.coefficients(omega), n)
            if holds:
                omega = flow.rows(waves_of(stored[frame].astype(np.float64), cutoff))
        return {"vorticity": stored}

    def _bound(self, largest: float, time: float) -> float:
        """Return what a vorticity cannot exceed after some time; only the force raises it."""
        return largest + math.sqrt(2.0) * self.parameters.forcing * time

    def _needed(self, largest: float, viscosity: float) -> int:
        """Return the largest wave number that the flow needs.

        The smallest eddies are `sqrt(nu / omega)` wide; a force of wave vector (1, 1) raises the
        vorticity for a time of `1 / (8 pi^2 nu)` at most.
        """
        time = min(self.parameters.duration, 1.0 / (8.0 * math.pi**2 * viscosity))
        wave = math.sqrt(self._bound(largest, time) / viscosity) / (2.0 * math.pi)
        return max(4, math.ceil(FINENESS * wave))

    def _cutoff(self, initial: np.ndarray, viscosity: float) -> tuple[int, bool]:
        """Return the largest wave number solved for, and whether the points hold all waves."""
        held, needed = (self.resolution - 1) // 2, self._needed(np.max(np.abs(initial)), viscosity)
        return max(held, needed), held >= needed

    def _measure(self, given: Fields, frames: Fields) -> Mapping[str, Any]:
        initial, states, viscosity = given["vorticity"], frames["vorticity"], given["viscosity"]
        cutoff, holds = self._cutoff(initial, float(viscosity))
        change, largest = np.max(np.abs(states[0] - initial)), np.max(np.abs(states), axis=(1, 2))
        size = np.maximum(np.max(largest), np.finfo(np.float32).tiny)
        fine = np.max(np.abs(values_of(waves_of(initial, cutoff), 2 * cutoff + 2, finer=4)))
        start, times = np.maximum(fine, largest[0]), self._interval * np.arange(len(states))
        bounds = [self._bound(start, time) for time in times]
        excess = np.max(np.append(largest - bounds, 0.0)) / size
        means = np.mean(states, axis=(1, 2))
        drift = np.max(np.abs(means - means[0])) / size if holds else 0.0
        defect = excess
        if excess <= 0.01 and change <= 0.01 * size:  # or it could take forever to integrate
            later = self._stated_again(cutoff, float(viscosity))
            starts = {0, len(states) - 2} if holds else {0}
            gaps = [later(states[k]) - states[k + 1] for k in starts]
            defect = np.max(np.abs(gaps)) / size
        return {"defect": defect, "range": excess, "mean": drift}

    def _stated_again(self, cutoff: int, viscosity: float) -> Callable[[np.ndarray], np.ndarray]:
        """Return a function that takes a frame to the next, by a second statement of the method."""
        points = torus_points(cutoff)
        # Where points are counted from 0, all lies half a distance of stored points further.
        places = np.arange(points) / points + 0.5 / self.resolution
        angles = 2.0 * np.pi * np.add.outer(places, places)
        forcing = self.parameters.forcing * (np.sin(angles) + np.cos(angles))
        flow = PlainFlow(cutoff, points, viscosity, forcing)

        def later(frame: np.ndarray) -> np.ndarray:
            fine = flow.integrate(values_of(waves_of(frame, cutoff), points), self._interval)
            return values_of(waves_of(fine, cutoff), self.resolution)

        return later

    def compile(self) -> None:
        """Compile the solver, or load it from numba's cache."""
        flow = VorticityFlow(4, LOWEST, np.zeros((9, 5), np.complex128))
        flow.integrate(flow.rows(np.zeros((9, 5), np.complex128)), 1.0)


SCENARIO = NavierStokes
