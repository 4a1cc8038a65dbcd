"""GNOT, the Galerkin Transformer and OFormer: against the papers' formulas and public code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from backbone_cases import config, random
from ruamel.yaml import YAML
from torch.nn import functional as F

from mno.nn import ModelConfig, build_operator
from mno.nn.backbones.galerkin import EncoderLayer, FourierLayer
from mno.nn.backbones.gnot import GNOTBlock
from mno.nn.backbones.oformer import EncoderLayer as OFormerLayer
from mno.nn.mixers.attention import GalerkinMixer
from mno.nn.operator import Mixers, count_parameters


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
    found = block(x, [y, z], places, None, None)[0].detach().numpy()

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


def test_a_galerkin_layer_is_the_papers_attention_and_feed_forward_network():
    """Equation: z = Q (norm(K)^T norm(V)) / n in each head, and no norm between the layers."""
    layer = shaken(EncoderLayer(6, 12, GalerkinMixer(6, heads=2), 0.0))
    p, x = numpy_of(layer), random(1, 5, 6).double()
    found = layer(x, (5,))[0].detach().numpy()

    def normed(name, x, head):
        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5)
        return x * p[f"mixer.{name}.weight"][head, 0] + p[f"mixer.{name}.bias"][head, 0]

    x = x[0].numpy()
    q, k, v = (linear(p, f"mixer.{name}_proj", x) for name in "qkv")
    heads = []
    for head in range(2):
        part = slice(3 * head, 3 * head + 3)
        k_h, v_h = normed("k_norm", k[:, part], head), normed("v_norm", v[:, part], head)
        coefficients = np.array([[k_h[:, i] @ v_h[:, j] / 5 for j in range(3)] for i in range(3)])
        heads.append(q[:, part] @ coefficients)
    x = x + linear(p, "mixer.out_proj", np.concatenate(heads, axis=-1))
    hidden = np.maximum(linear(p, "feed_forward.0", x), 0)
    np.testing.assert_allclose(found, x + linear(p, "feed_forward.3", hidden), rtol=1e-10)


class Double(torch.nn.Module):
    """A mixer that tells nothing but that it was asked."""

    def forward(self, x, domain):
        return 2 * x


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
