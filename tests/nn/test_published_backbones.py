"""GNOT, the Galerkin Transformer and OFormer: with any mixer, at any places."""

from __future__ import annotations

import pytest
import torch
from published_cases import build, each, each_of_points, points, random, unit_grid

from mno.data import Batch
from mno.nn import Grid, Points

# --- with any mixer


@each
@pytest.mark.parametrize("mixer", ["own", "mamba", "softmax"])
def test_it_overfits_one_batch(backbone, mixer):
    operator = build(backbone, mixer, width=16, layers=1, perceptron_layers=1)
    a = random(2, 5, 5)
    target = a.cumsum(1).flip(2).cumsum(2).flip(2)
    target = (target - target.mean()) / target.std()
    optimiser = torch.optim.AdamW(operator.parameters(), 5e-3)
    for step in range(400):
        loss = (operator(Batch({"a": a}, unit_grid(5, 5))).fields["p"] - target).square().mean()
        assert step or loss > 0.5
        if loss < 0.1:
            return
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    pytest.fail(f"the loss is still {loss:.3f}")


@each
def test_each_layer_may_have_its_own_mixer(backbone):
    operator = build(backbone, ["mamba", "softmax"])
    kinds = [type(block.mixer).__name__ for block in operator.blocks]
    assert kinds == ["MambaMixer", "SoftmaxMixer"]
    if backbone == "gnot":
        kinds = [type(block.cross_mixers[0]).__name__ for block in operator.blocks]
        assert kinds == ["MambaCrossMixer", "SoftmaxCrossMixer"]
    if backbone == "oformer":
        assert type(operator.cross_mixer).__name__ == "SoftmaxCrossMixer"
    out = operator(Batch({"a": random(2, 4, 4)}, unit_grid(4, 4))).fields["p"]
    assert out.shape == (2, 4, 4) and out.isfinite().all()


@each
def test_own_is_the_attention_it_was_published_with(backbone):
    kinds = {"gnot": "LinearMixer", "galerkin": "GalerkinMixer", "oformer": "GalerkinMixer"}
    found = {type(block.mixer).__name__ for block in build(backbone).blocks}
    assert found == {kinds[backbone]}


# --- what it is given and returns


@each
@pytest.mark.parametrize("mixer", ["own", "mamba"])
@pytest.mark.parametrize("shape", [(7,), (4, 5), (3, 4, 2)])
def test_grids_of_any_dimension_with_frames_scalars_and_several_fields(backbone, mixer, shape):
    operator = build(
        backbone, mixer, {"a": 3, "b": None}, {"p": 2, "q": 2}, scalars=("mu",), dims=len(shape),
        experts=2, latent_steps=2,
    )  # fmt: skip
    fields = {"a": random(2, 3, *shape), "b": random(2, *shape, seed=2)}
    fields = {name: field.requires_grad_() for name, field in fields.items()}
    mu = torch.tensor([0.5, 2.0], requires_grad=True)
    out = operator(Batch(fields, unit_grid(*shape), {"mu": mu}))
    assert {name: field.shape for name, field in out.fields.items()} == {
        "p": (2, 2, *shape),
        "q": (2, 2, *shape),
    }
    assert out.place == unit_grid(*shape)
    sum((field * random(*field.shape, seed=4)).sum() for field in out.fields.values()).backward()
    for tensor in (mu, *fields.values(), *operator.parameters()):
        assert tensor.grad is not None and tensor.grad.isfinite().all()
    for tensor in (mu, *fields.values()):
        assert (tensor.grad.flatten(1 if tensor.ndim > 1 else 0).abs().amax(-1) > 0).all()


@each_of_points
@pytest.mark.parametrize("mixer", ["own", "mamba"])
def test_it_takes_unordered_points_and_fields_without_frames(backbone, mixer):
    operator = build(backbone, mixer, ("a", "b"), ("p", "q"), dims=3, path="bidirectional")
    domain = points(9, dims=3)
    out = operator(Batch({"a": random(2, 9), "b": random(2, 9, seed=2)}, domain))
    assert out.fields["p"].shape == out.fields["q"].shape == (2, 9) and out.place is domain


@each_of_points
@pytest.mark.parametrize("mixer", ["own", "softmax"])
def test_permuting_the_points_permutes_the_answer(backbone, mixer):
    operator, domain = build(backbone, mixer).double(), points(9)
    a, order = random(2, 9).double(), torch.randperm(9, generator=torch.Generator().manual_seed(5))
    turned = operator(Batch({"a": a[:, order]}, Points(domain.coordinates[order])))
    expected = operator(Batch({"a": a}, domain)).fields["p"][:, order]
    torch.testing.assert_close(turned.fields["p"], expected)


@each
def test_the_same_weights_are_the_same_function_on_a_finer_grid(backbone):
    operator = build(backbone, width=16).double()

    def answer(n):
        x = (torch.arange(n, dtype=torch.float64) + 0.5) / n
        a = torch.sin(3 * x[:, None]) * torch.cos(2 * x)
        with torch.no_grad():
            return operator(Batch({"a": a[None]}, unit_grid(n, n))).fields["p"]

    coarse, fine = answer(16), answer(32)
    fine = fine.unflatten(2, (-1, 2)).mean(3).unflatten(1, (-1, 2)).mean(2)
    assert (fine - coarse).norm() < 0.05 * (coarse - coarse.mean()).norm()


@pytest.mark.parametrize("shape", [(3, 2), (1, 1), (2, 9)])
def test_a_grid_too_coarse_for_the_modes_is_taken(shape):
    operator = build("galerkin", modes=5)
    out = operator(Batch({"a": random(1, *shape)}, unit_grid(*shape))).fields["p"]
    assert out.shape == (1, *shape) and out.isfinite().all()


# --- queries at other places


@each_of_points
@pytest.mark.parametrize("mixer", ["own", "softmax", "physics"])
def test_it_answers_at_other_places_than_the_inputs(backbone, mixer):
    operator = build(backbone, mixer, {"a": 2}, {"p": 3}, scalars=("mu",))
    batch = Batch({"a": random(2, 2, 4, 5)}, unit_grid(4, 5), {"mu": torch.ones(2)})
    grid, scattered = unit_grid(6, 3), points(7)
    assert operator(batch, at=grid).fields["p"].shape == (2, 3, 6, 3)
    assert operator(batch, at=grid).place == grid
    assert operator(batch, at=scattered).fields["p"].shape == (2, 3, 7)
    own = operator(batch, at=batch.place).fields["p"]
    assert torch.equal(own, operator(batch).fields["p"])


def test_oformer_answers_at_each_place_whatever_else_it_is_asked():
    operator, domain = build("oformer"), points(8)
    batch = Batch({"a": random(1, 4, 4)}, unit_grid(4, 4))
    few = operator(batch, at=Points(domain.coordinates[2:5])).fields["p"]
    torch.testing.assert_close(few, operator(batch, at=domain).fields["p"][:, 2:5])


@each_of_points
def test_each_sample_may_be_asked_at_its_own_places(backbone):
    operator, places = build(backbone), torch.rand(2, 6, 2)
    a = random(2, 4, 4)
    out = operator(Batch({"a": a}, unit_grid(4, 4)), at=Points(places)).fields["p"]
    alone = Batch({"a": a[1:]}, unit_grid(4, 4))
    torch.testing.assert_close(out[1:], operator(alone, at=Points(places[1])).fields["p"])


@each_of_points
def test_places_that_do_not_fit_are_refused(backbone):
    batch = Batch({"a": random(2, 4, 4)}, unit_grid(4, 4))
    with pytest.raises(ValueError, match="at has 3 axes, but this operator was built for 2"):
        build(backbone)(batch, at=points(5, dims=3))
    with pytest.raises(ValueError, match="places of 3 samples, but the batch has 2"):
        build(backbone)(batch, at=Points(torch.rand(3, 5, 2)))
    with pytest.raises(ValueError, match="a Mamba cross mixer needs it at the same points"):
        build(backbone, "mamba")(batch, at=points(5))
    elsewhere = points(batch.place.num_points)
    with pytest.raises(ValueError, match="the source lives elsewhere"):
        build(backbone, "mamba")(batch, at=Points(elsewhere.coordinates + 0.01))


@pytest.mark.parametrize("domain", [points(16), Grid((4, 4), ((0.1, 0.2, 0.3, 0.4), 0.25))])
def test_galerkin_refuses_what_cannot_be_fourier_transformed(domain):
    a = random(1, 16) if isinstance(domain, Points) else random(1, 4, 4)
    with pytest.raises(ValueError, match="a grid with equal cells .* or use plain, gnot"):
        build("galerkin")(Batch({"a": a}, domain))


# --- frames


def test_oformer_steps_from_frame_to_frame():
    """The first frames of three are those of one and two; a step is repeated, not learned anew."""
    three, two, one, none = (
        build("oformer", outputs={"p": n, "q": n}, seed=n or 0, latent_steps=2)
        for n in (3, 2, 1, None)
    )
    for other in (two, one, none):
        other.load_state_dict(three.state_dict())
    batch = Batch({"a": random(2, 4, 5)}, unit_grid(4, 5))
    for name, frames in three(batch).fields.items():
        assert not torch.allclose(frames[:, 1], frames[:, 0])
        assert torch.equal(frames[:, :2], two(batch).fields[name])
        assert torch.equal(frames[:, :1], one(batch).fields[name])
        assert torch.equal(frames[:, 0], none(batch).fields[name])


def test_oformer_refuses_outputs_with_different_numbers_of_frames():
    with pytest.raises(ValueError, match="different numbers of frames; oformer steps"):
        build("oformer", outputs={"p": 2, "q": None})


# --- as modules


class OnGrid(torch.nn.Module):
    """An operator on one grid, since only tensors can be arguments of an exported program."""

    def __init__(self, operator, grid):
        super().__init__()
        self.operator, self.grid = operator, grid

    def forward(self, a):
        return self.operator(Batch({"a": a}, self.grid)).fields["p"]


@each
def test_it_can_be_exported(backbone):
    module, a = OnGrid(build(backbone, layers=1), unit_grid(6, 5)).eval(), random(2, 6, 5)
    program = torch.export.export(module, (a,))
    torch.testing.assert_close(program.module()(a), module(a))


@each
def test_it_runs_under_mixed_precision(backbone):
    operator, batch = build(backbone), Batch({"a": random(2, 4, 4)}, unit_grid(4, 4))
    exact = operator(batch).fields["p"]
    with torch.autocast("cpu", torch.bfloat16):
        out = operator(batch).fields["p"]
    out.float().sum().backward()
    assert (out - exact).norm() < 0.05 * exact.norm()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in operator.parameters())
