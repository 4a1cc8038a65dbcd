"""Aristoff and Bangerth's membrane for many coefficients at once, with its slopes, compiled."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.linalg import cho_solve_banded, cholesky_banded
from torch import Tensor

from mno.core.compiled import compiled
from mno.scenarios.aristoff_bangerth import (
    BLOCKS,
    PLACES,
    AristoffBangerth,
    AristoffBangerthParameters,
)
from mno.scenarios.kernels.bands import substituted
from mno.scenarios.kernels.membrane import ELEMENT, factored


@compiled
def _solved(coefficients, blocks, n, load, hats, factors, nodes, readings):
    """Fill factors, displacements and readings, one coefficient after the other."""
    for c in range(len(coefficients)):
        factors[c] = factored(coefficients[c], blocks, n)
        nodes[c] = substituted(factors[c], load)
        readings[c] = hats @ nodes[c].reshape(n - 1, n - 1) @ hats.T


@compiled
def _pulled(weights, factors, hats, pulls):
    """Fill what weighted readings pull at, by one more substitution each."""
    for c in range(len(weights)):
        right = hats.T @ weights[c] @ hats
        pulls[c] = substituted(factors[c], right.ravel())


@compiled
def _slopes(nodes, pulls, blocks, n, slopes):
    """Fill how weighted readings change with the coefficients of the blocks."""
    u, v = np.zeros((n + 1, n + 1)), np.zeros((n + 1, n + 1))
    for c in range(len(nodes)):
        u[1:n, 1:n] = nodes[c].reshape(n - 1, n - 1)
        v[1:n, 1:n] = pulls[c].reshape(n - 1, n - 1)
        slopes[c] = 0.0
        for e in range(n):
            for f in range(n):
                total = 0.0
                for p in range(4):
                    pull = v[e + p // 2, f + p % 2]
                    for q in range(4):
                        total += ELEMENT[p, q] * pull * u[e + q // 2, f + q % 2]
                slopes[c, e * blocks // n * blocks + f * blocks // n] -= total


class Membrane:
    """Readings of coefficients `(batch, 64)`, and products with their Jacobian.

    Args:
        resolution: Elements along each side.
        by_lapack: Whether the matrix is factored by LAPACK, through scipy, as a peer would do it.
    """

    def __init__(self, resolution: int, by_lapack: bool = False) -> None:
        self.n, self.by_lapack = resolution, by_lapack
        self.scenario = AristoffBangerth(AristoffBangerthParameters(), resolution)
        self.hats, self.load = self.scenario.hats, self.scenario.load

    def solve(self, coefficients: np.ndarray) -> tuple[np.ndarray, Any, np.ndarray]:
        """Return readings `(batch, 13, 13)`, factors, and displacements at inner nodes."""
        count, size = len(coefficients), (self.n - 1) ** 2
        nodes, readings = np.empty((count, size)), np.empty((count, PLACES, PLACES))
        if self.by_lapack:
            factors = [
                cholesky_banded(self.scenario.bands(one), lower=True) for one in coefficients
            ]
            for c, factor in enumerate(factors):
                nodes[c] = cho_solve_banded((factor, True), self.load)
                readings[c] = self.scenario.read(nodes[c].reshape(self.n - 1, -1))
            return readings, factors, nodes
        factors = np.empty((count, size, self.n + 1))
        _solved(coefficients, BLOCKS, self.n, self.load, self.hats, factors, nodes, readings)
        return readings, factors, nodes

    def slopes(self, weights: np.ndarray, factors: Any, nodes: np.ndarray) -> np.ndarray:
        """Return how weighted readings change with each coefficient, `(batch, 64)`."""
        pulls, slopes = np.empty_like(nodes), np.empty((len(nodes), BLOCKS**2))
        if self.by_lapack:
            for c, factor in enumerate(factors):
                right = self.hats.T @ weights[c] @ self.hats
                pulls[c] = cho_solve_banded((factor, True), right.ravel())
        else:
            _pulled(weights, factors, self.hats, pulls)
        _slopes(nodes, pulls, BLOCKS, self.n, slopes)
        return slopes


class Readings(torch.autograd.Function):
    """Readings of a membrane, with gradients by its adjoint from the same factors."""

    @staticmethod
    def forward(ctx: Any, coefficients: Tensor, membrane: Membrane) -> Tensor:
        """Return the readings, `(batch, 169)`."""
        ctx.membrane = membrane
        readings, *ctx.known = membrane.solve(coefficients.numpy())
        return torch.from_numpy(readings.reshape(len(readings), -1))

    @staticmethod
    def backward(ctx: Any, weights: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        """Return the products with the Jacobian."""
        given = np.ascontiguousarray(weights.numpy()).reshape(-1, PLACES, PLACES)
        return torch.from_numpy(ctx.membrane.slopes(given, *ctx.known)), None
