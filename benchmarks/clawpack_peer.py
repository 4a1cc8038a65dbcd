"""PyClaw on the problem of the scenario shallow_water, where it is installed (extra `pyclaw`)."""

from __future__ import annotations

import contextlib
import logging
import tempfile

import numpy as np

# Where it is imported, PyClaw opens a file for its log.
with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
    from clawpack import pyclaw, riemann  # pyright: ignore[reportMissingImports]
logging.getLogger("pyclaw").setLevel(logging.ERROR)


def solve_with_pyclaw(
    depth: np.ndarray, side: float, times: np.ndarray, *, split: bool = False
) -> np.ndarray:
    """Return the depth at all times, shape `(time, x, y)`, from water at rest.

    Its second-order method in Fortran: Roe's solver with an entropy fix, MC limiter; steps as long
    as a Courant number of 0.9 allows, or from one time to the next.

    Args:
        depth: Means over cells at the first time, shape `(n, n)`.
        side: That of the square.
        times: From 0.
        split: One axis after the other, rather than both with transverse waves.
    """
    n = len(depth)
    solver = pyclaw.ClawSolver2D(riemann.shallow_roe_with_efix_2D)
    solver.limiters = pyclaw.limiters.tvd.MC
    solver.dimensional_split = split
    solver.transverse_waves = 2  # of corrections too
    solver.cfl_desired, solver.cfl_max = 0.9, 1.0
    for axis in (0, 1):
        solver.bc_lower[axis] = solver.bc_upper[axis] = pyclaw.BC.extrap
    domain = pyclaw.Domain([0.0, 0.0], [side, side], [n, n])
    state = pyclaw.State(domain, 3)
    state.problem_data.update(grav=1.0, dry_tolerance=1e-6, sea_level=0.0)
    state.q[...] = 0.0
    state.q[0] = depth
    solution = pyclaw.Solution(state, domain)
    solver.setup(solution)
    solver.dt = times[1] - times[0]
    frames = np.empty((len(times), n, n))
    frames[0] = depth
    for frame, time in enumerate(times[1:], 1):
        solver.evolve_to_time(solution, time)
        frames[frame] = state.q[0]
    return frames
