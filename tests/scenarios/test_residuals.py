"""Residuals in torch: what the solver's frames keep of them, and why."""

from typing import Any

import numpy as np
import pytest
import torch

from mno.core.grid import Grid
from mno.scenarios.base import make_scenario
from mno.scenarios.residuals import residual_of
from tests.scenarios.measures import five_points

BURGERS, REACTION, FLOW = "burgers", "diffusion_reaction", "navier_stokes"
STATES = {BURGERS: ["velocity"], REACTION: ["activator", "inhibitor"], FLOW: ["vorticity"]}
SIDES = {BURGERS: 1.0, REACTION: 2.0, FLOW: 1.0}
DIFFUSIVITIES = {"activator_diffusivity": 1e-3, "inhibitor_diffusivity": 5e-3}
NUMBERS: dict[str, dict[str, Any]] = {
    BURGERS: {"viscosity": [0.05]},
    REACTION: {**DIFFUSIVITIES, "offset": 5e-3},
    FLOW: {"viscosity": [1e-3], "forcing": 0.1},
}
# Of the solver's frames: points, parameters, duration, numbers of frames and the share of the
# frames that are left out; what is kept with the first number, and bounds of the order.
THICK = {"viscosity_low": 0.05, "viscosity_high": 0.05}
SOLVED = [
    (BURGERS, 32, THICK, 1.0, (41, 81, 161), 10, 2e-2, 2.2),
    (REACTION, 24, {}, 5.0, (21, 41, 81), 20, 1e-2, 2.1),
    (FLOW, 24, {}, 10.0, (11, 21, 41), 10, 5e-3, 2.2),
]


def residual(name, states, interval, **numbers):
    """What is left of each sample, given states of shape `(batch, time, *space)`, in float64."""
    fields = {key: torch.tensor(x) for key, x in zip(STATES[name], states, strict=True)}
    batch, *shape = fields[STATES[name][0]].shape
    for key, value in {**NUMBERS[name], **numbers}.items():
        fields[key] = torch.tensor(value, dtype=torch.float64)
        if key == "viscosity":
            fields[key] = fields[key].expand(batch)
    spacing = (interval, *(SIDES[name] / n for n in shape[1:]))
    return residual_of(name)(fields, Grid(tuple(shape), spacing)).numpy()


def solved(name, n, parameters, duration, frames, first):
    scenario = make_scenario(name, n, {**parameters, "frames": frames})
    runs = [scenario.solve(scenario.sample(np.random.default_rng(seed))) for seed in range(6)]
    states = [np.stack([run[key][first:] for run in runs]).astype(float) for key in STATES[name]]
    return residual(name, states, duration / (frames - 1))


@pytest.mark.parametrize(("name", "n", "parameters", "duration", "counts", "cut", "most", "order"),
                         SOLVED)  # fmt: skip
def test_the_solvers_frames_keep_a_small_residual_of_second_order(
    name, n, parameters, duration, counts, cut, most, order
):
    left = [solved(name, n, parameters, duration, frames, frames // cut) for frames in counts]
    assert left[0].max() < most
    for coarse, fine in zip(left, left[1:], strict=False):
        found = np.log2(coarse / fine)
        assert 1.8 < found.min() <= found.max() < order


def test_in_the_first_interval_it_is_larger_but_bounded():
    assert solved(REACTION, 24, {}, 5.0, 21, 0).max() < 0.2


def by_the_rule(rate, start, dt):
    """Three frames of the implicit midpoint rule, a contraction for so short an interval."""
    frames = [start]
    for _ in range(2):
        after = frames[-1]
        for _ in range(200):
            after = frames[-1] + dt * rate((frames[-1] + after) / 2)
        frames.append(after)
    return np.stack(frames)


@pytest.mark.parametrize("n", [15, 16])
def test_frames_of_burgers_made_by_its_own_rule_have_no_residual_but_rounding(n):
    x = np.arange(n) / n
    k = np.fft.fftfreq(n, 1 / n)
    k[np.abs(k) == n / 2] = 0.0
    derivative = np.fft.ifft(2j * np.pi * k[:, None] * np.fft.fft(np.eye(n), axis=0), axis=0).real

    def rate(u: np.ndarray) -> np.ndarray:
        return derivative @ (0.05 * (derivative @ u) - u**2 / 2)

    start = np.sin(2 * np.pi * x) + 0.2 + 0.5 * np.cos(6 * np.pi * x)
    velocity = by_the_rule(rate, start, 0.01)[None]
    assert residual(BURGERS, [velocity], 0.01).item() < 1e-11
    velocity[0, 1, 2] += 0.1
    assert residual(BURGERS, [velocity], 0.01).item() > 0.05


def test_frames_of_a_reaction_made_by_its_own_rule_have_no_residual_but_rounding():
    n = 8
    x = (np.arange(n) + 0.5) / n
    start = np.stack([np.outer(np.cos(np.pi * x), x), np.outer(x * x, np.cos(np.pi * x))])
    laplacian = np.diag(np.ones(n - 1), 1) + np.diag(np.ones(n - 1), -1)
    laplacian = (laplacian - np.diag(laplacian.sum(axis=1))) * (n / 2) ** 2

    def rate(state: np.ndarray) -> np.ndarray:
        u, v = state
        spread = [d * (laplacian @ f + f @ laplacian) for d, f in ((1e-3, u), (5e-3, v))]
        return np.stack([spread[0] + u - u**3 - 5e-3 - v, spread[1] + u - v])

    states = by_the_rule(rate, start, 0.1).swapaxes(0, 1)[:, None]
    assert residual(REACTION, states, 0.1).item() < 1e-13
    states[0, 0, 1, 2, 3] += 0.1
    assert residual(REACTION, states, 0.1).item() > 0.05


@pytest.mark.parametrize("n", [9, 10])
def test_frames_of_a_flow_made_by_its_own_rule_have_no_residual_but_rounding(n):
    # Dense matrices of derivatives, no transform.
    k = np.arange(1, (n + 1) // 2)
    places = (np.arange(n) + 0.5) / n
    distance = np.subtract.outer(places, places)
    first = -4 * np.pi / n * np.sum(k * np.sin(2 * np.pi * distance[..., None] * k), axis=-1)
    second = first @ first
    laplacian = np.kron(second, np.eye(n)) + np.kron(np.eye(n), second)
    inverse = np.linalg.pinv(laplacian, rcond=1e-9)
    angle = 2 * np.pi * np.add.outer(places, places)
    force = 0.1 * (np.sin(angle) + np.cos(angle))

    def rate(w: np.ndarray) -> np.ndarray:
        psi = (-inverse @ w.ravel()).reshape(n, n)
        u, v = psi @ first.T, -first @ psi
        spread = second @ w + w @ second.T
        return 0.01 * spread - u * (first @ w) - v * (w @ first.T) + force

    x = 2 * np.pi * places
    start = 3 * np.outer(np.sin(x), np.cos(2 * x)) + 2 * np.outer(np.cos(x), np.ones(n))
    vorticity = by_the_rule(rate, start, 0.02)[None]
    assert residual(FLOW, [vorticity], 0.02, viscosity=[0.01]).item() < 1e-11
    vorticity[0, 1, 2, 3] += 0.5
    assert residual(FLOW, [vorticity], 0.02, viscosity=[0.01]).item() > 0.05


def test_each_sample_has_its_own_viscosity():
    wave = 1e-3 * np.sin(2 * np.pi * np.arange(16) / 16)  # so small that it only diffuses
    left = residual(BURGERS, [np.tile(wave, (2, 2, 1))], 0.1, viscosity=[0.01, 0.1])
    size = np.sqrt(np.mean(wave**2)) / max(1e-3, np.sqrt(np.mean(wave**2)))
    np.testing.assert_allclose(left, 4 * np.pi**2 * np.array([0.01, 0.1]) * size, rtol=1e-2)
    places = (np.arange(8) + 0.5) / 8
    angle = 2 * np.pi * np.add.outer(places, places)
    wave = np.sin(angle) + np.cos(angle)  # moves nothing of itself
    left = residual(FLOW, [np.tile(wave, (2, 2, 1, 1))], 0.5, viscosity=[1e-3, 1e-2])
    expected = np.abs(8 * np.pi**2 * np.array([1e-3, 1e-2]) - 0.1)
    np.testing.assert_allclose(left, expected, rtol=1e-10)


def test_each_sample_has_its_own_relative_to_its_first_frame():
    u, v = np.zeros((2, 3, 2, 4, 4))
    u[0], v[0] = 1.0, 1.0  # u - u^3 - v = -1 and u - v = 0, but nothing moves
    u[1], v[1] = 2.0, -6.0  # u - u^3 - v = 0 and u - v = 8
    left = residual(REACTION, [u, v], 0.5, offset=0.0)
    np.testing.assert_allclose(left, [np.sqrt(1 / 2), np.sqrt(64 / 40), 0.0])


@pytest.mark.parametrize(
    ("name", "shape", "numbers"),
    [
        (BURGERS, (3, 6), {}),
        (REACTION, (3, 4, 4), {**DIFFUSIVITIES, "offset": 5e-3}),
        (FLOW, (2, 4, 5), {"forcing": 0.1}),
    ],
)
def test_its_gradient_is_that_of_its_values(name, shape, numbers):
    rng = np.random.default_rng(0)
    given = [torch.from_numpy(rng.standard_normal((2, *shape))) for _ in STATES[name]]
    names, fixed = [*STATES[name]], {key: torch.tensor(x) for key, x in numbers.items()}
    if name != REACTION:
        names, given = [*names, "viscosity"], [*given, torch.tensor([0.1, 0.2]).double()]
    grid = Grid(shape, (0.25, *(SIDES[name] / n for n in shape[1:])))

    def of_fields(*fields: torch.Tensor) -> torch.Tensor:
        return residual_of(name)({**fixed, **dict(zip(names, fields, strict=True))}, grid)

    assert torch.autograd.gradcheck(of_fields, tuple(x.requires_grad_() for x in given))


@pytest.mark.parametrize(
    ("name", "spacing", "axes"),
    [
        *((BURGERS, h, "time and x") for h in ((0.1, (0.4, 0.6)), (0.5, 0.5, 0.5))),
        *(
            (name, h, "time, x and y")
            for name in (REACTION, FLOW, "furnace")
            for h in ((0.1, (0.4, 0.6), 0.5), (0.5, 0.5))
        ),
    ],
)
def test_unequal_cells_and_another_number_of_axes_are_refused(name, spacing, axes):
    with pytest.raises(ValueError, match=f"one width for each of {axes}"):
        residual_of(name)({}, Grid((2,) * len(spacing), spacing))


def furnace_run(frames, n=24, seed=1, warm_share=0.0):
    """A sample as a batch of one, in float64, with its grid."""
    scenario = make_scenario("furnace", n, {"frames": frames, "warm_share": warm_share})
    inputs = scenario.sample(np.random.default_rng(seed))
    arrays = {**inputs, **scenario.solve(inputs)}
    fields = {name: torch.from_numpy(np.asarray(a, float))[None] for name, a in arrays.items()}
    fields["heat_transfer_coefficient"] = torch.tensor(10.0, dtype=torch.float64)
    return fields, Grid((frames, n, n), (43200.0 / (frames - 1), 2.0 / n, 2.0 / n))


def frames_of(fields, grid, first, last):
    part = {name: fields[name][:, first:last] for name in ("power", "temperature")}
    return {**fields, **part}, Grid((last - first, *grid.shape[1:]), grid.spacing)


def of_furnace(fields, grid):
    return residual_of("furnace")(fields, grid).detach().numpy()


def test_the_solvers_frames_keep_a_small_residual_that_falls_with_the_interval():
    for seed in range(3):
        left = [of_furnace(*furnace_run(frames, seed=seed)).item() for frames in (25, 49, 97)]
        assert left[0] < 0.15
        assert 1.2 < left[0] / left[1] < 2.2 and 1.2 < left[1] / left[2] < 2.2


def test_where_a_hot_furnace_meets_a_cold_charge_it_is_larger_but_bounded():
    fields, grid = furnace_run(25, warm_share=1.0)
    assert of_furnace(*frames_of(fields, grid, 0, 2)).item() < 10.0
    assert of_furnace(*frames_of(fields, grid, 1, 25)).item() < 0.2


def test_where_nothing_changes_any_more_it_is_zero_but_for_rounding():
    # A constant power for 10^8 s; then the frames are the steady state.
    scenario = make_scenario("furnace", 20, {"duration": 1e7, "frames": 11})
    inputs = scenario.sample(np.random.default_rng(0))
    inputs["power"][:] = inputs["power"][2]
    fields, _ = furnace_run(11, 20)
    arrays = {**inputs, **scenario.solve(inputs)}
    fields |= {name: torch.from_numpy(np.asarray(a, float))[None] for name, a in arrays.items()}
    grid = Grid((11, 20, 20), (1e6, 0.1, 0.1))
    assert of_furnace(*frames_of(fields, grid, 9, 11)).item() < 1e-4
    fields["temperature"][0, 10, 5, 6] += 1.0
    assert of_furnace(*frames_of(fields, grid, 9, 11)).item() > 0.01


def test_frames_made_by_its_own_rule_have_no_residual_but_rounding():
    n, dt = 6, 100.0
    rng = np.random.default_rng(3)
    kappa, capacity = rng.uniform(1.0, 40.0, (n, n)), rng.uniform(1e5, 5e6, (n, n))
    power, film, h = rng.uniform(0.0, 1e4, (3, n, n)), 10.0, 0.1
    matrix = five_points(kappa, lambda here: h / (h / 2 / here + 1.0 / film)).toarray() / h**2
    rise = [rng.uniform(0.0, 500.0, n * n)]
    for q in power[:2]:
        storage = capacity.ravel() / dt
        rise.append(np.linalg.solve(matrix + np.diag(storage), storage * rise[-1] + q.ravel()))
    arrays = {
        "conductivity": kappa,
        "heat_capacity": capacity,
        "power": power,
        "ambient_temperature": np.array(290.0),
        "temperature": 290.0 + np.reshape(rise, (3, n, n)),
    }
    fields = {name: torch.from_numpy(array)[None] for name, array in arrays.items()}
    fields["heat_transfer_coefficient"] = torch.tensor(film, dtype=torch.float64)
    grid = Grid((3, n, n), (dt, h, h))
    assert of_furnace(fields, grid).item() < 1e-9
    fields["heat_transfer_coefficient"] = torch.tensor(1.01 * film, dtype=torch.float64)
    assert of_furnace(fields, grid).item() > 1e-4


def test_a_furnace_that_only_cools_down_has_a_size_and_a_cold_one_no_residual():
    fields, grid = furnace_run(5)
    fields["power"] = torch.zeros_like(fields["power"])
    assert 0.0 < of_furnace(fields, grid).item() < np.inf
    ambient = fields["ambient_temperature"][:, None, None, None]
    fields["temperature"] = ambient.expand_as(fields["temperature"])
    assert of_furnace(fields, grid).item() == 0.0


def test_the_gradient_of_the_furnaces_is_that_of_its_values():
    fields, grid = furnace_run(5, n=20)
    fields, grid = frames_of(fields, grid, 0, 3)

    given, later = fields["temperature"][:, :1], fields["temperature"][:, 1:, :4]

    def of_later(rows: torch.Tensor) -> torch.Tensor:
        frames = torch.cat([rows, fields["temperature"][:, 1:, 4:]], dim=-2)
        temperature = torch.cat([given, frames], dim=1)
        return residual_of("furnace")({**fields, "temperature": temperature}, grid)

    assert torch.autograd.gradcheck(
        of_later, (later.clone().requires_grad_(),), eps=1e-2, atol=1e-10, rtol=1e-4
    )
