"""The marches that the batch furnace is compared with: they solve what it solves."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.bench_batch_furnace import furnace
from benchmarks.chamber_peers import Enclosure, Solids, march

INTERVALS, STEPS, RAYS = 2, 32, 16


@pytest.fixture(scope="module")
def run():
    scenario = furnace(cells_per_point=4.0, rays=RAYS, steps_per_frame=STEPS, tolerance=0.01)
    whole = scenario._cells(scenario.sample(np.random.default_rng(0)))
    cells = replace(whole, draw=replace(whole.draw, setpoints=whole.draw.setpoints[:INTERVALS]))
    return cells, scenario._march(cells), Solids(cells), Enclosure(cells, cells.surfaces(RAYS))


@pytest.mark.parametrize("kept", [False, True])
def test_steps_of_bdf2_by_scipy_give_the_same_run(run, kept):
    cells, ours, solids, enclosure = run
    found = march(cells, solids, enclosure, STEPS, 0.01, kept, euler=False)
    rise = np.linalg.norm(ours.cells[1:] - cells.draw.ambient)
    assert np.linalg.norm(found.cells[1:] - ours.cells[1:]) < 2e-3 * rise
    rise = np.linalg.norm(ours.surfaces[1:] - cells.draw.ambient)
    assert np.linalg.norm(found.surfaces[1:] - ours.surfaces[1:]) < 2e-3 * rise
    assert (found.factorisations > 0) == kept


def test_fipy_conducts_the_same_heat_to_the_same_temperatures(run):
    pytest.importorskip("fipy", reason="FiPy is not installed (extra bench)")
    from benchmarks.fipy_peer import conduct_by_fipy

    cells, _, solids, enclosure = run
    found = march(cells, solids, enclosure, 4, 0.01, kept=False, euler=True)
    conducted = conduct_by_fipy(cells, solids, found.heats, 4)
    rise = np.linalg.norm(found.cells - cells.draw.ambient)
    assert np.linalg.norm(conducted - found.cells) < 1e-3 * rise
