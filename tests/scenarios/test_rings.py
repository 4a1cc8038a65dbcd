"""Rings: exact solutions, order, an independent code, symmetry, checks, meshes, curves."""

import numpy as np
import pytest
from scipy.sparse import coo_matrix
from scipy.sparse.linalg import spsolve

from mno.data.reading import Schema
from mno.scenarios.base import SQUARE, make_scenario
from mno.scenarios.kernels.random_fields import cosine_field, covariance_spectrum, draw_at
from mno.scenarios.kernels.ring_mesh import (
    SWING,
    RingMesh,
    draw_curve,
    left_along,
    lumped,
    stiffness,
)
from mno.training.batches import maps_of
from tests.scenarios.contract import failed_checks, solved_sample
from tests.scenarios.measures import assert_orders, relative

HOLE = 0.3


def ring(resolution=16, **parameters):
    return make_scenario("darcy_ring", resolution, parameters)


def round_ring(resolution):
    """The points between two circles, by polar coordinates, float64."""
    mesh = RingMesh(2 * resolution, resolution // 2)
    ones = np.ones(mesh.around)
    x, y = mesh.place(HOLE * ones, ones)
    return {"x": x, "y": y, "radius": np.hypot(x, y), "angle": np.arctan2(y, x)}


def pressure(resolution, permeability):
    places = round_ring(resolution)
    inputs = {"x": places["x"], "y": places["y"], "permeability": permeability}
    return ring(resolution).solve(inputs)["pressure"]


@pytest.mark.parametrize("kind", ["even", "growing"])
def test_it_is_of_second_order_on_exact_solutions(kind):
    errors = []
    for resolution in (16, 32, 64):
        r = round_ring(resolution)["radius"]
        if kind == "even":
            exact, permeability = (1 - r**2) / 4 + HOLE**2 / 2 * np.log(r), np.ones_like(r)
        else:
            exact, permeability = (1 - r) / 2 - HOLE**2 / 2 * (1 / r - 1), r
        errors.append(relative(pressure(resolution, permeability), exact))
    assert errors[-1] < 1e-3
    assert_orders(errors, 1.85, 2.15)


def polar(permeability, rays, rings):
    """The same equation by finite volumes on a polar grid; radii, angles and pressures."""
    dr, dt = (1 - HOLE) / rings, 2 * np.pi / rays
    r = HOLE + dr * (np.arange(rings) + 0.5)
    t = dt * np.arange(rays)
    number = np.arange(rays * rings).reshape(rays, rings)
    rows, columns, entries = [], [], []

    def connect(one, other, weight):
        for a, b in ((one, other), (other, one)):
            rows.extend([a.ravel(), a.ravel()])
            columns.extend([a.ravel(), b.ravel()])
            entries.extend([weight.ravel(), -weight.ravel()])

    faces = r[:-1] + dr / 2
    through = permeability(faces[None], t[:, None]) * faces * dt / dr
    connect(number[:, :-1], number[:, 1:], through)
    along = permeability(r[None], t[:, None] + dt / 2) * dr / (r * dt)
    connect(number, np.roll(number, -1, axis=0), along)
    rows.append(number[:, -1])
    columns.append(number[:, -1])
    entries.append(permeability(np.ones((1, 1)), t[:, None])[:, 0] * dt / (dr / 2))
    places = np.concatenate(rows), np.concatenate(columns)
    matrix = coo_matrix((np.concatenate(entries), places)).tocsc()
    load = np.broadcast_to(r * dr * dt, number.shape).ravel()
    return r, t, spsolve(matrix, load).reshape(rays, rings)


def test_an_independent_code_finds_the_same_solution():
    def permeability(radius, angle):
        return np.exp(0.8 * np.cos(2 * angle) * radius + 0.5 * np.sin(angle))

    places = round_ring(64)
    found = pressure(64, permeability(places["radius"], places["angle"])).reshape(32, 128)
    r, _, expected = polar(permeability, rays=128, rings=124)
    # Rings of ours lie between those of the other code; along rays both have the same angles.
    radii = HOLE + (1 - HOLE) * np.arange(1, 31) / 31
    beside = np.stack([np.interp(radii, r, along) for along in expected], axis=1)
    assert relative(found[1:-1], beside) < 3e-3


def test_points_fit_the_walls_and_triangles_fill_the_ring():
    mesh = RingMesh(64, 16)
    rng = np.random.default_rng(0)
    inner, outer = (r * draw_curve(rng, mesh.angles(), 0.2) for r in (0.3, 1.0))
    x, y = mesh.place(inner, outer)
    np.testing.assert_allclose(np.hypot(x, y)[: mesh.around], inner)
    np.testing.assert_allclose(np.hypot(x, y)[mesh.outer], outer)
    corners = np.stack([x, y], axis=-1)[mesh.triangles]
    (ax, ay), (bx, by) = (corners[:, 1] - corners[:, 0]).T, (corners[:, 2] - corners[:, 0]).T
    sizes = (ax * by - ay * bx) / 2
    assert sizes.min() > 0

    def shoelace(curve: slice) -> float:
        u, v = x[curve], y[curve]
        return float(np.sum(u * np.roll(v, -1) - v * np.roll(u, -1)) / 2)

    assert sizes.sum() == pytest.approx(shoelace(mesh.outer) - shoelace(slice(mesh.around)))
    assert sorted(set(mesh.triangles.ravel())) == list(range(mesh.num_points))


def test_curves_swing_no_further_than_is_said():
    angles = np.linspace(0, 2 * np.pi, 500)
    swings = [
        np.abs(draw_curve(np.random.default_rng(k), angles, 0.1) - 1).max() for k in range(300)
    ]
    assert 0.3 * SWING < max(swings) / 0.1 < SWING


def test_one_draw_is_one_curve_and_one_field_on_every_mesh():
    coarse, fine = RingMesh(16, 4).angles(), RingMesh(32, 4).angles()
    a, b = (draw_curve(np.random.default_rng(1), angles, 0.1) for angles in (coarse, fine))
    np.testing.assert_allclose(b[::2], a)
    variances = covariance_spectrum(3.0, 5.0, 4.0)
    points = np.array([0.1, 0.35, 0.8])
    grid = cosine_field(points, variances).draw(np.random.default_rng(2))
    x, y = (places.ravel() for places in np.meshgrid(points, points, indexing="ij"))
    np.testing.assert_allclose(draw_at(np.random.default_rng(2), variances, x, y), grid.ravel())


def test_a_turned_ring_has_the_turned_solution():
    scenario = ring(16)
    inputs = scenario.sample(np.random.default_rng(0))
    found = scenario.solve(inputs)["pressure"].reshape(8, 32)
    # By two rays, so that the diagonals of the mesh turn with it.
    turned = {name: np.roll(field.reshape(8, 32), 2, 1).ravel() for name, field in inputs.items()}
    again = scenario.solve(turned)["pressure"].reshape(8, 32)
    np.testing.assert_allclose(again, np.roll(found, 2, 1), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("symmetry", range(len(SQUARE)))
def test_points_may_be_moved_by_every_symmetry_it_declares(symmetry):
    scenario = ring(16)
    assert scenario.symmetries == SQUARE
    schema = Schema("darcy_ring", scenario.fields, scenario.axes, SQUARE)
    given, solved = solved_sample(scenario)
    over = maps_of(schema)[symmetry].numpy()
    x, y = over @ np.stack([given["x"], given["y"]])
    # In a mirror rays follow each other the other way round, from the same one, as diagonals do.
    way = round(np.linalg.det(over))
    back = np.arange(256).reshape(8, 32)[:, way * np.arange(32)].ravel()
    moved = {"x": x[back], "y": y[back], "permeability": given["permeability"][back]}
    found = scenario.solve(moved)["pressure"]
    np.testing.assert_allclose(found, solved["pressure"][back], rtol=1e-5, atol=1e-7)


def test_what_is_left_at_points_moves_as_differences_of_the_equation_say():
    given, solved = solved_sample(ring(12))
    mesh, values = RingMesh(24, 6), solved["pressure"].astype(float)
    at = np.stack([given[name].astype(float) for name in ("x", "y", "permeability")])
    along = np.random.default_rng(1).standard_normal((3, mesh.num_points, 5))
    along[:2] *= 0.01

    def left(x, y, coefficient):
        own = coefficient[mesh.triangles].mean(axis=1)
        load = lumped(mesh.sizes(x, y), mesh.triangles, mesh.num_points)
        return load - stiffness(x, y, mesh.triangles, own) @ values

    found = left_along(at[0], at[1], mesh.triangles, at[2], values, along)
    for k in range(5):
        ends = [left(*(at + step * along[:, :, k])) for step in (1e-4, -1e-4)]
        differences = (ends[0] - ends[1]) / 2e-4
        assert abs(found[:, k] - differences).max() < 1e-6 * abs(differences).max()


def test_checks_catch_a_mesh_that_is_folded():
    scenario = ring()
    inputs, outputs = solved_sample(scenario)
    for name in "xy":
        inputs[name][70] = inputs[name][102]
    assert "mesh" in failed_checks(scenario, inputs, outputs)
