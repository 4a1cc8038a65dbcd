"""A round electric furnace in operation: conduction of heat through its lining."""

import math
from collections.abc import Mapping
from copy import deepcopy
from typing import Annotated, Any, Self, final

import numpy as np
from pydantic import Field as Parameter
from pydantic import model_validator
from scipy.sparse import csr_array, diags_array

from mno.core.errors import InputError, MnoError
from mno.core.fields import Field
from mno.scenarios import heated_furnace
from mno.scenarios.base import Changes, Fields, Parameters
from mno.scenarios.kernels import ring_conduction
from mno.scenarios.kernels.furnaces import RoundFurnace, draw_round_furnace
from mno.scenarios.kernels.ring_mesh import MESH, SWING, Edges, RingMesh, edges_of, smallness
from mno.scenarios.linear import LinearSystem
from mno.scenarios.time_dependent import Frames

COARSEST, FINEST = 8, 512  # resolutions; at the finest a check takes more than 1 GB of memory
_SIZING = 32, 25, 2  # least resolution, frames and steps at which elements are sized
_WIDEST = 1.5  # distance of rings, in widths of an element, at which its heat is right to 1e-4

NARROWEST = 0.1  # of crucibles, as a share of the shell's radius
THINNEST = 0.2  # of the lining, as a share of the shell's radius

Film = Annotated[float, Parameter(le=1000.0)]
Length = Annotated[float, Parameter(gt=0.0, le=10.0)]


class FurnaceRingParameters(Parameters):
    """The round furnaces that are drawn, and how long they are run."""

    ORDERED = (("smallest_crucible", "largest_crucible"), ("coolest_peak", "hottest_peak"))

    radius: float = Parameter(0.5, ge=0.05, le=10.0)
    """Mean radius of the steel shell, m."""
    smallest_crucible: Length = 0.17
    """Least mean radius of the crucible, m."""
    largest_crucible: Length = 0.25
    """Largest mean radius of the crucible, m."""
    wear: float = Parameter(0.08, ge=0.0, le=0.3)
    """How far the crucible's outline swings about a circle, as a share of its radius."""
    shell_waviness: float = Parameter(0.01, ge=0.0, le=0.1)
    """The same of the shell."""
    transition: float = Parameter(0.15, ge=0.02, le=1.0)
    """Distance over which one layer of the lining gives way to the next, as a share of the lining's
    thickness; three quarters of the change lie in it."""
    variation: float = Parameter(0.15, ge=0.0, le=1.0)
    """Standard deviation of the logarithm of the random factors, smooth in space, of conductivity
    and heat capacity."""
    most_elements: int = Parameter(6, ge=3, le=12)
    """Most heating elements; three at least."""
    element_width: Length = 0.04
    """Standard deviation of the bell of power about each element, m."""
    coolest_peak: heated_furnace.Peak = 1250.0
    """Least temperature that a furnace's elements are sized for, K."""
    hottest_peak: heated_furnace.Peak = 1650.0
    """Greatest temperature that a furnace's elements are sized for, K."""
    warm_share: float = Parameter(0.5, ge=0.0, le=1.0)
    """Share of runs that begin with a hot crucible; the others begin at the ambient temperature."""
    shell_transfer_coefficient: Film = Parameter(10.0, ge=0.1)
    """From the shell to the ambient air, W m-2 K-1."""
    crucible_transfer_coefficient: Film = Parameter(2.0, ge=0.0)
    """From the crucible's wall to the ambient air, W m-2 K-1; at 0 nothing passes."""
    duration: float = Parameter(86400.0, ge=60.0, le=1e7)
    """Time of the last frame, s."""
    frames: Frames = 25
    steps_per_frame: heated_furnace.Steps = 4

    @model_validator(mode="after")
    def _furnaces_can_be_built(self) -> Self:
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


@final
class FurnaceRing(heated_furnace.HeatedFurnace):
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

    name = "furnace_ring"
    title = "Heat conduction in the lining of a round furnace"
    Parameters = FurnaceRingParameters
    fields = (
        Field("x", "m", "x", "coordinate", ("point",)),
        Field("y", "m", "y", "coordinate", ("point",)),
        *heated_furnace.furnace_fields(("point",), "elements"),
    )
    checks = (*heated_furnace.furnace_checks(1.5, "elements"), MESH)
    largest_rise = 1.5

    def __init__(self, parameters: FurnaceRingParameters, resolution: int) -> None:
        # Rings lie close enough for elements and layers.
        thickness = parameters.radius - parameters.smallest_crucible
        width, transition = parameters.element_width, parameters.transition
        rings = 1.0 + max(thickness / (_WIDEST * width), 1.0 / transition)
        least = max(COARSEST, 2 * math.ceil(rings))
        if least > FINEST:
            raise InputError(
                f"scenarios.furnace_ring.element_width={width} in a lining of {thickness:g} m "
                f"needs resolution {least}; at most {FINEST} is possible, choose "
                f"{math.ceil(2e4 * thickness / (_WIDEST * (FINEST - 2))) / 1e4} or more"
            )
        possible = (
            f"even and from {least} (which resolves elements and layers of scenarios.furnace_ring) "
            f"to {FINEST}"
        )
        super().__init__(parameters, resolution, least, FINEST, multiple=2, possible=possible)
        self._mesh = RingMesh(2 * resolution, resolution // 2)
        sizing = max(_SIZING[0], least)
        self._sizing_mesh = RingMesh(2 * sizing, sizing // 2)
        films = parameters.crucible_transfer_coefficient, parameters.shell_transfer_coefficient
        self._films = films
        self._space = (self._mesh.axis,)

    def outside(self) -> Changes:
        """Return hotter and more worn furnaces and a better cooled shell."""
        p = self.parameters
        return {
            "hotter": self._hotter(),
            "more worn": {"wear": 2.0 * p.wear},
            "twice the heat transfer at the shell": {
                "shell_transfer_coefficient": 2.0 * p.shell_transfer_coefficient
            },
        }

    def sample(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Draw a furnace and its run: coordinates, inputs, initial temperature."""
        coarse = draw_round_furnace(self.parameters, deepcopy(rng), self._sizing_mesh)
        furnace = draw_round_furnace(self.parameters, rng, self._mesh)
        power = furnace.power(self.parameters.frames - 1) * self._power(coarse)
        fields = {
            **furnace.ring,
            "power": np.concatenate([power, power[-1:]]),
            "ambient_temperature": np.array(furnace.ambient),
            "temperature": furnace.ambient + furnace.initial_rise,
        }
        return {name: field.astype(np.float32) for name, field in fields.items()}

    def _power(self, furnace: RoundFurnace) -> float:
        _, frames, steps = _SIZING
        interval = self.parameters.duration / (frames - 1)
        network = ring_conduction.assemble(self._sizing_mesh, **furnace.ring, films=self._films)

        def run(power: np.ndarray, rise: np.ndarray) -> np.ndarray:
            return ring_conduction.solve_conduction(network, power, rise, 0.0, interval, steps)[0]

        peak = furnace.peak - furnace.ambient
        return self._full_power(run, furnace.power(frames - 1), furnace.initial_rise, peak)

    def linear_system(self, inputs: Fields) -> LinearSystem:
        """Return the equation of the rise above the ambient temperature, per metre of depth."""
        given = {name: values.astype(np.float64) for name, values in inputs.items()}
        network = self._network(given)
        return LinearSystem(
            csr_array(network.conductance + diags_array(network.film)),
            given["power"] * network.area, network.capacity, float(given["ambient_temperature"]),
        )  # fmt: skip

    def _network(self, given: Fields) -> ring_conduction.Network:
        ring = {name: given[name] for name in ("x", "y", "conductivity", "heat_capacity")}
        return ring_conduction.assemble(self._mesh, **ring, films=self._films)

    def _run(self, given: Fields) -> tuple[np.ndarray, np.ndarray]:
        network = self._network(given)
        with np.errstate(over="ignore", invalid="ignore"):
            frames, heat = ring_conduction.solve_conduction(
                network, given["power"][:-1], given["temperature"],
                float(given["ambient_temperature"]), self._interval,
                self.parameters.steps_per_frame,
            )  # fmt: skip
        if not np.isfinite(frames).all():
            raise MnoError(
                "the temperature of furnace_ring is not finite; expected a solution for finite "
                f"inputs, lower the power (up to {given['power'].max():.3g} W m-3)"
            )
        return frames, heat

    def _measure(self, given: Fields, frames: Fields) -> Mapping[str, Any]:
        """Measure defect, energy, range and mesh; a triangle without an area gives NaN."""
        with np.errstate(divide="ignore", invalid="ignore"):
            size = self._edges(given).size
            mesh = {"mesh": smallness(size)}
        if not size.min() > 0.0:
            return {check.name: math.nan for check in self.checks[1:]} | mesh
        return {**super()._measure(given, frames), **mesh}

    def _edges(self, given: Fields) -> Edges:
        return edges_of(given["x"], given["y"], self._mesh.triangles, given["conductivity"])

    def _again(self, given: Fields, rise: np.ndarray) -> heated_furnace.SecondRun:
        """Advance all frames, edge by edge with the cotangents of the opposite angles."""
        power, p = given["power"][:-1].T, self.parameters
        network = ring_conduction.restate(
            self._mesh, self._edges(given), given["x"], given["y"], given["heat_capacity"],
            self._films,
        )  # fmt: skip
        later, lost = ring_conduction.advance_again(
            network, power, rise[:, :-1], self._interval, p.steps_per_frame
        )
        supplied = self._interval * np.einsum("p,pt->t", network.area, power)
        return heated_furnace.SecondRun(later, lost, supplied, network.capacity)


SCENARIO = FurnaceRing
