"""Darcy flow in a ring with curved walls: steady pressure at points that fit the domain."""

import math
from typing import Self, final

import numpy as np
from pydantic import Field as Parameter
from pydantic import model_validator
from scipy.sparse import csc_matrix, csr_array

from mno.core.fields import Field
from mno.scenarios import base
from mno.scenarios.base import POSITIVE, Changes, Check, Fields, Parameters, Scenario, Solved
from mno.scenarios.kernels import ring_mesh
from mno.scenarios.kernels.random_fields import covariance_spectrum, draw_at
from mno.scenarios.linear import LinearSystem, factorise

SIDE = 4.0  # of the square on which the random permeability is drawn; the ring lies well inside
NARROWEST = 0.2  # distance between the two curves


class DarcyRingParameters(Parameters):
    """The ring, and the random permeability in it."""

    ORDERED = (("smallest_hole", "largest_hole"),)

    smallest_hole: float = Parameter(0.2, ge=0.05, le=0.75)
    """Least mean radius of the hole (nondimensional)."""
    largest_hole: float = Parameter(0.4, ge=0.05, le=0.75)
    """Largest mean radius of the hole (nondimensional)."""
    waviness: float = Parameter(0.1, ge=0.0, le=0.3)
    """How far either wall swings about a circle, as a share of its radius."""
    contrast: float = Parameter(1.0, ge=0.0, le=3.0)
    """Standard deviation of the logarithm of the permeability, whose median is 1."""
    covariance_exponent: float = Parameter(3.0, gt=1.0, le=10.0)
    """alpha in the covariance (-Laplacian + tau^2)^-alpha of that logarithm: larger is smoother."""
    inverse_length: float = Parameter(5.0, gt=0.0, le=20.0)
    """tau in that covariance, in 1 / mean radius of the outer wall: larger is finer."""

    @model_validator(mode="after")
    def _ring_is_wide_enough(self) -> Self:
        swing = ring_mesh.SWING * self.waviness
        left = (1.0 - swing) - self.largest_hole * (1.0 + swing)
        if left < NARROWEST:
            raise ValueError(
                f"largest_hole={self.largest_hole} and waviness={self.waviness} leave {left:.2g} "
                f"between hole and wall where they come closest; expected {NARROWEST} or more, "
                "lower one of them"
            )
        return self


@final
class DarcyRing(Scenario):
    """Pressure of a fluid that enters everywhere in a ring and leaves through its outer wall.

    `-div(a grad u) = 1` between two closed curves, `u = 0` on the outer one, nothing passes through
    the inner one; everything is nondimensional, the mean radius of the outer wall being 1. The
    curves are circles with waves and differ from sample to sample. The permeability is the
    exponential of a Gaussian random field, smooth and positive.

    The domain has no grid. Fields live on unordered points, which fit the walls, and their
    coordinates are part of each sample. At `resolution` n there are n^2 points: 2n around, on n/2
    rings from wall to wall.

    The discretisation is that of linear finite elements on triangles between the points, with the
    mean permeability of the corners in each and lumped loads; it is of second order. An operator is
    told the points alone, not the triangles.
    """

    name = "darcy_ring"
    title = "Darcy flow in a ring with curved walls"
    Parameters = DarcyRingParameters
    symmetries, has_derivatives = base.SQUARE, True
    fields = (
        Field("x", "1", "x", "coordinate", ("point",)),
        Field("y", "1", "y", "coordinate", ("point",)),
        Field("permeability", "1", "permeability", "input", ("point",)),
        Field("pressure", "1", "pressure", "output", ("point",)),
    )
    checks = (
        Check(
            "residual",
            "largest residual of a point's discrete equation, over the sum of the sizes of its "
            "terms (rounding to float32 leaves up to 6e-8)",
            1e-7,
        ),
        Check(
            "flux_balance",
            "difference between the flux out through the wall and the source's integral, over "
            "the latter (rounding to float32 leaves up to 6e-8)",
            1e-6,
        ),
        Check("wall", "largest pressure on the outer wall", 0.0),
        ring_mesh.MESH,
    )

    def __init__(self, parameters: DarcyRingParameters, resolution: int) -> None:
        super().__init__(parameters, resolution, least=8, multiple=2)
        self._mesh = ring_mesh.RingMesh(2 * resolution, resolution // 2)
        self._space = (self._mesh.axis,)
        variances = covariance_spectrum(
            parameters.covariance_exponent, parameters.inverse_length, SIDE
        )
        self._variances = parameters.contrast**2 * variances / variances.sum()

    def outside(self) -> Changes:
        """Return other random fields and wavier walls."""
        p = self.parameters
        return {
            "stronger contrast": {"contrast": 1.5 * p.contrast},
            "finer permeability": {"inverse_length": 4.0 * p.inverse_length},
            "wavier walls": {"waviness": 1.5 * p.waviness},
        }

    def sample(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Draw a ring and the permeability in it, shape `(point,)` each."""
        parameters, angles = self.parameters, self._mesh.angles()
        hole = rng.uniform(parameters.smallest_hole, parameters.largest_hole)
        inner = hole * ring_mesh.draw_curve(rng, angles, parameters.waviness)
        outer = ring_mesh.draw_curve(rng, angles, parameters.waviness)
        x, y = self._mesh.place(inner, outer)
        logarithm = draw_at(rng, self._variances, x / SIDE + 0.5, y / SIDE + 0.5)
        fields = {"x": x, "y": y, "permeability": np.exp(logarithm)}
        return {name: field.astype(np.float32) for name, field in fields.items()}

    def solve(self, inputs: Fields) -> dict[str, np.ndarray]:
        """Solve for the pressure, shape `(point,)`, by a direct sparse factorisation."""
        return self.solve_along(inputs, {})[0]

    def solve_along(self, inputs: Fields, directions: Fields) -> tuple[Solved, Solved]:
        """Solve, and along directions of points and permeability, with the same factors."""
        anywhere, positive = (-math.inf, math.inf), (POSITIVE, math.inf)
        given = self.within(inputs, x=anywhere, y=anywhere, permeability=positive)
        matrix, load = self._equation(**given)
        free, triangles = slice(0, self._mesh.outer.start), self._mesh.triangles
        solve, pressure = factorise(matrix[free, free]).solve, np.zeros(self._mesh.num_points)
        pressure[free] = solve(load[free])
        solved = {"pressure": pressure.astype(np.float32)}
        if not directions:
            return solved, {}
        along = np.stack([directions[name] for name in given]).transpose(0, 2, 1).copy()
        left = ring_mesh.left_along(
            given["x"], given["y"], triangles, given["permeability"], pressure, along
        )
        found = np.zeros((along.shape[2], len(pressure)))
        found[:, free] = solve(left[free]).T
        return solved, {"pressure": found}

    def _equation(
        self, x: np.ndarray, y: np.ndarray, permeability: np.ndarray
    ) -> tuple[csc_matrix, np.ndarray]:
        """Return matrix and right side at all points, those of the outer wall included."""
        triangles = self._mesh.triangles
        load = ring_mesh.lumped(self._mesh.sizes(x, y), triangles, self._mesh.num_points)
        return ring_mesh.stiffness(x, y, triangles, permeability[triangles].mean(axis=1)), load

    def linear_system(self, inputs: Fields) -> LinearSystem:
        """Return the equation at all points, for what vanishes on the outer wall."""
        names = ("x", "y", "permeability")
        matrix, load = self._equation(*(inputs[name].astype(np.float64) for name in names))
        return LinearSystem(csr_array(matrix), load)

    def check(self, inputs: Fields, outputs: Fields) -> dict[str, float]:
        """Measure residual, balance, wall and mesh of one sample, in float64.

        This states the equation a second time, edge by edge with the cotangents of the opposite
        angles, apart from the solver's matrix. A NaN in the arrays gives NaN.
        """
        x, y, permeability = (inputs[k].astype(np.float64) for k in ("x", "y", "permeability"))
        pressure = outputs["pressure"].astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            edges = ring_mesh.edges_of(x, y, self._mesh.triangles, permeability)
            outflow, load = edges.matrix() @ pressure, edges.shares()
            ends = np.abs(pressure[edges.begin]) + np.abs(pressure[edges.end])
            sizes = np.abs(edges.conductance) * ends
            terms = np.bincount(edges.begin, sizes) + np.bincount(edges.end, sizes)
            free = slice(0, self._mesh.outer.start)
            left = np.abs(outflow - load)[free] / (terms + np.abs(load))[free]
            through_wall = np.sum((load - outflow)[self._mesh.outer])
            return {
                "residual": float(np.max(left)),
                "flux_balance": float(np.abs(through_wall / load.sum() - 1.0)),
                "wall": float(np.max(np.abs(pressure[self._mesh.outer]))),
                "mesh": ring_mesh.smallness(edges.size),
            }


SCENARIO = DarcyRing
