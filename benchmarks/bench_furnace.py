"""The solver of the furnace scenario against implicit steps with scipy's sparse LU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.sparse import csc_array, diags_array
from scipy.sparse.linalg import splu

from benchmarks.page import Section, Table, figure
from benchmarks.timing import in_turn, median_ms, median_ratio
from mno.scenarios.base import make_scenario
from mno.scenarios.furnace import MAX_ITERATIONS, TOLERANCE
from mno.scenarios.kernels.heat_conduction import GAMMA, solve_heat_conduction

THREADS = 1
CELLS, SIDE, FILM, INTERVAL, FRAMES = 128, 2.0, 10.0, 1800.0, 25
STEPS, EULER_STEPS, REFERENCE_STEPS = 4, 160, 64  # in an interval
ROUNDS = 3
ABOUT = f"""One furnace at {CELLS} x {CELLS} cells over {FRAMES - 1} intervals of half an hour, each
with a power of its own, from inputs to all frames in float64, assembly and factorisations included.
The peers take steps with scipy's `splu` (minimum degree ordering, symmetric mode), whose factors
are made once for a run and used for all of its equal steps: the scheme of ours, or implicit Euler
with as many steps as bring its error to that of ours. One more makes the factors anew for each
step, as is due where steps or materials change. Errors are relative to the rise in temperature, all
frames together, against {REFERENCE_STEPS} steps of the scheme in each interval."""


def sparse_matrix(conductivity: np.ndarray) -> csc_array:
    """What flows out of each cell per kelvin, W/(m K)."""
    n = len(conductivity)
    face_x, face_y = _conductance(conductivity), _conductance(conductivity.T).T
    diagonal = face_x[:-1] + face_x[1:] + face_y[:, :-1] + face_y[:, 1:]
    beside = np.zeros((n, n))
    beside[:, :-1] = -face_y[:, 1:-1]
    below = -face_x[1:-1].ravel()
    bands = [diagonal.ravel(), below, below, beside.ravel()[:-1], beside.ravel()[:-1]]
    offsets: Any = [0, n, -n, 1, -1]  # scipy's stubs know a single offset only
    return csc_array(diags_array(bands, offsets=offsets, format="csc"))


def _conductance(conductivity: np.ndarray) -> np.ndarray:
    film = FILM * SIDE / len(conductivity)
    before, after = conductivity[:-1], conductivity[1:]
    ends = (1.0 / (0.5 / conductivity[[end]] + 1.0 / film) for end in (0, -1))
    first, last = ends
    return np.concatenate([first, 2.0 * before * after / (before + after), last])


def by_lu(fields: dict[str, np.ndarray], steps: int, euler: bool, anew: bool) -> np.ndarray:
    """All frames of the rise, by sparse factors of the matrix of a step or of each of its stages.

    Args:
        fields: Inputs of the scenario, float64.
        steps: In an interval.
        euler: Whether steps are those of implicit Euler, rather than of our scheme.
        anew: Whether the factors are made for each step.
    """
    area = (SIDE / CELLS) ** 2
    flow = sparse_matrix(fields["conductivity"])
    length = INTERVAL / steps if euler else GAMMA * INTERVAL / (steps + 2.0 * GAMMA)
    storage: Any = diags_array(fields["heat_capacity"].ravel() * area / length)
    matrix = csc_array(flow + storage)

    def factors() -> Any:
        # The fastest of splu's orderings for this matrix, which is symmetric.
        options = {"SymmetricMode": True}
        return splu(matrix, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options=options)

    made = factors()
    rise = (fields["temperature"] - fields["ambient_temperature"]).ravel()
    frames = [rise]
    # Of each stage: how much of its change is taken over into the state.
    shares = [1.0] * steps if euler else [1.0, 1.0] + [1.0 / GAMMA - 1.0, 1.0] * steps
    for power in fields["power"][:-1]:
        supplied = power.ravel() * area
        for k, share in enumerate(shares):
            made = factors() if anew and (euler or k % 2 == 0) else made
            rise = rise + share * made.solve(supplied - flow @ rise)
        frames.append(rise)
    return np.reshape(frames, fields["power"].shape)


def ours(fields: dict[str, np.ndarray], steps: int, tolerance: float = TOLERANCE) -> np.ndarray:
    """All frames of the rise, by the solver of the scenario."""
    frames = np.empty_like(fields["power"])
    ambient, width = float(fields["ambient_temperature"]), SIDE / CELLS
    solve_heat_conduction(
        fields["conductivity"], fields["heat_capacity"], fields["power"], fields["temperature"],
        ambient, FILM * width, width, INTERVAL, steps, tolerance, MAX_ITERATIONS, frames,
    )  # fmt: skip
    return frames - ambient


def run() -> Section:
    parameters = {"frames": FRAMES, "duration": INTERVAL * (FRAMES - 1)}
    drawn = make_scenario("furnace", CELLS, parameters).sample(np.random.default_rng(0))
    fields = {name: field.astype(np.float64) for name, field in drawn.items()}
    sides: dict[str, Callable[[], np.ndarray]] = {
        "ours": lambda: ours(fields, STEPS),
        "same": lambda: by_lu(fields, STEPS, euler=False, anew=False),
        "euler": lambda: by_lu(fields, EULER_STEPS, euler=True, anew=False),
    }
    reference = ours(fields, REFERENCE_STEPS, 1e-10)
    errors = {
        name: float(np.linalg.norm(side() - reference) / np.linalg.norm(reference))
        for name, side in sides.items()
    }
    times = in_turn(sides, ROUNDS, warm_up=0)  # each has been called for its error
    anew = in_turn(
        {
            "ours": sides["ours"],
            "anew": lambda: by_lu(fields, STEPS, euler=False, anew=True),
        },
        1,
        warm_up=0,
    )
    steps = (STEPS + 1) * (FRAMES - 1)  # the two stages that begin an interval count as a step
    return Section(
        "Furnace solver",
        (
            ABOUT.replace("\n", " "),
            Table(
                ("side", "steps a run", "ms a run", "ms a step", "ratio", "error"),
                [
                    _row("ours", steps, times, "ours", errors["ours"]),
                    _row("`splu`, same scheme, factors once", steps, times, "same", errors["same"]),
                    _row("`splu`, same scheme, each step", steps, anew, "anew", errors["same"]),
                    _row(
                        "`splu`, implicit Euler, factors once",
                        EULER_STEPS * (FRAMES - 1),
                        times,
                        "euler",
                        errors["euler"],
                    ),
                ],
            ),
        ),
    )


def _row(side: str, steps: int, times: Any, name: str, error: float) -> tuple[str, ...]:
    milliseconds = median_ms(times, name)
    ratio = median_ratio(times, name, "ours")
    return (
        side,
        str(steps),
        figure(milliseconds),
        figure(milliseconds / steps),
        "" if name == "ours" else figure(ratio),
        f"{error:.1e}",
    )
