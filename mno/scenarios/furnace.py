"""A furnace in operation: conduction of heat through lining, charge and gas."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Self, final

import numpy as np
from pydantic import Field as Parameter
from pydantic import model_validator

from mno.core.errors import InputError, MnoError
from mno.core.fields import Field
from mno.scenarios.base import POSITIVE, SQUARE, Changes, Check, Fields, Parameters, space_axes
from mno.scenarios.kernels.bands import leaving_along
from mno.scenarios.kernels.furnaces import Plant, centres, draw_plant
from mno.scenarios.kernels.heat_conduction import advance_directly, solve_heat_conduction, stages_of
from mno.scenarios.linear import LinearSystem, five_points
from mno.scenarios.time_dependent import Frames, TimeDependent

TOLERANCE = 1e-8  # relative residual of a stage; the error it leaves is below float32 storage
MAX_ITERATIONS = 500  # of a stage; about 16 are used
COARSEST, FINEST = 16, 512  # resolutions; at the finest a check takes 1 GB of memory
LARGEST_RISE = 3.0  # that passes, in units of the greatest that burners are sized for
_OF_STRESS = (
    "thermal_stress", "youngs_modulus", "poisson_ratio", "thermal_expansion", "piece_ends",
)  # fmt: skip
_SIZING = 32, 25, 2, 1e-5  # resolution, frames, steps and tolerance at which burners are sized

Wall = Annotated[float, Parameter(gt=0.0, le=5.0)]
Lining = Annotated[float, Parameter(ge=0.02, le=20.0)]
Peak = Annotated[float, Parameter(ge=500.0, le=2500.0)]


class FurnaceParameters(Parameters):
    """The furnaces that are drawn, and how long they are run."""

    ORDERED = (
        ("thinnest_wall", "thickest_wall"),
        ("lowest_lining_conductivity", "highest_lining_conductivity"),
        ("coolest_peak", "hottest_peak"),
    )

    side: float = Parameter(2.0, ge=0.2, le=20.0)
    """Width and height of the cross-section, m."""
    thinnest_wall: Wall = 0.25
    """Least thickness of a wall, m."""
    thickest_wall: Wall = 0.35
    """Greatest thickness of a wall, m; at most 0.3 of `side`."""
    lowest_lining_conductivity: Lining = 0.3
    """Of the best insulating wall, W m-1 K-1."""
    highest_lining_conductivity: Lining = 1.5
    """Of the least insulating wall, W m-1 K-1."""
    gas_conductivity: float = Parameter(80.0, ge=1.0, le=1000.0)
    """Effective conductivity of the gas, which stands in for convection and radiation, W m-1
    K-1."""
    most_pieces: int = Parameter(3, ge=1, le=6)
    """Most pieces of a charge; one at least."""
    coolest_peak: Peak = 1250.0
    """Least temperature that a furnace's burners are sized for, K."""
    hottest_peak: Peak = 1650.0
    """Greatest temperature that a furnace's burners are sized for, K."""
    warm_share: float = Parameter(0.5, ge=0.0, le=1.0)
    """Share of runs that begin with a hot furnace and a cold charge; the others begin at the
    ambient temperature."""
    heat_transfer_coefficient: float = Parameter(10.0, ge=0.1, le=1000.0)
    """h_c of the outer surface, W m-2 K-1."""
    duration: float = Parameter(43200.0, ge=600.0, le=1e7)
    """Time of the last frame, s."""
    frames: Frames = 25
    steps_per_frame: int = Parameter(4, ge=1, le=64)
    """Steps of the method in time between two frames."""

    @model_validator(mode="before")
    @classmethod
    def _stress_is_gone(cls, given: Any) -> Any:
        """Leave out what datasets of earlier versions say of a stress that they do not have."""
        if not isinstance(given, dict) or given.get("thermal_stress", True):
            return given
        return {name: value for name, value in given.items() if name not in _OF_STRESS}

    @model_validator(mode="after")
    def _walls_leave_a_cavity(self) -> Self:
        if self.thickest_wall > 0.3 * self.side:
            raise ValueError(
                f"thickest_wall={self.thickest_wall} must be at most 0.3 of side={self.side}; "
                f"choose {0.3 * self.side:g} or less"
            )
        return self


@final
class Furnace(TimeDependent):
    """Temperature in the cross-section of a furnace that is heated, soaked and cools down.

        rho c T_t = div(kappa grad T) + q        -kappa dT/dn = h_c (T - T_amb) at the outer surface

    A conduction model of a furnace: a square cross-section, in metres, of brick walls, one to
    `most_pieces` steel or iron pieces on the hearth, and gas. Convection and radiation, by which a
    real furnace passes on most of its heat, are not solved for: an effective conductivity of the
    gas stands in for them. So temperatures are plausible, not predictions for a plant. Materials do
    not change with temperature, nothing melts, and burners are heat sources in the gas.

    Drawn are the thickness of each wall and the lining, size, place and number of the pieces and
    their material, two to four burners at the side walls and the roof, and a schedule: a ramp, full
    power, a soak, and often shut-off before the end, each burner being set anew eight times. The
    burners are sized so that the hottest place of the run reaches a temperature drawn between
    `coolest_peak` and `hottest_peak` on a grid of 32 x 32 cells; on coarser ones it is hotter, on
    finer ones cooler, by up to a fifteenth of the rise. A run begins at the ambient temperature, or
    with a hot furnace and a cold charge. All this is the same at every resolution. A cell of
    several materials has the mean of their heat capacities and of their resistivities; `power` is
    the mean over each interval between frames, its last frame repeats the one before.

    The discretisation is the five-point finite volume scheme with harmonic means of the
    conductivity between cells, and half a cell and the film in series at the outer surface: of
    second order in space where materials are smooth, between first and second where they jump. In
    time each interval between frames has two stages of implicit Euler, which damp what a jump of
    power sets off, then `steps_per_frame` steps of an L-stable method of second order; at the
    defaults the error is 1e-4 of the rise in temperature. Each interval begins with the frame as it
    is stored. The scheme has all symmetries of the square, to the tolerance of its iteration.
    """

    name = "furnace"
    title = "Heat conduction in a furnace"
    Parameters = FurnaceParameters
    has_derivatives = True
    fields = (
        Field(
            "conductivity", "W m-1 K-1", "thermal conductivity", "input", ("x", "y"), scale="log"
        ),
        Field(
            "heat_capacity", "J m-3 K-1", "volumetric heat capacity", "input", ("x", "y"),
            scale="log",
        ),
        Field("power", "W m-3", "power density of the burners", "input", ("time", "x", "y")),
        Field("ambient_temperature", "K", "ambient temperature", "input", ()),
        Field(
            "temperature", "K", "temperature", "state", ("time", "x", "y"),
            scale="less ambient_temperature",
        ),
    )  # fmt: skip
    checks = (
        Check(
            "initial",
            "largest change of the initial temperature in the first frame, K",
            0.0,
            of_given=True,
        ),
        Check(
            "defect",
            "largest difference between a frame and what a second statement of the scheme makes "
            "of the one before, over the highest temperature (rounding to float32 leaves up to "
            "6e-8)",
            2e-7,
        ),
        Check(
            "energy",
            "largest difference between what an interval stores, by its frames, and what it is "
            "supplied less what it loses, over the heat content above 0 K (rounding to float32 "
            "leaves up to 6e-8)",
            1e-7,
        ),
        Check(
            "range",
            "how far temperatures lie below both ambient and initial ones, or the rise above "
            f"{LARGEST_RISE:g} times the greatest that burners are sized for, over the latter",
            1e-3,
        ),
    )
    symmetries = SQUARE
    _time_units = "s"

    def __init__(self, parameters: FurnaceParameters, resolution: int) -> None:
        side, wall = parameters.side, parameters.thinnest_wall
        least = max(COARSEST, math.ceil(2.0 * side / wall))
        least += -least % 4
        if least > FINEST:
            raise InputError(
                f"scenarios.furnace.thinnest_wall={wall} needs {least} cells along side={side}, so "
                f"that two lie in the wall; at most {FINEST} are possible, choose "
                f"{math.ceil(2e4 * side / FINEST) / 1e4} or more"
            )
        needs = f"two cells in a wall of {wall:g} m"
        possible = f"a multiple of 4 from {least} ({needs}) to {FINEST}"
        super().__init__(parameters, resolution, least, FINEST, multiple=4, possible=possible)
        self._width = parameters.side / resolution
        points = centres(parameters.side, resolution)
        self._space = space_axes("xy", points, (0.0, parameters.side), "m")

    def outside(self) -> Changes:
        """Return hotter furnaces, better linings and a better cooled surface."""
        p = self.parameters
        hottest = p.hottest_peak + max(p.hottest_peak - p.coolest_peak, 200.0)
        return {
            "hotter": {"coolest_peak": p.hottest_peak, "hottest_peak": hottest},
            "better insulated": {
                "lowest_lining_conductivity": 0.5 * p.lowest_lining_conductivity,
                "highest_lining_conductivity": p.lowest_lining_conductivity,
            },
            "twice the heat transfer at the surface": {
                "heat_transfer_coefficient": 2.0 * p.heat_transfer_coefficient
            },
        }

    def sample(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Draw a furnace and its run: the inputs, and the initial states, shape `(x, y)`."""
        plant = draw_plant(self.parameters, rng)
        conductivity, heat_capacity = plant.materials(self.resolution)
        flames = plant.flames(self.resolution)
        schedule = plant.schedule(self.parameters.frames - 1)
        power = np.einsum("tb,bxy->txy", schedule, flames) * self._power(plant)
        fields = {
            "conductivity": conductivity,
            "heat_capacity": heat_capacity,
            "power": np.concatenate([power, power[-1:]]),
            "ambient_temperature": np.array(plant.ambient),
            "temperature": plant.ambient + plant.warm_rise(self.resolution),
        }
        return {name: field.astype(np.float32) for name, field in fields.items()}

    def _power(self, plant: Plant) -> float:
        """Return the power density, W/m3, at which the run's hottest place reaches its peak.

        The equation is linear: the initial rise and what burners add are solved for one by one.
        """
        resolution, frames, steps, tolerance = _SIZING
        flames = np.einsum("tb,bxy->txy", plant.schedule(frames - 1), plant.flames(resolution))
        materials = plant.materials(resolution)
        interval = self.parameters.duration / (frames - 1)

        def run(power: np.ndarray, rise: np.ndarray) -> np.ndarray:
            return self._solve(*materials, power, rise, 0.0, interval, steps, tolerance)[0]

        nominal = 1e5 * np.concatenate([flames, flames[-1:]])
        rise = plant.warm_rise(resolution)
        added = run(nominal, 0.0 * rise)
        left = run(0.0 * nominal, rise) if rise.any() else np.zeros_like(added)
        return 1e5 / float(np.max(added / (plant.peak - plant.ambient - left)))

    def solve(self, inputs: Fields) -> dict[str, np.ndarray]:
        """Solve for the temperature at all frames, shape `(time, x, y)`."""
        return {"temperature": self._run(inputs)[0]}

    def balance(self, inputs: Fields) -> np.ndarray:
        """Return the heat stored, supplied and lost in each interval, J/m, `(intervals, 3)`."""
        return self._run(inputs)[1]

    def linear_system(self, inputs: Fields) -> LinearSystem:
        """Return the equation of the rise above the ambient temperature, per metre of depth."""
        given = {name: values.astype(np.float64) for name, values in inputs.items()}
        area, film = self._width**2, self.parameters.heat_transfer_coefficient
        stiffness = five_points(given["conductivity"], self._width, film)
        source = given["power"].reshape(len(given["power"]), -1) * area
        capacity, level = given["heat_capacity"].ravel() * area, float(given["ambient_temperature"])
        return LinearSystem(stiffness, source, capacity, level)

    def solve_along(
        self, inputs: Fields, directions: Fields
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Solve, and along directions of all inputs: the scheme and its tangent, one matrix."""
        given, width = self._within(inputs), self._width
        stiffness, source, _, level = system = self.linear_system(inputs)
        solve, lasts, shares = stages_of(system, self._interval, self.parameters.steps_per_frame)
        kappa, film = given["conductivity"], self.parameters.heat_transfer_coefficient
        along = {n: np.stack([*np.moveaxis(x, 0, -1)]) for n, x in directions.items()}
        levels, storage = along["ambient_temperature"], along["heat_capacity"] * width**2 / lasts
        rates, moved, storage = (
            x.reshape(kappa.size, -1)
            for x in (along["temperature"] - levels, along["conductivity"], storage)
        )
        rise = (given["temperature"] - level).ravel()
        frames, moves = [rise + level], [rates + levels]
        for frame, power in enumerate(along["power"][:-1] * width**2):
            for share in shares:
                change = solve(source[frame] - stiffness @ rise)
                later = (rise + change).reshape(kappa.shape)
                right = power.reshape(rates.shape) - leaving_along(kappa, moved, later, width, film)
                right -= storage * change[:, None] + stiffness @ rates
                rise, rates = rise + share * change, rates + share * solve(right)
            frames.append(rise + level)
            moves.append(rates + levels)
        solved = np.stack(frames).reshape(-1, *kappa.shape)
        found = np.moveaxis(np.stack(moves), -1, 0).reshape(-1, *solved.shape)
        return {"temperature": solved.astype(np.float32)}, {"temperature": found}

    def _run(self, inputs: Fields) -> tuple[np.ndarray, np.ndarray]:
        given = self._within(inputs)
        return self._solve(
            given["conductivity"], given["heat_capacity"], given["power"], given["temperature"],
            float(given["ambient_temperature"]), self._interval, self.parameters.steps_per_frame,
        )  # fmt: skip

    def _within(self, inputs: Fields) -> dict[str, np.ndarray]:
        bounds = dict.fromkeys((field.name for field in type(self).fields), (POSITIVE, math.inf))
        return self.within(inputs, **{**bounds, "power": (-math.inf, math.inf)})

    def _solve(
        self, conductivity: np.ndarray, heat_capacity: np.ndarray, power: np.ndarray,
        initial: np.ndarray, ambient: float, interval: float, steps: int,
        tolerance: float = TOLERANCE,
    ) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
        """Return all frames, float32, and the heat of each interval, J/m.

        The latter has shape `(interval, 3)`: stored, supplied and lost.
        """
        width = self.parameters.side / len(initial)
        film = self.parameters.heat_transfer_coefficient * width
        frames = np.empty(power.shape, np.float32)
        heat, _, residual = solve_heat_conduction(
            conductivity, heat_capacity, power, initial, ambient, film, width, interval,
            steps, tolerance, MAX_ITERATIONS, frames,
        )  # fmt: skip
        if not residual <= tolerance:
            raise MnoError(
                f"conjugate gradients for furnace did not converge: relative residual "
                f"{residual:.1e} after {MAX_ITERATIONS} iterations, expected {tolerance:.0e}; the "
                f"conductivity runs from {conductivity.min():.3g} to {conductivity.max():.3g} "
                "W m-1 K-1, lower the contrast"
            )
        return frames, heat

    def _measure(self, given: Fields, frames: Fields) -> Mapping[str, Any]:
        temperature, ambient = frames["temperature"], given["ambient_temperature"]
        rise = (temperature - ambient).reshape(len(temperature), -1).T
        system, capacity = self.linear_system(given), given["heat_capacity"] * self._width**2
        p = self.parameters
        later, lost = advance_directly(system, rise[:, :-1], self._interval, p.steps_per_frame)
        supplied = system.source[:-1].sum(axis=1) * self._interval
        stored = capacity.ravel() @ np.diff(rise)
        content = np.einsum("xy,txy->t", capacity, temperature[1:])
        greatest = p.hottest_peak - ambient
        below = min(ambient, given["temperature"].min()) - temperature.min()
        above = rise.max() - LARGEST_RISE * greatest
        return {
            "defect": np.max(np.abs(later - rise[:, 1:])) / temperature.max(),
            "energy": np.max(np.abs(stored - supplied + lost) / content),
            "range": max(below, above, 0.0) / greatest,
        }

    def compile(self) -> None:
        """Compile the solver, or load it from numba's cache."""
        ones = np.ones((4, 4))
        self._solve(ones, ones, np.ones((2, 4, 4)), ones, 1.0, 1.0, 1)


SCENARIO = Furnace
