"""The ready check of backbones: what every entry of `BACKBONES` must do."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load, save

from mno.data import Batch
from mno.nn import Grid, ModelConfig, build_operator
from mno.nn.backbones import BACKBONES

each = pytest.mark.parametrize("backbone", BACKBONES)
SMALL = {"width": 16, "layers": 1, "heads": 2, "modes": 4, "spectral_width": 8, "slices": 8}
SMALL |= {"levels": 2, "padding": 0.25, "perceptron_layers": 1, "mixer": ["own"]}


def grid(*shape):
    return Grid(shape, tuple(1 / n for n in shape), (1 / 8,) * len(shape))


def build(backbone, seed=0, dropout=0.0, **signature):
    torch.manual_seed(seed)
    config = ModelConfig(backbone=backbone, dropout=dropout, **SMALL)
    return build_operator(config, **{"inputs": ("a",), "outputs": ("p",), **signature})


def random(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@each
def test_it_overfits_one_batch(backbone):
    operator, a = build(backbone), random(2, 6, 6)
    target = a.cumsum(1).flip(2).cumsum(2).flip(2)  # every point counts at many
    target = (target - target.mean()) / target.std()
    optimiser = torch.optim.AdamW(operator.parameters(), 5e-3)
    for step in range(700):
        loss = (operator(Batch({"a": a}, grid(6, 6))).fields["p"] - target).square().mean()
        assert step or loss > 0.5
        if loss < 0.06:
            return
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    pytest.fail(f"the loss is still {loss:.3f}")


@each
@pytest.mark.parametrize("shape", [(8,), (6, 5), (4, 6, 3)])
def test_one_code_serves_several_fields_frames_and_scalars_in_one_to_three_dimensions(
    backbone, shape
):
    operator = build(
        backbone, inputs={"a": 3, "b": None}, outputs={"p": 2, "q": 2}, scalars=("s",),
        dims=len(shape),
    )  # fmt: skip
    fields = {"a": random(2, 3, *shape), "b": random(2, *shape, seed=2)}
    scalar = random(2, seed=3)
    out = operator(Batch(fields, grid(*shape), {"s": scalar}))
    assert list(out.fields) == ["p", "q"] and out.place == grid(*shape)
    assert all(field.shape == (2, 2, *shape) for field in out.fields.values())
    sum(field.square().sum() for field in out.fields.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in operator.parameters())
    other = Batch(fields, grid(*shape), {"s": scalar + 1})
    assert not torch.allclose(out.fields["q"], operator(other).fields["q"])


@each
def test_samples_do_not_touch_each_other_and_none_is_none(backbone):
    operator, a = build(backbone), random(3, 6, 6)
    whole, alone, none = (operator(Batch({"a": x}, grid(6, 6))) for x in (a, a[1:2], a[:0]))
    torch.testing.assert_close(whole.fields["p"][1:2], alone.fields["p"])
    assert none.fields["p"].shape == (0, 6, 6)


@each
def test_the_same_seed_gives_the_same_weights_and_they_survive_safetensors(backbone):
    operator, again, other = build(backbone), build(backbone), build(backbone, seed=1)
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in operator.state_dict().items())
    batch = Batch({"a": random(2, 8, 8)}, grid(8, 8))
    assert not torch.equal(other(batch).fields["p"], operator(batch).fields["p"])
    other.load_state_dict(load(save(operator.state_dict())))
    assert torch.equal(other(batch).fields["p"], operator(batch).fields["p"])


@each
def test_features_are_dropped_in_training_only(backbone):
    operator, batch = build(backbone, dropout=0.5), Batch({"a": random(1, 6, 6)}, grid(6, 6))
    assert not torch.equal(operator(batch).fields["p"], operator(batch).fields["p"])
    operator.eval()
    assert torch.equal(operator(batch).fields["p"], operator(batch).fields["p"])
