"""Operators: from batches to batches, gaps, walls, widths that match, and what does not fit."""

import math
import subprocess
import sys

import backbone_cases
import numpy as np
import pytest
import torch
from backbone_cases import learn, random, unit_grid
from pydantic import ValidationError

from mno.data import Batch
from mno.nn import Grid, ModelConfig, Points, build_mixer, build_operator
from mno.nn.backbones import BACKBONES
from mno.nn.build import match_parameters_to
from mno.nn.operator import count_parameters, wall_factor
from mno.nn.replace import replace_mixer

SMALL = ModelConfig(width=16, layers=2, d_state=2, expand=1)


def batch_of(grid, *names, size=3, seed=0):
    rng = np.random.default_rng(seed)
    fields = rng.standard_normal((len(names), size, *grid.shape)).astype(np.float32)
    return Batch(dict(zip(names, torch.from_numpy(fields), strict=True)), grid)


def test_a_name_that_is_not_a_mixer_is_refused_with_the_ones_there_are():
    said = "mixer='conv' is not known; choose one of mamba, ssd, softmax"
    with pytest.raises(ValueError, match=said):
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
        (("a", "b"), (4,), "has 1 axes, but this operator was built for 2"),
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


SHAPE = (6, 8)
GRID = unit_grid(*SHAPE)
each_on_grids = pytest.mark.parametrize("backbone", BACKBONES)


def build(backbone, inputs, **options):
    return backbone_cases.build(backbone, inputs=inputs, **{"layers": 1, "modes": 2, **options})


def with_holes(field, share=0.3, seed=2):
    holes = torch.rand(field.shape, generator=torch.Generator().manual_seed(seed)) < share
    return field.masked_fill(holes, math.nan)


@each_on_grids
def test_the_network_is_given_zero_and_a_mark_for_what_is_missing(backbone):
    field = with_holes(random(3, *SHAPE))
    present = (~field.isnan()).float()
    told = build(backbone, ("a",), gaps=("a",))
    explicit = build(backbone, {"a": 2})  # the same network, shown both as frames
    explicit.load_state_dict(told.state_dict())
    shown = torch.stack([field.nan_to_num(0.0), present], dim=1)
    expected = explicit(Batch({"a": shown}, GRID)).fields["p"]
    found = told(Batch({"a": field}, GRID)).fields["p"]
    assert torch.equal(found, expected) and found.isfinite().all()


@each_on_grids
def test_gradients_are_finite_and_reach_every_weight_and_a_missing_value_is_no_mean(backbone):
    operator = build(backbone, ("a", "b"), outputs=("p", "q"), gaps=("b",))
    fields = {"a": random(3, *SHAPE).requires_grad_(), "b": with_holes(random(3, *SHAPE, seed=5))}
    fields["b"].requires_grad_()
    out = operator(Batch(fields, GRID))
    sum(field.square().sum() for field in out.fields.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in operator.parameters())
    assert (fields["b"].grad[fields["b"].isnan()] == 0).all()
    assert fields["a"].grad.isfinite().all() and fields["b"].grad.isfinite().all()
    means = operator(Batch({**fields, "b": fields["b"].nan_to_num(0.0)}, GRID))
    assert not torch.equal(means.fields["p"], out.fields["p"])


def test_frames_are_marked_one_by_one():
    operator = build("plain", {"a": 3, "b": None}, gaps=("a",))
    field = with_holes(random(2, 3, *SHAPE))
    seen = operator._features(Batch({"a": field, "b": random(2, *SHAPE)}, GRID))
    assert operator.input_sizes == [6, 1] and seen.shape == (2, 48, 7)
    flat = field.flatten(2).transpose(1, 2)
    torch.testing.assert_close(seen[..., :3], flat.nan_to_num(0.0))
    assert torch.equal(seen[..., 3:6], (~flat.isnan()).float())


@pytest.mark.parametrize("backbone", ["plain", "gnot", "oformer"])
def test_one_batch_of_points_with_a_third_missing_is_learned(backbone):
    operator = build(
        backbone, ("a",), gaps=("a",), width=16, path=["bidirectional"], discretization="simplified"
    )
    places = torch.rand(2, 20, 2, generator=torch.Generator().manual_seed(0))
    field = torch.sin(3 * places[..., 0]) + random(2, 1)
    losses = learn(operator, Batch({"a": with_holes(field)}, Points(places)), field, 1e-2, 200)
    assert losses[0] > 0.3 and min(losses) < 0.02 * losses[0]


def test_other_mixers_and_widths_keep_what_the_inputs_are():
    assert replace_mixer(build("plain", ("a", "b"), gaps=("b",)), [0], "softmax").gaps == {"b"}
    wide = build("plain", ("a", "b"), gaps=("a", "b"), width=12)
    given = {"inputs": ("a", "b"), "outputs": ("p",), "gaps": ("a", "b")}
    narrow = wide.config.model_copy(update={"width": 8})
    assert match_parameters_to(narrow, count_parameters(wide), **given).width == 12


def test_gaps_of_what_is_no_input_are_refused():
    with pytest.raises(ValueError, match=r"gaps=\['p'\].*\('a',\) only"):
        build("plain", ("a",), gaps=("a", "p"))


CELLS = 9  # along an axis, in training
LIKE = torch.zeros((), dtype=torch.float64)
SMALL_walls = {"width": 16, "layers": 1, "d_state": 2, "modes": 2, "levels": 2, "slices": 4}


def uniform(n, dims=2):
    return Grid((n,) * dims, (2 / n,) * dims, (2 / CELLS,) * dims)


def factor_on(grid):
    return wall_factor(grid, LIKE).reshape(grid.shape)


def test_the_factor_is_linear_at_a_wall():
    near = [factor_on(uniform(n, dims=1))[0].item() for n in (900, 9_000, 90_000)]
    assert near[0] / near[1] == pytest.approx(10, rel=0.02)
    assert near[1] / near[2] == pytest.approx(10, rel=0.002)


def test_the_factor_of_several_axes_is_the_product_of_theirs_and_treats_all_walls_alike():
    line, square, cube = (factor_on(uniform(CELLS, dims)) for dims in (1, 2, 3))
    torch.testing.assert_close(square, line[:, None] * line)
    torch.testing.assert_close(cube, square[:, :, None] * line)
    torch.testing.assert_close(line, line.flip(0))


def test_the_factor_is_one_function_whatever_grid_it_is_seen_on():
    coarse, fine = factor_on(uniform(CELLS)), factor_on(uniform(9 * CELLS))
    torch.testing.assert_close(fine[4::9, 4::9], coarse)  # those are the same places
    line = factor_on(uniform(9 * CELLS, dims=1))
    widths = (2 / (9 * CELLS) * 3,) * 9 + (2 / (9 * CELLS),) * 54
    uneven = Grid((len(widths),), (widths,), (2 / CELLS,))
    torch.testing.assert_close(factor_on(uneven), torch.cat([line[1:27:3], line[27:]]))


@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_output_of_every_backbone_is_multiplied_by_it_and_nothing_else_changes(backbone):
    torch.manual_seed(0)
    free, zero = (
        build_operator(
            ModelConfig(backbone=backbone, walls=walls, **SMALL_walls),
            inputs=("a",),
            outputs={"p": 2, "q": 2},
        ).eval()
        for walls in ("free", "zero")
    )
    zero.load_state_dict(free.state_dict())
    grid = uniform(8)
    batch = Batch({"a": torch.randn(3, 8, 8)}, grid)
    with torch.no_grad():
        expected, given = free(batch).fields, zero(batch).fields
    factor = wall_factor(grid, torch.zeros(())).reshape(grid.shape)
    torch.testing.assert_close(given["p"], expected["p"] * factor)
    torch.testing.assert_close(given["q"], expected["q"] * factor)
    assert not torch.allclose(given["p"], expected["p"])


def test_points_which_have_no_walls_are_refused():
    config = ModelConfig(walls="zero", mixer="softmax", **SMALL_walls)
    operator = build_operator(config, inputs=("a",), outputs=("p",))
    points = Points(torch.rand(10, 2))
    with pytest.raises(ValueError, match=r"walls='zero' needs a grid.*walls='free'"):
        operator(Batch({"a": torch.randn(2, 10)}, points))


FIELDS = {"inputs": ("a", "b"), "outputs": {"p": 3}, "scalars": ("s",), "dims": 2}
KINDS = {
    "plain": ModelConfig(d_state=4, layers=2),
    "softmax": ModelConfig(mixer="softmax", heads=4, width=8, layers=2),
    "hybrid": ModelConfig(mixer=["mamba", "linear"], layers=2, heads=3, width=9),
    "transolver": ModelConfig(backbone="transolver", mixer="own", heads=4, width=8, layers=2),
    "fno": ModelConfig(backbone="fno", width=16, modes=4, layers=2),
    "unet": ModelConfig(backbone="unet", levels=2),
}


def size(config):
    return count_parameters(build_operator(config, **FIELDS))


@pytest.mark.parametrize("config", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("target", [40_000, 150_000])
def test_no_other_width_is_closer_to_the_target(config, target):
    matched = match_parameters_to(config, target, **FIELDS)
    assert matched.model_copy(update={"width": config.width}) == config
    step = config.heads if {"softmax", "linear", "own"} & set(config.mixer) else 1
    assert matched.width % step == 0
    off = abs(size(matched) - target)
    assert off <= 0.1 * target
    for width in (matched.width - step, matched.width + step):
        assert abs(size(matched.model_copy(update={"width": width})) - target) >= off


def test_its_own_size_is_matched_by_its_own_width():
    config = ModelConfig(width=37, layers=2)
    assert match_parameters_to(config, size(config), **FIELDS) == config


def test_a_complex_weight_counts_as_two():
    assert count_parameters(torch.nn.Linear(3, 4, dtype=torch.complex64)) == 2 * (3 * 4 + 4)
    assert count_parameters(torch.nn.Linear(3, 4)) == 3 * 4 + 4


def test_matching_draws_no_random_number():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    match_parameters_to(KINDS["transolver"], 40_000, **FIELDS)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("config", "target", "message"),
    [
        (KINDS["softmax"], 900, r"no width that is a multiple of heads=4 .* closest is width=4 wi"),
        (KINDS["plain"], 20, r"target=20 parameters: no width comes within 10% .* width=1 with"),
        (KINDS["plain"], 10**12, r"the closest is width=4096 with \d+"),
    ],
)
def test_a_target_out_of_reach_is_refused_with_the_closest(config, target, message):
    with pytest.raises(ValueError, match=message):
        match_parameters_to(config, target, **FIELDS)
