"""A random round furnace: lining, heating elements and their schedule, as functions of place.

Everything is drawn in an order that depends on no mesh. Values of materials are round figures of
engineering handbooks for the temperatures of a furnace.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Self

import numpy as np
import pydantic
from pydantic import model_validator

from mno.core.config import Config
from mno.scenarios.kernels.random_fields import covariance_spectrum, draw_at
from mno.scenarios.kernels.ring_mesh import SWING, RingMesh, draw_curve

LAYERS = (  # from the crucible outwards: W/(m K) and J/(m3 K), from and to
    ((1.5, 3.0), (2.2e6, 3.0e6)),  # dense refractory, in which the elements lie
    ((0.2, 0.5), (0.6e6, 1.0e6)),  # insulating brick
    ((0.6, 1.2), (1.4e6, 2.0e6)),  # backing at the shell
)
BOUNDARIES = ((0.4, 0.55), (0.75, 0.85))  # between layers, as shares of the lining's thickness
DEPTH = (0.1, 1.0 / 3.0)  # of an element in the lining, likewise
AMBIENT = (283.0, 313.0)  # K
NARROWEST = 0.1  # of crucibles, as a share of the shell's radius
THINNEST = 0.2  # of the lining, as a share of the shell's radius
_EXPONENT, _INVERSE_LENGTH, _SIDE = 3.0, 5.0, 4.0  # of the random variation; in radii of the shell
_INSTANTS = 5  # of a run at which the settings of elements are drawn

Peak = Annotated[float, pydantic.Field(ge=500.0, le=2500.0)]
Film = Annotated[float, pydantic.Field(le=1000.0)]
Length = Annotated[float, pydantic.Field(gt=0.0, le=10.0)]


class FurnaceRingParameters(Config):
    """The round furnaces that are drawn, and how long they are run."""

    radius: float = pydantic.Field(
        0.5, ge=0.05, le=10.0, description="Mean radius of the steel shell, m."
    )
    smallest_crucible: Length = pydantic.Field(
        0.17, description="Least mean radius of the crucible, m."
    )
    largest_crucible: Length = pydantic.Field(
        0.25, description="Largest mean radius of the crucible, m."
    )
    wear: float = pydantic.Field(
        0.08,
        ge=0.0,
        le=0.3,
        description="How far the crucible's outline swings about a circle, as a share of its "
        "radius.",
    )
    shell_waviness: float = pydantic.Field(
        0.01, ge=0.0, le=0.1, description="The same of the shell."
    )
    transition: float = pydantic.Field(
        0.15,
        ge=0.02,
        le=1.0,
        description="Distance over which one layer of the lining gives way to the next, as a share "
        "of the lining's thickness; three quarters of the change lie in it.",
    )
    variation: float = pydantic.Field(
        0.15,
        ge=0.0,
        le=1.0,
        description="Standard deviation of the logarithm of the random factors, smooth in space, "
        "of conductivity and heat capacity.",
    )
    most_elements: int = pydantic.Field(
        6, ge=3, le=12, description="Most heating elements; three at least."
    )
    element_width: Length = pydantic.Field(
        0.04, description="Standard deviation of the bell of power about each element, m."
    )
    coolest_peak: Peak = pydantic.Field(
        1250.0, description="Least temperature that a furnace's elements are sized for, K."
    )
    hottest_peak: Peak = pydantic.Field(
        1650.0, description="Greatest temperature that a furnace's elements are sized for, K."
    )
    warm_share: float = pydantic.Field(
        0.5,
        ge=0.0,
        le=1.0,
        description="Share of runs that begin with a hot crucible; the others begin at the ambient "
        "temperature.",
    )
    shell_transfer_coefficient: Film = pydantic.Field(
        10.0, ge=0.1, description="From the shell to the ambient air, W m-2 K-1."
    )
    crucible_transfer_coefficient: Film = pydantic.Field(
        2.0,
        ge=0.0,
        description="From the crucible's wall to the ambient air, W m-2 K-1; at 0 nothing passes.",
    )
    duration: float = pydantic.Field(
        86400.0, ge=60.0, le=1e7, description="Time of the last frame, s."
    )
    frames: int = pydantic.Field(
        25, ge=2, le=1001, description="Frames, the initial one included, at equal distances."
    )
    steps_per_frame: int = pydantic.Field(
        4, ge=1, le=64, description="Steps of the method in time between two frames."
    )

    @model_validator(mode="after")
    def _furnaces_can_be_built(self) -> Self:
        for low, high in (
            ("smallest_crucible", "largest_crucible"),
            ("coolest_peak", "hottest_peak"),
        ):
            if getattr(self, low) > getattr(self, high):
                raise ValueError(
                    f"{low}={getattr(self, low)} must be at most {high}={getattr(self, high)}; "
                    "swap the two or change one"
                )
        if self.smallest_crucible < NARROWEST * self.radius:
            raise ValueError(
                f"smallest_crucible={self.smallest_crucible} must be at least {NARROWEST} of "
                f"radius={self.radius}; choose {NARROWEST * self.radius:g} or more"
            )
        shell = self.radius * (1.0 - SWING * self.shell_waviness)
        left = shell - self.largest_crucible * (1.0 + SWING * self.wear)
        if left < THINNEST * self.radius:
            raise ValueError(
                f"largest_crucible={self.largest_crucible}, wear={self.wear} and shell_waviness="
                f"{self.shell_waviness} leave {left:.2g} m of lining where it is thinnest; "
                f"expected {THINNEST * self.radius:g} m ({THINNEST} of radius={self.radius}) or "
                "more, lower one of them"
            )
        return self


@dataclass(frozen=True)
class RoundFurnace:
    """One furnace and its run at the points of a mesh; times in shares of the run.

    Attributes:
        x: Coordinates of the points, m, shape `(point,)`.
        y: Likewise.
        conductivity: W/(m K), shape `(point,)`.
        heat_capacity: J/(m3 K), likewise.
        bells: Power density about each element, 1 in its middle, shape `(element, point)`.
        ambient: Temperature around the furnace, K.
        peak: Temperature that its elements are sized for, K.
        initial_rise: Above the ambient temperature, K, shape `(point,)`.
        program: Ends of ramp and full power, beginning of cooling; power of the soak between.
        settings: Of each element at equal distances in time, shape `(element, 5)`.
    """

    x: np.ndarray
    y: np.ndarray
    conductivity: np.ndarray
    heat_capacity: np.ndarray
    bells: np.ndarray
    ambient: float
    peak: float
    initial_rise: np.ndarray
    program: tuple[float, float, float, float]
    settings: np.ndarray

    def power(self, intervals: int) -> np.ndarray:
        """Return the mean power density in equal intervals, shape `(interval, point)`.

        It is in units of the furnace's own. Between their knots, programme and settings are
        straight lines, so Simpson's rule is exact.
        """
        ramp, full, cooling, soak = self.program
        knots = [0.0, ramp, full, full + 0.05, cooling, cooling + 0.01]
        instants = np.linspace(0.0, 1.0, self.settings.shape[1])

        def level(times: np.ndarray) -> np.ndarray:
            common = np.interp(times, knots, [0.3, 1.0, 1.0, soak, soak, 0.0])
            return common * np.stack([np.interp(times, instants, row) for row in self.settings])

        edges = np.linspace(0.0, 1.0, intervals + 1)
        times = np.union1d(np.union1d(edges, instants), np.clip(knots, 0.0, 1.0))
        ends, middles = level(times), level(0.5 * (times[1:] + times[:-1]))
        pieces = np.diff(times) * (ends[:, :-1] + 4.0 * middles + ends[:, 1:]) / 6.0
        until = np.concatenate([np.zeros((len(ends), 1)), np.cumsum(pieces, axis=1)], axis=1)
        means = np.diff([np.interp(edges, times, row) for row in until], axis=1) * intervals
        return np.einsum("et,ep->tp", means, self.bells)


def draw_round_furnace(
    parameters: FurnaceRingParameters, rng: np.random.Generator, mesh: RingMesh
) -> RoundFurnace:
    """Draw a furnace; a generator in the same state gives the same one on every mesh."""
    p = parameters
    ambient = float(np.float32(rng.uniform(*AMBIENT)))
    peak = rng.uniform(p.coolest_peak, p.hottest_peak)
    warmth = rng.uniform(0.3, 0.7) * (rng.random() < p.warm_share)
    number = int(rng.integers(3, p.most_elements + 1))
    # One element in each of equal sectors, so that no two of them coincide.
    turns = rng.random() + (np.arange(number) + 0.6 * rng.random(number)) / number
    depths = rng.uniform(*DEPTH, number)
    settings = rng.uniform(0.7, 1.3, (number, 1)) * rng.uniform(0.6, 1.4, (number, _INSTANTS))
    program = (
        rng.uniform(0.05, 0.25),
        rng.uniform(0.4, 0.6),
        rng.uniform(0.75, 1.05),
        rng.uniform(0.3, 0.6),
    )

    # Both curves at the rays of the mesh and through the elements.
    rays = np.concatenate([mesh.angles(), 2.0 * np.pi * turns])
    inner = rng.uniform(p.smallest_crucible, p.largest_crucible) * draw_curve(rng, rays, p.wear)
    outer = p.radius * draw_curve(rng, rays, p.shell_waviness)
    x, y = mesh.place(inner[: mesh.around], outer[: mesh.around])
    angles, near, far = (along[mesh.around :, None] for along in (rays, inner, outer))
    distance = near + depths[:, None] * (far - near)
    squares = (x - distance * np.cos(angles)) ** 2 + (y - distance * np.sin(angles)) ** 2
    bells = np.exp(-squares / (2.0 * p.element_width**2))

    share = np.repeat(mesh.shares(), mesh.around)
    conductivity, heat_capacity = _draw_materials(p, rng, x, y, share)
    return RoundFurnace(
        x=x,
        y=y,
        conductivity=conductivity,
        heat_capacity=heat_capacity,
        bells=bells,
        ambient=ambient,
        peak=peak,
        initial_rise=warmth * (peak - ambient) * (1.0 - share),
        program=program,
        settings=settings,
    )


def _draw_materials(
    parameters: FurnaceRingParameters,
    rng: np.random.Generator,
    x: np.ndarray,
    y: np.ndarray,
    share: np.ndarray,
) -> list[np.ndarray]:
    """Draw conductivity and heat capacity of a lining, at points and their shares of the way out.

    Logarithms pass smoothly from layer to layer and vary as a Gaussian random field.
    """
    steps = [
        0.5 + 0.5 * np.tanh((share - rng.uniform(*between)) / (0.5 * parameters.transition))
        for between in BOUNDARIES
    ]
    layers = np.stack([1.0 - steps[0], steps[0] - steps[1], steps[1]])
    spectrum = covariance_spectrum(_EXPONENT, _INVERSE_LENGTH, _SIDE)
    spectrum *= parameters.variation**2 / spectrum.sum()
    across, upwards = (0.5 + along / (_SIDE * parameters.radius) for along in (x, y))
    materials = []
    for ranges in zip(*LAYERS, strict=True):
        levels = np.log([rng.uniform(*between) for between in ranges])
        variation = draw_at(rng, spectrum, across, upwards)
        materials.append(np.exp(np.einsum("l,lp->p", levels, layers) + variation))
    return materials
