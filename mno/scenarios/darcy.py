"""Darcy flow: steady pressure in a porous medium."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self, final

import numpy as np
import pydantic
from pydantic import model_validator

from mno.core.config import Config
from mno.core.errors import InputError, MnoError
from mno.core.fields import Axis, Field
from mno.scenarios.base import (
    POSITIVE,
    SQUARE,
    Check,
    Fields,
    Scenario,
    StartsFromGuess,
    require_resolution,
    space_axes,
)
from mno.scenarios.kernels.multigrid import solve_diffusion
from mno.scenarios.kernels.random_fields import CosineField, covariance_spectrum, sum_of_bumps

TOLERANCE = 1e-8  # relative residual; the error it leaves is below that of float32 storage
MAX_ITERATIONS = 500  # about 20 are used at a contrast of 4, about 140 at a contrast of 1e12
CHANNEL_TOLERANCE = 1e-12  # the same in a channel, where what its inlet drives dwarfs the source
CHANNEL_CONTRAST = 1000.0  # of its materials; beyond, that tolerance is not enough for the weaker
SMOOTH_CONTRAST = 100.0  # of a lognormal permeability; rare cells differ by its fifth power
THRESHOLD = 0.5  # of a sum of bumps, each of which is 1 at its centre

Permeability = Annotated[float, pydantic.Field(ge=1e-6, le=1e6)]


class DarcyParameters(Config):
    """The random permeability: two materials, or one that varies smoothly."""

    sampling: Literal["grf", "pdebench", "lognormal"] = pydantic.Field(
        "grf",
        description="Permeability: a Gaussian random field cut at zero into two materials; or, as "
        "in PDEBench, a sum of five Gaussian bumps cut into two; or the exponential of a Gaussian "
        "random field.",
    )
    low_permeability: Permeability = pydantic.Field(
        3.0,
        description="Permeability where the random field is negative (grf), outside the bumps "
        "(pdebench; PDEBench has 0.1), or one standard deviation below the median (lognormal); "
        "nondimensional.",
    )
    high_permeability: Permeability = pydantic.Field(
        12.0,
        description="Permeability where it is not negative (grf), inside the bumps (pdebench; "
        "PDEBench has 1), or one standard deviation above the median (lognormal).",
    )
    covariance_exponent: float = pydantic.Field(
        2.0,
        gt=1.0,
        le=10.0,
        description="alpha in the covariance (-Laplacian + tau^2)^-alpha: larger is smoother.",
    )
    inverse_length: float = pydantic.Field(
        3.0,
        gt=0.0,
        le=50.0,
        description="tau in that covariance, in 1 / side of the domain: larger is finer.",
    )
    inlet_pressure: float | None = pydantic.Field(
        None,
        ge=0.0,
        le=1e3,
        description="Pressure on the side where x is 0 (nondimensional); it is then 0 on the side "
        "across, and nothing flows through the other two. By default it is 0 on all four.",
    )

    @model_validator(mode="after")
    def _low_is_below_high(self) -> Self:
        if not self.low_permeability < self.high_permeability:
            raise ValueError(
                f"low_permeability={self.low_permeability} must be less than "
                f"high_permeability={self.high_permeability}; swap the two or change one"
            )
        return self

    @model_validator(mode="after")
    def _contrast_can_be_solved(self) -> Self:
        limit, why = math.inf, ""
        if self.inlet_pressure is not None:
            limit, why = CHANNEL_CONTRAST, "an inlet_pressure"
        if self.sampling == "lognormal":
            limit, why = SMOOTH_CONTRAST, "sampling=lognormal"
        low, high = self.low_permeability, self.high_permeability
        if high > limit * low:
            raise ValueError(
                f"high_permeability={high} is {high / low:.4g} times low_permeability={low}; with "
                f"{why} it may be {limit:g} times that at most, bring the two nearer to each other"
            )
        return self


@final
class Darcy(Scenario, StartsFromGuess):
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
    as a channel that of its two closed sides. The same scheme as a function of both fields, in
    torch, is `mno.scenarios.residuals.darcy`.
    """

    name: ClassVar[str] = "darcy"
    title: ClassVar[str] = "Darcy flow through two materials"
    Parameters: ClassVar[type[Config]] = DarcyParameters
    fields: tuple[Field, ...] = (
        Field("permeability", "1", "permeability", "input", ("x", "y")),
        Field("pressure", "1", "pressure", "output", ("x", "y")),
    )
    checks: tuple[Check, ...] = (
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
    symmetries: tuple[str, ...] = SQUARE  # of a channel see the constructor

    def __init__(self, parameters: DarcyParameters, resolution: int) -> None:
        require_resolution(resolution, 8, multiple=4)
        self._parameters = parameters
        self._points = (np.arange(resolution) + 0.5) / resolution
        self._source = np.ones((resolution, resolution))
        if parameters.inlet_pressure is not None:
            self.symmetries = ("x y", "x -y")

        exponent, inverse_length = parameters.covariance_exponent, parameters.inverse_length
        variances = covariance_spectrum(exponent, inverse_length, side=1.0)
        variances[0, 0] = 0.0
        if parameters.sampling == "lognormal":
            variances /= variances.sum()
        self._field = CosineField(self._points, variances)

    @property
    def axes(self) -> tuple[Axis, ...]:
        """The axes x and y, from 0 to 1, with points at cell centres."""
        return space_axes("xy", self._points, (0.0, 1.0))

    def outside(self) -> Mapping[str, Mapping[str, Any]]:
        """Return changes of the parameters that lead out of what they draw."""
        p = self._parameters
        changes: dict[str, dict[str, Any]] = {
            "twice the contrast": {"high_permeability": 2.0 * p.high_permeability}
        }
        if p.sampling != "pdebench":
            changes["finer permeability"] = {"inverse_length": 2.0 * p.inverse_length}
            changes["smoother permeability"] = {"covariance_exponent": p.covariance_exponent + 1.0}
        return changes

    def sample(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Draw a permeability, shape `(x, y)`."""
        low, high = self._parameters.low_permeability, self._parameters.high_permeability
        match self._parameters.sampling:
            case "grf":
                permeability = np.where(self._field.draw(rng) >= 0.0, high, low)
            case "pdebench":
                permeability = np.where(sum_of_bumps(rng, self._points) >= THRESHOLD, high, low)
            case "lognormal":
                deviation = 0.5 * math.log(high / low)
                permeability = math.sqrt(low * high) * np.exp(deviation * self._field.draw(rng))
        return {"permeability": permeability.astype(np.float32)}

    def solve(self, inputs: Fields) -> dict[str, np.ndarray]:
        """Solve for the pressure, shape `(x, y)`.

        The relative residual is at most 1e-8, or 1e-12 in a channel.

        Raises:
            InputError: The permeability has another shape than the grid or is not positive.
            MnoError: The iteration did not converge.
        """
        return self.solve_from(inputs, None)[0]

    def solve_from(self, inputs: Fields, guess: Fields | None) -> tuple[dict[str, np.ndarray], int]:
        """Solve as `solve` does, from a guess of the pressure; also return the iterations.

        Raises:
            InputError: As for `solve`, or the guess has another shape than the grid.
            MnoError: As for `solve`.
        """
        permeability = self.within(inputs, permeability=(POSITIVE, math.inf))["permeability"]
        inlet = self._parameters.inlet_pressure
        tolerance = TOLERANCE if inlet is None else CHANNEL_TOLERANCE
        pressure, iterations, residual = solve_diffusion(
            permeability, self._source, tolerance, MAX_ITERATIONS, inlet, self._first(guess)
        )
        if not residual <= tolerance:
            raise MnoError(
                f"conjugate gradients for darcy did not converge: relative residual {residual:.1e} "
                f"after {iterations} iterations, expected {tolerance:.0e}; the permeability runs "
                f"from {permeability.min():.3g} to {permeability.max():.3g}, lower the contrast"
            )
        return {"pressure": pressure.astype(np.float32)}, iterations

    def _first(self, guess: Fields | None) -> np.ndarray | None:
        """Return the pressure to start from; none where that guessed is no number everywhere."""
        if guess is None or not np.isfinite(guess["pressure"]).all():
            return None
        first = np.ascontiguousarray(guess["pressure"], dtype=np.float64)
        if first.shape != self._source.shape:
            raise InputError(
                f"the guess of the pressure has shape {first.shape}; expected "
                f"{self._source.shape}, the scenario's grid"
            )
        return first

    def check(self, inputs: Fields, outputs: Fields) -> dict[str, float]:
        """Measure residual, flux balance and range of one sample, in float64.

        This states the equation a second time, apart from the solver's kernels. A NaN in the
        arrays gives NaN.
        """
        permeability = inputs["permeability"].astype(np.float64)
        pressure = outputs["pressure"].astype(np.float64)
        inlet = self._parameters.inlet_pressure
        with np.errstate(invalid="ignore"):
            (flux_x, flux_y), (terms_x, terms_y) = face_fluxes(permeability, pressure, inlet)
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


Faces = tuple[np.ndarray, np.ndarray]
"""A quantity on the faces across x and on those across y, shapes `(x + 1, y)` and `(x, y + 1)`; the
first and last faces are the wall's."""


def face_fluxes(
    permeability: np.ndarray, pressure: np.ndarray, inlet: float | None
) -> tuple[Faces, Faces]:
    """Return the fluxes through all faces of the unit square, and the sizes of their terms.

    This is the solver's scheme a second time, in plain numpy.

    Args:
        permeability: Positive, shape `(x, y)`.
        pressure: The same shape; zero on the wall.
        inlet: None, or the pressure on the wall where x is 0, of a channel with closed sides.
    """
    flux_x, terms_x = _across_first_axis(permeability, pressure, inlet or 0.0)
    flux_y, terms_y = _across_first_axis(permeability.T, pressure.T, 0.0)
    if inlet is not None:
        for field in (flux_y, terms_y):
            field[[0, -1]] = 0.0
    return (flux_x, flux_y.T), (terms_x, terms_y.T)


def _across_first_axis(
    permeability: np.ndarray, pressure: np.ndarray, inlet: float
) -> tuple[np.ndarray, np.ndarray]:
    before, after = permeability[:-1], permeability[1:]
    harmonic = 2.0 * before * after / (before + after)
    transmissibility = np.concatenate([2.0 * permeability[:1], harmonic, 2.0 * permeability[-1:]])
    padded = np.pad(pressure, ((1, 1), (0, 0)))
    padded[0] = inlet
    fluxes = transmissibility * (padded[:-1] - padded[1:])
    terms = transmissibility * (np.abs(padded[:-1]) + np.abs(padded[1:]))
    return fluxes, terms


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
