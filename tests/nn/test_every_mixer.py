"""The ready check of mixers: what every entry of `MIXERS` must do, in both of its forms."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load, save

from mno.data import Batch
from mno.nn import Grid, ModelConfig, build_operator
from mno.nn.mixers import MIXERS
from mno.nn.operator import Mixers

D, SHAPE = 16, (3, 4)
each = pytest.mark.parametrize("name", MIXERS)
each_form = pytest.mark.parametrize("cross", [False, True], ids=["self", "cross"])


def config(name, **options):
    return ModelConfig(mixer=[name], width=D, layers=1, **options)


def build(name, cross, seed=0):
    """A mixer with the options that a configuration gives it by default."""
    torch.manual_seed(seed)
    mixers = Mixers(config(name), dims=2)
    return mixers.cross_mixer(0) if cross else mixers.self_mixer(0)


def features(size=3, seed=1):
    return torch.randn(size, 12, D, generator=torch.Generator().manual_seed(seed))


def call(mixer, cross, x, source):
    return mixer(x, source, SHAPE, SHAPE) if cross else mixer(source, SHAPE)


@each
@each_form
def test_samples_of_a_batch_do_not_mix(name, cross):
    mixer, x, source = build(name, cross), features(), features(seed=2)
    alone = call(mixer, cross, x[1:2], source[1:2])
    torch.testing.assert_close(call(mixer, cross, x, source)[1:2], alone)


@each
@each_form
def test_gradients_reach_every_parameter_and_input_of_a_fresh_mixer(name, cross):
    mixer, x, source = build(name, cross), features().requires_grad_(), features(seed=2)
    source.requires_grad_()
    y = call(mixer, cross, x, source)
    assert y.shape == source.shape
    (y * features(seed=3)).sum().backward()
    used = {"x": x, "source": source} if cross else {"source": source}
    for key, tensor in [*mixer.named_parameters(), *used.items()]:
        assert tensor.grad is not None and tensor.grad.abs().max() > 1e-8, key
        assert tensor.grad.isfinite().all(), key


@each
@each_form
def test_weights_survive_safetensors(name, cross):
    mixer, other = build(name, cross), build(name, cross, seed=7)
    other.load_state_dict(load(save(mixer.state_dict())))
    x, source = features(), features(seed=2)
    assert torch.equal(call(other, cross, x, source), call(mixer, cross, x, source))


@each
@each_form
@pytest.mark.parametrize("shape", [(2, 12, D - 1), (12, D), (2, 2, 12, D)])
def test_features_of_another_shape_are_refused(name, cross, shape):
    bad = torch.zeros(shape)
    with pytest.raises(ValueError, match=rf"has shape .*d_model={D}"):
        call(build(name, cross), cross, bad, bad)


@each
def test_an_operator_of_it_learns_one_batch(name):
    torch.manual_seed(0)
    operator = build_operator(config(name), inputs=("a",), outputs=("p",))
    grid = Grid(SHAPE, (1 / 3, 1 / 4))
    a = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(1))
    target = a.cumsum(1).flip(2).cumsum(2).flip(2)
    target = (target - target.mean()) / target.std()
    optimiser = torch.optim.AdamW(operator.parameters(), 1e-2)
    for step in range(300):
        loss = (operator(Batch({"a": a}, grid)).fields["p"] - target).square().mean()
        assert step or loss > 0.5
        if loss < 0.1:
            return
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    pytest.fail(f"the loss is still {loss:.3f}")


@each
def test_an_operator_of_it_is_nearly_the_same_function_on_a_finer_grid(name):
    torch.manual_seed(0)
    operator = build_operator(config(name), inputs=("a",), outputs=("p",)).double()

    def answer(n):
        x = (torch.arange(n, dtype=torch.float64) + 0.5) / n
        a = torch.sin(3 * x[:, None]) * torch.cos(2 * x)
        with torch.no_grad():
            grid = Grid((n, n), (1 / n, 1 / n), (1 / 16, 1 / 16))
            return operator(Batch({"a": a[None]}, grid)).fields["p"]

    coarse, fine = answer(16), answer(32)
    fine = fine.unflatten(2, (-1, 2)).mean(3).unflatten(1, (-1, 2)).mean(2)
    assert (fine - coarse).norm() < 0.1 * coarse.norm()
