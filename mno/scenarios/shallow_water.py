"""Shallow water after dams have broken: the depth in time."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self, final

import numpy as np
from pydantic import Field as Parameter
from pydantic import model_validator

from mno.core.errors import MnoError
from mno.core.fields import Field
from mno.scenarios.base import POSITIVE, SQUARE, Changes, Check, Fields, Parameters, space_axes
from mno.scenarios.kernels.shallow_water import STEP, later_depth, solve_shallow_water
from mno.scenarios.time_dependent import INITIAL, TimeDependent

SIDE = 5.0  # of the domain
HIGHEST = 1e3  # depth of an initial state; the time a solution takes grows with its square root
HIGHEST_RATIO = 10.0  # of depths, of which water that runs apart leaves a fiftieth of the lower
HIGHEST_RISE = 10.0  # of the depth; converging waves reached 4.2 on 256 x 256 cells
AHEAD = 4  # cells that a wave is smeared over
SUBPOINTS = 8  # along each axis of a cell that an edge of a dam runs through

Depth = Annotated[float, Parameter(ge=0.01, le=10.0)]
Radius = Annotated[float, Parameter(ge=0.05, le=2.5)]


class ShallowWaterParameters(Parameters):
    """The water, and the random dams that hold it back until the beginning."""

    ORDERED = (("min_radius", "max_radius"),)

    sampling: Literal["dams", "pdebench"] = "dams"
    """Initial state: several ellipses and rectangles of deeper water anywhere; or PDEBench's, one
    disc of random radius in the middle."""
    dams: int = Parameter(3, ge=1, le=20)
    """Largest number of dams; each number is as likely (dams)."""
    outer_depth: Depth = 1.0
    """Depth outside the dams (nondimensional)."""
    dam_depth: Depth = 2.0
    """Depth inside (pdebench), or that of the deepest (dams: what a dam is deeper than the water
    outside is between half of the largest and all of it)."""
    min_radius: Radius = 0.3
    """Smallest radius, half axis or half side (nondimensional, the side is 5)."""
    max_radius: Radius = 0.7
    """Largest (nondimensional)."""
    spread: float = Parameter(1.5, ge=0.0, le=2.5)
    """How far from the middle, along either axis, the dams' centres may lie (dams)."""
    gravity: float = Parameter(1.0, ge=0.01, le=10.0)
    """g (nondimensional)."""
    duration: float = Parameter(1.0, ge=1e-3, le=10.0)
    """Time of the last frame (nondimensional)."""
    frames: int = Parameter(21, ge=2, le=1001)
    """Frames, the initial state included, at equal distances in time; PDEBench has 101."""

    @model_validator(mode="after")
    def _ratio_can_be_solved(self) -> Self:
        outer, inner = self.outer_depth, self.dam_depth
        if not outer < inner <= HIGHEST_RATIO * outer:
            raise ValueError(
                f"dam_depth={inner} must be more than outer_depth={outer} and at most "
                f"{HIGHEST_RATIO:g} times that; change one of the two"
            )
        return self


@final
class ShallowWater(TimeDependent):
    """Waves of water that dams have held back.

        h_t + div(h v) = 0
        (h v)_t + div(h v v) + g h grad h = 0

    on the square from -2.5 to 2.5, whose walls let waves out; everything is nondimensional. The
    water is at rest until the dams break, at the beginning. With `sampling: pdebench` these are the
    data of PDEBench (Takamoto et al. 2022, doi:10.48550/arXiv.2210.07182), at fewer frames by
    default: one disc, at cell centres. Dams anywhere are means over cells, by 8 x 8 points in those
    that an edge runs through.

    The depth h alone is stored, as in those data. The velocity v is zero at first, and follows from
    several frames later; the equations do not close on the depth, so no residual of them in torch
    can be had.

    The discretisation is the MUSCL-Hancock scheme, of second order where the solution is smooth:
    slopes of the invariants limited as van Leer's monotonized central ones, fluxes by Harten, Lax
    and van Leer (Toro 2001, Shock-capturing methods for free-surface shallow flows, chapter 10).
    It treats axes and their directions alike, so it has the square's symmetries to the last bit.
    """

    name = "shallow_water"
    title = "Shallow water after dams have broken"
    Parameters = ShallowWaterParameters
    fields = (Field("depth", "1", "depth of the water", "state", ("time", "x", "y")),)
    checks = (
        INITIAL,
        Check(
            "defect",
            "largest difference between the second frame and what a second statement of the scheme "
            "makes of the first, over the largest depth (rounding to float32 leaves up to 6e-8)",
            2e-7,
        ),
        Check(
            "mass",
            "largest change of the volume of the water before a wave can have reached the wall, "
            "over that volume (rounding to float32 leaves up to 6e-8)",
            1e-7,
        ),
        Check(
            "energy",
            "how far the potential energy rises above that of the first frame in the same time, "
            "over the latter (rounding to float32 leaves up to 1.2e-7)",
            2e-7,
        ),
        Check(
            "range",
            "how far the depth lies below zero, or above ten times the largest first one, over the "
            "latter (waves that run together from all sides are higher than any was at first)",
            0.0,
        ),
    )
    symmetries = SQUARE

    def __init__(self, parameters: ShallowWaterParameters, resolution: int) -> None:
        radius = parameters.min_radius
        least = max(8, math.ceil(SIDE / (2.0 * radius)))
        super().__init__(
            parameters, resolution, least,
            possible=f"at least {least}, so that a cell is no wider than the smallest dam "
            f"(min_radius={radius})",
        )  # fmt: skip
        self._width = SIDE / resolution
        self._points = SIDE * ((np.arange(resolution) + 0.5) / resolution - 0.5)
        self._space = space_axes("xy", self._points, (-SIDE / 2, SIDE / 2))
        # Under a gravity of one the same happens sqrt(g) times as slowly.
        self._courant = math.sqrt(parameters.gravity) * self._interval / self._width

    def outside(self) -> Changes:
        """Return deeper, smaller and more dams."""
        p = self.parameters
        changes: dict[str, dict[str, Any]] = {
            "deeper dams": {"dam_depth": p.outer_depth + 1.5 * (p.dam_depth - p.outer_depth)},
            "smaller dams": {"min_radius": 0.7 * p.min_radius, "max_radius": p.min_radius},
        }
        if p.sampling == "dams":
            changes["up to twice as many dams"] = {"dams": 2 * p.dams}
        return changes

    def sample(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Draw an initial depth, shape `(x, y)`."""
        p = self.parameters
        x, y = np.meshgrid(self._points, self._points, indexing="ij")
        if p.sampling == "pdebench":
            radius = rng.uniform(p.min_radius, p.max_radius)
            depth = depth_at([Dam(p.dam_depth, (0.0, 0.0), (radius, radius))], p.outer_depth, x, y)
        else:
            depth = mean_depth(draw_dams(p, rng), p.outer_depth, x, y, self._width)
        return {"depth": depth.astype(np.float32)}

    def solve(self, inputs: Fields) -> dict[str, np.ndarray]:
        """Solve for all frames of the depth, shape `(time, x, y)`."""
        depth = self.within(inputs, depth=(POSITIVE, HIGHEST))["depth"]
        frames = np.empty((self.parameters.frames, *depth.shape), np.float32)
        reached = solve_shallow_water(depth, self._courant, STEP, frames)
        if reached < len(frames):
            raise MnoError(
                f"shallow_water ran dry or too fast before frame {reached} of {len(frames)}; "
                f"depths run from {depth.min():.3g} to {depth.max():.3g} at the beginning, lower "
                "their ratio"
            )
        return {"depth": frames}

    def _measure(self, given: Fields, frames: Fields) -> Mapping[str, Any]:
        # Water at rest is given by its depth, so the first interval can be solved a second time.
        depth = frames["depth"]
        deepest, quiet, defect = np.max(depth[0]), 0, np.nan
        if np.min(depth[0]) > 0.0 and deepest <= HIGHEST:
            quiet = self._frames_without_outflow(depth[0])
            gap = later_depth(depth[0], self._courant, STEP) - depth[1]
            defect = np.max(np.abs(gap)) / deepest
        with np.errstate(invalid="ignore", divide="ignore"):
            inside = depth[: 1 + quiet]
            volume, energy = (np.sum(field, axis=(1, 2)) for field in (inside, inside**2))
            gain = np.max(np.abs(volume / volume[0] - 1.0))
            rise = np.max(energy / energy[0] - 1.0)
            outside = np.max([-np.min(depth), np.max(depth) - HIGHEST_RISE * deepest, 0.0])
            return {"defect": defect, "mass": gain, "energy": rise, "range": outside / deepest}

    def _frames_without_outflow(self, initial: np.ndarray) -> int:
        """Return how many frames after the first one no wave can have reached the wall in.

        By the Riemann invariants nothing runs faster than `2 sqrt(deepest) - sqrt(shallowest)`;
        what the scheme smears ahead of a wave decays within a few cells.
        """
        raised = np.argwhere(initial != np.float32(self.parameters.outer_depth))
        if not len(raised):
            return self.parameters.frames - 1
        cells = min(raised.min(), len(initial) - 1 - raised.max()) - AHEAD
        speed = 2.0 * np.sqrt(initial.max()) - np.sqrt(initial.min())
        return max(0, math.floor(cells / (speed * self._courant)))

    def compile(self) -> None:
        """Compile the solver, or load it from numba's cache."""
        solve_shallow_water(np.ones((8, 8)), 0.1, STEP, np.empty((2, 8, 8), np.float32))


@dataclass(frozen=True)
class Dam:
    """Water of one depth inside an ellipse or a rectangle, which lies anywhere, at any angle."""

    depth: float
    centre: tuple[float, float]
    radii: tuple[float, float]  # half lengths of the axes, or of the sides
    angle: float = 0.0  # between the first of them and the axis x, in radians
    is_rectangle: bool = False

    def distance(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return how far points lie from the centre, in units of the edge's distance."""
        x, y = x - self.centre[0], y - self.centre[1]
        cosine, sine = math.cos(self.angle), math.sin(self.angle)
        along = np.abs(cosine * x + sine * y) / self.radii[0]
        across = np.abs(cosine * y - sine * x) / self.radii[1]
        return np.maximum(along, across) if self.is_rectangle else np.hypot(along, across)


def draw_dams(p: ShallowWaterParameters, rng: np.random.Generator) -> list[Dam]:
    """Draw dams; one state of the generator gives the same ones on every grid."""
    depths, radii = ((p.outer_depth + p.dam_depth) / 2.0, p.dam_depth), (p.min_radius, p.max_radius)
    return [
        Dam(
            depth=rng.uniform(*depths),
            centre=(rng.uniform(-p.spread, p.spread), rng.uniform(-p.spread, p.spread)),
            radii=(rng.uniform(*radii), rng.uniform(*radii)),
            angle=rng.uniform(0.0, math.pi),
            is_rectangle=rng.random() < 0.5,
        )
        for _ in range(rng.integers(1, p.dams, endpoint=True))
    ]


def depth_at(dams: Sequence[Dam], outside: float, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the depth at points; where dams overlap, that of the deepest."""
    depth = np.full(x.shape, outside)
    for dam in dams:
        depth = np.where(dam.distance(x, y) <= 1.0, np.maximum(depth, dam.depth), depth)
    return depth


def mean_depth(
    dams: Sequence[Dam], outside: float, x: np.ndarray, y: np.ndarray, width: float
) -> np.ndarray:
    """Return the mean depth of square cells, by 8 x 8 points in those that an edge may cut.

    Cells of some width have their centres at `x` and `y`.
    """
    means = depth_at(dams, outside, x, y)
    cut = np.zeros(x.shape, dtype=bool)
    for dam in dams:
        # A point moves `distance` by at most its own move over the smaller radius.
        reach = width / math.sqrt(2.0) / min(dam.radii)
        cut |= np.abs(dam.distance(x, y) - 1.0) <= reach
    places = width * ((np.arange(SUBPOINTS) + 0.5) / SUBPOINTS - 0.5)
    points_x, points_y = np.broadcast_arrays(
        x[cut][:, None, None] + places[:, None], y[cut][:, None, None] + places
    )
    means[cut] = depth_at(dams, outside, points_x, points_y).mean(axis=(1, 2))
    return means


SCENARIO = ShallowWater
