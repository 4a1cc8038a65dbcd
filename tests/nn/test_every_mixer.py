"""The ready check of mixers: what every entry of `MIXERS` must do, in both of its forms."""

import pytest
import torch
from backbone_cases import change_on_a_finer_grid, learn, random, sums, unit_grid
from safetensors.torch import load, save

from mno.data import Batch
from mno.nn import ModelConfig, build_operator
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
    return random(size, 12, D, seed=seed)


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
def test_weights_survive_safetensors_and_it_can_be_exported(name, cross):
    mixer, other = build(name, cross), build(name, cross, seed=7)
    other.load_state_dict(load(save(mixer.state_dict())))
    x, source = features(), features(seed=2)
    expected = call(mixer, cross, x, source)
    assert torch.equal(call(other, cross, x, source), expected)

    class OnGrid(torch.nn.Module):  # only tensors can be arguments of an exported program
        def forward(self, x, source):
            return call(mixer, cross, x, source)

    program = torch.export.export(OnGrid(), (x, source))
    torch.testing.assert_close(program.module()(x, source), expected)


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
    a = random(2, *SHAPE)
    losses = learn(operator, Batch({"a": a}, unit_grid(*SHAPE)), sums(a), 1e-2, 300, 0.1)
    assert losses[0] > 0.5 and losses[-1] < 0.1


@each
def test_an_operator_of_it_is_nearly_the_same_function_on_a_finer_grid(name):
    torch.manual_seed(0)
    operator = build_operator(config(name), inputs=("a",), outputs=("p",))
    coarse, change = change_on_a_finer_grid(operator)
    assert change.norm() < 0.1 * coarse.norm()
