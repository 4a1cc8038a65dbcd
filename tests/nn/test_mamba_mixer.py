"""The Mamba mixers: against the reference code, along every path, and on grids that are refined."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mno.nn import Grid, MambaCrossMixer, MambaMixer, Points
from mno.nn.kernel_view import EffectiveKernel, effective_kernel
from mno.nn.mixers.mamba import reorder_cross
from mno.scan.arguments import DISCRETIZATIONS, ScanPath
from mno.scan.backends import compute
from mno.scan.paths import PATHS, num_directions

REFERENCE = Path(__file__).parents[2] / "../shared/reference"


CLASSES = {"self": MambaMixer, "cross": MambaCrossMixer}
needs_reference = pytest.mark.skipif(not REFERENCE.exists(), reason=f"no data at {REFERENCE}")


def reference(kind):
    data = np.load(REFERENCE / f"scan_mixer_{kind}_k2.npz")
    data = {k: torch.from_numpy(v) for k, v in data.items()}
    return data, {k.removeprefix("param/"): v for k, v in data.items() if k.startswith("param/")}


def difference(ours, theirs):
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


@needs_reference
@pytest.mark.parametrize("backend", ["cpu", "reference", "chunked"])
@pytest.mark.parametrize("kind", CLASSES)
def test_outputs_and_gradients_agree_with_the_reference_code(kind, backend):
    data, weights = reference(kind)
    mixer = CLASSES[kind](24, backend=backend)
    mixer.load_state_dict(weights)
    inputs = {"x": data["x"].requires_grad_()}
    if kind == "cross":
        inputs["ref"] = data["ref"].requires_grad_()
    y = mixer(*inputs.values(), (6, 6))
    (y * data["w"]).sum().backward()
    assert difference(y, data["y"]) < 1e-5
    for name, given in inputs.items():
        assert difference(given.grad, data[f"grad_{name}"]) < 1e-5, name
    for name, parameter in mixer.named_parameters():
        assert difference(parameter.grad, data[f"grad/{name}"]) < 1e-5, name


def published(weights, walks, x, source=None):
    """The published mixer step by step: `walks` are the points that each direction visits.

    With h_t = exp(dt A) h_{t-1} + dt B u and y_t = C . h_t + D u along each, summed in place.
    """
    inner = weights["out_norm.weight"].shape[0]
    rank, state = weights["dt_projs_weight"].shape[2], weights["A_logs"].shape[1]
    u, gate = F.silu(x @ weights["in_proj.weight"].T).chunk(2, dim=-1)
    total = torch.zeros_like(u)
    for k, walk in enumerate(walks):
        made = u @ weights["x_proj_weight"][k].T
        if source is not None:
            other = F.silu(source @ weights["in_proj.weight"].T).chunk(2, dim=-1)[0]
            made = made + other @ weights["ref_proj_weight"][k].T
        step, B, C = made.split((rank, state, state), dim=-1)
        dt = F.softplus(step @ weights["dt_projs_weight"][k].T + weights["dt_projs_bias"][k])
        A = -weights["A_logs"].unflatten(0, (-1, inner))[k].exp()
        h, rows = u.new_zeros(len(x), inner, state), {}
        for t in walk.tolist():
            drive = (dt[:, t] * u[:, t])[..., None] * B[:, t, None]
            h = torch.exp(dt[:, t, :, None] * A) * h + drive
            rows[t] = (h * C[:, t, None]).sum(-1)
        total = total + torch.stack([rows[t] for t in range(x.shape[1])], dim=1)
        total = total + weights["Ds"].unflatten(0, (-1, inner))[k] * u
    norm = (inner,), weights["out_norm.weight"], weights["out_norm.bias"]
    return (F.layer_norm(total, *norm) * gate) @ weights["out_proj.weight"].T


@needs_reference
@pytest.mark.parametrize("kind", CLASSES)
def test_the_statement_of_the_published_mixer_agrees_with_the_reference_code(kind):
    data, weights = reference(kind)
    rows = torch.arange(36)
    y = published(weights, (rows, rows.flip(0)), data["x"], data.get("ref"))
    assert difference(y, data["y"]) < 1e-5


@pytest.mark.parametrize("kind", CLASSES)
def test_the_directions_of_cross_are_rows_columns_rows_back_columns_back(kind):
    torch.manual_seed(0)
    mixer = CLASSES[kind](12, d_state=4, path="cross")
    rows, columns = torch.arange(20), torch.arange(20).view(4, 5).T.flatten()
    walks = (rows, columns, rows.flip(0), columns.flip(0))
    inputs = [torch.randn(2, 20, 12, requires_grad=True) for _ in range(1 + (kind == "cross"))]
    weights, w = dict(mixer.named_parameters()), torch.randn(2, 20, 12)
    ours, theirs = mixer(*inputs, (4, 5)), published(weights, walks, *inputs)
    assert difference(ours, theirs) < 1e-5
    wanted = [*inputs, *weights.values()]
    grads = [torch.autograd.grad((y * w).sum(), wanted) for y in (ours, theirs)]
    for a, b in zip(*grads, strict=True):
        assert difference(a, b) < 1e-5


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("shape", [(4, 5), (2, 3, 4)])
def test_weights_saved_in_the_former_order_of_cross_mean_the_same(kind, shape):
    torch.manual_seed(0)
    dims = len(shape)
    mixer = CLASSES[kind](12, d_state=4, path="cross", dims=dims)
    former = mixer.state_dict()
    order = [axis + back * dims for axis in range(dims) for back in range(2)]  # each there and back
    for name in mixer.directed:
        by_direction = former[name].unflatten(0, (2 * dims, -1))
        former[name] = by_direction[order].flatten(0, 1)
    again = reorder_cross(mixer, former)
    assert all(torch.equal(again[name], value) for name, value in mixer.state_dict().items())


@pytest.mark.parametrize(("path", "dims", "directions"), [
    ("bidirectional", 2, 2), ("axial", 1, 2), ("axial", 2, 4), ("axial", 3, 6), ("cross", 2, 4),
    ("hilbert", 2, 2), ("zigzag", 3, 2), ("temporal", 3, 1),
])  # fmt: skip
def test_parameters_are_named_shaped_and_initialised_as_in_the_reference(path, dims, directions):
    torch.manual_seed(0)
    mixer = MambaMixer(40, d_state=5, expand=3, path=path, dims=dims)
    d, inner, rank, k = 40, 120, 3, directions
    assert {name: tuple(p.shape) for name, p in mixer.named_parameters()} == {
        "in_proj.weight": (2 * inner, d),
        "x_proj_weight": (k, rank + 10, inner),
        "dt_projs_weight": (k, inner, rank),
        "dt_projs_bias": (k, inner),
        "A_logs": (k * inner, 5),
        "Ds": (k * inner,),
        "out_norm.weight": (inner,),
        "out_norm.bias": (inner,),
        "out_proj.weight": (d, inner),
    }
    steps = F.softplus(mixer.dt_projs_bias).detach()
    assert 1e-3 * (1 - 1e-3) < steps.min() < 2e-3 and 5e-2 < steps.max() < 1e-1 * (1 + 1e-3)
    assert steps.log().mean().item() == pytest.approx(math.log(1e-2), abs=0.3)
    expected = torch.arange(1.0, 6.0).expand(k * inner, 5)
    torch.testing.assert_close(mixer.A_logs.exp(), expected)
    assert (mixer.Ds == 1).all()
    assert mixer.dt_projs_weight.abs().max() <= rank**-0.5


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_the_trapezoidal_rule_alone_has_weights_of_its_own_which_learn(backend):
    torch.manual_seed(0)
    plain = MambaMixer(8, path="axial")
    torch.manual_seed(0)
    mixer = MambaMixer(8, path="axial", discretization="trapezoidal", backend=backend)
    added = {"end_projs_weight", "end_projs_bias"}
    assert mixer.state_dict().keys() - plain.state_dict().keys() == added
    y = mixer(torch.randn(2, 12, 8), Grid((3, 4), (0.1, 0.2), (0.1, 0.1)))
    y.square().sum().backward()
    assert all(dict(mixer.named_parameters())[name].grad.abs().max() > 0 for name in added)
    mixer.end_projs_weight.detach().zero_()
    mixer.end_projs_bias.detach().fill_(100.0)  # all weight at the ends of steps
    simplified = MambaMixer(8, path="axial", backend=backend)
    weights = mixer.state_dict()
    simplified.load_state_dict({name: weights[name] for name in plain.state_dict()})
    x = torch.randn(2, 12, 8)
    torch.testing.assert_close(mixer(x, (3, 4)), simplified(x, (3, 4)))


def test_in_one_dimension_axial_and_bidirectional_are_the_same():
    torch.manual_seed(0)
    axial = MambaMixer(8, path="axial", dims=1)
    bidirectional = MambaMixer(8, path="bidirectional")
    bidirectional.load_state_dict(axial.state_dict())
    x, grid = torch.randn(2, 12, 8), Grid((12,), (0.1,), (0.2,))
    torch.testing.assert_close(axial(x, grid), bidirectional(x, grid))


def test_an_axial_mixer_commutes_with_exchanging_the_axes_and_their_parameters():
    torch.manual_seed(0)
    mixer, turned = MambaMixer(8, path="axial"), MambaMixer(8, path="axial")
    state = mixer.state_dict()
    for name in ("x_proj_weight", "dt_projs_weight", "dt_projs_bias", "A_logs", "Ds"):
        state[name] = torch.cat(state[name].chunk(2)[::-1])
    turned.load_state_dict(state)
    x = torch.randn(2, 4, 6, 8)
    y = mixer(x.flatten(1, 2), Grid((4, 6), (0.2, 0.3), (0.1, 0.1))).view(2, 4, 6, 8)
    x_turned = x.transpose(1, 2).flatten(1, 2)
    y_turned = turned(x_turned, Grid((6, 4), (0.3, 0.2), (0.1, 0.1))).view(2, 6, 4, 8)
    torch.testing.assert_close(y, y_turned.transpose(1, 2))


@pytest.mark.parametrize(("path", "lines"), [
    ("axial", [(1, slice(None)), (slice(None), 2)]),  # its own row and column
    ("temporal", [(slice(0, 2), 2)]),  # neither the future nor other places
])  # fmt: skip
def test_a_point_listens_only_along_the_lines_through_it(path, lines):
    torch.manual_seed(0)
    mixer = MambaMixer(4, path=path)
    x = torch.randn(1, 20, 4, requires_grad=True)
    mixer(x, (4, 5))[0, 7].sum().backward()  # row or frame 1, column or place 2
    heard = x.grad[0].abs().sum(-1).view(4, 5) > 0
    expected = torch.zeros(4, 5, dtype=torch.bool)
    for line in lines:
        expected[line] = True
    assert torch.equal(heard, expected)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("shape", [(9,), (4, 6), (5, 3), (2, 3, 4)])
def test_every_path_gives_the_same_with_every_backend(path, shape):
    torch.manual_seed(0)
    grid = Grid(shape, (0.1, 0.3, 0.2)[: len(shape)], (0.2,) * len(shape))
    x = torch.randn(2, math.prod(shape), 6)
    results = []
    for backend in ("cpu", "reference", "chunked"):
        torch.manual_seed(1)
        mixer = MambaMixer(6, d_state=3, path=path, dims=len(shape), backend=backend)
        given = x.clone().requires_grad_()
        y = mixer(given, grid)
        y.square().sum().backward()
        results.append((y, given.grad, *(p.grad for p in mixer.parameters())))
    for other in results[1:]:
        for ours, theirs in zip(results[0], other, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_the_order_in_which_scattered_points_come_does_not_matter(axes):
    torch.manual_seed(0)
    mixer = MambaMixer(6, d_state=3, path="hilbert")
    x, places = torch.randn(2, 30, 6), torch.rand(2, 30, axes)
    turn = torch.randperm(30)
    y = mixer(x, Points(places, reference_spacing=0.1))
    turned = mixer(x[:, turn], Points(places[:, turn], reference_spacing=0.1))
    torch.testing.assert_close(turned, y[:, turn])
    assert not torch.allclose(y, mixer(x, Points(places)))


def test_a_source_at_other_points_is_refused_with_the_remedy():
    with pytest.raises(ValueError, match=r"source has shape \(1, 5, 8\).*interpolate it there"):
        MambaCrossMixer(8)(torch.zeros(1, 6, 8), torch.zeros(1, 5, 8), None)


@pytest.mark.parametrize("shape", [(1,), (1, 1), (1, 5), (3, 1)])
def test_grids_of_a_single_point_along_an_axis_work(shape):
    mixer = MambaMixer(4, path="axial", dims=len(shape))
    assert mixer(torch.randn(2, math.prod(shape), 4), shape).isfinite().all()


def test_unused_precision_is_kept():
    mixer = MambaMixer(4, d_state=3).double()
    x = torch.randn(1, 5, 4, dtype=torch.float64, requires_grad=True)
    assert mixer(x, None).dtype == torch.float64
    assert torch.autograd.gradcheck(lambda v: mixer(v, (5,)), (x,))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"d_state": 0}, "d_state=0 must be at least 1"),
        ({"expand": 0}, "expand=0 must be at least 1"),
        ({"path": "spiral"}, "path='spiral' is not known; choose one of axial, bidirectional"),
        ({"discretization": "euler"}, "'euler' is not known; choose one of simplified, zoh"),
    ],
)
def test_a_mixer_that_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        MambaMixer(8, **options)


@pytest.mark.parametrize(
    ("shape", "grid", "message"),
    [
        ((2, 12, 7), (3, 4), r"shape \(2, 12, 7\); expected \(batch, points, d_model=8\)"),
        ((12, 8), (3, 4), r"shape \(12, 8\); expected"),
        ((2, 12, 8), (12,), "2 directions, but this mixer was built for 4; build it with dims=1"),
        ((2, 12, 8), (3, 5), "15 points, but the input has 12"),
        ((2, 12, 8), None, "give a grid or its shape, or use path='bidirectional'"),
    ],
)
def test_input_that_does_not_fit_is_refused_with_the_remedy(shape, grid, message):
    with pytest.raises(ValueError, match=message):
        MambaMixer(8, path="axial")(torch.zeros(shape), grid)


WIDTH = 6
TRAINED_ON = 9  # points along an axis at which a step is not scaled


def mixer(path, dims=1, discretization="simplified"):
    torch.manual_seed(0)
    made = MambaMixer(
        WIDTH, d_state=3, expand=1, path=path, dims=dims, discretization=discretization
    )
    with torch.no_grad():
        made.dt_projs_bias.fill_(-1.0)  # long steps and no direct path, so that the scans matter
        made.Ds.zero_()
    return made.double()


def features(*axes):
    """Smooth functions of place at the points of a grid, `(1, points, width)`."""
    places = torch.meshgrid(*(torch.tensor(x, dtype=torch.float64) for x in axes), indexing="ij")
    k = torch.arange(WIDTH)
    waves = [torch.sin((k + 1.3 * axis + 1) * x[..., None] + k) for axis, x in enumerate(places)]
    return torch.stack(waves).sum(0).flatten(0, -2)[None]


def uniform(n, dims=1):
    return Grid((n,) * dims, (1 / n,) * dims, (1 / TRAINED_ON,) * dims)


def answers(operator, grid, *, scaled=True):
    """Outputs on a grid of a power of three, at the points of the coarsest, which it shares."""
    axes = [grid.centres(axis) for axis in range(len(grid.shape))]
    with torch.no_grad():
        y = operator(features(*axes), grid if scaled else grid.shape)
    y = y.reshape(*grid.shape, WIDTH)
    for axis, n in enumerate(grid.shape):
        ratio = n // TRAINED_ON
        y = y.movedim(axis, 0)[ratio // 2 :: ratio].movedim(0, axis)
    return y


def changes(operator, sizes, dims=1, **options):
    ys = [answers(operator, uniform(n, dims), **options) for n in sizes]
    return [((b - a).norm() / b.norm()).item() for a, b in zip(ys, ys[1:], strict=False)]


@pytest.mark.parametrize(
    ("discretization", "expected"), [("simplified", 1), ("zoh", 1), ("centred", 2)]
)
@pytest.mark.parametrize(
    ("path", "dims", "sizes"),
    [("axial", 1, (9, 27, 81, 243)), ("axial", 2, (9, 27, 81)), ("temporal", 1, (9, 27, 81, 243))],
)
def test_a_grid_aware_mixer_converges_as_its_grid_is_refined(
    path, dims, sizes, discretization, expected
):
    found = changes(mixer(path, dims, discretization), sizes, dims)
    order = math.log(found[-2] / found[-1], 3)
    assert expected - 0.25 < order < expected + 0.35, found


@pytest.mark.parametrize("path", ["axial", "temporal"])
def test_without_scaled_steps_a_finer_grid_is_answered_by_another_operator(path):
    operator = mixer(path, discretization="centred")
    coarse, fine = uniform(TRAINED_ON), uniform(243)
    scaled = answers(operator, fine)
    assert (scaled - answers(operator, coarse)).norm() < 0.15 * scaled.norm()
    assert (scaled - answers(operator, fine, scaled=False)).norm() > 0.4 * scaled.norm()


@pytest.mark.parametrize("path", ["axial", "temporal"])
def test_cells_of_unequal_width_are_answered_as_a_fine_grid_is(path):
    operator = mixer(path, discretization="centred")
    fine = uniform(243)
    widths = (5,) * 18 + (3,) * 31 + (1,) * 60  # in fine cells; all middles are those of fine cells
    middles = [sum(widths[:i]) + width // 2 for i, width in enumerate(widths)]
    places = tuple(fine.centres(0)[i] for i in middles)
    uneven = Grid((len(widths),), (tuple(width / 243 for width in widths),), (1 / TRAINED_ON,))
    taken_as_even = Grid((len(widths),), (1 / len(widths),), (1 / TRAINED_ON,))
    assert uneven.centres(0) == pytest.approx(places)
    with torch.no_grad():
        truth = operator(features(fine.centres(0)), fine)[:, middles]
        aware, unaware = (operator(features(places), g) for g in (uneven, taken_as_even))
    assert (aware - truth).norm() < 0.01 * truth.norm()
    assert (unaware - truth).norm() > 0.1 * truth.norm()


GRIDS = [(7,), (4, 5), (3, 2, 4)]


def mixer_for(path, dims, cls=MambaMixer, **options):
    """A mixer in float64 whose steps are large enough for every part of its kernel to matter."""
    torch.manual_seed(0)
    mixer = cls(3, d_state=4, path=path, dims=dims, **options).double()
    with torch.no_grad():
        mixer.dt_projs_bias.uniform_(-2.0, 1.0)
        mixer.Ds.uniform_(0.5, 2.0)
    return mixer


def sequence(num_points, batch=2):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, num_points, 3, dtype=torch.float64, generator=generator)


def uneven(shape):
    widths = tuple(tuple(0.1 + 0.05 * (i % 3) for i in range(n)) for n in shape)
    return Grid(shape, widths, (0.1,) * len(shape))


def direction(scan, k):
    one = slice(k, k + 1)
    path = scan.path
    order, scale = (None if x is None else x[:, one] for x in (path.order, path.scale))
    assert scan.D is not None and scan.bias is not None and scan.dt_weight is not None
    return replace(
        scan,
        delta=scan.delta[:, :, one],
        A=scan.A[one],
        B=scan.B[:, :, one],
        C=scan.C[:, :, one],
        D=scan.D[one],
        bias=scan.bias[one],
        dt_weight=scan.dt_weight[one],
        end_weight=None if scan.end_weight is None else scan.end_weight[:, :, one],
        path=ScanPath(path.directions[one], order, scale),
    )


def check(kernel, scan):
    u, tight = scan.u[:, :, 0], {"rtol": 1e-11, "atol": 1e-12}
    torch.testing.assert_close(kernel.apply(u), compute(scan, "reference")[:, :, 0], **tight)
    assert kernel.directions.shape[1] == len(scan.path.directions)
    for k in range(len(scan.path.directions)):
        alone = EffectiveKernel(kernel.directions[:, k : k + 1], kernel.targets)
        expected = compute(direction(scan, k), "reference")[:, :, 0]
        torch.testing.assert_close(alone.apply(u), expected, **tight)


@pytest.mark.parametrize("discretization", DISCRETIZATIONS)
@pytest.mark.parametrize("shape", GRIDS, ids=str)
@pytest.mark.parametrize("path", PATHS)
@torch.no_grad()
def test_applying_the_kernel_is_the_scan(path, shape, discretization):
    mixer = mixer_for(path, len(shape), discretization=discretization)
    for domain in (shape, uneven(shape)):
        x = sequence(torch.Size(shape).numel())
        check(effective_kernel(mixer, x, domain), mixer.prepare(x, domain)[0])


@pytest.mark.parametrize("path", ["bidirectional", "hilbert"])
@torch.no_grad()
def test_applying_the_kernel_is_the_scan_on_scattered_points(path):
    places = torch.rand(2, 11, 2, generator=torch.Generator().manual_seed(2))
    mixer, x = mixer_for(path, 2), sequence(11)
    for domain in (Points(places, 0.1), Points(places[0])):
        check(effective_kernel(mixer, x, domain), mixer.prepare(x, domain)[0])


@torch.no_grad()
def test_applying_the_kernel_is_the_scan_of_a_cross_mixer():
    mixer = mixer_for("axial", 2, MambaCrossMixer)
    x, source = sequence(12), sequence(12).flip(1)
    kernel = effective_kernel(mixer, x, (3, 4), source=source)
    check(kernel, mixer.prepare(x, (3, 4), source)[0])
    assert not torch.equal(kernel.total, effective_kernel(mixer, x, (3, 4), source=x).total)


@torch.no_grad()
def test_the_mixer_is_its_kernel_between_projections():
    mixer, x = mixer_for("axial", 2), sequence(20)
    scan, gate = mixer.prepare(x, (4, 5))
    y = effective_kernel(mixer, x, (4, 5)).apply(scan.u[:, :, 0])
    torch.testing.assert_close(mixer.out_proj(mixer.out_norm(y) * gate), mixer(x, (4, 5)))


@torch.no_grad()
def test_a_few_targets_are_rows_of_the_whole_kernel():
    mixer, x = mixer_for("cross", 2), sequence(20)
    whole, rows = (effective_kernel(mixer, x, (4, 5), points=p) for p in (None, [17, 3]))
    assert rows.directions.shape == (2, 4, 2, 20, 6)
    torch.testing.assert_close(rows.directions, whole.directions[:, :, [17, 3]], rtol=0, atol=0)
    torch.testing.assert_close(rows.total, whole.directions.sum(1)[:, [17, 3]], rtol=0, atol=0)


@torch.no_grad()
def test_a_direction_hears_nothing_of_what_it_has_not_passed():
    forwards, backwards = effective_kernel(
        mixer_for("bidirectional", 2), sequence(20), (4, 5)
    ).directions.unbind(1)
    later = torch.ones(20, 20, dtype=torch.bool).triu(1)
    assert (forwards[:, later] == 0).all() and (backwards[:, later.T] == 0).all()
    assert (forwards[:, ~later] != 0).all() and (backwards[:, ~later.T] != 0).all()


@torch.no_grad()
def test_lines_of_an_axial_path_do_not_hear_each_other():
    kernel = effective_kernel(mixer_for("axial", 3), sequence(24), (3, 2, 4)).directions
    at = torch.cartesian_prod(torch.arange(3), torch.arange(2), torch.arange(4))
    differs = at[:, None] != at[None]
    for k, axis in enumerate((2, 2, 1, 1, 0, 0)):
        elsewhere = differs[..., [a for a in range(3) if a != axis]].any(-1)
        heard = (kernel[:, k] != 0).any(-1)
        passed = (at[:, None] >= at[None]) if k % 2 == 0 else (at[:, None] <= at[None])
        assert (heard == (~elsewhere & passed[..., axis])).all()


@pytest.mark.parametrize("path", PATHS)
@torch.no_grad()
def test_the_direct_path_is_the_diagonal(path):
    mixer, x = mixer_for(path, 2), sequence(20)
    before = effective_kernel(mixer, x, (4, 5)).directions
    mixer.Ds += 10.0
    change = effective_kernel(mixer, x, (4, 5)).directions - before
    diagonal = torch.eye(20, dtype=torch.float64)[..., None].expand(20, 20, 6)
    expected = 10.0 * diagonal.expand(2, num_directions(path, 2), -1, -1, -1)
    torch.testing.assert_close(change, expected, rtol=0, atol=1e-12)


@torch.no_grad()
def test_far_along_a_line_the_kernel_is_as_exact_as_at_its_start():
    length = 3000
    mixer = mixer_for("bidirectional", 1)
    mixer.dt_projs_bias.fill_(3.0)  # so that steps add up to thousands, and decay within a few
    x = sequence(length, batch=1)
    exact = effective_kernel(mixer, x, (length,), points=[length - 1]).total
    assert torch.isfinite(exact).all()
    mixer.float()
    single = effective_kernel(mixer, x.float(), (length,), points=[length - 1]).total
    assert single.dtype == torch.float32
    assert (single - exact).abs().max() < 1e-5 * exact.abs().max()


def test_the_kernel_carries_no_graph():
    assert not effective_kernel(mixer_for("axial", 1), sequence(7), (7,)).total.requires_grad


@pytest.mark.parametrize("points", [[20], [0, -1], torch.tensor([[1, 2]])])
def test_a_target_that_is_no_point_is_refused(points):
    with pytest.raises(ValueError, match="expected a list of numbers of points, from 0 to 19"):
        effective_kernel(mixer_for("axial", 2), sequence(20), (4, 5), points=points)


def test_a_source_is_refused_or_asked_for():
    x = sequence(20)
    with pytest.raises(ValueError, match="only a cross mixer takes a source"):
        effective_kernel(mixer_for("axial", 2), x, (4, 5), source=x)
    with pytest.raises(ValueError, match="second input; give it as source"):
        effective_kernel(mixer_for("axial", 2, MambaCrossMixer), x, (4, 5))
