"""Darcy flow: steady pressure in a porous medium."""

import math
from typing import Annotated, Any, Literal, Self, final

import numpy as np
from pydantic import Field as Parameter
from pydantic import model_validator

from mno.core.errors import InputError, MnoError
from mno.core.fields import Field
from mno.scenarios import base
from mno.scenarios.base import Changes, Check, Fields, Parameters, Scenario, Solved
from mno.scenarios.kernels import bands
from mno.scenarios.kernels.multigrid import solve_diffusion
from mno.scenarios.kernels.random_fields import cosine_field, covariance_spectrum, sum_of_bumps
from mno.scenarios.linear import LinearSystem, five_points

TOLERANCE = 1e-8  # relative residual; the error it leaves is below that of float32 storage
MAX_ITERATIONS = 500  # about 20 are used at a contrast of 4, about 140 at a contrast of 1e12
CHANNEL_TOLERANCE = 1e-12  # the same in a channel, where what its inlet drives dwarfs the source
CHANNEL_CONTRAST = 1000.0  # of its materials; beyond, that tolerance is not enough for the weaker
SMOOTH_CONTRAST = 100.0  # of a lognormal permeability; rare cells differ by its fifth power
THRESHOLD = 0.5  # of a sum of bumps, each of which is 1 at its centre

Permeability = Annotated[float, Parameter(ge=1e-6, le=1e6)]


class DarcyParameters(Parameters):
    """The random permeability: two materials, or one that varies smoothly."""

    sampling: Literal["grf", "pdebench", "lognormal"] = "grf"
    """Permeability: a Gaussian random field cut at zero into two materials; or, as in PDEBench, a
    sum of five Gaussian bumps cut into two; or the exponential of a Gaussian random field."""
    low_permeability: Permeability = 3.0
    """Permeability where the random field is negative (grf), outside the bumps (pdebench; PDEBench
    has 0.1), or one standard deviation below the median (lognormal); nondimensional."""
    high_permeability: Permeability = 12.0
    """Permeability where it is not negative (grf), inside the bumps (pdebench; PDEBench has 1), or
    one standard deviation above the median (lognormal)."""
    covariance_exponent: float = Parameter(2.0, gt=1.0, le=10.0)
    """alpha in the covariance (-Laplacian + tau^2)^-alpha: larger is smoother."""
    inverse_length: float = Parameter(3.0, gt=0.0, le=50.0)
    """tau in that covariance, in 1 / side of the domain: larger is finer."""
    inlet_pressure: float | None = Parameter(None, ge=0.0, le=1e3)
    """Pressure on the side where x is 0 (nondimensional); it is then 0 on the side across, and
    nothing flows through the other two. By default it is 0 on all four."""

    @model_validator(mode="after")
    def _contrast_can_be_solved(self) -> Self:
        low, high, limit, why = self.low_permeability, self.high_permeability, math.inf, ""
        if not low < high:
            raise ValueError(
                f"low_permeability={low} must be less than high_permeability={high}; swap the two "
                "or change one"
            )
        if self.inlet_pressure is not None:
            limit, why = CHANNEL_CONTRAST, "an inlet_pressure"
        if self.sampling == "lognormal":
            limit, why = SMOOTH_CONTRAST, "sampling=lognormal"
        if high > limit * low:
            raise ValueError(
                f"high_permeability={high} is {high / low:.4g} times low_permeability={low}; with "
                f"{why} it may be {limit:g} times that at most, bring the two nearer to each other"
            )
        return self


@final
class Darcy(Scenario, base.StartsFromGuess):
    """Pressure of a fluid that enters everywhere and leaves through the wall.

    `-div(a grad u) = 1` on the unit square, `u = 0` on its wall; everything is nondimensional. With
    an `inlet_pressure` the square is a channel: that is `u` at `x = 0`, `u = 0` at `x = 1`, and no
    flux passes the other two sides.

    By default the permeability `a` takes two values, by the sign of a Gaussian random field of mean
    zero and covariance `(-Laplacian + tau^2)^-alpha` with zero flux at the wall: the data of the
    Fourier neural operator (Li et al. 2021, doi:10.48550/arXiv.2010.08895, section 5.2), whose
    values are the defaults. The field is a sum of 64 x 64 cosines, `cos(k pi x) cos(l pi y)`
    without the constant one. Their weights are drawn in an order that does not depend on the
    resolution, so that one generator state gives one function, sampled at the points of any grid.
    For `alpha = 2` the waves left out hold 2e-4 of the variance.

    With `sampling: pdebench` one material lies inside a few blobs, where five Gaussian bumps add up
    to half the height of one: the kind of PDEBench's data (Takamoto et al. 2022,
    doi:10.48550/arXiv.2210.07182), with bumps of our own choice. With `sampling: lognormal` the
    logarithm of `a` is such a Gaussian random field, of mean square one over the domain in units of
    `log(high / low) / 2`.

    The discretisation is the five-point finite volume scheme on cell centres, with harmonic means
    between cells and the wall at the outer faces, where the distance is half a cell. It is of
    second order for smooth `a`; for a jump that does not follow the faces, of about first order.
    It treats the axes and their two directions alike, so it has all symmetries of the square, and
    as a channel that of its two closed sides.
    """

    name = "darcy"
    title = "Darcy flow through two materials"
    Parameters = DarcyParameters
    fields = (
        Field("permeability", "1", "permeability", "input", ("x", "y")),
        Field("pressure", "1", "pressure", "output", ("x", "y")),
    )
    checks = (
        Check(
            "residual",
            "largest residual of a cell's discrete equation, over the sum of the sizes of its "
            "terms (rounding to float32 leaves up to 6e-8)",
            1e-7,
        ),
        Check(
            "flux_balance",
            "difference between the flux out through the wall and the source's integral, over "
            "the latter, in a channel over the sizes of the flux's terms (rounding to float32 "
            "leaves up to 6e-8)",
            1e-7,
        ),
        Check(
            "range",
            "how far the pressure lies outside its bounds: below that of a cell among cells of "
            "zero pressure, above that of a disc of the same area and the lowest permeability",
            0.0,
        ),
    )
    symmetries, walls = base.SQUARE, "zero"  # of a channel see the constructor
    has_derivatives = True

    def __init__(self, parameters: DarcyParameters, resolution: int) -> None:
        super().__init__(parameters, resolution, least=8, multiple=4)
        self._points = (np.arange(resolution) + 0.5) / resolution
        self._space = base.space_axes("xy", self._points, (0.0, 1.0))
        self._source = np.ones((resolution, resolution))
        if parameters.inlet_pressure is not None:
            self.symmetries, self.walls = ("x y", "x -y"), "free"
            self.has_derivatives = False
        variances = covariance_spectrum(
            parameters.covariance_exponent, parameters.inverse_length, side=1.0
        )
        variances[0, 0] = 0.0
        if parameters.sampling == "lognormal":
            variances /= variances.sum()
        self._field = cosine_field(self._points, variances)

    def outside(self) -> Changes:
        """Return stronger contrasts and other random fields.

        Those are so much finer and smoother that a single field shows it. Half the correlation
        length does not: no test on one field cut at zero, with 1 % of false alarms, tells more than
        a third of them from the default ones (by the likelihood ratio of the uncut field).
        """
        p = self.parameters
        changes: dict[str, dict[str, Any]] = {
            "twice the contrast": {"high_permeability": 2.0 * p.high_permeability}
        }
        if p.sampling != "pdebench":
            changes["finer permeability"] = {"inverse_length": 5.0 * p.inverse_length}
            changes["smoother permeability"] = {"covariance_exponent": p.covariance_exponent + 4.0}
        return changes

    def sample(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Draw a permeability, shape `(x, y)`."""
        p = self.parameters
        low, high = p.low_permeability, p.high_permeability
        if p.sampling == "lognormal":
            deviation = 0.5 * math.log(high / low)
            permeability = math.sqrt(low * high) * np.exp(deviation * self._field.draw(rng))
        else:
            bumps = p.sampling == "pdebench"
            field = sum_of_bumps(rng, self._points) - THRESHOLD if bumps else self._field.draw(rng)
            permeability = np.where(field >= 0.0, high, low)
        return {"permeability": permeability.astype(np.float32)}

    def solve(self, inputs: Fields) -> dict[str, np.ndarray]:
        """Solve for the pressure, `(x, y)`, to a relative residual of 1e-8, in a channel 1e-12."""
        return self.solve_from(inputs, None)[0]

    def solve_from(self, inputs: Fields, guess: Fields | None) -> tuple[dict[str, np.ndarray], int]:
        """Solve as `solve` does, from a guess of the pressure; also return the iterations."""
        permeability = self.within(inputs, permeability=(base.POSITIVE, math.inf))["permeability"]
        first = None
        if guess is not None and np.isfinite(guess["pressure"]).all():
            first = np.ascontiguousarray(guess["pressure"], dtype=np.float64)
            if first.shape != self._source.shape:
                raise InputError(
                    f"the guess of the pressure has shape {first.shape}; expected "
                    f"{self._source.shape}, the scenario's grid"
                )
        inlet = self.parameters.inlet_pressure
        tolerance = TOLERANCE if inlet is None else CHANNEL_TOLERANCE
        pressure, iterations, residual = solve_diffusion(
            permeability, self._source, tolerance, MAX_ITERATIONS, inlet, first
        )
        if not residual <= tolerance:
            raise MnoError(
                f"conjugate gradients for darcy did not converge: relative residual {residual:.1e} "
                f"after {iterations} iterations, expected {tolerance:.0e}; the permeability runs "
                f"from {permeability.min():.3g} to {permeability.max():.3g}, lower the contrast"
            )
        return {"pressure": pressure.astype(np.float32)}, iterations

    def linear_system(self, inputs: Fields) -> LinearSystem | None:
        """Return the equation of the pressure; of a channel, whose inlet adds to it, none."""
        if self.parameters.inlet_pressure is not None:
            return None
        permeability, width = inputs["permeability"].astype(np.float64), 1.0 / self.resolution
        return LinearSystem(
            five_points(permeability, width, math.inf), self._source.ravel() * width**2
        )

    def solve_along(self, inputs: Fields, directions: Fields) -> tuple[Solved, Solved]:
        """Solve, and along directions, by one factorisation for all; not in a channel."""
        a = self.within(inputs, permeability=(base.POSITIVE, math.inf))["permeability"]
        along, width = directions["permeability"], 1.0 / self.resolution
        factor = bands.factored(bands.bands_of(a, width, math.inf))
        pressure = bands.substituted(factor, self._source.ravel() * width**2).reshape(a.shape)
        moved = np.ascontiguousarray(along.reshape(len(along), -1).T)
        rates = bands.leaving_along(a, moved, pressure, width, math.inf)
        found = -bands.all_substituted(factor, rates).T.reshape(along.shape)
        return {"pressure": pressure.astype(np.float32)}, {"pressure": found}

    def check(self, inputs: Fields, outputs: Fields) -> dict[str, float]:
        """Measure residual, flux balance and range of one sample, in float64.

        This states the equation again, apart from the solver's kernels. A NaN in arrays gives NaN.
        """
        permeability = inputs["permeability"].astype(np.float64)
        pressure = outputs["pressure"].astype(np.float64)
        inlet = self.parameters.inlet_pressure
        with np.errstate(invalid="ignore"):
            flux_x, terms_x = _across_first_axis(permeability, pressure, inlet or 0.0)
            along_y = _across_first_axis(permeability.T, pressure.T, 0.0)
            if inlet is not None:  # a channel, whose sides are closed
                for field in along_y:
                    field[[0, -1]] = 0.0
            flux_y, terms_y = (field.T for field in along_y)
            cell_source = self._source / self._source.size
            outflow = np.diff(flux_x, axis=0) + np.diff(flux_y, axis=1)
            terms = terms_x[:-1] + terms_x[1:] + (terms_y[:, :-1] + terms_y[:, 1:]) + cell_source
            through_x = flux_x[-1].sum() - flux_x[0].sum()
            through_y = flux_y[:, -1].sum() - flux_y[:, 0].sum()
            # Through an inlet passes a difference of pressures, which is not as exact as itself.
            size = terms_x[[0, -1]].sum() if inlet else 1.0
            lowest, highest = bounds(permeability, inlet)
            return {
                "residual": float(np.max(np.abs(outflow - cell_source) / terms)),
                "flux_balance": float(abs(through_x + through_y - 1.0) / size),
                "range": float(np.max([lowest - pressure.min(), pressure.max() - highest, 0.0])),
            }

    def compile(self) -> None:
        """Compile the solver, or load it from numba's cache."""
        ones = np.ones((8, 8))
        solve_diffusion(ones, ones, TOLERANCE, MAX_ITERATIONS)


def _across_first_axis(
    permeability: np.ndarray, pressure: np.ndarray, inlet: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the fluxes through faces, shape `(x + 1, y)`, and the sizes of their terms.

    The pressure is zero on the wall, or `inlet` where x is 0.
    """
    before, after = permeability[:-1], permeability[1:]
    harmonic = 2.0 * before * after / (before + after)
    transmissibility = np.concatenate([2.0 * permeability[:1], harmonic, 2.0 * permeability[-1:]])
    padded = np.pad(pressure, np.array([(1, 1), (0, 0)]))
    padded[0] = inlet
    fluxes = transmissibility * (padded[:-1] - padded[1:])
    return fluxes, transmissibility * (np.abs(padded[:-1]) + np.abs(padded[1:]))


def bounds(permeability: np.ndarray, inlet: float | None) -> tuple[float, float]:
    """Return what the pressure lies between, for a source of one.

    A cell has at most eight times its permeability in transmissibility, which bounds its pressure
    from below. From above Talenti (1976, theorem 1) does: no domain of that area lets the pressure
    rise higher than a disc. In a channel the closed sides do not count as an edge of the region
    above a level, and his argument holds with an edge of `min(sqrt(2 pi A), 2)` around an area A,
    half a disc at a closed side or a strip from one to the other.
    """
    lowest = 1.0 / (permeability.size * 8.0 * permeability.max())
    if inlet is None:
        return lowest, 1.0 / (4.0 * math.pi * permeability.min())
    # The integral of A over the square of that edge, from 0 to 1; halves meet at A = 2 / pi.
    share = 1.0 / math.pi**2 + (1.0 - 4.0 / math.pi**2) / 8.0
    return lowest, inlet + share / permeability.min()


SCENARIO = Darcy
