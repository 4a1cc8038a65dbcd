from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mno.nn import Grid, MambaCrossMixer, MambaMixer, Points
from mno.nn.mixers.mamba import reorder_cross
from mno.scan.paths import PATHS

REFERENCE = Path(__file__).parents[2] / "../shared/reference"


CLASSES = {"self": MambaMixer, "cross": MambaCrossMixer}
needs_reference = pytest.mark.skipif(not REFERENCE.exists(), reason=f"no data at {REFERENCE}")


def reference(kind):
    data = np.load(REFERENCE / f"scan_mixer_{kind}_k2.npz")
    data = {k: torch.from_numpy(v) for k, v in data.items()}
    weights = {k.removeprefix("param/"): v for k, v in data.items() if k.startswith("param/")}
    return data, weights


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
    x = torch.randn(2, math.prod(shape), 4)
    assert mixer(x, shape).isfinite().all()


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
