"""Random furnaces and their schedules, as functions of place and time.

Everything is drawn in an order that depends on no grid, and only then looked up at points.
Values of materials are round figures of engineering handbooks for the temperatures of a furnace.
"""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from mno.scenarios.furnace import FurnaceParameters

LINING_CAPACITY = (0.8e6, 2.2e6)  # J/(m3 K), from insulating to dense brick
CHARGES = ((30.0, 5.2e6), (25.0, 4.6e6), (40.0, 4.2e6))  # carbon, stainless steel, cast iron
GAS_CAPACITY = 400.0  # J/(m3 K), of air at 1000 K
AMBIENT = (283.0, 313.0)  # K
NARROWEST_PIECE = 0.4  # share of its stretch of the hearth
LOWEST_PIECE = 0.15  # share of the cavity's height
_PERIODS = 8  # times in a run at which burners are set anew
PROGRAM = (0.05, 0.25), (0.4, 0.7), (0.85, 1.1), (0.3, 0.6)  # see `Plant.program`
_FINE = 4000  # points at which the schedule is integrated


class Plant(NamedTuple):
    """One furnace and its run; lengths in m, `x` across and `y` upwards, times in shares of it.

    A box is where it begins and ends along x, then along y. A material is its conductivity and its
    volumetric heat capacity.
    """

    ambient: float  # temperature around it, K
    peak: float  # temperature that its burners are sized for, K
    warmth: float  # what a hot furnace begins with, as a share of the rise to `peak`; 0 if cold
    cavity: tuple[float, float, float, float]  # a box
    side: float  # of the cross-section
    lining: tuple[float, float]
    charge: tuple[float, float]
    gas: tuple[float, float]
    pieces: np.ndarray  # boxes of the charge, shape `(pieces, 4)`
    burners: np.ndarray  # place of each and the width of its flame, shape `(burners, 3)`
    levels: np.ndarray  # setting of each burner in each period, shape `(burners, periods)`
    program: tuple[float, float, float, float]
    """Ends of ramp and heating, beginning of cooling; power of the soak between."""

    def materials(self, resolution: int) -> tuple[np.ndarray, np.ndarray]:
        """Return conductivity and heat capacity of the cells of a grid, shape `(x, y)`.

        In a cell of several materials their capacities add up by area, and so do their resistances,
        which is right for heat that flows across the face between them.
        """
        charge, gas = self._shares(resolution)
        shares = ((charge, self.charge), (gas, self.gas), (1.0 - charge - gas, self.lining))
        resistivity = sum(share / kappa for share, (kappa, _) in shares)
        capacity = sum(share * rho_c for share, (_, rho_c) in shares)
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
        total = np.sum(bells * gas, (1, 2), keepdims=True)
        return heated * total / heated.sum((1, 2), keepdims=True)

    def schedule(self, intervals: int) -> np.ndarray:
        """Return the mean power of each burner in equal intervals, shape `(intervals, burners)`."""
        ramp, heating, cooling, soak = self.program
        times = (np.arange(_FINE) + 0.5) / _FINE
        common = np.interp(times, [0.0, ramp, heating, heating + 0.05], [0.4, 1.0, 1.0, soak])
        common = np.where(times < cooling, common, 0.0)
        power = common * self.levels[:, (times * _PERIODS).astype(int)]
        sums = np.concatenate([np.zeros((len(power), 1)), np.cumsum(power, axis=1)], axis=1)
        instants, ends = np.arange(_FINE + 1) / _FINE, np.linspace(0.0, 1.0, intervals + 1)
        done = [np.interp(ends, instants, row) for row in sums]
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
    left, right, floor, roof = box
    across, upwards = (
        np.diff(np.clip(edges, low, high)) / np.diff(edges)
        for low, high in ((left, right), (floor, roof))
    )
    return across[:, None] * upwards[None, :]


def draw_plant(parameters: "FurnaceParameters", rng: np.random.Generator) -> Plant:
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
    widths = rng.uniform(NARROWEST_PIECE, 0.85, number) * stretch
    starts = left + stretch * np.arange(number) + rng.random(number) * (stretch - widths)
    tops = floor + rng.uniform(LOWEST_PIECE, 0.5, number) * height
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
    levels = rng.uniform(0.6, 1.4, (len(burners), _PERIODS))
    ramp, heating, cooling, soak = (rng.uniform(*ends) for ends in PROGRAM)
    cavity, gas = (left, right, floor, roof), (p.gas_conductivity, GAS_CAPACITY)
    places, program = np.array(burners), (ramp, heating, cooling, soak)
    return Plant(
        ambient, peak, warmth, cavity, side, lining, charge, gas, pieces, places, levels, program
    )
