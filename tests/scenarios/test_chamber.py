"""What a batch furnace is solved by: view factors, grey exchange, conduction, orders, heat."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.optimize import root_scalar
from scipy.sparse import csr_matrix, triu
from scipy.special import erf, erfc

from mno.core.errors import MnoError
from mno.scenarios.chamber.conduction import (
    ZERO_CELSIUS,
    conduct,
    enthalpy_of,
    look_up,
    make_table,
    stages_for,
)
from mno.scenarios.chamber.exchange import SIGMA
from mno.scenarios.chamber.march import Gas, Outside, Record, Solids, Surfaces, run
from mno.scenarios.chamber.view_factors import _closed, find_faces, find_views
from tests.scenarios.measures import assert_orders, relative

STEEL = ([[300.0, 50.0], [1000.0, 28.0], [1600.0, 30.0]], [[300.0, 450.0], [950.0, 900.0],
         [1010.0, 2000.0], [1070.0, 700.0], [1600.0, 680.0]], 7800.0)  # fmt: skip
PLAIN = ([[300.0, 30.0]], [[300.0, 500.0]], 8000.0)


def box(size, cells, rays=16, absorption=0.0, solid=(), zones=1):
    """Faces and views of a box of gas, and the side that each face belongs to: x-, x+, y-, ..."""
    zone = np.full([n + 2 for n in cells], -1, np.int64)
    inside = zone[1:-1, 1:-1, 1:-1]
    inside[:] = np.arange(cells[2]) * zones // cells[2]
    for part in solid:
        inside[part] = -1
    x, y, z = (
        np.concatenate([[0.1], np.full(n, length / n), [0.1]])
        for n, length in zip(cells, size, strict=True)
    )
    faces = find_faces(zone, (x, y, z))
    views = find_views(faces, zone, (x, y, z), zones, absorption, rays)
    return faces, views, 2 * faces.axis + (faces.solid > faces.gas).any(axis=1)


def factor(faces, views, side, one, other):
    seen = views.direct[side == one][:, side == other]
    return seen.sum() / faces.area[side == one].sum()


def facing(width, height, apart):
    """View factor between equal rectangles that face each other."""
    x, y = width / apart, height / apart
    found = 0.5 * np.log((1 + x * x) * (1 + y * y) / (1 + x * x + y * y))
    for a, b in ((x, y), (y, x)):
        found += a * np.sqrt(1 + b * b) * np.arctan(a / np.sqrt(1 + b * b)) - a * np.arctan(a)
    return 2.0 / (np.pi * x * y) * found


def adjoining(deep, high, along):
    """View factor from a rectangle to one at a right angle, `along` their common edge."""
    w, h = deep / along, high / along
    both = np.hypot(w, h)
    found = w * np.arctan(1 / w) + h * np.arctan(1 / h) - both * np.arctan(1 / both)
    w2, h2, both = w * w, h * h, both * both
    found += 0.25 * (
        np.log((1 + w2) * (1 + h2) / (1 + both))
        + w2 * np.log(w2 * (1 + both) / ((1 + w2) * both))
        + h2 * np.log(h2 * (1 + both) / ((1 + h2) * both))
    )
    return found / (np.pi * w)


SIZE = (2.0, 1.5, 3.0)
EXACT = {
    (0, 1): facing(1.5, 3.0, 2.0), (2, 3): facing(2.0, 3.0, 1.5), (4, 5): facing(2.0, 1.5, 3.0),
    (0, 2): adjoining(1.5, 2.0, 3.0), (0, 4): adjoining(3.0, 2.0, 1.5),
    (2, 4): adjoining(3.0, 1.5, 2.0), (2, 0): adjoining(2.0, 1.5, 3.0),
    (4, 0): adjoining(2.0, 3.0, 1.5), (4, 2): adjoining(1.5, 3.0, 2.0),
}  # fmt: skip


def test_the_exact_view_factors_from_a_side_of_a_box_sum_to_one():
    for own, others in ((0, (2, 4)), (2, (0, 4)), (4, (0, 2))):
        seen = EXACT[own, own + 1] + 2.0 * sum(EXACT[own, other] for other in others)
        assert seen == pytest.approx(1.0, abs=1e-12)


def test_view_factors_of_a_box_are_exact_and_err_less_than_one_over_the_root_of_the_rays():
    sizes = []
    for rays in (16, 64, 1024, 4096):
        found = box(SIZE, (4, 3, 5), rays)
        errors = [factor(*found, *pair) / exact - 1.0 for pair, exact in EXACT.items()]
        sizes.append(np.sqrt(np.mean(np.square(errors))))
    assert np.abs(errors).max() < 0.01
    assert sizes[0] / sizes[2] > 8.0 and sizes[1] / sizes[3] > 8.0


def test_areas_times_view_factors_are_symmetric_and_close_with_what_gas_absorbs():
    block = np.s_[1:3, 0:2, 2:4]
    for absorption in (0.0, 0.7):
        faces, views, _ = box(SIZE, (4, 4, 6), 16, absorption, [block], zones=3)
        direct = views.direct.toarray()
        assert np.array_equal(direct, direct.T) and not np.any(np.diag(direct))
        assert direct.min() >= 0.0 and views.absorbed.min() >= 0.0
        rows = direct.sum(axis=1) + views.absorbed.sum(axis=1)
        np.testing.assert_allclose(rows, faces.area, rtol=1e-6)
        assert np.all(views.absorbed.sum(axis=0) > 0.0) == (absorption > 0.0)


def test_a_wall_between_faces_shadows_them_altogether_and_one_with_a_window_does_not():
    wall = np.s_[:, :, 2:3]
    faces, views, _ = box(SIZE, (4, 3, 5), 256, 0.0, [wall])
    behind = faces.gas[:, 2] > 3
    assert not views.direct[~behind][:, behind].toarray().any()
    parts = [np.s_[:2, :, 2:3], np.s_[3:, :, 2:3]]
    faces, views, _ = box(SIZE, (4, 3, 5), 256, 0.0, parts)
    near, far = faces.gas[:, 2] < 3, faces.gas[:, 2] > 3
    passed = views.direct[near][:, far].toarray()
    assert passed.any()
    # What lies beside a part of the wall, in its corner, sees nothing of the other corner.
    corner = (faces.gas[:, 0] == 1) & (faces.axis == 2) & near & (faces.solid[:, 2] == 3)
    assert corner.any() and not views.direct[corner][:, far].toarray().any()


def test_gas_absorbs_by_the_mean_beam_length_where_it_is_thin_and_between_bounds_where_not():
    thin = 1e-3
    faces, views, _ = box(SIZE, (4, 3, 5), 256, thin)
    mean = 4.0 * np.prod(SIZE) / faces.area.sum()
    assert views.absorbed.sum() / faces.area.sum() == pytest.approx(thin * mean, rel=0.01)
    clear = box(SIZE, (4, 3, 5), 1024)
    for absorption in (0.2, 1.0):
        dense = box(SIZE, (4, 3, 5), 1024, absorption)
        share = factor(*dense, 2, 3) / factor(*clear, 2, 3)
        longest = np.sqrt(np.square(SIZE).sum())
        assert np.exp(-absorption * longest) < share < np.exp(-absorption * SIZE[1]) * 1.02
        left = 1.0 - dense[1].absorbed.sum(axis=1) / dense[0].area
        assert np.all((left > np.exp(-absorption * longest)) & (left < 1.0))


def test_zones_share_what_the_gas_absorbs():
    one = box(SIZE, (4, 3, 6), 64, 0.5)[1]
    three = box(SIZE, (4, 3, 6), 64, 0.5, zones=3)[1]
    np.testing.assert_allclose(three.absorbed.sum(axis=1), one.absorbed[:, 0], rtol=1e-12)
    np.testing.assert_allclose(three.direct.toarray(), one.direct.toarray(), rtol=1e-8)


def test_an_open_chamber_is_an_error():
    zone = np.full((4, 4, 4), -1, np.int64)
    zone[1:, 1:3, 1:3] = 0
    width = np.full(4, 0.5)
    with pytest.raises(MnoError, match="gas reaches the end of the cells"):
        find_faces(zone, (width, width, width))


def test_view_factors_that_cannot_close_are_an_error():
    # A face that sees nothing but a smaller one: areas do not allow what leaves it to arrive.
    with pytest.raises(MnoError, match="view factors miss .* lower gas.absorption"):
        _closed(csr_matrix([[0.0, 1.0], [1.0, 0.0]]), np.array([1.02, 1.0]))


def solids_of(tables, material, volume, first, second, near, far):
    return Solids(
        np.asarray(material, np.uint32), np.asarray(volume, float),
        np.asarray(first, np.uint32), np.asarray(second, np.uint32),
        np.asarray(near, float), np.asarray(far, float),
        np.array([t.lowest for t in tables]), np.array([t.step for t in tables]),
        np.stack([t.temperature for t in tables]), np.stack([t.conductivity for t in tables]),
    )  # fmt: skip


def column(tables, material, widths, area=1.0):
    """Cells in a row."""
    half = 0.5 * np.asarray(widths) / area
    number = np.arange(len(widths))
    volume = area * np.asarray(widths)
    return solids_of(tables, material, volume, number[:-1], number[1:], half[:-1], half[1:])


def advance(solids, enthalpy, length, steps, stages):
    """Conduct for so many steps of that length; return the temperatures."""
    cells = len(enthalpy)
    at, resists, capacity, work = *(np.empty(cells) for _ in range(3)), np.empty((5, cells))
    given = np.zeros(cells)
    tables = (solids.lowest, solids.step, solids.temperatures, solids.conductivities)
    look_up(enthalpy, solids.material, *tables, at, resists, capacity)
    for _ in range(steps):
        conduct(
            enthalpy, solids.material, solids.volume, solids.first, solids.second, solids.near,
            solids.far, *tables, given, length, stages, at, resists, capacity, work,
        )  # fmt: skip
    return at


def test_the_fronts_of_melting_and_freezing_are_those_of_neumann():
    # Two phases that differ in conductivity; a cell without end holds the temperature at x = 0.
    melts, heat, density, capacity = 930.0, 4e5, 2500.0, 1000.0
    solid, liquid = 200.0, 90.0
    begin, end = melts - 0.1, melts + 0.1
    conductivity = [[300.0, solid], [begin, solid], [end, liquid], [1500.0, liquid]]
    table = make_table(conductivity, [[300.0, capacity]], density, (begin, end, heat))
    low, high = enthalpy_of(table, np.array([begin, end]))
    cells, width = 320, 1.6 / 320
    for held, begun, near, far in ((1200.0, 800.0, liquid, solid), (500.0, 1000.0, solid, liquid)):

        def balance(s, held=held, begun=begun, near=near, far=far):
            ratio = np.sqrt(near / far)
            behind = abs(held - melts) * near * np.exp(-s * s) / erf(s)
            ahead = abs(melts - begun) * far * ratio * np.exp(-((s * ratio) ** 2))
            return behind - ahead / erfc(s * ratio) - s * np.sqrt(np.pi) * heat * near / capacity

        growth = root_scalar(balance, bracket=(1e-3, 3.0)).root
        diffusivity = near / (density * capacity)
        time = (0.2 / (2.0 * growth)) ** 2 / diffusivity
        solids = column([table], np.zeros(cells + 1), np.r_[2e-9, np.full(cells, width)])
        solids.volume[0] = 1e6
        enthalpy = enthalpy_of(table, np.r_[held, np.full(cells, begun)])
        explicit = 0.25 * width**2 / table.stiffest
        steps = int(np.ceil(time / (40.0 * explicit)))
        advance(solids, enthalpy, time / steps, steps, stages_for(time / steps, explicit))
        melted = np.clip((enthalpy[1:] - low) / (high - low), 0.0, 1.0)
        behind = melted if held > melts else 1.0 - melted
        assert behind.sum() * width == pytest.approx(0.2, rel=0.01)


def test_melting_takes_and_gives_back_its_heat_however_narrow_it_is():
    for width in (0.01, 0.07, 5.0):
        begin, end, heat = 900.0, 900.0 + width, 2e5
        plain, melting = make_table(*PLAIN), make_table(*PLAIN, (begin, end, heat))
        took = [np.diff(enthalpy_of(t, np.array([890.0, 910.0]))) for t in (plain, melting)]
        assert took[1] - took[0] == pytest.approx(PLAIN[2] * heat, rel=1e-3)
        assert np.all(np.diff(melting.temperature) > 0.0)


def test_enthalpy_is_the_integral_of_the_heat_capacity_from_zero_celsius():
    table = make_table(*STEEL)
    at = np.array([ZERO_CELSIUS, 500.0, 980.0, 1040.0, 1500.0])
    fine = np.linspace(ZERO_CELSIUS, 1500.0, 200_001)
    capacity = STEEL[2] * np.interp(fine, *np.transpose(STEEL[1]))
    steps = 0.5 * (capacity[1:] + capacity[:-1]) * np.diff(fine)
    expected = np.interp(at, fine, np.r_[0.0, np.cumsum(steps)])
    np.testing.assert_allclose(enthalpy_of(table, at), expected, rtol=1e-5, atol=1e3)


def test_conduction_keeps_all_heat_while_some_melts():
    table = make_table(*PLAIN, (900.0, 910.0, 2e5))
    start = np.where(np.arange(40) < 15, 1300.0, 400.0)
    widths = np.random.default_rng(0).uniform(0.01, 0.03, 40)
    solids, enthalpy = column([table], np.zeros(40), widths), enthalpy_of(table, start)
    before = enthalpy @ solids.volume
    at = advance(solids, enthalpy, 200.0, 50, 15)
    assert enthalpy @ solids.volume == pytest.approx(before, rel=1e-13)
    assert 400.0 < at.min() < at.max() < 1300.0 and np.all(np.diff(at) < 0.0)


def cosine(cells, steps, stages, time=2000.0, length=0.4):
    """Error of a cosine that decays in a bar whose properties are constant."""
    table, x = make_table(*PLAIN), (np.arange(cells) + 0.5) / cells
    solids = column([table], np.zeros(cells), np.full(cells, length / cells))
    enthalpy = enthalpy_of(table, 800.0 + 200.0 * np.cos(np.pi * x))
    at = advance(solids, enthalpy, time / steps, steps, stages)
    decay = np.exp(-30.0 / (500.0 * 8000.0) * (np.pi / length) ** 2 * time)
    return relative(at - 800.0, 200.0 * decay * np.cos(np.pi * x))


def test_conduction_is_of_second_order_in_space():
    errors = [cosine(cells, 64, 9) for cells in (8, 16, 32)]
    assert_orders(errors, 1.8, 2.2)
    assert errors[-1] < 2e-3


def test_conduction_is_of_second_order_in_time_for_steel():
    table, cells = make_table(*STEEL), 24
    x = (np.arange(cells) + 0.5) / cells
    solids = column([table], np.zeros(cells), np.full(cells, 0.6 / cells))
    start = enthalpy_of(table, 650.0 + 200.0 * np.cos(np.pi * x))  # below the transformation
    found = {}
    for steps in (4, 8, 16, 256):
        found[steps] = advance(solids, start.copy(), 4000.0 / steps, steps, 15)
    errors = [relative(found[steps] - 650.0, found[256] - 650.0) for steps in (4, 8, 16)]
    assert_orders(errors, 1.7, 2.4)


def test_the_stages_of_a_step_are_enough_for_the_stiffest_cell_and_no_more():
    table, cells = make_table(*PLAIN), 30
    solids = column([table], np.zeros(cells), np.full(cells, 0.01))
    explicit = 0.5 * 0.01**2 / table.stiffest
    rough = np.where(np.arange(cells) % 2, 900.0, 500.0)  # the mode that grows first
    for length in (3.0, 40.0, 300.0):
        stages = stages_for(length * explicit, explicit)
        enthalpy = enthalpy_of(table, rough)
        at = advance(solids, enthalpy, length * explicit, 60, stages)
        assert np.ptp(at) < np.ptp(rough)
        if stages > 3:
            enthalpy = enthalpy_of(table, rough)
            grown = advance(solids, enthalpy, length * explicit, 60, stages - 4)
            assert not np.ptp(grown) < np.ptp(rough)


def enclosure(areas, emissivity, kelvin, direct, absorbed=0.0, film=0.0, power=0.0):
    """Run surfaces that hold their temperatures; return the heat that each takes up, and the gas.

    `direct` holds areas times view factors. The gas has that power, and loses nothing.
    """
    count, table = len(areas), make_table(*PLAIN)
    none = np.zeros(0, np.int64)
    volume = np.full(count, 1e4)
    solids = solids_of([table], np.zeros(count), volume, none, none, none, none)
    pairs = triu(np.asarray(direct, float), 1, "csr")
    surfaces = Surfaces(
        np.arange(count), np.full(count, 1e-9), np.asarray(areas, float),
        np.asarray(emissivity, float), np.zeros(count, np.int64), pairs.indptr.astype(np.uint32),
        pairs.indices.astype(np.uint32), pairs.data,
        np.full((count, 1), absorbed) * np.asarray(areas)[:, None],
    )  # fmt: skip
    gas = Gas(
        np.array([max(power, 1.0)]), 60.0, 0.0, 1e-9, 0.0, 0, film, np.array([60.0]), 8.0, 0.8
    )
    nowhere = Outside(none, np.zeros(0), np.zeros(0))
    enthalpy = enthalpy_of(table, np.asarray(kelvin, float))
    begun, record = enthalpy.copy(), Record.empty(2, count, count, 1)
    setpoints = np.array([[9000.0 if power else 1.0]])
    run(
        solids, surfaces, nowhere, gas, setpoints, 300.0, 300.0, 10.0, 10, 3, 1e-6, enthalpy, record
    )
    return (enthalpy - begun) * volume / 10.0, record


def test_two_surfaces_exchange_what_the_formula_for_grey_ones_says():
    hot, cold, area = 1400.0, 500.0, 3.0
    for one, other in ((0.8, 0.7), (0.3, 0.9), (0.05, 0.05)):
        heat, _ = enclosure([area] * 2, [one, other], [hot, cold], [[0.0, area], [area, 0.0]])
        exact = area * SIGMA * (hot**4 - cold**4) / (1.0 / one + 1.0 / other - 1.0)
        np.testing.assert_allclose(heat, [-exact, exact], rtol=2e-3)


def test_a_body_inside_of_another_exchanges_what_the_formula_for_grey_ones_says():
    # The outer one is two halves, which also see each other.
    hot, cold, body, outer = 1300.0, 700.0, 1.0, 2.5
    to_halves, rest = 0.5 * body, 0.5 * (outer - body)
    direct = [[0.0, to_halves, to_halves], [to_halves, 0.0, rest], [to_halves, rest, 0.0]]
    halves = [0.5 * outer, 0.5 * outer]
    heat, _ = enclosure([body, *halves], [0.8, 0.6, 0.6], [cold, hot, hot], direct)
    exact = body * SIGMA * (hot**4 - cold**4) / (1.0 / 0.8 + body / outer * (1.0 / 0.6 - 1.0))
    np.testing.assert_allclose(heat, [exact, -exact / 2, -exact / 2], rtol=2e-3)


def test_a_grey_gas_heats_the_wall_around_it_as_the_formula_says():
    wall, area, emissivity, absorbed, power = 700.0, 2.0, 0.7, 0.25, 3e4
    seen = (1.0 - absorbed) * area
    heat, record = enclosure(
        [area] * 2, [emissivity] * 2, [wall] * 2, [[0.0, seen], [seen, 0.0]], absorbed, 0.0, power
    )
    assert heat.sum() == pytest.approx(power, rel=1e-6)
    resistance = (1.0 / absorbed + 1.0 / emissivity - 1.0) / (2.0 * area * SIGMA)
    assert record.gas[-1, 0] == pytest.approx((wall**4 + power * resistance) ** 0.25, rel=1e-4)


def test_gas_and_walls_exchange_heat_by_convection_as_the_formula_says():
    wall, area, film, power = 400.0, 2.0, 50.0, 2e4
    seen = [[0.0, area], [area, 0.0]]
    heat, record = enclosure([area] * 2, [0.5, 0.5], [wall] * 2, seen, 0.0, film, power)
    assert heat.sum() == pytest.approx(power, rel=1e-4)
    assert record.gas[-1, 0] == pytest.approx(wall + power / (2.0 * area * film), rel=1e-4)


def slab_before_a_hot_wall(cells, steps):
    """A slab of steel, back insulated, heated by a wall at 1400 K; temperatures each half hour."""
    table, thickness = make_table(*STEEL), 0.3
    width = thickness / cells
    solids = column([table], np.zeros(cells + 1), np.full(cells + 1, width))
    keep = len(solids.first) - 1  # the wall does not touch the slab
    solids = solids._replace(
        first=solids.first[:keep], second=solids.second[:keep], near=solids.near[:keep],
        far=solids.far[:keep],
    )  # fmt: skip
    solids.volume[-1] = 1e6
    surfaces = Surfaces(
        np.array([0, cells]), np.array([0.5 * width, 1e-9]), np.ones(2), np.array([0.8, 0.6]),
        np.zeros(2, np.int64), np.array([0, 1, 1], np.uint32), np.array([1], np.uint32),
        np.ones(1), np.zeros((2, 1)),
    )  # fmt: skip
    gas = Gas(np.ones(1), 60.0, 0.0, 1e-9, 0.0, 0, 0.0, np.array([60.0]), 8.0, 0.8)
    none = np.zeros(0, np.int64)
    nowhere = Outside(none, np.zeros(0), np.zeros(0))
    enthalpy = enthalpy_of(table, np.r_[np.full(cells, 300.0), 1400.0])
    record = Record.empty(9, cells + 1, 2, 1)
    stages = stages_for(1800.0 / steps, 0.25 * width**2 / table.stiffest)
    run(
        solids, surfaces, nowhere, gas, np.ones((8, 1)), 300.0, 300.0, 1800.0, steps, stages, 1e-3,
        enthalpy, record,
    )  # fmt: skip
    return record.cells[:, :cells], record.surfaces[:, 0]


def reference_slab(cells=150):
    """The same by another method: T as the state, half a cell of heat at the surface, implicit."""
    width, between = 0.3 / cells, 1.0 / (1.0 / 0.8 + 1.0 / 0.6 - 1.0)

    def slope(_, at):
        conducts = np.interp(0.5 * (at[1:] + at[:-1]), *np.transpose(STEEL[0]))
        passed = conducts * np.diff(at) / width
        into = between * SIGMA * (1400.0**4 - at[0] ** 4)
        gained = np.r_[passed, 0.0] - np.r_[-into, passed]
        stores = STEEL[2] * np.interp(at, *np.transpose(STEEL[1])) * width
        stores[[0, -1]] *= 0.5  # nodes at both ends
        return gained / stores

    times = 1800.0 * np.arange(9)
    found = solve_ivp(
        slope, (0.0, times[-1]), np.full(cells + 1, 300.0), "LSODA", times, rtol=1e-7, atol=1e-4,
        lband=1, uband=1,
    )  # fmt: skip
    return found.y.T, np.linspace(0.0, 0.3, cells + 1)


def test_a_slab_of_steel_heated_by_radiation_follows_an_independent_reference():
    expected, x = reference_slab()
    errors = []
    for cells in (6, 12, 24):
        found, surface = slab_before_a_hot_wall(cells, 24)
        centres = (np.arange(cells) + 0.5) * 0.3 / cells
        at = np.array([np.interp(centres, x, frame) for frame in expected])
        rise = np.abs(at - 300.0).max()
        errors.append(np.abs(found - at)[1:].max() / rise)
        errors[-1] = max(errors[-1], np.abs(surface - expected[:, 0])[1:].max() / rise)
    assert errors[0] < 0.02 and errors[-1] < 2e-3
