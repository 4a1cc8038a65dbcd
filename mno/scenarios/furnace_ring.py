"""A round electric furnace in operation: conduction of heat through its lining."""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import deepcopy
from typing import Any, ClassVar, final

import numpy as np

from mno.core.config import Config
from mno.core.errors import InputError, MnoError
from mno.core.fields import Axis, Field
from mno.scenarios.base import Check, Fields, Scenario
from mno.scenarios.kernels.heat_balance import EnergyBalance
from mno.scenarios.kernels.ring_conduction import advance_again, assemble, restate, solve_conduction
from mno.scenarios.kernels.ring_mesh import RingMesh, areas, edges_of
from mno.scenarios.kernels.round_furnace import (
    FurnaceRingParameters,
    RoundFurnace,
    draw_round_furnace,
)

COARSEST, FINEST = 8, 512  # resolutions; at the finest a check takes more than 1 GB of memory
_SIZING = 32, 25, 2  # least resolution, frames and steps at which elements are sized
_WIDEST = 1.5  # distance of rings, in widths of an element, at which its heat is right to 1e-4
_RISE = 1.5  # bound of the rise, in units of the greatest that elements are sized for


@final
class FurnaceRing(Scenario):
    """Temperature in the lining of a round electric furnace that is heated, soaked and cools down.

        rho c T_t = div(kappa grad T) + q        -kappa dT/dn = h (T - T_amb) at both walls

    The lining fills the ring between a crucible, uneven by wear, and a steel shell, in metres; the
    shell gives off heat to the ambient air, the crucible a little, each with its own `h`. Neither
    the crucible's content nor radiation is solved for, and materials do not change with
    temperature: temperatures are plausible, not predictions for a plant.

    Drawn are both walls, the three layers of the lining (dense refractory, insulating brick,
    backing), which follow the walls and give way to each other smoothly, random smooth factors of
    their conductivity and heat capacity, three to `most_elements` heating elements at random angles
    in the inner third, and a schedule: a ramp, full power, a soak, and often shut-off before the
    end, each element with settings that drift. The elements are sized so that the hottest point of
    the run reaches a temperature drawn between `coolest_peak` and `hottest_peak`, as it is at
    resolution 32; others differ a little. A run begins at the ambient temperature, or with a hot
    crucible, the temperature falling linearly to the shell. `power` is the mean over each interval
    between frames, its last frame repeats the one before.

    The domain has no grid. Fields live on unordered points, which fit the walls, and their
    coordinates are part of each sample. At `resolution` n there are n^2 points: 2n around, on n/2
    rings from wall to wall. One draw is one furnace at every resolution.

    The discretisation is that of linear finite elements on triangles between the points, with the
    mean conductivity of the corners in each, and lumped heat capacity, power and film: of second
    order, at the defaults with errors of 3 to 4 % of the rise at resolution 16 and 0.3 to 0.6 % at
    44. In time it is an L-stable method of second order, `steps_per_frame` equal steps at a time;
    at the defaults (900 s) its error is 1e-4 of the rise. Each interval begins with the frame as it
    is stored. An operator is told the points alone, not the triangles: there is no residual in
    torch.
    """

    name: ClassVar[str] = "furnace_ring"
    title: ClassVar[str] = "Heat conduction in the lining of a round furnace"
    Parameters: ClassVar[type[Config]] = FurnaceRingParameters
    fields: tuple[Field, ...] = (
        Field("x", "m", "x", "coordinate", ("point",)),
        Field("y", "m", "y", "coordinate", ("point",)),
        Field("conductivity", "W m-1 K-1", "thermal conductivity", "input", ("point",)),
        Field("heat_capacity", "J m-3 K-1", "volumetric heat capacity", "input", ("point",)),
        Field("power", "W m-3", "power density of the elements", "input", ("time", "point")),
        Field("ambient_temperature", "K", "ambient temperature", "input", ()),
        Field("temperature", "K", "temperature", "state", ("time", "point")),
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
            "how far temperatures lie below both ambient and initial ones, or the rise above 1.5 "
            "times the greatest that elements are sized for, over the latter",
            1e-3,
        ),
        Check(
            "mesh",
            "share by which the smallest triangle is smaller than a hundredth of the mean one",
            0.0,
            of_given=True,
        ),
    )

    def __init__(self, parameters: FurnaceRingParameters, resolution: int) -> None:
        least = _least_resolution(parameters)
        if resolution < least or resolution % 2 or resolution > FINEST:
            below = resolution // 2 * 2
            choices = f"{below} or {below + 2}" if least <= below < FINEST else None
            raise InputError(
                f"generate.resolution={resolution} must be even and from {least} (which resolves "
                f"elements and layers of scenarios.furnace_ring) to {FINEST}; choose "
                f"{choices or (least if resolution < least else FINEST)}"
            )
        self._parameters = parameters
        self._mesh = RingMesh(2 * resolution, resolution // 2)
        self._triangles = self._mesh.triangles
        sizing = max(_SIZING[0], least)
        self._sizing_mesh = RingMesh(2 * sizing, sizing // 2)
        self._films = (
            parameters.crucible_transfer_coefficient,
            parameters.shell_transfer_coefficient,
        )
        self._interval = parameters.duration / (parameters.frames - 1)

    @property
    def axes(self) -> tuple[Axis, ...]:
        """Time from 0, and the axis of points, which numbers them."""
        p, points = self._parameters, float(self._mesh.num_points)
        times = np.linspace(0.0, p.duration, p.frames)
        numbers = Axis("point", "1", "number of the point", np.arange(points), (0.0, points))
        return Axis("time", "s", "time", times, (0.0, p.duration)), numbers

    def outside(self) -> Mapping[str, Mapping[str, Any]]:
        """Return changes of the parameters that lead out of what they draw."""
        p = self._parameters
        hotter = p.hottest_peak + max(p.hottest_peak - p.coolest_peak, 200.0)
        return {
            "hotter": {"coolest_peak": p.hottest_peak, "hottest_peak": hotter},
            "more worn": {"wear": 2.0 * p.wear},
            "twice the heat transfer at the shell": {
                "shell_transfer_coefficient": 2.0 * p.shell_transfer_coefficient
            },
        }

    def sample(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Draw a furnace and its run: coordinates, inputs, initial temperature."""
        coarse = draw_round_furnace(self._parameters, deepcopy(rng), self._sizing_mesh)
        furnace = draw_round_furnace(self._parameters, rng, self._mesh)
        power = furnace.power(self._parameters.frames - 1) * self._full_power(coarse)
        fields = {
            "x": furnace.x,
            "y": furnace.y,
            "conductivity": furnace.conductivity,
            "heat_capacity": furnace.heat_capacity,
            "power": np.concatenate([power, power[-1:]]),
            "ambient_temperature": np.array(furnace.ambient),
            "temperature": furnace.ambient + furnace.initial_rise,
        }
        return {name: field.astype(np.float32) for name, field in fields.items()}

    def _full_power(self, furnace: RoundFurnace) -> float:
        """Return the power density, W/m3, at which the run's hottest point reaches its peak.

        The equation is linear: what is left of the initial rise and what the elements add are
        solved for one by one.
        """
        _, frames, steps = _SIZING
        interval = self._parameters.duration / (frames - 1)
        network = assemble(
            self._sizing_mesh, furnace.x, furnace.y, furnace.conductivity, furnace.heat_capacity,
            self._films,
        )  # fmt: skip
        nominal, initial = 1e5 * furnace.power(frames - 1), furnace.initial_rise
        added, _ = solve_conduction(network, nominal, 0.0 * initial, 0.0, interval, steps)
        left = np.zeros_like(added)
        if initial.any():
            left, _ = solve_conduction(network, 0.0 * nominal, initial, 0.0, interval, steps)
        return 1e5 / float(np.max(added / (furnace.peak - furnace.ambient - left)))

    def solve(self, inputs: Fields) -> dict[str, np.ndarray]:
        """Solve for the temperature at all frames, shape `(time, point)`.

        Raises:
            InputError: A field has another shape than the scenario's, or values that no furnace
                has, or the points are not those of a ring.
            MnoError: The solution is not finite.
        """
        return {"temperature": self._run(inputs)[0]}

    def balance(self, inputs: Fields) -> EnergyBalance:
        """Solve as `solve` does, and return where the heat went.

        Raises:
            InputError: As for `solve`.
            MnoError: As for `solve`.
        """
        return EnergyBalance(*self._run(inputs)[1].T)

    def _run(self, inputs: Fields) -> tuple[np.ndarray, np.ndarray]:
        given = self._given(inputs)
        ring = {name: given[name] for name in ("x", "y", "conductivity", "heat_capacity")}
        network = assemble(self._mesh, **ring, films=self._films)
        with np.errstate(over="ignore", invalid="ignore"):
            frames, heat = solve_conduction(
                network, given["power"][:-1], given["temperature"],
                float(given["ambient_temperature"]), self._interval,
                self._parameters.steps_per_frame,
            )  # fmt: skip
        if not np.isfinite(frames).all():
            raise MnoError(
                "the temperature of furnace_ring is not finite; expected a solution for finite "
                f"inputs, lower the power (up to {given['power'].max():.3g} W m-3)"
            )
        return frames, heat

    def _given(self, inputs: Fields) -> dict[str, np.ndarray]:
        """Return all inputs in float64.

        Raises:
            InputError: As for `solve`.
        """
        points = self._mesh.num_points
        shapes: dict[str, tuple[int, ...]] = {field.name: (points,) for field in self.fields}
        shapes |= {"power": (self._parameters.frames, points), "ambient_temperature": ()}
        given = {name: np.asarray(inputs[name], dtype=np.float64) for name in shapes}
        for name, shape in shapes.items():
            if given[name].shape != shape:
                raise InputError(
                    f"{name} has shape {given[name].shape}; expected {shape}, the scenario's points"
                )
            signed = name in ("x", "y", "power")
            least = -math.inf if signed else 0.0
            if not (np.isfinite(given[name]).all() and given[name].min() > least):
                raise InputError(
                    f"{name} reaches from {given[name].min()} to {given[name].max()}; expected "
                    f"finite {'' if signed else 'positive '}numbers, replace the others"
                )
        smallest = areas(given["x"], given["y"], self._triangles).min()
        if not smallest > 0.0:
            raise InputError(
                "x and y are not the points of a ring, from the crucible outwards: a triangle "
                f"between them has area {smallest:.3g}, expected positive numbers; give what "
                "sample draws"
            )
        return given

    def check(self, inputs: Fields, outputs: Fields) -> dict[str, float]:
        """Measure first frame, defect, energy balance, range and mesh of one sample, in float64.

        This states the scheme a second time, edge by edge with the cotangents of the opposite
        angles, apart from the solver's matrix, and advances all frames at once. A NaN in the
        arrays gives NaN, and so does a triangle without an area.
        """
        fields = {name: inputs[name].astype(np.float64) for name in inputs}
        frames = outputs["temperature"].astype(np.float64)
        failed = {check.name: math.nan for check in self.checks}
        if not all(np.isfinite(field).all() for field in (*fields.values(), frames)):
            return failed
        x, y = fields["x"], fields["y"]
        with np.errstate(divide="ignore", invalid="ignore"):
            edges = edges_of(x, y, self._triangles, fields["conductivity"])
        mesh = max(1.0 - 100.0 * edges.size.min() / edges.size.mean(), 0.0)
        if not edges.size.min() > 0.0:
            return failed | {"mesh": mesh}

        ambient, initial = fields["ambient_temperature"], fields["temperature"]
        rise, power = (frames - ambient).T, fields["power"][:-1].T
        network = restate(self._mesh, edges, x, y, fields["heat_capacity"], self._films)
        later, lost = advance_again(
            network, power, rise[:, :-1], self._interval, self._parameters.steps_per_frame
        )
        stored = np.einsum("p,pt->t", network.capacity, np.diff(rise, axis=1))
        content = np.einsum("p,tp->t", network.capacity, frames[1:])
        supplied = self._interval * np.einsum("p,pt->t", network.area, power)
        greatest = self._parameters.hottest_peak - ambient
        below = min(ambient, initial.min()) - frames.min()
        return {
            "initial": float(np.max(np.abs(frames[0] - initial))),
            "defect": float(np.max(np.abs(later - rise[:, 1:])) / frames.max()),
            "energy": float(np.max(np.abs(stored - supplied + lost) / content)),
            "range": float(max(below, rise.max() - _RISE * greatest, 0.0) / greatest),
            "mesh": float(mesh),
        }


def _least_resolution(parameters: FurnaceRingParameters) -> int:
    """Return the least resolution at which rings are close enough for elements and layers.

    Raises:
        InputError: There is none.
    """
    p = parameters
    thickness = p.radius - p.smallest_crucible
    rings = 1.0 + max(thickness / (_WIDEST * p.element_width), 1.0 / p.transition)
    least = max(COARSEST, 2 * math.ceil(rings))
    if least > FINEST:
        raise InputError(
            f"scenarios.furnace_ring.element_width={p.element_width} in a lining of "
            f"{thickness:g} m needs resolution {least}; at most {FINEST} is possible, choose "
            f"{math.ceil(2e4 * thickness / (_WIDEST * (FINEST - 2))) / 1e4} or more"
        )
    return least


SCENARIO = FurnaceRing
