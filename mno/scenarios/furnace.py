"""A furnace in operation: conduction of heat through lining, charge and gas."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, final

import numpy as np

from mno.core.config import Config
from mno.core.errors import InputError, MnoError
from mno.core.fields import Axis, Field
from mno.scenarios.base import SQUARE, Check, Fields, Scenario
from mno.scenarios.kernels.furnace_plant import (
    FurnaceParameters,
    Plant,
    centres,
    draw_plant,
)
from mno.scenarios.kernels.heat_balance import EnergyBalance
from mno.scenarios.kernels.heat_conduction import advance_directly, solve_heat_conduction
from mno.scenarios.kernels.thermal_stress import ChargeStress

TOLERANCE = 1e-8  # relative residual of a stage; the error it leaves is below float32 storage
MAX_ITERATIONS = 500  # of a stage; about 16 are used
COARSEST, FINEST = 16, 512  # resolutions; at the finest a check takes 1 GB of memory
_SIZING = 32, 25, 2, 1e-5  # resolution, frames, steps and tolerance at which burners are sized
_RISE = 3.0  # bound of the rise, in units of the greatest that burners are sized for


@final
class Furnace(Scenario):
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
    `coolest_peak` and `hottest_peak`, as it is on a grid of 32 x 32 cells; with the same power it
    is hotter on coarser grids and cooler on finer ones, at the defaults by up to a fifteenth of the
    rise. A run begins at the ambient temperature, or with a hot furnace and a cold charge. All this
    is drawn as functions of place and time, the same at every resolution. A cell of several
    materials has the mean of their heat capacities and of their resistivities; `power` is the mean
    over each interval between frames, its last frame repeats the one before.

    The discretisation is the five-point finite volume scheme with harmonic means of the
    conductivity between cells, and half a cell and the film in series at the outer surface: of
    second order in space where materials are smooth, between first and second where they jump. In
    time each interval between frames has two stages of implicit Euler, which damp what a jump of
    power sets off, then `steps_per_frame` steps of an L-stable method of second order; at the
    defaults the error is 1e-4 of the rise in temperature. Each interval begins with the frame as it
    is stored. The scheme has all symmetries of the square, to the tolerance of its iteration. The
    same equation as a residual, in torch, is `mno.scenarios.residuals.furnace`.

    With `thermal_stress` there is one more state, `stress`: von Mises' equivalent stress in the
    cells that hold nothing but charge, zero elsewhere, of each frame of the temperature by itself
    (`kernels/thermal_stress.py`).
    """

    name: ClassVar[str] = "furnace"
    title: ClassVar[str] = "Heat conduction in a furnace"
    Parameters: ClassVar[type[Config]] = FurnaceParameters
    fields: tuple[Field, ...] = (
        Field("conductivity", "W m-1 K-1", "thermal conductivity", "input", ("x", "y")),
        Field("heat_capacity", "J m-3 K-1", "volumetric heat capacity", "input", ("x", "y")),
        Field("power", "W m-3", "power density of the burners", "input", ("time", "x", "y")),
        Field("ambient_temperature", "K", "ambient temperature", "input", ()),
        Field("temperature", "K", "temperature", "state", ("time", "x", "y")),
    )
    checks: tuple[Check, ...] = (
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
            "how far temperatures lie below both ambient and initial ones, or the rise above 3 "
            "times the greatest that burners are sized for, over the latter",
            1e-3,
        ),
    )
    symmetries: tuple[str, ...] = SQUARE

    def __init__(self, parameters: FurnaceParameters, resolution: int) -> None:
        side, wall = parameters.side, parameters.thinnest_wall
        least = max(COARSEST, math.ceil(2.0 * side / wall))
        needs = f"two cells in a wall of {wall:g} m"
        self._stress = None
        if parameters.thermal_stress:
            piece = parameters.smallest_piece
            least = max(least, math.ceil(4.0 * side / piece))
            needs += f", four in a piece of {piece:.3g} m"
            self._stress = ChargeStress.of(parameters)
            self.fields = (*self.fields, ChargeStress.FIELD)
            self.checks = (*self.checks, ChargeStress.CHECK)
        least += -least % 4
        if least > FINEST:
            raise InputError(
                f"scenarios.furnace.thinnest_wall={wall} needs {least} cells along side={side}, so "
                f"that two lie in the wall; at most {FINEST} are possible, choose "
                f"{math.ceil(2e4 * side / FINEST) / 1e4} or more"
            )
        if resolution < least or resolution % 4 or resolution > FINEST:
            below = resolution // 4 * 4
            choices = f"{below} or {below + 4}" if least <= below < FINEST else None
            raise InputError(
                f"generate.resolution={resolution} must be a multiple of 4 from {least} ({needs}) "
                f"to {FINEST}; choose {choices or (least if resolution < least else FINEST)}"
            )
        self._parameters = parameters
        self._resolution = resolution
        self._width = parameters.side / resolution
        self._interval = parameters.duration / (parameters.frames - 1)

    @property
    def axes(self) -> tuple[Axis, ...]:
        """Time from 0, and the axes x and y, across and upwards, with points at cell centres."""
        p, points = self._parameters, centres(self._parameters.side, self._resolution)
        times = np.linspace(0.0, p.duration, p.frames)
        time = Axis("time", "s", "time", times, (0.0, p.duration))
        return (time, *(Axis(name, "m", name, points, (0.0, p.side)) for name in ("x", "y")))

    def outside(self) -> Mapping[str, Mapping[str, Any]]:
        """Return changes of the parameters that lead out of what they draw."""
        p = self._parameters
        hotter = p.hottest_peak + max(p.hottest_peak - p.coolest_peak, 200.0)
        return {
            "hotter": {"coolest_peak": p.hottest_peak, "hottest_peak": hotter},
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
        plant = draw_plant(self._parameters, rng)
        conductivity, heat_capacity = plant.materials(self._resolution)
        flames = plant.flames(self._resolution)
        schedule = plant.schedule(self._parameters.frames - 1)
        power = np.einsum("tb,bxy->txy", schedule, flames) * self._full_power(plant)
        fields = {
            "conductivity": conductivity,
            "heat_capacity": heat_capacity,
            "power": np.concatenate([power, power[-1:]]),
            "ambient_temperature": np.array(plant.ambient),
            "temperature": plant.ambient + plant.warm_rise(self._resolution),
        }
        drawn = {name: field.astype(np.float32) for name, field in fields.items()}
        if self._stress:
            drawn["stress"] = self._stress.frames(drawn, drawn["temperature"][None])[0]
        return drawn

    def _full_power(self, plant: Plant) -> float:
        """Return the power density, W/m3, at which the run's hottest place reaches its peak.

        The equation is linear: what is left of the initial rise and what the burners add are
        solved for one by one.
        """
        resolution, frames, steps, tolerance = _SIZING
        flames = np.einsum("tb,bxy->txy", plant.schedule(frames - 1), plant.flames(resolution))
        nominal = 1e5 * np.concatenate([flames, flames[-1:]])
        cold = np.zeros((resolution, resolution))
        interval = self._parameters.duration / (frames - 1)
        materials = plant.materials(resolution)
        added, _ = self._solve(*materials, nominal, cold, 0.0, interval, steps, tolerance)
        left = np.zeros_like(added)
        if plant.warmth:
            rise = plant.warm_rise(resolution)
            left, _ = self._solve(*materials, 0 * nominal, rise, 0.0, interval, steps, tolerance)
        return 1e5 / float(np.max(added / (plant.peak - plant.ambient - left)))

    def solve(self, inputs: Fields) -> dict[str, np.ndarray]:
        """Solve for the states at all frames, shape `(time, x, y)`.

        Raises:
            InputError: A field has another shape than the scenario's, or values that no furnace
                has.
            MnoError: The iteration did not converge.
        """
        temperature = self._run(inputs)[0]
        if not self._stress:
            return {"temperature": temperature}
        return {"temperature": temperature, "stress": self._stress.frames(inputs, temperature)}

    def balance(self, inputs: Fields) -> EnergyBalance:
        """Solve as `solve` does, and return where the heat went.

        Raises:
            InputError: As for `solve`.
            MnoError: As for `solve`.
        """
        return EnergyBalance(*self._run(inputs)[1].T)

    def _run(self, inputs: Fields) -> tuple[np.ndarray, np.ndarray]:
        n, frames = self._resolution, self._parameters.frames
        shapes = {field.name: (n, n) for field in Furnace.fields}
        shapes |= {"power": (frames, n, n), "ambient_temperature": ()}
        given = {}
        for name, shape in shapes.items():
            given[name] = np.array(inputs[name], dtype=np.float64, order="C")
            if given[name].shape != shape:
                raise InputError(
                    f"{name} has shape {given[name].shape}; expected {shape}, the scenario's grid"
                )
            least = -math.inf if name == "power" else 0.0
            if not (np.isfinite(given[name]).all() and given[name].min() > least):
                raise InputError(
                    f"{name} reaches from {given[name].min()} to {given[name].max()}; expected "
                    f"finite {'' if name == 'power' else 'positive '}numbers, replace the others"
                )
        return self._solve(
            given["conductivity"], given["heat_capacity"], given["power"], given["temperature"],
            float(given["ambient_temperature"]), self._interval, self._parameters.steps_per_frame,
        )  # fmt: skip

    def _solve(
        self, conductivity: np.ndarray, heat_capacity: np.ndarray, power: np.ndarray,
        initial: np.ndarray, ambient: float, interval: float, steps: int,
        tolerance: float = TOLERANCE,
    ) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
        """Return all frames, and the heat of each interval."""
        width = self._parameters.side / len(initial)
        film = self._parameters.heat_transfer_coefficient * width
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

    def check(self, inputs: Fields, outputs: Fields) -> dict[str, float]:
        """Measure first frame, defect, energy, range and stress of one sample, in float64.

        This states the scheme a second time, apart from the solver's kernels, and solves it
        directly, for all intervals at once. A NaN in the arrays gives NaN.
        """
        fields = {name: inputs[name].astype(np.float64) for name in inputs}
        frames = outputs["temperature"].astype(np.float64)
        if not all(np.isfinite(field).all() for field in (*fields.values(), *outputs.values())):
            return {check.name: math.nan for check in self.checks}
        ambient, initial = fields["ambient_temperature"], fields["temperature"]
        rise = np.moveaxis(frames - ambient, 0, -1)
        later, lost = advance_directly(
            fields["conductivity"],
            fields["heat_capacity"],
            np.moveaxis(fields["power"][:-1], 0, -1),
            rise[..., :-1],
            self._parameters.heat_transfer_coefficient,
            self._width,
            self._interval,
            self._parameters.steps_per_frame,
        )

        per_kelvin = fields["heat_capacity"] * self._width**2
        stored = np.einsum("xy,xyt->t", per_kelvin, np.diff(rise, axis=-1))
        content = np.einsum("xy,txy->t", per_kelvin, frames[1:])
        supplied = fields["power"][:-1].sum(axis=(1, 2)) * self._width**2 * self._interval
        greatest = self._parameters.hottest_peak - ambient
        below = min(ambient, initial.min()) - frames.min()
        stress = {"equilibrium": self._stress.imbalance(inputs, outputs)} if self._stress else {}
        return stress | {
            "initial": float(np.max(np.abs(frames[0] - initial))),
            "defect": float(np.max(np.abs(later - rise[..., 1:])) / frames.max()),
            "energy": float(np.max(np.abs(stored - supplied + lost) / content)),
            "range": float(max(below, rise.max() - _RISE * greatest, 0.0) / greatest),
        }

    def compile(self) -> None:
        """Compile the solver, or load it from numba's cache."""
        ones = np.ones((4, 4))
        self._solve(ones, ones, np.ones((2, 4, 4)), ones, 1.0, 1.0, 1)


SCENARIO = Furnace
