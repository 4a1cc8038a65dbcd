"""The attention mixers: against their formulas, and as operators on any grid."""

from __future__ import annotations

import math

import pytest
import torch
from attention_cases import (
    BOTH,
    CROSS,
    D_HEAD,
    HEADS,
    SELF,
    D,
    build,
    call,
    each,
    each_cross,
    each_self,
    features,
)

from mno.core.grid import Grid
from mno.core.points import Points
from mno.nn.mixers.attention import (
    FourierMixer,
    GalerkinMixer,
    PhysicsCrossMixer,
    SoftmaxCrossMixer,
)


def in_heads(x):
    return x.unflatten(-1, (HEADS, D_HEAD)).unbind(-2)


def softmax_formula(mixer, x, source, w):
    def head(q, k, v):
        weights = w * torch.exp(k @ q / math.sqrt(D_HEAD))
        return weights @ v / weights.sum()

    return over_heads(mixer, x, source, head)


def linear_formula(mixer, x, source, w):
    def head(q, k, v):
        q, k = q.softmax(-1), k.softmax(-1)
        weights = w * (k @ q)
        return q + weights @ v / weights.sum()

    return over_heads(mixer, x, source, head)


def normalised(x, norm, h):
    x = x - x.mean(-1, keepdim=True)
    x = x / torch.sqrt((x**2).mean(-1, keepdim=True) + 1e-5)
    return x * norm.weight[h, 0] + norm.bias[h, 0]


def galerkin_formula(mixer, x, source, w):
    def head(q, k, v, h):
        k, v = normalised(k, mixer.k_norm, h), normalised(v, mixer.v_norm, h)
        return q @ sum(w[j] * torch.outer(k[j], v[j]) for j in range(len(k)))

    return over_heads(mixer, x, source, head, numbered=True)


def fourier_formula(mixer, x, source, w):
    def head(q, k, v, h):
        q, k = normalised(q, mixer.q_norm, h), normalised(k, mixer.k_norm, h)
        return sum(w[j] * (q @ k[j]) * v[j] for j in range(len(k)))

    return over_heads(mixer, x, source, head, numbered=True)


def over_heads(mixer, x, source, head, numbered=False):
    q, k, v = (
        in_heads(p)
        for p in (mixer.q_proj(x), mixer.k_proj(source), mixer.v_proj(source))
    )  # fmt: skip
    rows = []
    for i in range(len(x)):
        arguments = [(q[h][i], k[h], v[h]) + ((h,) if numbered else ()) for h in range(HEADS)]
        rows.append(torch.cat([head(*a) for a in arguments]))
    return mixer.out_proj(torch.stack(rows))


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


FORMULAS = [softmax_formula, linear_formula, galerkin_formula, fourier_formula, physics_formula]


@pytest.mark.parametrize("unequal", [False, True])
@pytest.mark.parametrize(("kind", "formula"), zip(BOTH, FORMULAS * 2, strict=True))
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
    ours = SoftmaxCrossMixer(D, heads=HEADS).double()
    q, k, v = theirs.in_proj_weight.chunk(3)
    out = {f"out_proj.{name}": p for name, p in theirs.out_proj.named_parameters()}
    weights = {"q_proj.weight": q, "k_proj.weight": k, "v_proj.weight": v, **out}
    ours.load_state_dict(weights)
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
        source = smooth(centres(grid))[None]
        return mixer(x, source, None, grid if weighted else grid.shape)

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
    places = [
        (2, 3),
        Grid((2, 3), (0.5, 0.1)),
        Points(torch.rand(6, 2)),
        Points(torch.rand(2, 6, 3)),
    ]
    for domain in places:
        torch.testing.assert_close(call(mixer, x, source, domain, domain), expected, rtol=0, atol=0)
