"""Random furnaces, square and round, and their schedules, as functions of place and time.

Everything is drawn in an order that depends on no grid or mesh, and only then looked up at points.
Values of materials are round figures of engineering handbooks for the temperatures of a furnace.
"""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mno.scenarios.kernels.random_fields import covariance_spectrum, draw_at
from mno.scenarios.kernels.ring_mesh import RingMesh, draw_curve

if TYPE_CHECKING:
    from mno.scenarios.furnace import FurnaceParameters
    from mno.scenarios.furnace_ring import FurnaceRingParameters

LINING_CAPACITY = (0.8e6, 2.2e6)  # J/(m3 K), from insulating to dense brick
CHARGES = ((30.0, 5.2e6), (25.0, 4.6e6), (40.0, 4.2e6))  # carbon, stainless steel, cast iron
GAS_CAPACITY = 400.0  # J/(m3 K), of air at 1000 K
AMBIENT = (283.0, 313.0)  # K
NARROWEST_PIECE = 0.4  # share of its stretch of the hearth
LOWEST_PIECE = 0.15  # share of the cavity's height
_PERIODS = 8  # times in a run at which burners are set anew
PROGRAM = (0.05, 0.25), (0.4, 0.7), (0.85, 1.1), (0.3, 0.6)  # see `Plant.program`
ROUND_PROGRAM = (0.05, 0.25), (0.4, 0.6), (0.75, 1.05), (0.3, 0.6)
_FINE = 4000  # points at which the schedule is integrated

LAYERS = (  # from the crucible outwards: W/(m K) and J/(m3 K), from and to
    ((1.5, 3.0), (2.2e6, 3.0e6)),  # dense refractory, in which the elements lie
    ((0.2, 0.5), (0.6e6, 1.0e6)),  # insulating brick
    ((0.6, 1.2), (1.4e6, 2.0e6)),  # backing at the shell
)
BOUNDARIES = ((0.4, 0.55), (0.75, 0.85))  # between layers, as shares of the lining's thickness
DEPTH = (0.1, 1.0 / 3.0)  # of an element in the lining, likewise
_EXPONENT, _INVERSE_LENGTH, _SIDE = 3.0, 5.0, 4.0  # of the random variation; in radii of the shell
_INSTANTS = 5  # of a run at which the settings of elements are drawn


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
        done = _until(np.arange(_FINE + 1) / _FINE, power, intervals)
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


def _until(times: np.ndarray, amounts: np.ndarray, intervals: int) -> list[np.ndarray]:
    """Return what has come in all until the ends of equal intervals, row by row.

    `amounts` are what comes between each of some `times`, from 0 to 1, and the next.
    """
    sums = np.concatenate([np.zeros((len(amounts), 1)), np.cumsum(amounts, axis=1)], axis=1)
    return [np.interp(np.linspace(0.0, 1.0, intervals + 1), times, row) for row in sums]


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


class RoundFurnace(NamedTuple):
    """One furnace and its run at the points of a mesh; times in shares of the run."""

    ring: dict[str, np.ndarray]
    """`x` and `y`, m, `conductivity`, W/(m K), and `heat_capacity`, J/(m3 K), shape `(point,)`."""
    bells: np.ndarray  # power density about each element, 1 in its middle, `(element, point)`
    ambient: float  # temperature around the furnace, K
    peak: float  # temperature that its elements are sized for, K
    initial_rise: np.ndarray  # above the ambient temperature, K, shape `(point,)`
    program: tuple[float, float, float, float]
    """Ends of ramp and full power, beginning of cooling; power of the soak between."""
    settings: np.ndarray  # of each element at equal distances in time, shape `(element, 5)`

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
        means = np.diff(_until(times, pieces, intervals), axis=1) * intervals
        return np.einsum("et,ep->tp", means, self.bells)


def draw_round_furnace(
    parameters: "FurnaceRingParameters", rng: np.random.Generator, mesh: RingMesh
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
    ramp, full, cooling, soak = (rng.uniform(*ends) for ends in ROUND_PROGRAM)

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
    ring = {"x": x, "y": y, "conductivity": conductivity, "heat_capacity": heat_capacity}
    rise, program = warmth * (peak - ambient) * (1.0 - share), (ramp, full, cooling, soak)
    return RoundFurnace(ring, bells, ambient, peak, rise, program, settings)


def _draw_materials(
    parameters: "FurnaceRingParameters", rng: np.random.Generator,
    x: np.ndarray, y: np.ndarray, share: np.ndarray,
) -> list[np.ndarray]:  # fmt: skip
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
