"""The solver of the batch furnace against scipy and FiPy on its cells, and its own coarse modes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

import numpy as np

from benchmarks.chamber_peers import MOST_ITERATIONS, Enclosure, March, Solids, march
from benchmarks.page import Section, Table, figure
from benchmarks.timing import Times, in_turn, median_ms, median_ratio
from mno.scenarios.base import make_scenario
from mno.scenarios.batch_furnace import BatchFurnace
from mno.scenarios.chamber.arrangement import Cells
from mno.scenarios.chamber.march import Record

THREADS = 1
RESOLUTION, RUNS = 8, 6
WIDE = 0.28
"""Cells per point with which the fitted cells are about as many as 32 x 32 x 32."""
STEPS, FEW, MANY = 6, 2, 24
FINE_IN_TIME = {"cells_per_point": WIDE, "steps_per_frame": 96, "tolerance": 0.01}
FINE_RESOLUTION = 12
FINE = {"cells_per_point": 0.25, "steps_per_frame": 12, "rays": 128, "tolerance": 0.1}
ROUNDS, SLOW_ROUNDS = 3, 1
BUSY: dict[str, Any] = {"warm_up": 0, "clock": time.process_time}
ONE_KELVIN = 1.0
READINGS = ("core", "mean", "surface", "thermocouple")
ABOUT = """A car-bottom furnace over twelve hours, 24 intervals of half an hour. Errors are those of
readings, of all pieces, thermocouples and frames together, over the rise above ambient temperature
in the same sense. Times are those of the processor."""
PEERS = """**Against peers**, one run on {cells} fitted cells, {solid} of them solid, with {faces}
faces. All sides have the same cells and tables; ours makes its view factors in the time that is
measured, and the peers are given them. Errors here are those in time: against {fine} steps of ours
in each interval on the same cells. scipy's march is written in numpy: implicit steps with all that
is in ours, by Newton's method, a round of which solves for radiosities and gas, and then for the
solids, both by `cg`, until nothing moves by more than {kelvin:g} K, which is the tolerance of ours.
The solids' matrix changes with temperature; `splu`'s factors (minimum degree ordering, symmetric
mode) precondition it for as long as {most} iterations do, or else its diagonal does. FiPy conducts
only: it is given what each step of implicit Euler brings to every cell, sweeps twice a step, and
solves with its `LinearCGSolver`; the error is that of implicit Euler."""
NO_FIPY = 'FiPy is not installed, so it is not compared; `pip install -e ".[bench]"` adds it.'
COARSE = """**Coarse modes**, which a surrogate competes with: the scenario's settings from the
coarsest on at `generate.resolution={resolution}`, whole runs with cells and view factors, the mean
of {runs} runs of different draws. Errors are shares of each reading's rise, the mean of the runs,
against cells of {width:.2g} m, {steps} steps in an interval and {rays} rays. The last but one is
finer than the defaults before it, and the last has the cells of the table above."""


def readings(scenario: BatchFurnace, cells: Cells, found: Record | March) -> np.ndarray:
    """Return all readings of a march after its start, K, as one list."""
    empty = Record.empty(
        len(found.cells), found.cells.shape[1], found.surfaces.shape[1], len(cells.plant.zones)
    )
    record = empty._replace(cells=found.cells, surfaces=found.surfaces)
    read = scenario._readings(cells, record)
    values = [np.asarray(read[f"{name}_temperature"])[1:].ravel() for name in READINGS]
    there = np.concatenate(values)
    return there[np.isfinite(there)]


def run() -> Section:
    return Section("Batch furnace solver", (ABOUT.replace("\n", " "), *_peers(), *_coarse()))


def furnace(resolution: int = RESOLUTION, **parameters: Any) -> BatchFurnace:
    scenario = make_scenario("batch_furnace", resolution, parameters)
    assert isinstance(scenario, BatchFurnace)
    return scenario


def _peers() -> list[str | Table]:
    ours = {n: furnace(cells_per_point=WIDE, steps_per_frame=n) for n in (FEW, STEPS)}
    scenario = ours[STEPS]
    scenario.compile()
    given = scenario.sample(np.random.default_rng(0))
    cells = scenario._cells(given)
    surfaces = cells.surfaces(scenario.parameters.rays)
    solids, enclosure = Solids(cells), Enclosure(cells, surfaces)
    reference = readings(scenario, cells, furnace(**FINE_IN_TIME)._march(cells))
    rise = float(np.linalg.norm(reference - cells.draw.ambient))

    def peer(steps: int, *, kept: bool = False, euler: bool = False) -> March:
        return march(cells, solids, enclosure, steps, ONE_KELVIN, kept, euler)

    sides: dict[str, Callable[[], Any]] = {
        "ours": lambda: scenario._march(cells),
        "few": lambda: ours[FEW]._march(cells),
        "same": lambda: peer(STEPS),
    }
    euler = peer(STEPS, euler=True)
    slow: dict[str, Callable[[], Any]] = {
        "ours": sides["ours"],
        "many": lambda: peer(MANY),
        "kept": lambda: peer(STEPS, kept=True),
    }
    if find_spec("fipy"):
        from benchmarks.fipy_peer import conduct_by_fipy

        slow["fipy"] = lambda: euler._replace(
            cells=conduct_by_fipy(cells, solids, euler.heats, STEPS)
        )
    found: dict[str, Any] = {}

    def keeping(name: str, side: Callable[[], Any]) -> Callable[[], None]:
        return lambda: found.update({name: side()})

    times = in_turn({n: keeping(n, s) for n, s in sides.items()}, ROUNDS, **BUSY)
    rare = in_turn({n: keeping(n, s) for n, s in slow.items()}, SLOW_ROUNDS, **BUSY)
    intervals = len(cells.draw.setpoints)

    def row(side: str, name: str, steps: int, of: Times) -> tuple[str, ...]:
        off = np.linalg.norm(readings(scenario, cells, found[name]) - reference) / rise
        ratio = "" if name == "ours" else figure(median_ratio(of, name, "ours"))
        return (
            side, str(steps * intervals), figure(median_ms(of, name) / 1e3), ratio, f"{off:.1e}"
        )  # fmt: skip

    rows = [
        row("ours", "ours", STEPS, times),
        row("ours, longer steps", "few", FEW, times),
        row("scipy, BDF2, diagonal", "same", STEPS, times),
        row("scipy, BDF2, diagonal", "many", MANY, rare),
        row("scipy, BDF2, kept factors", "kept", STEPS, rare),
    ]
    if "fipy" in slow:
        rows.append(row("FiPy, conduction only", "fipy", STEPS, rare))
    said = PEERS.format(
        cells=f"{cells.material.size:,}", solid=f"{solids.count:,}",
        faces=f"{len(enclosure.area):,}", fine=FINE_IN_TIME["steps_per_frame"],
        kelvin=ONE_KELVIN, most=MOST_ITERATIONS,
    )  # fmt: skip
    table = Table(("side", "steps a run", "s a run", "ratio", "error"), rows)
    return [said.replace("\n", " "), table, *([] if "fipy" in slow else [NO_FIPY])]


def _coarse() -> list[str | Table]:
    finest = furnace(FINE_RESOLUTION, **FINE)
    begun = [np.random.default_rng(seed) for seed in range(RUNS)]
    truth = [finest.solve(finest.sample(rng)) for rng in begun]
    cases = [*furnace().settings(), {"cells_per_point": WIDE}]
    scenarios = [furnace(**case) for case in cases]
    draws = [[s.sample(np.random.default_rng(n)) for n in range(RUNS)] for s in scenarios]

    def all_runs(number: int) -> Callable[[], object]:
        return lambda: [scenarios[number].solve(given) for given in draws[number]]

    times = in_turn({str(n): all_runs(n) for n in range(len(cases))}, ROUNDS, **BUSY)
    rows = []
    for number, scenario in enumerate(scenarios):
        counts, errors = [], []
        for given, fine in zip(draws[number], truth, strict=True):
            counts.append(scenario._cells(given).material.size)
            errors.append(_shares(scenario.solve(given), fine, float(given["ambient_temperature"])))
        now = scenario.parameters
        rows.append(
            (
                f"{now.cells_per_point:g}", f"{statistics.mean(counts):,.0f}",
                str(now.steps_per_frame), str(now.rays), f"{now.tolerance:g}",
                figure(median_ms(times, str(number)) / RUNS),
                *(f"{error:.2%}" for error in np.mean(errors, axis=0)),
            )
        )  # fmt: skip
    said = COARSE.format(
        resolution=RESOLUTION, runs=RUNS, width=FINE["cells_per_point"] * finest._width,
        steps=FINE["steps_per_frame"], rays=FINE["rays"],
    )  # fmt: skip
    columns = ("cells per point", "cells", "steps", "rays", "tolerance, K", "ms a run", *READINGS)
    return [said.replace("\n", " "), Table(columns, rows)]


def _shares(found: Mapping[str, Any], fine: Mapping[str, Any], ambient: float) -> list[float]:
    """Return the error of each reading, over its rise."""
    shares = []
    for name in READINGS:
        mine, true = (f[f"{name}_temperature"].astype(float) for f in (found, fine))
        there = np.isfinite(true)
        off = np.linalg.norm(mine[there] - true[there])
        shares.append(float(off / np.linalg.norm(true[there] - ambient)))
    return shares
