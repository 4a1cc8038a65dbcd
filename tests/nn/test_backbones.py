"""Single backbones are what they say: by the papers' formulas, their public code and packages."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from backbone_cases import build, config, points, random, unit_grid
from ruamel.yaml import YAML
from torch.nn import functional as F

from mno.data import Batch
from mno.nn import Grid, ModelConfig, build_operator
from mno.nn.backbones.galerkin import EncoderLayer, FourierLayer
from mno.nn.backbones.gnot import GNOTBlock
from mno.nn.backbones.oformer import EncoderLayer as OFormerLayer
from mno.nn.mixers import MIXERS
from mno.nn.operator import Mixers, count_parameters

PRESETS = Path(__file__).parents[2] / "presets"


def ask(operator, domain, seed=1):
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


@pytest.mark.parametrize("shape", [(3, 2), (1, 1), (2, 9)])
def test_a_grid_too_coarse_for_the_modes_is_taken(shape):
    out = ask(build("galerkin", modes=5), unit_grid(*shape))
    assert out.shape == (2, *shape) and out.isfinite().all()


@pytest.mark.parametrize("domain", [points(16), Grid((4, 4), ((0.1, 0.2, 0.3, 0.4), 0.25))])
def test_galerkin_refuses_what_cannot_be_fourier_transformed(domain):
    with pytest.raises(ValueError, match="a grid with equal cells .* or use plain, gnot"):
        ask(build("galerkin"), domain)


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
    with pytest.raises(ValueError, match=r"pip install 'mno\[fno\]'"):
        build("fno")


def test_the_package_is_imported_by_nothing_but_the_fno():
    code = "import sys, mno.nn.kernel_view, mno.nn.replace; "
    code += "from mno.nn import ModelConfig, build_operator; "
    code += "build_operator(ModelConfig(backbone='unet'), inputs=('a',), outputs=('p',)); "
    code += "sys.exit('neuralop' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


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


def numpy_of(module):
    return {name: p.detach().numpy() for name, p in module.named_parameters()}


def linear(p, name, x):
    return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]


def layer_norm(p, name, x):
    x = x - x.mean(-1, keepdims=True)
    return (
        x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * p[f"{name}.weight"] + p[f"{name}.bias"]
    )


def gelu(x):
    return F.gelu(torch.from_numpy(x)).numpy()


def softmax(x):
    return np.exp(x) / np.exp(x).sum(-1, keepdims=True)


def shaken(module):
    """The module in float64 with all weights of order one, norms and offsets included."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.double().parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return module


def test_a_gnot_block_is_the_papers_heterogeneous_attention_and_geometric_gating():
    """One query and one output projection for all input functions, as in the paper."""
    small = config("gnot", width=6, heads=2, experts=3)
    block = shaken(GNOTBlock(small, Mixers(small, 2), 0, branches=2, dims=2))
    first, second = block.cross_mixers
    second.q_proj, second.out_proj = first.q_proj, first.out_proj
    p = dict(numpy_of(block))
    x, y, z, places = (
        random(1, n, d, seed=n).double() for n, d in ((5, 6), (4, 6), (7, 6), (5, 2))
    )
    found = block(x, [y, z], places, None)[0].detach().numpy()

    def attention(query, sources, mixers):
        out = np.empty_like(query)
        for t, q in enumerate(linear(p, f"{mixers[0]}.q_proj", query)):
            for head in (slice(0, 3), slice(3, 6)):
                q_tilde, z_t = softmax(q[head]), softmax(q[head]).copy()
                for source, mixer in zip(sources, mixers, strict=True):
                    k = softmax(linear(p, f"{mixer}.k_proj", source)[:, head])
                    v = linear(p, f"{mixer}.v_proj", source)[:, head]
                    alpha = 1 / sum(q_tilde @ k_j for k_j in k)
                    terms = [alpha * (q_tilde @ k_i) * v_i for k_i, v_i in zip(k, v, strict=True)]
                    z_t += sum(terms) / len(sources)
                out[t, head] = z_t
        return linear(p, f"{mixers[0]}.out_proj", out)

    def experts(name, x):
        hidden = gelu(linear(p, "gate.network.0", places[0].numpy()))
        gate = softmax(linear(p, "gate.network.4", gelu(linear(p, "gate.network.2", hidden))))
        network = f"{name}.networks"
        return sum(
            gate[:, e : e + 1]
            * linear(p, f"{network}.{e}.2", gelu(linear(p, f"{network}.{e}.0", x)))
            for e in range(3)
        )

    x, y, z = (tensor[0].numpy() for tensor in (x, y, z))
    sources = [layer_norm(p, f"branch_norms.{b}", f) for b, f in enumerate((y, z))]
    names = ["cross_mixers.0", "cross_mixers.1"]
    x = x + attention(layer_norm(p, "cross_norm", x), sources, names)
    x = x + layer_norm(p, "cross_experts_norm", experts("cross_experts", x))
    normed = layer_norm(p, "mixer_norm", x)
    x = x + attention(normed, [normed], ["mixer"])
    x = x + layer_norm(p, "experts_norm", experts("experts", x))
    np.testing.assert_allclose(found, x, rtol=1e-10)


class Double(torch.nn.Module):
    """A mixer that tells nothing but that it was asked."""

    def forward(self, x, domain):
        return 2 * x


def test_a_galerkin_layer_adds_its_mixer_and_its_feed_forward_network_and_normalises_nothing():
    layer = shaken(EncoderLayer(6, 12, Double(), 0.0))
    p, x = numpy_of(layer), random(1, 5, 6).double()
    found = layer(x, None)[0].detach().numpy()
    x = 3 * x[0].numpy()
    hidden = np.maximum(linear(p, "feed_forward.0", x), 0)
    np.testing.assert_allclose(found, x + linear(p, "feed_forward.3", hidden), rtol=1e-10)


def test_an_oformer_layer_adds_to_what_it_has_normalised_and_gates_its_feed_forward_network():
    layer = shaken(OFormerLayer(config("oformer", width=6, feed_forward=2), Double()))
    p, x = numpy_of(layer), random(1, 5, 6).double()
    found = layer(x, None)[0].detach().numpy()
    x = 3 * layer_norm(p, "mixer_norm", x[0].numpy())
    x = layer_norm(p, "feed_forward_norm", x)
    hidden = linear(p, "feed_forward.first", x)
    gated = gelu(np.ascontiguousarray(hidden[:, :12])) * hidden[:, 12:]
    np.testing.assert_allclose(found, x + linear(p, "feed_forward.out", gated), rtol=1e-10)


@pytest.mark.parametrize(
    ("shape", "wave"),
    [((8,), (2,)), ((9,), (3,)), ((8, 9), (2, 1)), ((8, 9), (-3, 2)), ((8, 6, 7), (1, -2, 2)),
     ((4, 8), (-1, 1)), ((8, 9), (-4, 1)), ((8, 9), (3, 1))],
)  # fmt: skip
def test_a_fourier_layer_multiplies_each_kept_wave_by_its_weight_on_any_grid(shape, wave):
    """cos(2 pi k.x) becomes Re(W_k exp(2 pi i k.x)); waves that are not kept vanish."""
    dims, modes = len(shape), 4 if len(shape) == 1 else 3
    torch.manual_seed(0)
    layer = FourierLayer(1, 1, modes, dims, 0.0).double()
    torch.nn.init.normal_(layer.weight)
    for parameter in layer.linear.parameters():
        torch.nn.init.zeros_(parameter)
    axes = [torch.arange(n, dtype=torch.float64) / n for n in shape]
    domain = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
    phase = 2 * torch.pi * (domain * torch.tensor(wave)).sum(-1)
    found = layer(phase.cos()[None, ..., None])[0, ..., 0]
    kept = all(-modes <= k < modes for k in wave)
    corner = sum((k < 0) << (dims - 2 - axis) for axis, k in enumerate(wave[:-1]))
    weight = torch.view_as_complex(layer.weight.detach())[corner, 0, 0]
    expected = (weight[wave] * torch.exp(1j * phase)).real if kept else torch.zeros_like(phase)
    torch.testing.assert_close(found, F.silu(expected))


def paper(backbone, **options):
    path = Path(__file__).parents[2] / "presets" / f"{backbone}-paper.yaml"
    values = YAML(typ="safe").load(path.read_text(encoding="utf-8"))["model"]
    return ModelConfig(**{**values, **options})


def count(config):
    return count_parameters(build_operator(config, inputs=("a",), outputs=("p",)))


def test_gnot_has_the_parameters_of_the_public_code():
    """Counted over the layers of models/mmgpt.py and models/mlp.py in HaoZhongkai/GNOT."""
    d, inner, mlp_layers, n_layers = 96, 192, 4, 4

    def mlp(n_in, n_out):
        return (n_in + 1) * d + mlp_layers * (d + 1) * d + (d + 1) * n_out

    attention, expert = 4 * (d + 1) * d, (d + 1) * inner + (inner + 1) * d
    for experts in (1, 2):
        gate = 3 * inner + (inner + 1) * inner + (inner + 1) * experts
        block = 2 * attention + 5 * 2 * d + 2 * experts * expert + gate * (experts > 1)
        published = mlp(2, d) + mlp(3, d) + n_layers * block + mlp(d, 1)
        assert count(paper("gnot", experts=experts)) == published
    assert count(paper("gnot")) == 739_489


def test_galerkin_has_the_parameters_of_the_public_code_but_its_heads_coordinates():
    """Counted over the layers of libs/model.py and libs/layers.py in scaomath/galerkin-transformer,
    with the settings of Cheng et al.: downscaler and upscaler are the identity."""
    d, heads, freq, modes, n_layers, pos = 256, 4, 32, 12, 6, 2
    norms = 2 * heads * 2 * (d // heads)
    attention = 3 * (d + 1) * d + norms + (d + heads * pos + 1) * d
    layer = attention + 2 * (d + 1) * d
    spectral = (freq + 1) * freq + 2 * freq * freq * modes**2 * 2
    hidden = 2 * pos * freq
    regressor = (d + pos + 1) * freq + 2 * spectral + (freq + 1) * hidden + hidden + 1
    published = (1 + pos + 1) * d + n_layers * layer + regressor
    assert count(paper("galerkin")) == published - n_layers * heads * pos * d == 3_570_081


def test_oformer_has_the_parameters_of_the_public_code_at_one_width():
    """Counted over SpatialEncoder2D, CrossFormer and PointWiseDecoder2D in BaratiLab/OFormer, with
    heads that divide the width, norms with weights, and offsets of queries, keys and values."""
    d, n_layers, dims = 96, 6, 2
    attention, norms = 4 * (d + 1) * d, 2 * 2 * d
    geglu = (d + 1) * 2 * d + (d + 1) * d
    encoder = (1 + dims) * d + n_layers * (attention + norms + 2 * 2 * d + geglu) + d * d
    decoder = 2 * d * d + attention + norms + geglu + (d + 1) * 2 * d
    propagator = 2 * 2 * d + (2 * d + dims) * 2 * d + 2 * (2 * d) ** 2
    out = 2 * 2 * d + 2 * d * d + d * d + d + 1
    assert count(paper("oformer")) == encoder + decoder + propagator + out == 647_329
