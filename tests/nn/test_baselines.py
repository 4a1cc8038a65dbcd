"""Transolver, FNO and U-Net: they learn, take what every operator takes, and are what they say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from ruamel.yaml import YAML

from mno.data import Batch
from mno.nn import Grid, ModelConfig, Points, build_operator
from mno.nn.build import count_parameters
from mno.nn.mixers import MIXERS

PRESETS = Path(__file__).parents[2] / "presets"
BASELINES = {
    "transolver": ModelConfig(backbone="transolver", mixer=["own"], width=16, layers=2, slices=8),
    "fno": ModelConfig(backbone="fno", width=16, layers=2, modes=4, padding=0.25),
    "unet": ModelConfig(backbone="unet", width=8, levels=3),
}
GRIDS_ALONE = ("fno", "unet")


def grid(*shape):
    return Grid(shape, tuple(1 / n for n in shape), (1 / 8,) * len(shape))


def random_batch(domain, names=("a",), size=2, frames=None, scalars=(), seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = domain.shape if isinstance(domain, Grid) else (domain.num_points,)
    shape = (size, *([] if frames is None else [frames]), *shape)
    fields = {name: torch.randn(shape, generator=generator) for name in names}
    return Batch(fields, domain, {name: torch.randn(size, generator=generator) for name in scalars})


def build(config, seed=0, **options):
    torch.manual_seed(seed)
    return build_operator(config, **{"inputs": ("a",), "outputs": ("p",), **options})


@pytest.mark.parametrize("name", GRIDS_ALONE)
def test_scattered_points_are_refused_by_what_works_on_grids(name):
    batch = random_batch(Points(torch.rand(7, 2)))
    with pytest.raises(ValueError, match=f"backbone='{name}' takes grids only, and was given 7"):
        build(BASELINES[name])(batch)


@pytest.mark.parametrize("name", GRIDS_ALONE)
def test_walls_are_kept_where_they_are_known(name):
    operator = build(BASELINES[name].model_copy(update={"walls": "zero"}))
    free = build(BASELINES[name])
    batch = random_batch(grid(64, 64))
    share = [o(batch).fields["p"].abs()[:, 0].mean().item() for o in (operator, free)]
    assert share[0] < 0.5 * share[1]


# --- Transolver


@pytest.mark.parametrize("mixer", MIXERS)
def test_transolver_takes_every_mixer(mixer):
    config = BASELINES["transolver"].model_copy(update={"mixer": [mixer], "path": ["hilbert"]})
    operator = build(config)
    places = [grid(4, 6), Points(torch.rand(24, 2))]
    for domain in places:
        out = operator(random_batch(domain)).fields["p"]
        assert out.isfinite().all()
    assert {type(block.mixer).__name__ for block in operator.blocks} == {MIXERS[mixer].self_form}


def test_transolver_does_not_care_in_which_order_points_come():
    operator = build(BASELINES["transolver"])
    places, order = torch.rand(20, 2), torch.randperm(20)
    batch = random_batch(Points(places))
    turned = Batch({"a": batch.fields["a"][:, order]}, Points(places[order]))
    out = operator(batch).fields["p"]
    torch.testing.assert_close(out[:, order], operator(turned).fields["p"])


def test_transolver_at_the_papers_size_has_the_parameters_of_the_public_code():
    values = YAML(typ="safe").load(PRESETS / "transolver-paper.yaml")["model"]
    config = ModelConfig(**values)
    assert (config.width, config.layers, config.heads, config.slices) == (128, 8, 8, 64)
    w, head, slices, ratio = 128, 16, 64, 1
    lifting = (3 * 2 * w + 2 * w) + (2 * w * w + w)
    attention = 3 * (w * w + w) + (head * slices + slices) + 8 + 3 * head * head
    block = 4 * w + attention + (ratio * w * w + ratio * w) + (ratio * w * w + w)
    assert count_parameters(build(config)) == lifting + 8 * block + 2 * w + (w + 1)


def test_transolver_starts_as_the_public_code_and_leaves_mixers_alone():
    config = BASELINES["transolver"].model_copy(update={"width": 64})
    operator = build(config)
    feed_forward = operator.blocks[0].feed_forward[0]
    assert 0.019 < feed_forward.weight.std().item() < 0.021
    assert not feed_forward.bias.any()
    assert operator.blocks[0].mixer.assign_proj.weight.std().item() > 0.05


# --- FNO


@pytest.mark.parametrize("padding", [0.0, 0.25])
@pytest.mark.parametrize("shape", [(12,), (8, 12), (4, 6, 8)])
def test_fno_computes_what_the_package_computes(padding, shape):
    from neuralop.models import FNO

    dims = len(shape)
    config = BASELINES["fno"].model_copy(update={"padding": padding})
    operator = build(config, dims=dims)
    theirs = FNO(n_modes=(4,) * dims, in_channels=1 + dims, out_channels=1, hidden_channels=16,
                 n_layers=2, domain_padding=padding or None, positional_embedding=None)  # fmt: skip
    theirs.load_state_dict(operator.fno.state_dict())
    batch = random_batch(grid(*shape))
    places = torch.meshgrid(*((torch.arange(n) + 0.5) / n for n in shape), indexing="ij")
    image = torch.stack([batch.fields["a"], *(x.expand(2, *shape) for x in places)], dim=1)
    torch.testing.assert_close(operator(batch).fields["p"], theirs(image)[:, 0])


def smooth(n, m):
    x, y = (torch.arange(n) + 0.5) / n, (torch.arange(m) + 0.5) / m
    return torch.sin(6 * x)[:, None] * torch.cos(5 * y) + 0.5


def test_fno_answers_alike_on_even_and_odd_grids_with_padding():
    operator = build(BASELINES["fno"])

    def answer(n):
        with torch.no_grad():
            out = operator(Batch({"a": smooth(n, n)[None]}, grid(n, n))).fields["p"]
        return out[0, n // 6 :: n // 3, n // 6 :: n // 3]  # points that all grids have in common

    exact = answer(3 * 128)
    even, odd = ((answer(n) - exact).norm().item() for n in (3 * 22, 3 * 21))
    assert odd < 1.5 * even < 0.05 * exact.norm().item()


def test_fno_refuses_what_the_package_gets_wrong_and_takes_what_it_gets_right():
    operator = build(BASELINES["fno"].model_copy(update={"padding": 0.0}))
    with pytest.raises(ValueError, match=r"shape \(7, 8\): on an odd number .* padding=0.25"):
        operator(random_batch(grid(7, 8)))
    assert operator(random_batch(grid(8, 7))).fields["p"].isfinite().all()
    assert operator(random_batch(grid(2, 3))).fields["p"].isfinite().all()  # fewer than modes


def test_fno_says_which_package_is_missing(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "neuralop"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "neuralop", None)
    with pytest.raises(ValueError, match="pip install neuraloperator"):
        build(BASELINES["fno"])


def test_the_package_is_imported_by_nothing_but_the_fno():
    code = "import sys, mno.nn.kernel_view, mno.nn.replace; "
    code += "from mno.nn import ModelConfig, build_operator; "
    code += "build_operator(ModelConfig(backbone='unet'), inputs=('a',), outputs=('p',)); "
    code += "sys.exit('neuralop' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- U-Net


@pytest.mark.parametrize("shape", [(1,), (3,), (33,), (1, 9), (7, 13), (5, 1, 6)])
def test_unet_takes_any_number_of_points(shape):
    operator = build(BASELINES["unet"], dims=len(shape))
    out = operator(random_batch(grid(*shape))).fields["p"]
    assert out.shape == (2, *shape) and out.isfinite().all()


def test_unet_sees_as_far_as_its_coarsest_grid():
    def reach(levels):
        torch.manual_seed(0)
        operator = build(BASELINES["unet"].model_copy(update={"levels": levels})).double()
        for module in operator.modules():  # a norm sees the whole sample
            if isinstance(module, torch.nn.GroupNorm):
                module.forward = lambda x: x
        x = torch.randn(1, 80, 80, dtype=torch.float64, requires_grad=True)
        operator(Batch({"a": x}, grid(80, 80))).fields["p"][0, 40, 40].backward()
        return np.ptp(x.grad[0].nonzero().numpy(), axis=0)

    one, three = reach(1), reach(3)
    assert (one == 4).all()  # two convolutions over three points
    assert (three > 24).all() and (three < 79).all()


def test_unet_doubles_its_features_on_each_coarser_grid():
    operator = build(BASELINES["unet"])
    assert [part[0].out_channels for part in operator.down] == [8, 16, 32]
    down = sum(27 * a * b + b + 2 * b + (9 - 27) * a * b for a, b in
               [(3, 8), (8, 8), (8, 16), (16, 16), (16, 32), (32, 32)])  # fmt: skip
    up = sum(9 * a * b + 3 * b for a, b in [(24, 8), (8, 8), (48, 16), (16, 16)])
    assert count_parameters(operator) == down + up + (8 + 1)


# --- presets


@pytest.mark.parametrize("name", ["fno", "transolver", "transolver-paper", "unet"])
def test_each_preset_builds_what_it_is_named_after(name):
    values = YAML(typ="safe").load(PRESETS / f"{name}.yaml")
    assert list(values) == ["model"]
    operator = build(ModelConfig(**values["model"]))
    assert operator.config.backbone == name.partition("-")[0]
    assert operator(random_batch(grid(8, 8))).fields["p"].isfinite().all()
