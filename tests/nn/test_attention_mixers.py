"""The attention mixers: against their formulas, on any grid, as modules, and what does not fit."""

import math

import pytest
import torch

from mno.core.grid import Grid
from mno.core.points import Points
from mno.nn.mixers import MIXERS, attention
from mno.nn.mixers.attention import FourierMixer, GalerkinMixer, PhysicsCrossMixer, PhysicsMixer

SELF, CROSS = (
    [getattr(attention, entry[form]) for entry in MIXERS.values() if "attention" in entry.module]
    for form in (1, 2)
)
BOTH = [*SELF, *CROSS]
each_self = pytest.mark.parametrize("kind", SELF)
each_cross = pytest.mark.parametrize("kind", CROSS)
each = pytest.mark.parametrize("kind", BOTH)

D, HEADS, D_HEAD = 8, 2, 4


def build(kind, seed=0, **options):
    """A mixer in float64 whose weights are all of order one, norms and offsets included."""
    torch.manual_seed(seed)
    mixer = kind(D, **{"heads": HEADS, **options}).double()
    with torch.no_grad():
        for parameter in mixer.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return mixer


def features(*shape, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, D, generator=generator, dtype=torch.float64)


def call(mixer, x, source, domain=None, source_domain=None):
    """Call either form; the self form sees the source alone."""
    if isinstance(mixer, tuple(CROSS)):
        return mixer(x, source, domain, source_domain)
    return mixer(source, source_domain)


# --- formulas


def in_heads(x):
    return x.unflatten(-1, (HEADS, D_HEAD)).unbind(-2)


def normalised(x, norm, h):
    x = x - x.mean(-1, keepdim=True)
    x = x / torch.sqrt((x**2).mean(-1, keepdim=True) + 1e-5)
    return x * norm.weight[h, 0] + norm.bias[h, 0]


def softmax_head(mixer, q, k, v, w, h):
    weights = w * torch.exp(k @ q / math.sqrt(D_HEAD))
    return weights @ v / weights.sum()


def linear_head(mixer, q, k, v, w, h):
    q, k = q.softmax(-1), k.softmax(-1)
    weights = w * (k @ q)
    return q + weights @ v / weights.sum()


def galerkin_head(mixer, q, k, v, w, h):
    k, v = normalised(k, mixer.k_norm, h), normalised(v, mixer.v_norm, h)
    return q @ sum(w[j] * torch.outer(k[j], v[j]) for j in range(len(k)))


def fourier_head(mixer, q, k, v, w, h):
    q, k = normalised(q, mixer.q_norm, h), normalised(k, mixer.k_norm, h)
    return sum(w[j] * (q @ k[j]) * v[j] for j in range(len(k)))


def by_heads(head):
    def formula(mixer, x, source, w):
        q, k, v = map(in_heads, (mixer.q_proj(x), mixer.k_proj(source), mixer.v_proj(source)))
        rows = [
            torch.cat([head(mixer, q[h][i], k[h], v[h], w, h) for h in range(HEADS)])
            for i in range(len(x))
        ]
        return mixer.out_proj(torch.stack(rows))

    return formula


def physics_formula(mixer, x, source, w):
    write = mixer.source_proj if isinstance(mixer, PhysicsCrossMixer) else mixer.assign_proj
    out = []
    for h in range(HEADS):
        temperature = min(max(mixer.temperature[h].item(), 0.1), 5.0)

        def assign(z, h=h, temperature=temperature):
            return (mixer.slice_proj(in_heads(z)[h]) / temperature).softmax(-1)

        filled, read = assign(write(source)), assign(mixer.assign_proj(x))
        values = in_heads(mixer.value_proj(source))[h]
        tokens = torch.stack([(w * s) @ values / (w @ s) for s in filled.T])
        scores = mixer.q_proj(tokens) @ mixer.k_proj(tokens).T / math.sqrt(D_HEAD)
        out.append(read @ (scores.softmax(-1) @ mixer.v_proj(tokens)))
    return mixer.out_proj(torch.cat(out, -1))


FORMULAS = [*map(by_heads, (softmax_head, linear_head, galerkin_head, fourier_head))]
FORMULAS.append(physics_formula)


@pytest.mark.parametrize("unequal", [False, True])
@pytest.mark.parametrize(("kind", "formula"), list(zip(BOTH, FORMULAS * 2, strict=True)))
def test_the_mixer_computes_its_formula(kind, formula, unequal):
    mixer = build(kind)
    x, source = features(2, 5), features(2, 6, seed=2)
    widths = (0.5, 2.0, 1.5)
    grid = Grid((2, 3), (1.0, widths if unequal else 1.0))
    w = torch.tensor(widths * 2 if unequal else (1.0,) * 6, dtype=torch.float64)
    w = w / w.sum()
    expected = [
        formula(mixer, a if kind in CROSS else b, b, w) for a, b in zip(x, source, strict=True)
    ]
    # The physics mixer adds 1e-12 to the volume of a slice.
    tolerance = 1e-6 if formula is physics_formula else 1e-10
    y = call(mixer, x, source, None, grid)
    torch.testing.assert_close(y, torch.stack(expected), rtol=tolerance, atol=tolerance)


def test_softmax_agrees_with_torchs_multihead_attention():
    torch.manual_seed(0)
    theirs = torch.nn.MultiheadAttention(D, HEADS, batch_first=True).double()
    ours = attention.SoftmaxCrossMixer(D, heads=HEADS).double()
    q, k, v = theirs.in_proj_weight.chunk(3)
    out = {f"out_proj.{name}": p for name, p in theirs.out_proj.named_parameters()}
    ours.load_state_dict({"q_proj.weight": q, "k_proj.weight": k, "v_proj.weight": v, **out})
    x, source = features(2, 5), features(2, 7, seed=2)
    torch.testing.assert_close(ours(x, source, None), theirs(x, source, source)[0])


@pytest.mark.parametrize("kind", [GalerkinMixer, FourierMixer])
def test_projections_start_diagonally_dominant(kind):
    torch.manual_seed(0)
    mixer = kind(64)
    bound = 1e-2 * math.sqrt(6 / 128)
    for projection in (mixer.q_proj, mixer.k_proj, mixer.v_proj):
        rest = projection.weight.detach() - 1e-2 * torch.eye(64)
        assert 0.9 * bound < rest.abs().max() <= bound * (1 + 1e-4)
        assert (projection.bias == 0).all()


# --- operators: the same function on any grid


def smooth(places):
    """Features at places in (0, 1): smooth, not periodic."""
    waves = torch.arange(1.0, D + 1, dtype=torch.float64)
    return torch.sin(0.6 * waves * places[..., None] + waves) + places[..., None] ** 2


def centres(grid):
    return torch.tensor(grid.centres(0), dtype=torch.float64)


@each_self
def test_refining_a_uniform_grid_converges_at_second_order(kind):
    mixer = build(kind)
    outputs = []
    for n in (9, 27, 81, 243):
        grid = Grid((n,), (1 / n,))
        y = mixer(smooth(centres(grid))[None], grid)[0]
        outputs.append(y[n // 18 :: n // 9])  # at the nine centres that all have in common
    steps = [
        (fine - coarse).norm().item() for coarse, fine in zip(outputs, outputs[1:], strict=False)
    ]
    assert steps[0] < 0.02 * outputs[0].norm().item()
    for larger, smaller in zip(steps, steps[1:], strict=False):
        assert 1.8 < math.log(larger / smaller, 3) < 2.2


def stretched(n):
    edges = torch.linspace(0, 1, n + 1, dtype=torch.float64) ** 2
    return Grid((n,), (tuple(edges.diff().tolist()),))


@each_cross
def test_a_stretched_grid_converges_to_the_same_at_second_order(kind):
    mixer = build(kind)
    x = smooth(torch.linspace(0, 1, 7, dtype=torch.float64))[None]

    def read(grid, weighted=True):
        return mixer(x, smooth(centres(grid))[None], None, grid if weighted else grid.shape)

    exact = read(Grid((2000,), (1 / 2000,)))
    errors = [(read(stretched(n)) - exact).norm().item() for n in (10, 30, 90)]
    assert errors[0] < 0.02 * exact.norm().item()
    for larger, smaller in zip(errors, errors[1:], strict=False):
        assert 1.8 < math.log(larger / smaller, 3) < 2.2
    # Counted equally, crowded points bias the result at every resolution.
    assert (read(stretched(90), weighted=False) - exact).norm().item() > 20 * errors[-1]


@each
def test_a_wide_cell_counts_as_the_equal_cells_that_it_covers(kind):
    mixer = build(kind)
    x = features(2, 4)
    wide = features(2, 3, 2, seed=2)
    fine = wide.repeat_interleave(torch.tensor([2, 1, 3]), 1)
    fine = fine.repeat_interleave(torch.tensor([1, 4]), 2)
    coarse_grid = Grid((3, 2), ((0.2, 0.1, 0.3), (1.0, 4.0)))
    y = call(mixer, x, wide.flatten(1, 2), None, coarse_grid)
    expected = call(mixer, x, fine.flatten(1, 2), None, Grid((6, 5), (0.1, 1.0)))
    if kind in SELF:
        y = y.unflatten(1, (3, 2)).repeat_interleave(torch.tensor([2, 1, 3]), 1)
        y = y.repeat_interleave(torch.tensor([1, 4]), 2).flatten(1, 2)
    torch.testing.assert_close(y, expected)


@each
def test_points_that_count_equally_may_be_given_in_any_way(kind):
    mixer = build(kind)
    x, source = features(2, 6), features(2, 6, seed=2)
    expected = call(mixer, x, source)
    points = [Points(torch.rand(6, 2)), Points(torch.rand(2, 6, 3))]
    for domain in ((2, 3), Grid((2, 3), (0.5, 0.1)), *points):
        torch.testing.assert_close(call(mixer, x, source, domain, domain), expected, rtol=0, atol=0)


# --- symmetries


@each_self
def test_permuting_the_points_permutes_the_output(kind):
    mixer = build(kind)
    x, order = features(2, 9), torch.randperm(9, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(mixer(x[:, order], None), mixer(x, None)[:, order])


@each_self
def test_points_take_up_their_sources_alone(kind):
    mixer, x, places = build(kind), features(2, 9), torch.rand(9, 2)
    whole = mixer(x, Points(places, sources=4))
    torch.testing.assert_close(whole[:, :4], mixer(x[:, :4], Points(places[:4])))
    other = torch.cat([x[:, :6], features(2, 3, seed=2)], dim=1)
    torch.testing.assert_close(mixer(other, Points(places, sources=4))[:, :6], whole[:, :6])


@each_cross
def test_the_order_of_the_source_does_not_matter(kind):
    mixer = build(kind)
    x, source = features(2, 5), features(2, 9, seed=2)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(mixer(x, source[:, order], None), mixer(x, source, None))
    torch.testing.assert_close(mixer(x.flip(1), source, None), mixer(x, source, None).flip(1))


@pytest.mark.parametrize(("kind", "cross"), list(zip(SELF, CROSS, strict=True)))
def test_the_cross_form_of_an_input_with_itself_is_the_self_form(kind, cross):
    mixer, other = build(kind), build(cross, seed=5)
    weights = mixer.state_dict()
    if kind is PhysicsMixer:
        weights |= {f"source_proj.{p}": weights[f"assign_proj.{p}"] for p in ("weight", "bias")}
    other.load_state_dict(weights)
    x, grid = features(2, 6), Grid((6,), ((0.1, 0.2, 0.3, 0.1, 0.1, 0.4),))
    torch.testing.assert_close(other(x, x, grid, grid), mixer(x, grid))


@each
def test_a_single_source_point_is_enough(kind):
    y = call(build(kind), features(2, 5), features(2, 1), None, (1,))
    assert y.shape == (2, 5 if kind in CROSS else 1, D) and y.isfinite().all()


# --- as modules


@each
def test_gradients_agree_with_finite_differences(kind):
    mixer = build(kind, slices=3) if "Physics" in kind.__name__ else build(kind)
    x, source = features(1, 3).requires_grad_(), features(1, 4, seed=2).requires_grad_()
    grid = Grid((4,), ((1.0, 2.0, 0.5, 1.0),))
    inputs = (x, source) if kind in CROSS else (source,)
    assert torch.autograd.gradcheck(
        lambda *given: call(mixer, given[0], given[-1], None, grid), inputs
    )


@each
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_type_of_numbers_is_kept(kind, dtype):
    mixer = build(kind).to(dtype)
    grid = Grid((5,), ((0.1, 0.2, 0.3, 0.1, 0.1),))
    x, source = features(2, 5).to(dtype), features(2, 5, seed=2).to(dtype)
    y = call(mixer, x, source, grid, grid)
    assert y.dtype == dtype
    exact = call(mixer.double(), x.double(), source.double(), grid, grid)
    error = (y.double() - exact).norm() / exact.norm()
    assert error < {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 5e-2}[dtype]
    with torch.autocast("cpu", torch.bfloat16):
        y = call(mixer.float(), x.float(), source.float(), grid, grid)
    assert (y - exact).norm() < 5e-2 * exact.norm()


@each
def test_nan_reaches_the_output(kind):
    mixer = build(kind)
    x, source = features(2, 5), features(2, 5, seed=2)
    source[0, 2, 3] = math.nan
    y = call(mixer, x, source)
    assert y[0].isnan().all() and y[1].isfinite().all()


def test_a_slice_without_points_gives_zeros_rather_than_nan():
    mixer = build(PhysicsMixer, slices=3)
    with torch.no_grad():
        mixer.slice_proj.bias.copy_(torch.tensor([0.0, -1e6, 0.0]))
    x = features(2, 5).requires_grad_()
    y = mixer(x, None)
    y.sum().backward()
    assert y.isfinite().all() and x.grad.isfinite().all()


def test_the_temperature_is_clamped():
    mixer = build(PhysicsMixer)
    x, outputs = features(2, 5), []
    for temperature in (-3.0, 0.1, 0.5, 5.0, 80.0):
        torch.nn.init.constant_(mixer.temperature, temperature)
        outputs.append(mixer(x, None))
    torch.testing.assert_close(outputs[0], outputs[1], rtol=0, atol=0)
    torch.testing.assert_close(outputs[4], outputs[3], rtol=0, atol=0)
    assert not torch.allclose(outputs[1], outputs[2]) and not torch.allclose(outputs[2], outputs[3])


# --- what does not fit


@each
@pytest.mark.parametrize(("d_model", "heads", "message"), [
    (0, 1, "d_model=0 must be at least 1"),
    (8, 0, "heads=0 must be at least 1"),
    (8, 3, "heads=3 does not divide d_model=8; choose a multiple of 3, for example d_model=9"),
])  # fmt: skip
def test_sizes_that_do_not_fit_are_refused(kind, d_model, heads, message):
    with pytest.raises(ValueError, match=message):
        kind(d_model, heads=heads)


@pytest.mark.parametrize("kind", [PhysicsMixer, PhysicsCrossMixer])
def test_a_physics_mixer_needs_a_slice(kind):
    with pytest.raises(ValueError, match="slices=0 must be at least 1"):
        kind(8, slices=0)


@each
def test_no_points_at_all_are_refused(kind):
    mixer, good, bad = kind(D), torch.zeros(2, 5, D), torch.zeros(2, 0, D)
    name = "source" if kind in CROSS else "input"
    with pytest.raises(
        ValueError, match=rf"{name} has shape .*; expected \(batch, points, d_model=8"
    ):
        call(mixer, good, bad)


@each_cross
def test_a_source_of_another_batch_is_refused(kind):
    with pytest.raises(ValueError, match="source has a batch of 3, but the input one of 2; give"):
        kind(D)(torch.zeros(2, 5, D), torch.zeros(3, 5, D), None)


@each
@pytest.mark.parametrize(("domain", "message"), [
    ((2, 3), r"grid of shape \(2, 3\) has 6 points, but the {} has 5; give the grid on which"),
    (Grid((4,), (1.0,)), r"grid of shape \(4,\) has 4 points, but the {} has 5; give the grid on"),
    (Points(torch.zeros(7, 2)), "coordinates of 7 points are given, but the {} has 5; give those"),
])  # fmt: skip
def test_a_place_with_another_number_of_points_is_refused(kind, domain, message):
    mixer, x = kind(D), torch.zeros(2, 5, D)
    name = "source" if kind in CROSS else "input"
    with pytest.raises(ValueError, match=message.format(name)):
        call(mixer, x, x, None, domain)
    if kind in CROSS:
        with pytest.raises(ValueError, match=message.format("input")):
            mixer(x, x, domain)
