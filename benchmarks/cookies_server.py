"""A plate with eight cookies behind a server: `python -m benchmarks.cookies_server PORT CELLS`."""

from __future__ import annotations

import sys
from functools import partial

import numpy as np
import scipy.sparse as sp
import umbridge
from scipy.sparse.linalg import splu

RADIUS, SOURCE = 0.13, 100.0
CENTRES = [(x, y) for y in (0.2, 0.5, 0.8) for x in (0.2, 0.5, 0.8) if (x, y) != (0.5, 0.5)]
_GAUSS = 0.5 + np.array([-0.5, 0.5]) / np.sqrt(3.0)


class Plate:
    """The cookies problem in `cells` x `cells` square elements of degree 1.

        -div(a grad u) = 100 on the square F = [0.4, 0.6]^2, 0 elsewhere;  u = 0 on the boundary
        a = 1 + y_n on the n-th of eight discs of radius 0.13, 1 elsewhere

    on the unit square. Integrals are sums over two Gauss points along each side of an element, of
    which each is in a disc, or not. The matrix is linear in y: its parts are assembled once.

    Source:
        UM-Bridge's benchmark cookies-problem-propagation; Bäck et al.,
        doi:10.1007/978-3-642-15337-2_3.
    """

    def __init__(self, cells: int) -> None:
        i, j = np.divmod(np.arange(cells * cells), cells)
        corners = np.stack([(i + a) * (cells + 1) + j + b for a in (0, 1) for b in (0, 1)], axis=1)
        inside = np.arange(1, cells)
        free = (inside[:, None] * (cells + 1) + inside).ravel()
        load = np.zeros((cells + 1) ** 2)
        parts = [sp.csr_array(2 * ((cells + 1) ** 2,)) for _ in range(len(CENTRES) + 1)]
        for s in _GAUSS:
            for t in _GAUSS:
                x, y = (i + s) / cells, (j + t) / cells
                values = np.outer([1 - s, s], [1 - t, t]).ravel()
                slopes = np.stack([  # along x and y, in sides of an element
                    np.outer([-1, 1], [1 - t, t]).ravel(), np.outer([1 - s, s], [-1, 1]).ravel(),
                ])  # fmt: skip
                own = 0.25 * slopes.T @ slopes
                for n, (a, b) in enumerate([(0.5, 0.5), *CENTRES]):
                    there = (x - a) ** 2 + (y - b) ** 2 < (RADIUS if n else 1.0) ** 2
                    at = corners[there]
                    rows, columns = np.repeat(at, 4, axis=1).ravel(), np.tile(at, (1, 4)).ravel()
                    entries = np.tile(own.ravel(), len(at))
                    parts[n] += sp.csr_array((entries, (rows, columns)), shape=parts[n].shape)
                heated = np.maximum(abs(x - 0.5), abs(y - 0.5)) < 0.1
                load += np.bincount(
                    corners[heated].ravel(),
                    np.tile(0.25 * values / cells**2, heated.sum()),
                    len(load),
                )
        self.load = load[free]
        self.parts = [part[free][:, free] for part in parts]

    def solve(self, y: np.ndarray) -> np.ndarray:
        """Return the solution at the nodes within."""
        first, *discs = self.parts
        matrix = first + sum(one * disc for one, disc in zip(y, discs, strict=True))
        factors = splu(matrix.tocsc(), permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True})
        return factors.solve(SOURCE * self.load)

    def __call__(self, y: np.ndarray) -> float:
        """Return the integral of the solution over F."""
        return float(self.load @ self.solve(y))


class Cookies(umbridge.Model):
    """The plate as the protocol asks for it."""

    def __init__(self, cells: int) -> None:
        super().__init__("forward")
        self._plate = Plate(cells)

    def get_input_sizes(self, config):
        """Return the number of cookies."""
        return [len(CENTRES)]

    def get_output_sizes(self, config):
        """Return that of the answer."""
        return [1]

    def supports_evaluate(self):
        """Say that there are answers."""
        return True

    def __call__(self, parameters, config):
        """Answer."""
        return [[self._plate(np.array(parameters[0]))]]


if __name__ == "__main__":
    umbridge.um.web.run_app = partial(umbridge.um.web.run_app, host="127.0.0.1")
    umbridge.serve_models([Cookies(int(sys.argv[2]))], int(sys.argv[1]))
