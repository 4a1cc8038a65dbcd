"""The attention mixers: symmetries, use as modules, and what does not fit."""

from __future__ import annotations

import math

import pytest
import torch
from attention_cases import (
    CROSS,
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
from mno.nn.mixers.attention import PhysicsCrossMixer, PhysicsMixer

# --- symmetries


@each_self
def test_permuting_the_points_permutes_the_output(kind):
    mixer = build(kind)
    x, order = features(2, 9), torch.randperm(9, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(mixer(x[:, order], None), mixer(x, None)[:, order])


@each_cross
def test_the_order_of_the_source_does_not_matter(kind):
    mixer = build(kind)
    x, source = features(2, 5), features(2, 9, seed=2)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(mixer(x, source[:, order], None), mixer(x, source, None))
    flipped = mixer(x.flip(1), source, None)
    torch.testing.assert_close(flipped, mixer(x, source, None).flip(1))


@pytest.mark.parametrize(("kind", "cross"), zip(SELF, CROSS, strict=True))
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
    mixer = build(kind)
    y = call(mixer, features(2, 5), features(2, 1), None, (1,))
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


@each
def test_it_runs_under_mixed_precision(kind):
    mixer = build(kind).float()
    grid = Grid((5,), ((0.1, 0.2, 0.3, 0.1, 0.1),))
    x, source = features(2, 5).float(), features(2, 5, seed=2).float()
    exact = call(mixer, x, source, grid, grid)
    with torch.autocast("cpu", torch.bfloat16):
        y = call(mixer, x, source, grid, grid)
    assert (y - exact).norm() < 5e-2 * exact.norm()


class OnGrid(torch.nn.Module):
    """A mixer with its place, since only tensors can be arguments of an exported program."""

    def __init__(self, mixer, grid):
        super().__init__()
        self.mixer, self.grid = mixer, grid

    def forward(self, x, source):
        return call(self.mixer, x, source, self.grid, self.grid)


@each
def test_it_can_be_exported(kind):
    module = OnGrid(build(kind), Grid((2, 3), ((0.1, 0.2), 1.0)))
    arguments = features(2, 6), features(2, 6, seed=2)
    program = torch.export.export(module, arguments)
    torch.testing.assert_close(program.module()(*arguments), module(*arguments))


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
@pytest.mark.parametrize("shape", [(2, 5, 7), (5, 8), (2, 2, 5, 8), (2, 0, 8)])
def test_features_of_another_shape_are_refused(kind, shape):
    mixer, good, bad = kind(D), torch.zeros(2, 5, D), torch.zeros(shape)
    name = "source" if kind in CROSS else "input"
    with pytest.raises(
        ValueError, match=rf"{name} has shape .*; expected \(batch, points, d_model=8"
    ):
        call(mixer, good, bad)


@each_cross
def test_an_input_of_another_shape_or_batch_is_refused(kind):
    mixer = kind(D)
    with pytest.raises(ValueError, match=r"input has shape \(2, 5, 7\); expected .*d_model=8"):
        mixer(torch.zeros(2, 5, 7), torch.zeros(2, 5, D), None)
    with pytest.raises(ValueError, match="source has a batch of 3, but the input one of 2; give"):
        mixer(torch.zeros(2, 5, D), torch.zeros(3, 5, D), None)


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
