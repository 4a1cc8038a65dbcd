"""A block of steel heated from outside, against FreeFem: finite elements by an independent code."""

import shutil
import subprocess

import numpy as np
import pytest
from ruamel.yaml import YAML

from mno.scenarios.chamber.arrangement import Cells, Draw
from mno.scenarios.chamber.conduction import enthalpy_of, stages_for
from mno.scenarios.chamber.march import Gas, Record, Surfaces, run
from mno.scenarios.chamber.plant import Plant
from tests.scenarios.test_batch_furnace import FOLDER

HALF = (0.2, 0.15, 0.3)  # m, of the block along each axis
COLD, HOT, FILM, EMISSIVITY = 300.0, 1200.0, 25.0, 0.8
FRAMES, INTERVAL = 4, 1800.0
SCRIPT = """
load "msh3"
mesh3 Th = cube(11, 9, 14, [x * %(x)s, y * %(y)s, z * %(z)s]);
fespace Vh(Th, P1);
Vh u, v, guess = %(cold)s, old = %(cold)s, conducts, holds, film;
real hot = %(hot)s, dt = %(dt)s;
func real seen(real t) { return %(film)s
    + %(emissivity)s * 5.670374419e-8 * (t^2 + hot^2) * (t + hot); }
func real kappa(real t) { return %(kappa)s; }
func real stores(real t) { return %(stores)s; }
problem heat(u, v, solver = CG, eps = 1e-10)
    = int3d(Th, qfV = qfV2)(holds / dt * u * v
        + conducts * (dx(u) * dx(v) + dy(u) * dy(v) + dz(u) * dz(v)))
    + int2d(Th, 2, 3, 6)(film * u * v)
    - int3d(Th, qfV = qfV2)(holds / dt * old * v)
    - int2d(Th, 2, 3, 6)(film * hot * v);
for (int frame = 0; frame < %(frames)d; frame++) {
    for (int step = 0; step < %(steps)d; step++) {
        for (int round = 0; round < 2; round++) {
            conducts = kappa(guess);
            holds = stores(0.5 * (guess + old));
            film = seen(guess);
            heat;
            guess = u;
        }
        old = u;
    }
    cout << "FRAME " << u(0, 0, 0) << " "
        << int3d(Th)(u) / (%(x)s * %(y)s * %(z)s) << endl;
}
"""


def piecewise(table):
    """A table, linear between its pairs and constant beyond, as FreeFem's arithmetic."""
    parts = [f"{table[0][1]}"]
    for (low, first), (high, second) in zip(table, table[1:], strict=False):
        parts.append(f"({(second - first) / (high - low)}) * (min(max(t, {low}), {high}) - {low})")
    return " + ".join(parts)


def by_elements(steel, folder):
    steps = 60
    said = {
        **dict(zip("xyz", HALF, strict=True)), "cold": COLD, "hot": HOT, "film": FILM,
        "emissivity": EMISSIVITY, "dt": INTERVAL / steps, "steps": steps, "frames": FRAMES,
        "kappa": piecewise(steel.conductivity),
        "stores": f"{steel.density} * ({piecewise(steel.heat_capacity)})",
    }  # fmt: skip
    script = folder / "block.edp"
    script.write_text(SCRIPT % said)
    found = subprocess.run(
        ["FreeFem++", "-nw", "-v", "0", str(script)], capture_output=True, text=True, check=False
    )
    lines = [line.split()[1:] for line in found.stdout.splitlines() if line.startswith("FRAME")]
    assert len(lines) == FRAMES, found.stdout + found.stderr
    return np.array(lines, float)


def by_cells(plant, name):
    """The whole block, in a hall as hot as that; what a furnace has besides is a pocket apart."""
    x, y, z = (np.linspace(-half, half, 20) for half in HALF)
    number = list(plant.materials).index(name)
    shape = (19, 19, 19)
    nothing = np.full(shape, -1, np.int64)
    draw = Draw((), 0.0, HOT, HOT, np.ones(1), np.full((FRAMES, 1), 1.0))
    cells = Cells(plant, draw, (x, y, z), np.full(shape, number), nothing, nothing)
    solids = cells.solids
    count = len(solids.volume)
    solids = solids._replace(
        material=np.append(solids.material, number), volume=np.append(solids.volume, 1.0)
    )
    pocket = Surfaces(
        np.full(2, count), np.full(2, 0.1), np.ones(2), np.full(2, 0.5), np.zeros(2, np.int64),
        np.array([0, 1, 1], np.uint32), np.array([1], np.uint32), np.ones(1), np.zeros((2, 1)),
    )  # fmt: skip
    gas = Gas(
        np.ones(1), 60.0, 0.0, 1.0, 0.0, 0, 10.0, np.array([60.0]), FILM, EMISSIVITY
    )  # fmt: skip
    enthalpy = enthalpy_of(plant.materials[name].table, np.append(np.full(count, COLD), HOT))
    record = Record.empty(FRAMES + 1, count + 1, 2, 1)
    run(
        solids, pocket, cells.outside, gas, draw.setpoints, HOT, HOT, INTERVAL, 30,
        stages_for(INTERVAL / 30, cells.longest_step), 1.0, enthalpy, record,
    )  # fmt: skip
    at = record.cells[1:, :count].reshape(FRAMES, *shape)
    return np.stack([at[:, 9, 9, 9], at.mean((1, 2, 3))], axis=1)


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.skipif(shutil.which("FreeFem++") is None, reason="apt install freefem++")
@pytest.mark.parametrize("name", ["carbon_steel", "stainless_steel"])
def test_a_block_of_steel_is_heated_as_freefem_finds(name, tmp_path):
    plant = Plant.model_validate(YAML(typ="safe").load(FOLDER / "car_bottom.yaml"))
    expected = by_elements(plant.materials[name], tmp_path)
    found = by_cells(plant, name)
    rise = expected.max() - COLD
    assert np.abs(found - expected).max() < 0.02 * rise
