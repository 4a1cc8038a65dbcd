"""Conduction in the solids of a batch furnace by FiPy, where it is installed (extra `bench`)."""

from __future__ import annotations

import numpy as np
from fipy import (  # pyright: ignore[reportMissingImports]
    CellVariable,
    DiffusionTerm,
    FaceVariable,
    Grid3D,
    TransientTerm,
)
from fipy.solvers.scipy import (  # pyright: ignore[reportMissingImports]
    JacobiPreconditioner,
    LinearCGSolver,
)

from benchmarks.chamber_peers import Solids
from mno.scenarios.chamber.arrangement import HOUR, Cells

SWEEPS = 2


def conduct_by_fipy(
    cells: Cells,
    solids: Solids,
    heats: np.ndarray,
    steps: int,
    sweeps: int = SWEEPS,
    tolerance: float = 1e-6,
) -> np.ndarray:
    """Return temperatures of the solid cells at every frame, K, from what each step gives them, W.

    Steps are implicit Euler; properties are made anew in each sweep, and heat capacities are
    secants of the enthalpy. Cells of gas are there, but nothing passes to them.
    """
    widths = cells.widths
    mesh = Grid3D(dx=widths[0], dy=widths[1], dz=widths[2])
    # FiPy's cells go along x first.
    solid = np.flatnonzero(np.transpose(cells.material >= 0).ravel())
    number = np.transpose(cells.number).ravel()
    first, second = (number[ids] for ids in np.ma.filled(mesh.faceCellIDs, 0))
    faces = np.flatnonzero(~np.asarray(mesh.exteriorFaces) & (first >= 0) & (second >= 0))
    first, second = first[faces], second[faces]
    apart = np.asarray(mesh._cellDistances)[faces]
    axis = np.argmax(np.abs(np.asarray(mesh.faceNormals)[:, faces]), axis=0)
    half = 0.5 * np.stack(np.broadcast_arrays(*np.ix_(*widths)))
    half = half[:, cells.material >= 0]
    near, far = half[axis, first], half[axis, second]

    def on_mesh(values: np.ndarray, elsewhere: float) -> np.ndarray:
        found = np.full(cells.material.size, elsewhere)
        found[solid] = values[number[solid]]
        return found

    at = cells.at_start()
    kelvin = CellVariable(mesh=mesh, value=300.0, hasOld=True)
    kelvin.setValue(on_mesh(at, 300.0))
    capacity = CellVariable(mesh=mesh, value=1e6)
    source = CellVariable(mesh=mesh, value=0.0)
    conductivity = FaceVariable(mesh=mesh, value=0.0)
    equation = TransientTerm(coeff=capacity) == DiffusionTerm(coeff=conductivity) + source
    solver = LinearCGSolver(tolerance=tolerance, precon=JacobiPreconditioner())
    dt, frames = HOUR * cells.plant.schedule.interval / steps, [at]
    for step, heat in enumerate(heats, 1):
        before, enthalpy = at, solids.enthalpy(at)
        kelvin.updateOld()
        source.setValue(on_mesh(heat / solids.volume, 0.0))
        for _ in range(sweeps):
            resists = solids.resistivity(at)
            between = np.zeros(mesh.numberOfFaces)
            between[faces] = apart / (near * resists[first] + far * resists[second])
            conductivity.setValue(between)
            moved = at - before
            still = np.abs(moved) < 1e-3
            secant = (solids.enthalpy(at) - enthalpy) / np.where(still, 1.0, moved)
            capacity.setValue(on_mesh(np.where(still, solids.capacity(at), secant), 1e6))
            equation.sweep(kelvin, dt=dt, solver=solver)
            at = np.empty_like(at)
            at[number[solid]] = kelvin.value[solid]
        if step % steps == 0:
            frames.append(at)
    return np.array(frames)
