"""Widths that match a number of parameters."""

from __future__ import annotations

import pytest
import torch

from mno.nn import ModelConfig, build_operator
from mno.nn.build import count_parameters, match_parameters_to

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
    module = torch.nn.Linear(3, 4, dtype=torch.complex64)
    assert count_parameters(module) == 2 * (3 * 4 + 4)
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
