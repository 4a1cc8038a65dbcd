"""The batch furnace as a scenario: plants and draws, whole runs, heat, orders, refusals."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ruamel.yaml import YAML

from mno.core.errors import InputError
from mno.scenarios.base import make_scenario
from mno.scenarios.batch_furnace import BatchFurnace
from mno.scenarios.chamber.arrangement import Cells, Draw, Piece, draw_run
from mno.scenarios.chamber.conduction import enthalpy_of, stages_for
from mno.scenarios.chamber.march import Record, run
from mno.scenarios.chamber.plant import Plant
from tests.scenarios.contract import check_scenario, failed_checks, solved_sample
from tests.scenarios.measures import assert_orders

PLANTS = ("car_bottom", "electric_annealing")
FOLDER = Path(__file__).parents[2] / "plants"
QUICK = {"rays": 16, "steps_per_frame": 2, "cells_per_point": 4.0}


def furnace(plant="car_bottom", resolution=8, **parameters):
    scenario = make_scenario("batch_furnace", resolution, {"plant": plant, **QUICK, **parameters})
    assert isinstance(scenario, BatchFurnace)
    return scenario


def draws(scenario, number, unseen="none"):
    plant = scenario.plant.with_unseen(unseen)
    return [draw_run(plant, np.random.default_rng(seed)) for seed in range(number)]


def march(scenario, draw, width=None):
    cells = Cells.fitted(scenario.plant, draw, width or 2.0 * scenario._width)
    return cells, scenario._march(cells)


def said(name="car_bottom"):
    """What a plant's file says, to be changed."""
    return YAML(typ="safe").load(FOLDER / f"{name}.yaml")


def read(content, folder):
    (folder / "plants").mkdir(exist_ok=True)
    YAML().dump(content, folder / "plants" / "changed.yaml")
    return Plant.read("changed", folder)


def cube(**changes):
    """A small furnace whose cells may be halved: one piece in the middle of its hearth."""
    plant = said()
    layers = [{"material": m, "thickness": 0.1} for m in ("fireclay", "insulation")]
    plant |= {
        "chamber": {"width": 1.2, "height": 1.2, "length": 1.2},
        "lining": {"walls": layers, "roof": layers, "hearth": layers},
        "zones": [{"name": "front", "end": 0.6, "power": 5e4},
                  {"name": "rear", "end": 1.2, "power": 5e4}],
        "thermocouples": {"roof": [0.6, 1.25, 0.6]},
        "wear": [0.0, 0.0],
    }  # fmt: skip
    sizes = {key: [0.4, 0.4] for key in ("width", "height", "length")}
    plant["pieces"] |= {**sizes, "count": [1, 1], "step": 0.1}
    plant["unseen"] = {}
    return Plant.model_validate(copy.deepcopy(plant) | changes)


def piece_in_the_middle(plant, kelvin=300.0, y=0.0):
    grade = list(plant.materials).index("stainless_steel")
    return Piece((0.4, y, 0.4), (0.4, 0.4, 0.4), grade, kelvin)


def at_full_power(plant, cells, rays, steps, frames, interval, tolerance=1e-3, start=None):
    """Run with burners that do not fall in power, from what there is; return also what is then."""
    solids, surfaces, draw = cells.solids, cells.surfaces(rays), cells.draw
    enthalpy = np.empty(len(solids.volume)) if start is None else start.copy()
    if start is None:
        for number, material in enumerate(plant.materials.values()):
            own = solids.material == number
            enthalpy[own] = enthalpy_of(material.table, cells.at_start()[own])
    zones = len(plant.zones)
    record = Record.empty(frames + 1, len(enthalpy), len(surfaces.cell), zones)
    stages = stages_for(interval / steps, cells.longest_step)
    run(
        solids, surfaces, cells.outside, cells.gas, np.full((frames, zones), 9000.0),
        draw.ambient, draw.warm, interval, steps, stages, tolerance, enthalpy, record,
    )  # fmt: skip
    return record, enthalpy


def still(plant, kelvin=300.0, y=0.0):
    """A draw in which all has one temperature."""
    zones = len(plant.zones)
    none = np.full((4, zones), 250.0)
    pieces = (piece_in_the_middle(plant, kelvin, y),)
    return Draw(pieces, 0.0, kelvin, kelvin, np.full(zones, 60.0), none)


@pytest.mark.parametrize("plant", PLANTS)
def test_draws_are_as_the_plant_says(plant):
    scenario = furnace(plant)
    rules, schedule = scenario.plant.pieces, scenario.plant.schedule
    size, all_draws = scenario.plant.chamber.size, draws(scenario, 300)
    row, other = (0, 2) if rules.row == "across" else (2, 0)
    assert {len(draw.pieces) for draw in all_draws} == set(
        range(rules.count[0], rules.count[1] + 1)
    )
    names = list(scenario.plant.materials)
    assert {names[p.grade] for draw in all_draws for p in draw.pieces} == set(rules.grades)
    for draw in all_draws:
        ends = np.array([[p.corner[row], p.corner[row] + p.size[row]] for p in draw.pieces])
        assert ends[0, 0] > rules.gap - 1e-9 and ends[-1, 1] < size[row] - rules.gap + 1e-9
        assert np.all(ends[1:, 0] - ends[:-1, 1] > rules.gap - 1e-9)
        for piece in draw.pieces:
            beside = piece.corner[other], size[other] - piece.corner[other] - piece.size[other]
            assert min(beside) > rules.gap - 1e-9
            assert piece.corner[1] == rules.support
            for length, key in zip(piece.size, ("width", "height", "length"), strict=True):
                low, high = getattr(rules, key)
                assert low - 1e-9 <= length <= high + 1e-9
                assert length / rules.step == pytest.approx(round(length / rules.step))
        assert draw.setpoints.shape == (schedule.intervals, len(scenario.plant.zones))
        low, high = np.transpose(schedule.corners)[1:]
        apart = schedule.zone_difference
        assert low.min() - apart <= draw.setpoints.min()
        assert draw.setpoints.max() <= high.max() + apart
    wears = [draw.wear for draw in all_draws]
    assert min(wears) < 0.1 * scenario.plant.wear[1] and max(wears) > 0.9 * scenario.plant.wear[1]


@pytest.mark.parametrize("plant", PLANTS)
def test_what_is_unseen_is_beyond_what_is_drawn(plant):
    scenario = furnace(plant)
    seen, larger = draws(scenario, 20), draws(scenario, 20, "piece")
    sizes = [[p.size for draw in some for p in draw.pieces] for some in (seen, larger)]
    assert np.min(sizes[1], axis=0)[0] > np.max(sizes[0], axis=0)[0]
    names = list(scenario.plant.materials)
    strange = {names[p.grade] for draw in draws(scenario, 20, "grade") for p in draw.pieces}
    assert strange == {scenario.plant.unseen.grade}
    for draw, hotter in zip(seen, draws(scenario, 20, "schedule"), strict=True):
        more = scenario.plant.unseen.schedule
        np.testing.assert_allclose(hotter.setpoints - draw.setpoints, more)


@pytest.mark.parametrize("plant", PLANTS)
def test_cells_are_fitted_to_the_lining_and_every_piece(plant):
    scenario = furnace(plant)
    lining, chamber = scenario.plant.lining, scenario.plant.chamber
    for draw in draws(scenario, 20):
        cells = Cells.fitted(scenario.plant, draw, 0.4)
        for number, piece in enumerate(draw.pieces):
            own = cells.piece == number
            assert cells.volume[own].sum() == pytest.approx(np.prod(piece.size), rel=1e-12)
            assert np.all(cells.material[own] == piece.grade)
        worn = draw.wear
        inside = (chamber.width + 2 * worn) * (chamber.height + worn) * (chamber.length + 2 * worn)
        charge = sum(np.prod(piece.size) for piece in draw.pieces)
        gas = cells.volume[cells.zone >= 0].sum()
        assert gas == pytest.approx(inside - charge, rel=1e-12)
        walls, roof, hearth = lining.thicknesses
        whole = (chamber.width + 2 * walls) * (chamber.height + roof + hearth)
        assert cells.volume.sum() == pytest.approx(whole * (chamber.length + 2 * walls), rel=1e-12)
        layer = list(scenario.plant.materials).index(lining.hearth[1].material)
        depth = lining.hearth[1].thickness
        area = (chamber.width + 2 * walls) * (chamber.length + 2 * walls)
        below = cells.material[:, cells.edges[1][1:] <= 1e-9] == layer
        found = cells.volume[:, cells.edges[1][1:] <= 1e-9][below].sum()
        assert found == pytest.approx(depth * area, rel=1e-12)


def test_a_piece_on_the_hearth_touches_it_and_one_on_supports_has_gas_below():
    plant = cube()
    on_hearth, raised = (Cells.fitted(plant, still(plant, y=y), 0.2) for y in (0.0, 0.2))
    area = 0.4 * 0.4
    for cells, sides in ((on_hearth, 5), (raised, 6)):
        behind = cells.piece[tuple(cells.faces.solid.T)]
        assert cells.faces.area[behind == 0].sum() == pytest.approx(sides * area)
        piece = cells.piece[cells.material >= 0] == 0
        touching = piece[cells.solids.first] != piece[cells.solids.second]
        assert touching.any() == (sides == 5)
    # Heat goes from a hot hearth into the piece by contact alone.
    draw = still(plant)
    draw = replace(draw, warm=600.0, pieces=(piece_in_the_middle(plant, 300.0),))
    cells = Cells.fitted(plant, draw, 0.2)
    record, _ = at_full_power(plant, cells, 16, 4, 1, 600.0)
    rows = np.broadcast_to(np.arange(cells.material.shape[1])[None, :, None], cells.material.shape)
    own = cells.piece[cells.material >= 0] == 0
    rows = rows[cells.material >= 0][own]
    assert record.cells[-1][own][rows == rows.min()].min() > 300.5


def test_places_are_interpolated_exactly_where_temperatures_are_linear():
    plant = cube()
    cells = Cells.fitted(plant, still(plant), 0.15)
    solid = cells.material >= 0
    centres = np.meshgrid(*(0.5 * (e[1:] + e[:-1]) for e in cells.edges), indexing="ij")

    def linear(x, y, z):
        return 400.0 + 100.0 * x - 50.0 * y + 30.0 * z

    inside = linear(*(c[solid] for c in centres))[None]
    places = [np.array(c)[tuple(cells.faces.gas.T)] for c in centres]
    for axis in range(3):
        low = cells.faces.solid[:, axis] < cells.faces.gas[:, axis]
        edge = cells.edges[axis][cells.faces.gas[:, axis] + ~low]
        places[axis] = np.where(cells.faces.axis == axis, edge, places[axis])
    faces = linear(*places)[None]
    for place in ((0.6, 0.2, 0.6), (0.5, 0.13, 0.71), (0.6, 1.23, 0.6), (-0.04, 0.7, 0.3)):
        assert cells.is_solid(place)
        assert cells.at_place(place, inside, faces)[0] == pytest.approx(linear(*place), abs=1e-9)
    assert not cells.is_solid((0.6, 0.8, 0.6))


@pytest.mark.parametrize("plant", PLANTS)
def test_averages_on_the_plants_grid_keep_all_that_there_is(plant):
    scenario = furnace(plant)
    (draw,) = draws(scenario, 1)
    cells = Cells.fitted(scenario.plant, draw, 0.4)
    values = np.random.default_rng(0).uniform(300.0, 900.0, (2, *cells.material.shape))
    found = cells.averages(values, scenario._edges)
    volume = np.einsum("x,y,z->xyz", *(np.diff(edges) for edges in scenario._edges))
    for fine, coarse in zip(values, found, strict=True):
        assert (coarse * volume).sum() == pytest.approx((fine * cells.volume).sum(), rel=1e-12)


def test_where_all_is_as_warm_as_the_hall_nothing_happens():
    plant = cube()
    scenario = furnace()
    scenario.plant = plant
    cells, record = march(scenario, still(plant))
    for found in (record.cells, record.surfaces, record.gas, record.readings, record.probes):
        np.testing.assert_allclose(found, 300.0, rtol=1e-6)
    assert not record.power.any()
    assert np.abs(record.accounts).max() < 10.0  # J


def test_without_power_temperatures_stay_between_those_that_are_given():
    plant = cube()
    scenario = furnace()
    scenario.plant = plant
    draw = replace(still(plant), warm=900.0, pieces=(piece_in_the_middle(plant, 1200.0),))
    _, record = march(scenario, draw)
    for found in (record.cells, record.surfaces, record.gas, record.readings, record.probes):
        assert found.min() > 299.9 and found.max() < 1200.1
    stored, hall, flue = record.accounts[-1, :3]
    assert stored < 0.0 < hall and flue > 0.0


@pytest.mark.parametrize("tolerance", [1.0, 50.0])
@pytest.mark.parametrize("plant", PLANTS)
def test_heat_closes_to_rounding_however_coarse_the_balance_is(plant, tolerance):
    scenario = furnace(plant, tolerance=tolerance, steps_per_frame=1)
    for draw in draws(scenario, 4):
        cells, record = march(scenario, draw)
        spent = record.accounts
        supplied = spent[:, 4:].sum(axis=1)
        assert np.abs(supplied - spent[:, :4].sum(axis=1)).max() < 1e-10 * supplied[-1]
        assert np.all(np.diff(spent[:, 4:], axis=0) >= 0.0)
        most = 3600.0 * scenario.plant.schedule.interval * cells.gas.most_power
        assert np.all(np.diff(spent[:, 4:], axis=0) <= most * (1.0 + 1e-12))
        # What solids have stored is what their temperatures say.
        solids, materials = cells.solids, list(scenario.plant.materials.values())
        content = np.zeros(2)
        for number, material in enumerate(materials):
            own = solids.material == number
            at = record.cells[[0, -1]][:, own]
            content += enthalpy_of(material.table, at) @ solids.volume[own]
        assert content[1] - content[0] == pytest.approx(spent[-1, 0], rel=1e-6)


@pytest.mark.parametrize("plant", PLANTS)
def test_the_gas_stays_warm_and_little_is_handed_on_where_power_comes_and_goes(plant):
    # With steps of up to 15 minutes a balance may go back and forth between power and none.
    scenario = furnace(plant)
    for draw in draws(scenario, 6):
        _, record = march(scenario, draw)
        coldest = min(draw.ambient, draw.warm, *(piece.temperature for piece in draw.pieces))
        for found in (record.gas, record.readings, record.probes):
            assert found.min() > coldest - 1.0
        assert np.abs(record.accounts[:, 3]).max() < 0.01 * record.accounts[-1, 4:].sum()


def test_zones_follow_their_set_points():
    scenario = furnace(steps_per_frame=6, resolution=8)
    for draw in draws(scenario, 3):
        _, record = march(scenario, draw)
        wanted, band = draw.setpoints[-6:], scenario.plant.control.band
        reached = record.readings[-6:]
        limited = record.power[-6:] >= 0.999 * 6e5
        idle = record.power[-6:] <= 0.0
        held = ~limited & ~idle
        assert held.any()
        assert np.all((wanted - reached)[held] > -0.2 * band)
        assert np.all((wanted - reached)[held] < 1.2 * band)


def test_the_order_in_time_of_a_whole_run_is_two_where_powers_are_smooth():
    plant = cube()
    cells = Cells.fitted(plant, still(plant), 0.2)
    # What begins with a jump of the power is over.
    _, begun = at_full_power(plant, cells, 64, 16, 2, 900.0, 1e-6)
    found = {}
    for steps in (1, 2, 4, 8, 64):
        record, _ = at_full_power(plant, cells, 64, steps, 2, 1800.0, 1e-6, begun)
        found[steps] = record.cells[-1]
    errors = [np.sqrt(np.mean((found[n] - found[64]) ** 2)) for n in (1, 2, 4, 8)]
    assert_orders(errors, 1.6, 2.3)
    assert errors[-1] < 0.1


@pytest.mark.slow
def test_the_surfaces_of_a_whole_run_converge_as_cells_are_refined():
    # Edges of the chamber, where heat goes into the corner as well, keep the order at about one.
    plant = cube()
    charge, surfaces = [], []
    for width in (0.4, 0.2, 0.1, 0.05):
        cells = Cells.fitted(plant, still(plant), width)
        record, _ = at_full_power(plant, cells, 64, 8, 4, 3600.0, 0.1)
        own, volume = cells.piece[cells.material >= 0] == 0, cells.solids.volume
        charge.append(record.cells[-1][own] @ volume[own] / volume[own].sum())
        surfaces.append(record.surfaces[-1] @ cells.faces.area / cells.faces.area.sum())
    rise = surfaces[-1] - 300.0
    assert np.abs(np.diff(charge)).max() < 0.01 * rise
    assert np.all(np.abs(np.diff(surfaces)) < 0.01 * rise)


def test_readings_agree_with_each_other():
    scenario = furnace("electric_annealing")
    given, solved = solved_sample(scenario, 2)
    there = np.isfinite(given["piece_x"])
    for name in ("core_temperature", "surface_temperature", "mean_temperature"):
        assert np.array_equal(np.isfinite(solved[name][-1]), there)
    spread, mean, skin = (
        solved[name][:, there]
        for name in ("temperature_spread", "mean_temperature", "surface_temperature")
    )
    assert np.all(np.abs(skin - mean) <= spread + 1e-3) and np.all(spread >= 0.0)
    assert np.all(np.diff(solved["zone_energy"], axis=0) >= 0.0)
    assert np.all(np.diff(solved["hall_loss"]) > -1.0)
    ready, times = solved["ready_time"], scenario.axes[0].points
    assert ready == np.float32(ready) and times[0] < ready < times[-1]
    wanted = scenario.plant.charge_ready
    core = solved["core_temperature"][:, there]
    assert np.interp(ready, times, core.min(axis=1)) > wanted - 5.0
    never = furnace("electric_annealing")
    never.plant = never.plant.model_copy(update={"charge_ready": 2000.0})
    assert np.isnan(never.solve(given)["ready_time"])


def test_a_plate_that_melts_stays_at_its_melting_point_until_all_is_molten(tmp_path, monkeypatch):
    # A plant of one's own, by a file alone.
    content = said()
    content["title"] = "Melter"
    content["chamber"] = {"width": 0.8, "height": 0.6, "length": 0.9}
    content["lining"] = {
        part: [{"material": "castable", "thickness": 0.15}] for part in ("walls", "roof", "hearth")
    }
    content["zones"] = [{"name": "only", "end": 0.9, "power": 6e4}]
    content["gas"] = {"heating": "burner", "flue": "only"}
    content["thermocouples"] = {"roof": [0.4, 0.63, 0.4], "gas": [0.1, 0.5, 0.4]}
    content["pieces"] = {
        "count": [1, 1], "row": "across", "width": [0.3, 0.4], "height": [0.1, 0.1],
        "length": [0.3, 0.5], "gap": 0.1, "grades": ["aluminium"], "temperature": [300.0, 320.0],
    }  # fmt: skip
    content["schedule"] = {
        "hours": 5.0, "interval": 0.25, "corners": [[0.0, 1100.0, 1150.0], [5.0, 1100.0, 1150.0]],
    }  # fmt: skip
    content["wear"], content["unseen"] = [0.0, 0.0], {}
    content["materials"] = {
        "castable": {
            "density": 2100.0, "conductivity": [[300.0, 1.4]],
            "heat_capacity": [[300.0, 900.0], [1200.0, 1100.0]], "emissivity": 0.7,
        },
        "aluminium": {
            "density": 2600.0, "conductivity": [[300.0, 230.0], [930.0, 200.0], [940.0, 95.0]],
            "heat_capacity": [[300.0, 900.0], [930.0, 1170.0]], "emissivity": 0.4,
            "melting": [930.0, 934.0], "latent_heat": 3.9e5,
        },
    }  # fmt: skip
    read(content, tmp_path)
    monkeypatch.chdir(tmp_path)
    scenario = furnace("changed")
    given, solved = solved_sample(scenario)
    assert failed_checks(scenario, given, solved) == set()
    mean = solved["mean_temperature"][:, 0]
    melting = (mean > 929.0) & (mean < 936.0)
    assert melting.sum() >= 3 and mean[-1] > 950.0 and np.all(np.diff(mean) > -1.0)
    without = copy.deepcopy(content)
    del without["materials"]["aluminium"]["melting"]
    del without["materials"]["aluminium"]["latent_heat"]
    read(without, tmp_path)
    sooner = furnace("changed").solve(given)["mean_temperature"][:, 0]
    assert np.argmax(mean > 940.0) >= np.argmax(sooner > 940.0) + 3


def test_the_second_plant_keeps_the_contract_with_stress():
    changes = {"plant": PLANTS[1], **QUICK, "steps_per_frame": 1, "thermal_stress": True}
    check_scenario("batch_furnace", 8, changes)


def test_the_stress_of_a_plate_with_a_parabolic_temperature_is_exact_at_its_surface():
    materials = said()["materials"]
    constant = {"youngs_modulus": 2e11, "thermal_expansion": 1.2e-5, "poisson_ratio": 0.3}
    materials["stainless_steel"] |= {key: [[300.0, value]] for key, value in constant.items()}
    scenario = furnace(thermal_stress=True)
    scenario.plant = plant = cube(materials=materials)
    cells = Cells.fitted(plant, still(plant), 0.05)
    edges = (cells.edges[0] - 0.6) / 0.2  # -1 and 1 at the piece's sides
    squares = (edges[1:] ** 2 + edges[1:] * edges[:-1] + edges[:-1] ** 2) / 3.0  # means of cells
    columns = np.broadcast_to(squares[:, None, None], cells.material.shape)
    solid, faces = cells.material >= 0, cells.faces
    record = Record.empty(1, solid.sum(), len(faces.area), len(plant.zones))
    record.cells[0] = 700.0 + 60.0 * np.where(cells.piece == 0, columns, 0.0)[solid]
    record.surfaces[0] = record.cells[0][cells.surfaces_cell]
    sides = (faces.axis == 0) & (cells.piece[tuple(faces.solid.T)] == 0)
    record.surfaces[0][sides] = 760.0
    found = scenario._readings(cells, record)
    assert found["mean_temperature"][0, 0] == pytest.approx(720.0, rel=1e-12)
    exact = 2e11 * 1.2e-5 / 0.7 * 40.0  # E alpha / (1 - nu) (T_surface - T_mean)
    assert found["stress"][0, 0] == pytest.approx(exact, rel=1e-12)


def test_stress_takes_what_a_material_is_at_the_local_temperature():
    steel = furnace().plant.materials["carbon_steel"]
    cold, hot = steel.thermal_stress(np.array([300.0, 1100.0]), np.array([700.0, 700.0]))
    assert cold == pytest.approx(2.1e11 * 1.2e-5 / 0.71 * 400.0)
    assert hot == pytest.approx(1.15e11 * 2.1e-5 / 0.67 * 400.0)


def test_stress_is_one_more_reading_and_changes_no_other():
    plain, stressed = furnace(), furnace(thermal_stress=True)
    given, solved = solved_sample(plain)
    more, again = solved_sample(stressed)
    stress, spread = again.pop("stress"), solved["temperature_spread"]
    assert set(more) - set(given) == {"stress"} and set(again) == set(solved)
    for one, other in ((given, more), (solved, again)):
        assert all(np.array_equal(one[key], other[key], equal_nan=True) for key in one)
    there = np.isfinite(given["piece_x"])
    assert np.array_equal(np.isfinite(stress), np.broadcast_to(there, stress.shape))
    assert not stress[0, there].any()
    # The farther end of what lies about the mean is apart from it by half of the spread at least.
    units = stress[1:, there] / spread[1:, there]
    assert np.all((units > 0.5 * 1.2e6) & (units < 6e6))  # E alpha / (1 - nu), Pa/K


def test_checks_catch_heat_and_temperatures_that_cannot_be():
    scenario = furnace()
    given, solved = solved_sample(scenario)
    for name in ("zone_energy", "stored_heat", "flue_loss"):
        wrong = {**solved, name: solved[name] * np.float32(1.0001)}
        assert failed_checks(scenario, given, wrong) == {"energy"}
    for kelvin in (270.0, 2300.0):
        wrong = solved["temperature"].copy()
        wrong[3, 2, 2, 2] = kelvin
        assert failed_checks(scenario, given, {**solved, "temperature": wrong}) == {"range"}
    wrong = solved["core_temperature"].copy()
    wrong[0, 0] += 1.0
    assert failed_checks(scenario, given, {**solved, "core_temperature": wrong}) == {"initial"}


@pytest.mark.nightly
@pytest.mark.slow
@pytest.mark.parametrize("steps", [1, 6])
@pytest.mark.parametrize("plant", PLANTS)
def test_a_hundred_draws_of_each_plant_pass_their_checks(plant, steps):
    scenario = furnace(plant, steps_per_frame=steps)
    for seed in range(100):
        given, solved = solved_sample(scenario, seed)
        assert failed_checks(scenario, given, solved) == set(), seed
        assert solved["temperature"].max() < given["setpoint"].max() + 200.0


def put(*path):
    """A change of a plant's file: the value, last, at the keys before it."""
    *way, key, value = path

    def change(content):
        for part in way:
            content = content[part]
        content[key] = value

    return change


SPLIT = [[0.0, 500.0, 900.0], [6.0, 1100.0, 1400.0]]
TABLE = ("materials", "fireclay", "conductivity")
REFUSED = {
    "pieces overlap": (
        put("pieces", "count", [1, 4]),
        r"pieces: count=4 with width=0.5 and .*gap=0.1 needs 2.5 m of 2: .* choose fewer",
    ),
    "pieces too high": (put("pieces", "height", [0.3, 2.0]), "height .* needs 2.1 m of 2; choose"),
    "pieces too long": (put("pieces", "length", [1.0, 2.8]), "length .* needs 3 m of 2.8; choose"),
    "pieces off the step": (
        put("pieces", "width", [0.32, 0.5]),
        "width=0.32 is no multiple of pieces.step=0.05; choose 0.3",
    ),
    "seven pieces": (put("pieces", "count", [1, 7]), "pieces.count=.* expected from 1 to 6"),
    "no gap": (put("pieces", "gap", 0.0001), "pieces.gap=0.0001 should be greater .* 0.01"),
    "a slit below": (put("pieces", "support", 0.005), "support=0.005; expected 0, or 0.01 m"),
    "soot": (put("gas", "absorption", 7.0), "gas.absorption=7.0 should be less .* 5"),
    "backwards": (put("pieces", "temperature", [600.0, 300.0]), "the least and the greatest"),
    "unseen pieces overlap": (
        put("unseen", "piece", [[0.6, 0.6, 1.2], [2.0, 0.7, 2.4]]),
        "unseen.piece: count=1 with width=2 .* needs 2.2 m of 2: .* choose",
    ),
    "unseen pieces backwards": (
        put("unseen", "piece", [[0.6, 0.6, 1.2], [0.5, 0.7, 2.4]]),
        "unseen.piece: width from 0.6 to 0.5; expected the least and the greatest",
    ),
    "unseen flames": (put("unseen", "schedule", 900.0), "flame_temperature=2200 .* 2450; choose"),
    "a cold flame": (put("gas", "flame_temperature", 290.0), "flame_temperature=290 .* choose"),
    "a thermocouple outside": (
        put("thermocouples", "wall", [2.4, 1.0, 1.4]),
        r"thermocouples.wall=.* outside .* from -0.3 to 2.3 along x; move it",
    ),
    "a thermocouple without a place": (
        put("thermocouples", "wall", [float("nan"), 1.0, 1.4]), "thermocouples.wall=.* move it"
    ),
    "an open end": (
        put("zones", 1, "end", 2.7),
        r"zones end at \[1.4, 2.7\]; expected them to rise to chamber.length=2.8 .* closed",
    ),
    "a zone without length": (put("zones", 0, "end", 2.7999), "zones end at .* by 0.01"),
    "zones of one name": (put("zones", 0, "name", "rear"), "named rear, rear; give each a name"),
    "a flue in no zone": (put("gas", "flue", "middle"), "gas.flue='middle' .* front, rear"),
    "a table not sorted": (
        put(*TABLE, [[300.0, 1.0], [900.0, 1.2], [800.0, 1.5]]),
        "materials.fireclay.conductivity: 800 K follows 900 K; .* sort them",
    ),
    "a table not positive": (
        put(*TABLE, [[300.0, 1.0], [900.0, 0.0]]),
        "materials.fireclay.conductivity: 0 at 900 K; expected positive",
    ),
    "a table of no numbers": (put(*TABLE, [[300.0, float("nan")]]), "nan at 300 K; .* positive"),
    "no density": (put("materials", "fireclay", "density", -2000.0), "fireclay.density=-2000"),
    "half a melt": (
        put("materials", "fireclay", "latent_heat", 1e5),
        "melting=None with latent_heat=100000; expected both",
    ),
    "a melt backwards": (
        put("materials", "fireclay", "melting", [1400.0, 1300.0]), "fireclay: melting=.* begins"
    ),
    "half an elasticity": (
        put("materials", "carbon_steel", "thermal_expansion", None),
        "carbon_steel: without thermal_expansion; expected youngs_modulus, .* add what is missing",
    ),
    "a ratio of fluids": (
        put("materials", "carbon_steel", "poisson_ratio", [[300.0, 0.5]]),
        "carbon_steel.poisson_ratio: 0.5 at 300 K; expected less than 0.5, correct it",
    ),
    "a schedule that ends early": (
        put("schedule", "corners", SPLIT), "schedule: corners end at 6 h of hours=12; add one"
    ),
    "corners not sorted": (
        put("schedule", "corners", [*SPLIT, [float("nan"), 900.0, 1000.0]]), "hours .* sort them"
    ),
    "an interval that does not fit": (
        put("schedule", "interval", 0.7), "interval=0.7 does not divide hours=12; choose"
    ),
    "corners that pass each other": (put("schedule", "shift", 2.0), "shift=2 .* less than 2"),
    "an unknown material": (
        put("lining", "roof", 0, "material", "chalk"),
        "lining.roof: 'chalk' is not among materials .*fireclay, insulation.* add it",
    ),
    "an unknown grade": (put("pieces", "grades", ["brass"]), "pieces.grades: 'brass' is not among"),
    "an unknown key": (
        put("lining", "walls", 0, "depth", 0.1), r"walls.0.depth .*known here: material, thickness"
    ),
    "too thin a layer": (
        put("lining", "walls", 1, "thickness", 0.0004), "walls.1.thickness=0.0004 .* 0.005"
    ),
    "worn through": (put("wear", [0.0, 0.1]), "wear reaches 0.1, .* 0.1 thick, .* choose 0.095"),
    "words for numbers": (put("chamber", "width", "two"), "chamber.width='two' .* number"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_plant_that_cannot_be_is_refused_in_one_line(case, tmp_path):
    change, expected = REFUSED[case]
    content = said()
    change(content)
    with pytest.raises(InputError, match=expected) as error:
        read(content, tmp_path)
    line = str(error.value)
    assert line.startswith("changed.yaml: ") and "\n" not in line and "params.yaml" not in line


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", "expected a mapping"), ("- 1\n", "expected a mapping"),
     ("a: [", "cannot be read as YAML"), ("title: a\ntitle: b\n", "cannot be read as YAML")],
)  # fmt: skip
def test_a_file_that_holds_no_plant_is_refused_in_one_line(text, expected, tmp_path):
    (tmp_path / "plants").mkdir()
    (tmp_path / "plants" / "changed.yaml").write_text(text)
    with pytest.raises(InputError, match=expected) as error:
        Plant.read("changed", tmp_path)
    assert "changed.yaml" in str(error.value) and "\n" not in str(error.value)


def test_what_a_plant_hides_has_to_be_an_input(tmp_path, monkeypatch):
    content = said()
    content["hidden"] = ["waer"]
    read(content, tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="changed.yaml: hidden names waer; expected .* wear, "):
        furnace("changed")


def test_unknown_plants_and_what_a_plant_does_not_say_are_refused(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="plant='kiln' .* it has: car_bottom, electric_annealing"):
        furnace("kiln")
    content = said()
    del content["unseen"]
    read(content, tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="unseen='grade': .* changed says nothing .* add it"):
        furnace("changed", unseen="grade")
    assert furnace("changed").outside() == {}


@pytest.mark.parametrize("grade", ["carbon_steel", "cast_iron"])  # drawn, or drawn as unseen
def test_stress_is_refused_where_a_grade_has_no_elasticity(grade, tmp_path, monkeypatch):
    content = said()
    for key in ("youngs_modulus", "thermal_expansion", "poisson_ratio"):
        del content["materials"][grade][key]
    read(content, tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=f"changed.yaml: materials.{grade} has no .* add them"):
        furnace("changed", thermal_stress=True)
    assert "stress" not in {field.name for field in furnace("changed").fields}


def test_stress_is_refused_of_a_piece_of_brick():
    scenario = furnace(thermal_stress=True)
    given = scenario.sample(np.random.default_rng(0))
    given["piece_grade"][0] = 0.0
    with pytest.raises(InputError, match="car_bottom.yaml: materials.fireclay has no .* add them"):
        scenario.solve(given)


def test_a_grid_too_coarse_for_the_lining_is_refused():
    with pytest.raises(InputError, match="resolution=4 makes cells of 0.85 m, .* choose 5 or more"):
        furnace(resolution=4)
    furnace(resolution=5)


def test_pieces_that_are_only_half_described_are_refused():
    scenario = furnace()
    given = scenario.sample(np.random.default_rng(0))
    half = given["piece_grade"].copy()
    half[:] = np.nan
    for ask in (scenario.solve, scenario.completed):
        with pytest.raises(InputError, match="piece_grade is .* expected numbers for the pieces"):
            ask({**given, "piece_grade": half})


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("piece_x", 1.9, r"piece 1 reaches from 1.9 to .* m along x; .* within 0 and 2: move it"),
        ("piece_z", -0.1, "piece 1 reaches from -0.1 to .* along z"),
        ("piece_height", 0.0, "piece 1 reaches from 0 to 0 m along y; expected a size"),
        ("piece_grade", 9.0, "piece_grade=9 of piece 1; expected a number from 0 to 4: fireclay"),
        ("wear", 0.15, "wear=0.15 m; expected from 0 to 0.095"),
        ("ambient_temperature", 2250.0, "ambient_temperature=2250 K; .* than the flame's 2200"),
    ],
)
def test_runs_that_the_plant_cannot_have_are_refused(field, value, expected):
    scenario = furnace()
    given = scenario.sample(np.random.default_rng(0))
    changed = given[field].copy()
    changed[(0,) * changed.ndim] = value
    for ask in (scenario.solve, scenario.completed):
        with pytest.raises(InputError, match=expected):
            ask({**given, field: changed})


def test_pieces_that_overlap_are_refused():
    scenario = furnace()
    given = next(
        drawn
        for seed in range(9)
        for drawn in [scenario.sample(np.random.default_rng(seed))]
        if np.isfinite(drawn["piece_x"]).sum() > 1
    )
    both = {key: given[key].copy() for key in ("piece_x", "piece_z")}
    for values in both.values():
        values[1] = values[0]
    with pytest.raises(InputError, match="pieces 1 and 2 overlap; move one of them"):
        scenario.solve({**given, **both})
