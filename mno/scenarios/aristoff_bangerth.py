"""A membrane of unknown stiffness: the inverse problem of Aristoff and Bangerth, asked forwards."""

import math
from typing import final

import numpy as np
from pydantic import Field as Parameter
from scipy.linalg import solveh_banded

from mno.core.fields import LOG, Axis, Field
from mno.scenarios import base
from mno.scenarios.base import Changes, Check, Fields, Parameters, Scenario
from mno.scenarios.kernels.bands import substituted
from mno.scenarios.kernels.membrane import factored

BLOCKS, PLACES, LOAD = 8, 13, 10.0


class AristoffBangerthParameters(Parameters):
    """How widely the stiffness varies."""

    log_deviation: float = Parameter(2.0, gt=0.0, le=4.0)
    """Standard deviation of the natural logarithm of the coefficient, in each block by itself."""


@final
class AristoffBangerth(Scenario):
    """Readings of a membrane under a load, whose stiffness differs from block to block.

    `-div(theta grad u) = 10` on the unit square, `u = 0` on its wall, all nondimensional. The
    coefficient is constant on 8 x 8 blocks, and its logarithm normal, of mean zero. Read is `u` at
    the 13 x 13 places `x = i / 14`, `y = j / 14`. Asked backwards, with errors of 0.05 in what is
    read, it is the benchmark of Aristoff and Bangerth (2021, arXiv:2102.07263).

    Bilinear elements on `n x n` squares, a multiple of 8; theirs are 32 x 32. Their M-matrix is
    factored by Cholesky's method, in bands, and readings are positive. The symmetries of the square
    hold, but blocks, numbered along `y` first, are no axes of space.
    """

    name = "aristoff_bangerth"
    title = "a membrane of blocks of unknown stiffness"
    Parameters = AristoffBangerthParameters
    fields = (
        Field("coefficient", "1", "stiffness of a block", "input", ("block",), scale=LOG),
        Field("readings", "1", "displacement", "output", ("x", "y"), scale=LOG),
    )
    checks = (
        Check("defect", "largest relative difference from a second statement, by LAPACK", 1e-6),
    )

    def __init__(self, parameters: AristoffBangerthParameters, resolution: int) -> None:
        super().__init__(parameters, resolution, least=BLOCKS, multiple=BLOCKS)
        places = np.arange(1.0, PLACES + 1) / (PLACES + 1)
        numbers, extent = np.arange(float(BLOCKS**2)), (0.0, float(BLOCKS**2))
        block = Axis("block", "1", "number of the block", numbers, extent)
        self._space = (*base.space_axes("xy", places, (0.0, 1.0)), block)
        apart = np.abs(places[:, None] * resolution - np.arange(1.0, resolution))
        self.hats = np.maximum(1.0 - apart, 0.0)  # of each inner node at each place of an axis
        self.load = np.full((resolution - 1) ** 2, LOAD / resolution**2)

    def outside(self) -> Changes:
        """Return a coefficient that varies more."""
        return {"stiffer and softer": {"log_deviation": 1.5 * self.parameters.log_deviation}}

    def sample(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Draw a coefficient, shape `(block,)`."""
        logarithm = self.parameters.log_deviation * rng.standard_normal(BLOCKS**2)
        return {"coefficient": np.exp(logarithm).astype(np.float32)}

    def solve(self, inputs: Fields) -> dict[str, np.ndarray]:
        """Solve for the readings, `(x, y)`."""
        coefficient = self.within(inputs, coefficient=(base.POSITIVE, math.inf))["coefficient"]
        factor = factored(coefficient, BLOCKS, self.resolution)
        nodes = substituted(factor, self.load).reshape(self.hats.shape[1], -1)
        return {"readings": self.read(nodes).astype(np.float32)}

    def read(self, nodes: np.ndarray) -> np.ndarray:
        """Return the readings of displacements at inner nodes."""
        return self.hats @ nodes @ self.hats.T

    def check(self, inputs: Fields, outputs: Fields) -> dict[str, float]:
        """Compare with a second statement of the equation, put together and solved otherwise."""
        if not all(np.isfinite(values).all() for values in (*inputs.values(), *outputs.values())):
            return {"defect": math.nan}
        nodes = solveh_banded(self.bands(inputs["coefficient"]), self.load, lower=True)
        again = self.read(nodes.reshape(self.resolution - 1, -1))
        return {"defect": float(np.max(np.abs(outputs["readings"] / again - 1.0)))}

    def bands(self, coefficient: np.ndarray) -> np.ndarray:
        """Return the matrix, put together otherwise: bands `(n + 1, (n - 1)^2)`, as LAPACK's."""
        n = self.resolution
        blocks = coefficient.astype(np.float64).reshape(BLOCKS, BLOCKS)
        theta = np.kron(blocks, np.ones((n // BLOCKS, n // BLOCKS)))
        bands = np.zeros((n + 1, n - 1, n - 1))  # by the number of the other node, less one's own
        along_x, along_y = theta[:, :-1] + theta[:, 1:], theta[:-1] + theta[1:]
        bands[0] = (along_x[:-1] + along_x[1:]) * 2.0 / 3.0
        bands[1, :, :-1] = -along_y[:, 1:-1] / 6.0
        bands[n - 1, :-1] = -along_x[1:-1] / 6.0
        bands[n, :-1, :-1] = bands[n - 2, :-1, 1:] = -theta[1:-1, 1:-1] / 3.0
        return bands.reshape(n + 1, -1)

    def compile(self) -> None:
        """Compile the solver, or load it from numba's cache."""
        self.solve({"coefficient": np.ones(BLOCKS**2)})


SCENARIO = AristoffBangerth
