"""A random furnace: lining, charge, burners and their schedule, as functions of place and time.

Everything is drawn in an order that depends on no grid, and only then looked up at points. Values
of materials are round figures of engineering handbooks for the temperatures of a furnace.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, Self

import numpy as np
import pydantic
from pydantic import model_validator

from mno.core.config import Config

LINING_CAPACITY = (0.8e6, 2.2e6)  # J/(m3 K), from insulating to dense brick
CHARGES = ((30.0, 5.2e6), (25.0, 4.6e6), (40.0, 4.2e6))  # carbon, stainless steel, cast iron
GAS_CAPACITY = 400.0  # J/(m3 K), of air at 1000 K
AMBIENT = (283.0, 313.0)  # K
_NARROWEST, _LOWEST = 0.4, 0.15  # of a piece, in shares of its stretch and of the cavity's height
_PERIODS = 8  # times in a run at which burners are set anew
_FINE = 4000  # points at which the schedule is integrated

Peak = Annotated[float, pydantic.Field(ge=500.0, le=2500.0)]
Wall = Annotated[float, pydantic.Field(gt=0.0, le=5.0)]
Lining = Annotated[float, pydantic.Field(ge=0.02, le=20.0)]


class FurnaceParameters(Config):
    """The furnaces that are drawn, and how long they are run."""

    side: float = pydantic.Field(
        2.0, ge=0.2, le=20.0, description="Width and height of the cross-section, m."
    )
    thinnest_wall: Wall = pydantic.Field(0.25, description="Least thickness of a wall, m.")
    thickest_wall: Wall = pydantic.Field(
        0.35, description="Greatest thickness of a wall, m; at most 0.3 of `side`."
    )
    lowest_lining_conductivity: Lining = pydantic.Field(
        0.3, description="Of the best insulating wall, W m-1 K-1."
    )
    highest_lining_conductivity: Lining = pydantic.Field(
        1.5, description="Of the least insulating wall, W m-1 K-1."
    )
    gas_conductivity: float = pydantic.Field(
        80.0,
        ge=1.0,
        le=1000.0,
        description="Effective conductivity of the gas, which stands in for convection and "
        "radiation, W m-1 K-1.",
    )
    most_pieces: int = pydantic.Field(
        3, ge=1, le=6, description="Most pieces of a charge; one at least."
    )
    coolest_peak: Peak = pydantic.Field(
        1250.0, description="Least temperature that a furnace's burners are sized for, K."
    )
    hottest_peak: Peak = pydantic.Field(
        1650.0, description="Greatest temperature that a furnace's burners are sized for, K."
    )
    warm_share: float = pydantic.Field(
        0.5,
        ge=0.0,
        le=1.0,
        description="Share of runs that begin with a hot furnace and a cold charge; the others "
        "begin at the ambient temperature.",
    )
    heat_transfer_coefficient: float = pydantic.Field(
        10.0, ge=0.1, le=1000.0, description="h_c of the outer surface, W m-2 K-1."
    )
    duration: float = pydantic.Field(
        43200.0, ge=600.0, le=1e7, description="Time of the last frame, s."
    )
    frames: int = pydantic.Field(
        25, ge=2, le=1001, description="Frames, the initial one included, at equal distances."
    )
    steps_per_frame: int = pydantic.Field(
        4, ge=1, le=64, description="Steps of the method in time between two frames."
    )
    thermal_stress: bool = pydantic.Field(
        False, description="Whether the stress in the charge is computed, as one more state."
    )
    youngs_modulus: float = pydantic.Field(
        2e11, ge=1e9, le=1e12, description="E of the charge, Pa; of steel at room temperature."
    )
    poisson_ratio: float = pydantic.Field(
        0.3, ge=0.0, le=0.45, description="nu of the charge, nondimensional."
    )
    thermal_expansion: float = pydantic.Field(
        1.2e-5, ge=1e-7, le=1e-4, description="alpha of the charge, of a length, K-1."
    )
    piece_ends: Literal["held", "free"] = pydantic.Field(
        "held",
        description="`held`: no piece of the charge strains along its axis (plane strain). `free`: "
        "it stretches and bends without axial force and moments (generalised plane strain).",
    )

    @model_validator(mode="after")
    def _ranges_are_in_order(self) -> Self:
        for low, high in (
            ("thinnest_wall", "thickest_wall"),
            ("lowest_lining_conductivity", "highest_lining_conductivity"),
            ("coolest_peak", "hottest_peak"),
        ):
            if getattr(self, low) > getattr(self, high):
                raise ValueError(
                    f"{low}={getattr(self, low)} must be at most {high}={getattr(self, high)}; "
                    "swap the two or change one"
                )
        if self.thickest_wall > 0.3 * self.side:
            raise ValueError(
                f"thickest_wall={self.thickest_wall} must be at most 0.3 of side={self.side}; "
                f"choose {0.3 * self.side:g} or less"
            )
        return self

    @property
    def smallest_piece(self) -> float:
        """The least width or height of a piece that can be drawn, m."""
        return (self.side - 2.0 * self.thickest_wall) * min(_NARROWEST / self.most_pieces, _LOWEST)


@dataclass(frozen=True)
class Plant:
    """One furnace and its run; lengths in m, `x` across and `y` upwards, times in shares of it.

    Attributes:
        ambient: Temperature around it, K.
        peak: Temperature that its burners are sized for, K.
        warmth: What a hot furnace begins with, as a share of the rise to `peak`; 0 if cold.
        cavity: Where the cavity begins and ends, along x and then along y.
        side: Of the cross-section.
        lining: Conductivity and volumetric heat capacity.
        charge: The same of the charge.
        gas: The same of the gas.
        pieces: Where each piece of the charge begins and ends, likewise, shape `(pieces, 4)`.
        burners: Place of each and the width of its flame, shape `(burners, 3)`.
        levels: Setting of each burner in each period, shape `(burners, periods)`.
        program: Ends of ramp and heating, beginning of cooling; power of the soak between.
    """

    ambient: float
    peak: float
    warmth: float
    cavity: tuple[float, float, float, float]
    side: float
    lining: tuple[float, float]
    charge: tuple[float, float]
    gas: tuple[float, float]
    pieces: np.ndarray
    burners: np.ndarray
    levels: np.ndarray
    program: tuple[float, float, float, float]

    def materials(self, resolution: int) -> tuple[np.ndarray, np.ndarray]:
        """Return conductivity and heat capacity of the cells of a grid, shape `(x, y)`.

        In a cell of several materials their capacities add up by area, and so do their resistances,
        which is right for heat that flows across the face between them.
        """
        charge, gas = self._shares(resolution)
        shares = charge, gas, 1.0 - charge - gas
        materials = self.charge, self.gas, self.lining
        resistivity = sum(
            share / kappa for share, (kappa, _) in zip(shares, materials, strict=True)
        )
        capacity = sum(share * rho_c for share, (_, rho_c) in zip(shares, materials, strict=True))
        return 1.0 / np.asarray(resistivity), np.asarray(capacity)

    def flames(self, resolution: int) -> np.ndarray:
        """Return the power density of each burner at full power, in units of the plant's.

        Shape `(burners, x, y)`; a bell around each burner, as far as it is in the gas. It heats
        those cells alone that hold nothing else, since what is given to one with some lining would
        be caught behind its resistance; the sum is that of all gas.
        """
        points = centres(self.side, resolution)
        x, y, width = (column[:, None, None] for column in self.burners.T)
        distance = (points[:, None] - x) ** 2 + (points[None, :] - y) ** 2
        bells = np.exp(-distance / (2.0 * width**2))
        gas = self._shares(resolution)[1]
        heated = bells * (gas > 1.0 - 1e-9)
        return (
            heated * np.sum(bells * gas, (1, 2), keepdims=True) / heated.sum((1, 2), keepdims=True)
        )

    def schedule(self, intervals: int) -> np.ndarray:
        """Return the mean power of each burner in equal intervals, shape `(intervals, burners)`."""
        ramp, heating, cooling, soak = self.program
        times = (np.arange(_FINE) + 0.5) / _FINE
        common = np.interp(times, [0.0, ramp, heating, heating + 0.05], [0.4, 1.0, 1.0, soak])
        common = np.where(times < cooling, common, 0.0)
        power = common * self.levels[:, (times * _PERIODS).astype(int)]
        until = np.concatenate([np.zeros((len(power), 1)), np.cumsum(power, axis=1)], axis=1)
        edges = np.linspace(0.0, 1.0, intervals + 1)
        done = [np.interp(edges, np.arange(_FINE + 1) / _FINE, row) for row in until]
        return np.diff(done, axis=1).T * intervals / _FINE

    def warm_rise(self, resolution: int) -> np.ndarray:
        """Return the initial rise above the ambient temperature, K, shape `(x, y)`.

        In a hot furnace it falls linearly through the wall; the charge is cold.
        """
        left, right, floor, roof = self.cavity
        points = centres(self.side, resolution)
        across, upwards = (
            np.clip(np.minimum(points / low, (self.side - points) / (self.side - high)), 0.0, 1.0)
            for low, high in ((left, right), (floor, roof))
        )
        charge, _ = self._shares(resolution)
        rise = np.minimum(across[:, None], upwards[None, :]) * (1.0 - charge)
        return self.warmth * (self.peak - self.ambient) * rise

    def _shares(self, resolution: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the shares of charge and gas in each cell; the rest is lining."""
        edges = np.linspace(0.0, self.side, resolution + 1)
        charge = np.sum([_share(edges, piece) for piece in self.pieces], axis=0)
        return charge, _share(edges, self.cavity) - charge


def centres(side: float, resolution: int) -> np.ndarray:
    """Return the centres of equal cells along a side."""
    return (np.arange(resolution) + 0.5) / resolution * side


def _share(edges: np.ndarray, box: np.ndarray | tuple[float, ...]) -> np.ndarray:
    """Return the share of each cell that lies in a box."""
    left, right, floor, roof = box
    across, upwards = (
        np.diff(np.clip(edges, low, high)) / np.diff(edges)
        for low, high in ((left, right), (floor, roof))
    )
    return across[:, None] * upwards[None, :]


def draw_plant(parameters: FurnaceParameters, rng: np.random.Generator) -> Plant:
    """Draw a furnace and its run."""
    p, side = parameters, parameters.side
    ambient = float(np.float32(rng.uniform(*AMBIENT)))
    peak = rng.uniform(p.coolest_peak, p.hottest_peak)
    warmth = rng.uniform(0.3, 0.7) * (rng.random() < p.warm_share)
    walls = rng.uniform(p.thinnest_wall, p.thickest_wall, 4)
    left, right, floor, roof = walls[0], side - walls[1], walls[2], side - walls[3]
    width, height = right - left, roof - floor
    least, most = np.log([p.lowest_lining_conductivity, p.highest_lining_conductivity])
    lining = float(np.exp(rng.uniform(least, most))), rng.uniform(*LINING_CAPACITY)
    conductivity, heat_capacity = CHARGES[rng.integers(len(CHARGES))]
    charge = conductivity * rng.uniform(0.9, 1.1), heat_capacity * rng.uniform(0.9, 1.1)

    # Each piece stands on the hearth in its own stretch of it.
    number = int(rng.integers(1, p.most_pieces + 1))
    stretch = width / number
    widths = rng.uniform(_NARROWEST, 0.85, number) * stretch
    starts = left + stretch * np.arange(number) + rng.random(number) * (stretch - widths)
    tops = floor + rng.uniform(_LOWEST, 0.5, number) * height
    pieces = np.stack([starts, starts + widths, np.full(number, floor), tops], axis=1)

    burners = []
    for _ in range(int(rng.integers(2, 5))):
        flame = rng.uniform(0.08, 0.14) * min(width, height)
        wall, along = rng.integers(3), rng.random()
        if wall == 2:
            burners.append((left + (0.15 + 0.7 * along) * width, roof - flame, flame))
        else:
            x = left + flame if wall == 0 else right - flame
            burners.append((x, floor + (0.6 + 0.25 * along) * height, flame))
    return Plant(
        ambient=ambient,
        peak=peak,
        warmth=warmth,
        cavity=(left, right, floor, roof),
        side=side,
        lining=lining,
        charge=charge,
        gas=(p.gas_conductivity, GAS_CAPACITY),
        pieces=pieces,
        burners=np.array(burners),
        levels=rng.uniform(0.6, 1.4, (len(burners), _PERIODS)),
        program=(
            rng.uniform(0.05, 0.25),
            rng.uniform(0.4, 0.7),
            rng.uniform(0.85, 1.1),
            rng.uniform(0.3, 0.6),
        ),
    )
