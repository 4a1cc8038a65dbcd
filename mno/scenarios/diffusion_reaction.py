"""Diffusion and reaction of an activator and an inhibitor: the FitzHugh-Nagumo equations."""

from collections.abc import Mapping
from typing import Any, Literal, final

import numpy as np
from pydantic import Field as Parameter

from mno.core.fields import Field
from mno.scenarios.base import SQUARE, Changes, Check, Fields, Parameters, space_axes
from mno.scenarios.kernels.random_fields import cosine_field, covariance_spectrum
from mno.scenarios.kernels.reaction_diffusion import ACCURATE, solve_reaction_diffusion
from mno.scenarios.kernels.runge_kutta import ADVANCES, STABLE, WEIGHTS
from mno.scenarios.time_dependent import INITIAL, TimeDependent

SIDE = 2.0  # of the domain
LARGEST = 20.0  # value of an initial state; the time a solution takes grows with its square
_NAMES = ("activator", "inhibitor")


class DiffusionReactionParameters(Parameters):
    """The reaction, and the random initial state."""

    activator_diffusivity: float = Parameter(1e-3, ge=0.0, le=0.1)
    """D_u (nondimensional)."""
    inhibitor_diffusivity: float = Parameter(5e-3, ge=0.0, le=0.1)
    """D_v (nondimensional)."""
    offset: float = Parameter(5e-3, ge=-1.0, le=1.0)
    """k, what the activator loses everywhere per unit of time (nondimensional)."""
    duration: float = Parameter(5.0, gt=0.0, le=100.0)
    """Time of the last frame (nondimensional)."""
    frames: int = Parameter(21, ge=2, le=1001)
    """Frames, the initial state included, at equal distances in time; PDEBench has 101."""
    sampling: Literal["smooth", "pdebench"] = "smooth"
    """Initial state: a Gaussian random field, the same function at every resolution; or PDEBench's,
    an independent normal number in every cell, which is another function on every grid."""
    covariance_exponent: float = Parameter(3.0, gt=1.0, le=10.0)
    """alpha in the covariance (-Laplacian + tau^2)^-alpha: larger is smoother (smooth)."""
    inverse_length: float = Parameter(10.0, gt=0.0, le=50.0)
    """tau in that covariance (nondimensional, the side is 2): larger is finer (smooth)."""


@final
class DiffusionReaction(TimeDependent):
    """Patterns of an activator and an inhibitor that react with each other and diffuse.

        u_t = D_u Laplacian u + u - u^3 - k - v
        v_t = D_v Laplacian v + u - v

    on the square from -1 to 1, with nothing passing through its wall; everything is
    nondimensional. With `sampling: pdebench` these are the data of PDEBench (Takamoto et al. 2022,
    doi:10.48550/arXiv.2210.07182, appendix D.6), at fewer frames by default.

    A smooth initial state is a Gaussian random field of mean square 1 over the domain for either
    species, independent of each other, of covariance `(-Laplacian + tau^2)^-alpha` with zero flux
    at the wall: a sum of 64 x 64 cosines. At the defaults the waves left out hold 1e-4 of the
    variance.

    The discretisation is the five-point finite volume scheme on cell centres, of second order in
    space, and a Runge-Kutta method of fourth order in time, whose steps follow the rate at which
    the state changes. It treats the axes and their two directions alike, so it has all
    symmetries of the square, to the last bit.
    """

    name = "diffusion_reaction"
    title = "Diffusion and reaction of an activator and an inhibitor"
    Parameters = DiffusionReactionParameters
    fields = tuple(Field(name, "1", name, "state", ("time", "x", "y")) for name in _NAMES)
    checks = (
        INITIAL,
        Check(
            "defect",
            "largest difference between a frame and what a second statement of the scheme makes "
            "of the one before, over the bound of all values, in the first, a middle and the last "
            "interval (rounding to float32 leaves up to 6e-8)",
            2e-7,
        ),
        Check(
            "range",
            "how far the largest value of any frame lies above that which the reaction cannot "
            "pass, over the latter (rounding to float32 leaves up to 6e-8)",
            1e-7,
        ),
    )
    symmetries = SQUARE

    def __init__(self, parameters: DiffusionReactionParameters, resolution: int) -> None:
        super().__init__(parameters, resolution, least=8)
        diffusivities = parameters.activator_diffusivity, parameters.inhibitor_diffusivity
        self._mobilities = [diffusivity * (resolution / SIDE) ** 2 for diffusivity in diffusivities]
        places = (np.arange(resolution) + 0.5) / resolution
        self._space = space_axes("xy", SIDE * (places - 0.5), (-1.0, 1.0))
        variances = covariance_spectrum(
            parameters.covariance_exponent, parameters.inverse_length, SIDE
        )
        self._field = cosine_field(places, variances / variances.sum())
        self.same_on_any_grid = parameters.sampling == "smooth"

    def outside(self) -> Changes:
        """Return other terms of the equation and other initial states."""
        p = self.parameters
        changes: dict[str, dict[str, Any]] = {
            "twice the diffusivity": {
                "activator_diffusivity": 2.0 * p.activator_diffusivity,
                "inhibitor_diffusivity": 2.0 * p.inhibitor_diffusivity,
            },
            "stronger loss": {"offset": p.offset + 0.1},
        }
        if p.sampling == "smooth":
            changes["finer initial states"] = {"inverse_length": 2.0 * p.inverse_length}
        return changes

    def sample(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Draw an initial state, shape `(x, y)` for either species."""
        shape = self.resolution, self.resolution
        rough = self.parameters.sampling == "pdebench"
        draws = (rng.standard_normal(shape) if rough else self._field.draw(rng) for _ in _NAMES)
        return {name: draw.astype(np.float32) for name, draw in zip(_NAMES, draws, strict=True)}

    def solve(self, inputs: Fields) -> dict[str, np.ndarray]:
        """Solve for all frames of both species, shape `(time, x, y)`."""
        u, v = self.within(inputs, **dict.fromkeys(_NAMES, (-LARGEST, LARGEST))).values()
        frames = np.empty((2, self.parameters.frames, *u.shape), np.float32)
        solve_reaction_diffusion(
            u, v, *self._mobilities, self.parameters.offset, self._interval, 1.0, *frames
        )
        return dict(zip(_NAMES, frames, strict=True))

    def _measure(self, given: Fields, frames: Fields) -> Mapping[str, Any]:
        states = np.stack([frames[name] for name in _NAMES], axis=1)
        bound = self._bound(states[0])
        excess = np.max([np.max(np.abs(states)) / bound - 1.0, 0.0])
        defect = excess  # what is out of range could take forever to integrate
        if excess <= 0.01:
            starts = {0, (len(states) - 1) // 2, len(states) - 2}
            gaps = [np.max(np.abs(self._later(states[i]) - states[i + 1])) for i in starts]
            defect = np.max(gaps) / bound
        return {"defect": defect, "range": excess}

    def _bound(self, initial: np.ndarray) -> float:
        """Return the half side of the smallest square of states that none can leave.

        At its edge both reactions point inwards: `M - M^3 + |k| + M <= 0` for the activator, and
        `M - M = 0` for the inhibitor. Neither the Laplacian nor its scheme makes an extremum grow.
        """
        *_, root = sorted(np.roots([1.0, 0.0, -2.0, -abs(self.parameters.offset)]).real)
        return float(max(root, np.max(np.abs(initial))))

    def _later(self, state: np.ndarray) -> np.ndarray:
        """Return the state one frame later, shape `(species, x, y)`."""
        mobility_u, mobility_v = self._mobilities
        reaction = actual = 3.0 * np.max(np.abs(state[0])) ** 2 + 2.0
        possible = max(8.0 * mobility_u + reaction, 8.0 * mobility_v + 2.0)
        for field, mobility in zip(state, self._mobilities, strict=True):
            mirrored = np.pad(field, 1, mode="edge")
            along_x = mirrored[:-2, 1:-1] + mirrored[2:, 1:-1]
            along_y = mirrored[1:-1, :-2] + mirrored[1:-1, 2:]
            spread = np.max(np.abs(mobility * ((along_x + along_y) - 4.0 * field)))
            if largest := np.max(np.abs(field)):
                actual = max(actual, spread / largest + reaction)
        steps = max(1, int(np.ceil(self._interval * max(possible / STABLE, actual / ACCURATE))))
        dt = self._interval / steps
        for _ in range(steps):
            rates = [self._rate(state)]
            for advance in ADVANCES:
                rates.append(self._rate(state + dt * advance * rates[-1]))
            state = state + dt * np.tensordot(WEIGHTS, rates, axes=1)
        return state

    def _rate(self, state: np.ndarray) -> np.ndarray:
        """Return the time derivative of a state: fluxes through the faces, and the reaction."""
        u, v = state
        inflow = np.zeros_like(state)
        for axis in (1, 2):
            through = np.diff(state, axis=axis).swapaxes(1, axis)
            cells = inflow.swapaxes(1, axis)
            cells[:, :-1] += through
            cells[:, 1:] -= through
        rate = np.reshape(self._mobilities, (2, 1, 1)) * inflow
        rate[0] += u - u * u * u - self.parameters.offset - v
        rate[1] += u - v
        return rate

    def compile(self) -> None:
        """Compile the solver, or load it from numba's cache."""
        zeros, frames = np.zeros((8, 8)), np.zeros((2, 8, 8), np.float32)
        solve_reaction_diffusion(zeros, zeros, 0.0, 0.0, 0.0, 1.0, 1.0, frames, frames)


SCENARIO = DiffusionReaction
