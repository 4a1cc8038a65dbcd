"""Darcy flow that is solved on 421 x 421 cells and seen at some of them, as the literature does it.

    -div(a grad u) = 1 on the unit square, u = 0 on its wall

where `a` has one of two values, by the sign of a Gaussian random field. Samples are drawn and
solved by what the scenario `darcy` draws and solves with, once, and kept in `build/accuracy`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.pool import made
from mno.core.files import replacing
from mno.scenarios.kernels.multigrid import solve_diffusion
from mno.scenarios.kernels.random_fields import cosine_field, covariance_spectrum

FINE = 421
TOLERANCE = 1e-8  # relative residual
_KEPT = Path(__file__).parents[2] / "build" / "accuracy"
_SHARE = 50  # of samples that are solved at a time


@dataclass(frozen=True)
class Flow:
    """What is drawn, and what is seen of it.

    Attributes:
        name: What its file is called.
        exponent: Of the covariance `(-Laplacian + inverse_length^2)^-exponent`.
        inverse_length: See there.
        values: Of `a` where the field is negative, and where it is not.
        seen: Numbers of the cells that are seen, along each axis.
    """

    name: str
    exponent: float
    inverse_length: float
    values: tuple[float, float]
    seen: tuple[int, ...]

    def samples(self, count: int) -> dict[str, np.ndarray]:
        """Return the first samples by field; solve them where they are not kept yet."""
        path = _KEPT / f"{self.name}.npz"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            parts: dict[int, dict[str, np.ndarray]] = {}
            jobs = [(self, s, min(s + _SHARE, count)) for s in range(0, count, _SHARE)]
            for so_far, (_, start, _), solved in made(solve, jobs):
                parts[start] = solved
                print(f"{so_far} solved on {FINE} x {FINE} cells", file=sys.stderr)
            names = next(iter(parts.values()))
            fields = {n: np.concatenate([parts[start][n] for _, start, _ in jobs]) for n in names}
            with replacing(path) as partial, partial.open("wb") as file:
                np.savez_compressed(file, allow_pickle=False, **fields)
        with np.load(path) as fields:
            return {name: fields[name][:count] for name in fields}


def solve(flow: Flow, start: int, stop: int) -> dict[str, np.ndarray]:
    """Draw and solve the samples of these numbers; what the cells that are seen have, by field."""
    variances = covariance_spectrum(flow.exponent, flow.inverse_length, side=1.0)
    variances[0, 0] = 0.0
    field, source = cosine_field(centres(FINE), variances), np.ones((FINE, FINE))
    seen = np.ix_(flow.seen, flow.seen)
    permeabilities, pressures = [], []
    for number in range(start, stop):
        drawn = field.draw(np.random.default_rng([number, FINE])) >= 0.0
        permeability = np.where(drawn, *reversed(flow.values))
        pressure, _, residual = solve_diffusion(permeability, source, TOLERANCE, 500)
        if not residual <= TOLERANCE:
            sys.exit(f"sample {number} was not solved: its residual is {residual:.1e}")
        permeabilities.append(permeability[seen])
        pressures.append(pressure[seen])
    found = {"permeability": permeabilities, "pressure": pressures}
    return {name: np.stack(fields).astype(np.float32) for name, fields in found.items()}


def centres(points: int) -> np.ndarray:
    """Return the middles of so many cells of the unit interval."""
    return (np.arange(points) + 0.5) / points
