from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from mno.data import Batch
from mno.nn import Grid, ModelConfig, build_mixer, build_operator

SMALL = ModelConfig(width=16, layers=2, d_state=2, expand=1)


def unit_grid(*shape):
    spacing = tuple(1 / n for n in shape)
    return Grid(shape, spacing, (1 / 8,) * len(shape))


def batch_of(grid, *names, size=3, seed=0):
    rng = np.random.default_rng(seed)
    fields = rng.standard_normal((len(names), size, *grid.shape)).astype(np.float32)
    return Batch(dict(zip(names, torch.from_numpy(fields), strict=True)), grid)


def test_a_name_that_is_not_a_mixer_is_refused_with_the_ones_there_are():
    with pytest.raises(ValueError, match="mixer='conv' is not known; choose one of mamba, softmax"):
        build_mixer("conv", 8)


def test_without_scaling_the_spacing_of_a_grid_is_ignored():
    torch.manual_seed(0)
    unscaled = build_operator(
        SMALL.model_copy(update={"scale_delta": False}), inputs=("a",), outputs=("p",)
    )
    scaled = build_operator(SMALL, inputs=("a",), outputs=("p",))
    scaled.load_state_dict(unscaled.state_dict())
    batch = batch_of(unit_grid(8, 8), "a")
    finer = Batch(batch.fields, Grid((8, 8), (0.05, 0.05), (0.1, 0.1)))
    assert torch.equal(unscaled(batch).fields["p"], unscaled(finer).fields["p"])
    assert not torch.allclose(scaled(batch).fields["p"], scaled(finer).fields["p"])


def test_inputs_are_told_apart_by_name_not_by_order():
    operator = build_operator(SMALL, inputs=("a", "b"), outputs=("p",))
    batch = batch_of(unit_grid(4, 4), "a", "b")
    turned = Batch(dict(reversed(batch.fields.items())), batch.place)
    assert torch.equal(operator(batch).fields["p"], operator(turned).fields["p"])


@pytest.mark.parametrize(
    ("names", "shape", "message"),
    [
        (("a",), (4, 4), r"holds \['a'\]; this operator also needs \['b'\]"),
        (("a", "b"), (4,), r"shape \(4,\) has 1 axes, but this operator was built for 2"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused_with_the_remedy(names, shape, message):
    operator = build_operator(SMALL, inputs=("a", "b"), outputs=("p",))
    with pytest.raises(ValueError, match=message):
        operator(batch_of(unit_grid(*shape), *names))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inputs": (), "outputs": ("p",)}, "name at least one field of each"),
        ({"inputs": ("a",), "outputs": ()}, "name at least one field of each"),
        ({"inputs": ("a",), "outputs": ("p",), "dims": 4}, "dims=4; expected 1, 2 or 3"),
    ],
)
def test_an_operator_that_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        build_operator(SMALL, **options)


@pytest.mark.parametrize(
    "values",
    [{"width": 0}, {"layers": 0}, {"d_state": 0}, {"path": "spiral"}, {"head": 4},
     {"width": "64"}, {"scale_delta": 1}, {"mixer": "conv"}, {"mixer": ["mamba", "softmax"]},
     {"path": ["axial"] * 3}, {"mixer": "softmax", "width": 50}],
)  # fmt: skip
def test_a_configuration_out_of_bounds_is_refused(values):
    with pytest.raises(ValidationError):
        ModelConfig(**values)


def test_every_parameter_of_the_configuration_is_described():
    assert all(field.description for field in ModelConfig.model_fields.values())


@pytest.mark.parametrize(
    ("imports", "unloaded"),
    [  # reading a configuration is quick, and the library needs no production line
        ("import mno.scan; from mno.nn import ModelConfig, Grid; ModelConfig()", {"torch"}),
        ("from mno.nn import build_operator; import mno.scan.interface",
         {"prefect", "dvc", "mlflow", "zarr", "torch._dynamo"}),
    ],
)  # fmt: skip
def test_what_is_not_needed_is_not_loaded(imports, unloaded):
    code = f"{imports}; import sys; sys.exit(bool({unloaded} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_parameters_are_those_of_the_formula():
    config = ModelConfig(width=32, layers=3, d_state=4, expand=2, feed_forward=2)
    operator = build_operator(config, inputs=("a",), outputs=("p",))
    w, inner, k, rank, state = 32, 64, 4, 2, 4
    mixer = 3 * w * inner + k * inner * (2 * rank + 2 * state + 1 + state + 1) + 2 * inner
    block = mixer + 4 * w + (2 * w * w + 2 * w) + (2 * w * w + w)
    ends = (3 * 2 * w + 2 * w) + (2 * w * w + w) + 2 * w + (2 * w * w + 2 * w) + (2 * w + 1)
    assert sum(p.numel() for p in operator.parameters()) == 3 * block + ends
