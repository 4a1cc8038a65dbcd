"""Single backbones: Galerkin, OFormer, Transolver, FNO and U-Net are what they say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from backbone_cases import build, points, random, unit_grid
from ruamel.yaml import YAML

from mno.data import Batch
from mno.nn import Grid, ModelConfig, Points, build_operator
from mno.nn.build import count_parameters
from mno.nn.mixers import MIXERS

PRESETS = Path(__file__).parents[2] / "presets"


def ask(operator, domain, seed=1):
    """What an operator makes of two random samples on a grid or at points."""
    shape = domain.shape if isinstance(domain, Grid) else (domain.num_points,)
    return operator(Batch({"a": random(2, *shape, seed=seed)}, domain)).fields["p"]


def preset(name):
    values = YAML(typ="safe").load(PRESETS / f"{name}.yaml")
    assert list(values) == ["model"]
    return ModelConfig(**values["model"])


@pytest.mark.parametrize("name", ["fno", "transolver", "transolver-paper", "unet"])
def test_each_preset_builds_what_it_is_named_after(name):
    operator = build_operator(preset(name), inputs=("a",), outputs=("p",))
    assert operator.config.backbone == name.partition("-")[0]
    assert ask(operator, unit_grid(8, 8)).isfinite().all()


# --- Galerkin


@pytest.mark.parametrize("shape", [(3, 2), (1, 1), (2, 9)])
def test_a_grid_too_coarse_for_the_modes_is_taken(shape):
    out = ask(build("galerkin", modes=5), unit_grid(*shape))
    assert out.shape == (2, *shape) and out.isfinite().all()


@pytest.mark.parametrize("domain", [points(16), Grid((4, 4), ((0.1, 0.2, 0.3, 0.4), 0.25))])
def test_galerkin_refuses_what_cannot_be_fourier_transformed(domain):
    with pytest.raises(ValueError, match="a grid with equal cells .* or use plain, gnot"):
        ask(build("galerkin"), domain)


# --- OFormer


def test_oformer_answers_at_each_place_whatever_else_it_is_asked():
    operator, domain = build("oformer"), points(8)
    batch = Batch({"a": random(1, 4, 4)}, unit_grid(4, 4))
    few = operator(batch, at=Points(domain.coordinates[2:5])).fields["p"]
    torch.testing.assert_close(few, operator(batch, at=domain).fields["p"][:, 2:5])


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


# --- Transolver


@pytest.mark.parametrize("mixer", MIXERS)
def test_transolver_takes_every_mixer_on_grids_and_at_points(mixer):
    operator = build("transolver", mixer, path="hilbert")
    assert all(ask(operator, place).isfinite().all() for place in (unit_grid(4, 6), points(24)))
    assert {type(block.mixer).__name__ for block in operator.blocks} == {MIXERS[mixer].self_form}


def test_transolver_at_the_papers_size_has_the_parameters_of_the_public_code():
    config = preset("transolver-paper")
    assert (config.width, config.layers, config.heads, config.slices) == (128, 8, 8, 64)
    w, head, slices, ratio = 128, 16, 64, 1
    lifting = (3 * 2 * w + 2 * w) + (2 * w * w + w)
    attention = 3 * (w * w + w) + (head * slices + slices) + 8 + 3 * head * head
    block = 4 * w + attention + (ratio * w * w + ratio * w) + (ratio * w * w + w)
    operator = build_operator(config, inputs=("a",), outputs=("p",))
    assert count_parameters(operator) == lifting + 8 * block + 2 * w + (w + 1)


def test_transolver_starts_as_the_public_code_and_leaves_mixers_alone():
    first = build("transolver", width=64).blocks[0]
    assert 0.019 < first.feed_forward[0].weight.std().item() < 0.021
    assert not first.feed_forward[0].bias.any()
    assert first.mixer.assign_proj.weight.std().item() > 0.05


# --- FNO


@pytest.mark.parametrize("padding", [0.0, 0.25])
@pytest.mark.parametrize("shape", [(12,), (8, 12), (4, 6, 8)])
def test_fno_computes_what_the_package_computes(padding, shape):
    from neuralop.models import FNO

    dims = len(shape)
    operator = build("fno", dims=dims, padding=padding, modes=4)
    theirs = FNO(n_modes=(4,) * dims, in_channels=1 + dims, out_channels=1, hidden_channels=8,
                 n_layers=2, domain_padding=padding or None, positional_embedding=None)  # fmt: skip
    theirs.load_state_dict(operator.fno.state_dict())
    places = torch.meshgrid(*((torch.arange(n) + 0.5) / n for n in shape), indexing="ij")
    image = torch.stack([random(2, *shape), *(x.expand(2, *shape) for x in places)], dim=1)
    torch.testing.assert_close(ask(operator, unit_grid(*shape)), theirs(image)[:, 0])


def test_fno_answers_alike_on_even_and_odd_grids_with_padding():
    operator = build("fno", width=16, modes=4)

    def answer(n):
        x = (torch.arange(n) + 0.5) / n
        smooth = torch.sin(6 * x)[:, None] * torch.cos(5 * x) + 0.5
        with torch.no_grad():
            out = operator(Batch({"a": smooth[None]}, unit_grid(n, n))).fields["p"]
        return out[0, n // 6 :: n // 3, n // 6 :: n // 3]  # points that all grids have in common

    exact = answer(3 * 128)
    even, odd = ((answer(n) - exact).norm().item() for n in (3 * 22, 3 * 21))
    assert odd < 1.5 * even < 0.05 * exact.norm().item()


def test_fno_refuses_what_the_package_gets_wrong_and_takes_what_it_gets_right():
    operator = build("fno", padding=0.0)
    with pytest.raises(ValueError, match=r"shape \(7, 8\): on an odd number .* padding=0.25"):
        ask(operator, unit_grid(7, 8))
    assert ask(operator, unit_grid(8, 7)).isfinite().all()
    assert ask(operator, unit_grid(2, 3)).isfinite().all()  # fewer than modes


def test_fno_says_which_package_is_missing(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "neuralop"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "neuralop", None)
    with pytest.raises(ValueError, match="pip install neuraloperator"):
        build("fno")


def test_the_package_is_imported_by_nothing_but_the_fno():
    code = "import sys, mno.nn.kernel_view, mno.nn.replace; "
    code += "from mno.nn import ModelConfig, build_operator; "
    code += "build_operator(ModelConfig(backbone='unet'), inputs=('a',), outputs=('p',)); "
    code += "sys.exit('neuralop' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- U-Net


@pytest.mark.parametrize("shape", [(1,), (3,), (33,), (1, 9), (7, 13), (5, 1, 6)])
def test_unet_takes_any_number_of_points(shape):
    out = ask(build("unet", dims=len(shape)), unit_grid(*shape))
    assert out.shape == (2, *shape) and out.isfinite().all()


def test_unet_sees_as_far_as_its_coarsest_grid():
    def reach(levels):
        operator = build("unet", levels=levels).double()
        for module in operator.modules():  # a norm sees the whole sample
            if isinstance(module, torch.nn.GroupNorm):
                module.forward = lambda x: x
        x = torch.randn(1, 80, 80, dtype=torch.float64, requires_grad=True)
        operator(Batch({"a": x}, unit_grid(80, 80))).fields["p"][0, 40, 40].backward()
        return np.ptp(x.grad[0].nonzero().numpy(), axis=0)

    one, three = reach(1), reach(3)
    assert (one == 4).all()  # two convolutions over three points
    assert (three > 24).all() and (three < 79).all()


def test_unet_doubles_its_features_on_each_coarser_grid():
    operator = build("unet")
    assert [part[0].out_channels for part in operator.down] == [8, 16, 32]
    down = sum(27 * a * b + b + 2 * b + (9 - 27) * a * b for a, b in
               [(3, 8), (8, 8), (8, 16), (16, 16), (16, 32), (32, 32)])  # fmt: skip
    up = sum(9 * a * b + 3 * b for a, b in [(24, 8), (8, 8), (48, 16), (16, 16)])
    assert count_parameters(operator) == down + up + (8 + 1)
