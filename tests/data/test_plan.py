"""What determines a dataset, how its samples are split, and statistics that add."""

from __future__ import annotations

import copy
import math
from functools import reduce
from operator import add

import numpy as np
import pytest
from conftest import make_plan
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from mno.core.config import section
from mno.core.errors import InputError
from mno.data.config import SPLITS, ExecutionConfig, GenerateConfig, SplitConfig
from mno.data.imported import assign, joined
from mno.data.statistics import Margins, Moments
from mno.scenarios.imported import SplitRule

VALID = {
    "samples": 10,
    "resolution": 16,
    "shard_size": 4,
    "seed": 0,
    "split": {"train": 0.8, "validation": 0.1, "test": 0.1},
}


def refused(**changes) -> str:
    values = copy.deepcopy(VALID)
    for key, value in changes.items():
        target, name = (values, key) if key in values else (values["split"], key)
        target[name] = value
    with pytest.raises(InputError) as caught:
        section({"generate": values}, "generate", GenerateConfig)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_valid_parameters_are_read():
    config = section({"generate": VALID}, "generate", GenerateConfig)
    assert config.samples == 10
    assert config.split_counts == {"train": 8, "validation": 1, "test": 1}


def test_shares_that_do_not_sum_to_one_are_refused():
    assert (
        refused(train=0.9, validation=0.2)
        == "params.yaml: generate.split: sums to 1.2; train, validation and test must sum to 1"
    )


def test_a_split_without_samples_is_refused_with_a_number_that_works():
    message = refused(samples=3)
    assert message == (
        "params.yaml: generate: samples=3 leaves no sample for validation and test; "
        "10 samples give every split at least one"
    )
    assert section({"generate": VALID}, "generate", GenerateConfig).samples == 10


@pytest.mark.parametrize(
    "changes",
    [
        {"samples": 0}, {"samples": 10.5}, {"samples": True}, {"samples": "10"}, {"resolution": 0},
        {"shard_size": 0}, {"seed": -1}, {"test": 0.0}, {"train": float("nan")},
    ],
)  # fmt: skip
def test_a_value_out_of_range_is_named(changes):
    (key,) = changes
    assert f"{key}=" in refused(**changes)


def test_a_scheduler_must_be_an_address():
    with pytest.raises(InputError, match=r"execution\.scheduler: 'here' .* tcp://host:port"):
        section({"execution": {"scheduler": "here"}}, "execution", ExecutionConfig)


shares = st.tuples(*[st.floats(0.01, 1)] * 3)


@given(samples=st.integers(1, 400), weights=shares, seed=st.integers(0, 2**64))
def test_splits_are_a_partition_in_the_proportions_asked_for(samples, weights, seed):
    train, validation, test = (weight / sum(weights) for weight in weights)
    split = SplitConfig(train=train, validation=validation, test=test)
    try:
        config = GenerateConfig(samples=samples, resolution=4, shard_size=3, seed=seed, split=split)
    except ValidationError:
        assert samples * min(train, validation, test) < 1
        return
    counts = config.split_counts
    assert sum(counts.values()) == samples
    for name in SPLITS:
        assert counts[name] >= 1
        assert abs(counts[name] - samples * getattr(split, name)) < 1


@given(samples=st.integers(5, 200), shard_size=st.integers(1, 50), seed=st.integers(0, 1000))
def test_the_assignment_depends_on_seed_and_samples_alone(samples, shard_size, seed):
    plan = make_plan(samples=samples, shard_size=shard_size, seed=seed)
    assigned = plan.splits()
    names, counts = np.unique(assigned.astype(str), return_counts=True)
    assert dict(zip(names.tolist(), counts.tolist(), strict=True)) == plan.config.split_counts
    other = make_plan(samples=samples, shard_size=1, seed=seed, resolution=8)
    assert np.array_equal(assigned, other.splits())


def test_another_seed_assigns_otherwise():
    assert not np.array_equal(make_plan(50, seed=1).splits(), make_plan(50, seed=2).splits())


@given(samples=st.integers(5, 300), shard_size=st.integers(1, 400))
def test_shards_partition_the_samples(samples, shard_size):
    plan = make_plan(samples=samples, shard_size=shard_size)
    parts = [plan.samples_of(shard) for shard in range(plan.num_shards)]
    assert [sample for part in parts for sample in part] == list(range(samples))
    assert max(map(len, parts)) <= shard_size


def test_each_sample_has_a_stream_of_its_own():
    plan, other = make_plan(), make_plan(shard_size=1, samples=50)
    draws = [plan.rng(sample).random(4).tolist() for sample in range(10)]
    assert len({tuple(draw) for draw in draws}) == 10
    assert draws == [other.rng(sample).random(4).tolist() for sample in range(10)]


SHARES = SplitConfig(train=0.8, validation=0.1, test=0.1)


def config(seed: int = 0) -> GenerateConfig:
    return GenerateConfig(samples=100, resolution=8, shard_size=4, seed=seed, split=SHARES)


def split(rule: SplitRule, samples: int = 100, seed: int = 0, **known) -> np.ndarray:
    groups = known.pop("groups", np.arange(samples))
    return assign(rule, config(seed), groups, known.pop("starts", None), known)


def test_random_takes_the_shares_and_depends_on_the_seed() -> None:
    names = split(SplitRule())
    assert {n: int((names == n).sum()) for n in ("train", "validation", "test")} == {
        "train": 80, "validation": 10, "test": 10,
    }  # fmt: skip
    assert np.array_equal(names, split(SplitRule()))
    assert not np.array_equal(names, split(SplitRule(), seed=1))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 12), min_size=20, max_size=60), st.integers(0, 5))
def test_no_group_is_in_two_splits(groups: list[int], seed: int) -> None:
    keys = np.array([*groups, 20, 21, 22])
    names = split(SplitRule(), len(keys), seed, groups=keys)
    for key in set(keys.tolist()):
        assert len(set(names[keys == key])) == 1


def test_by_time_the_latest_are_tested_on() -> None:
    starts = np.random.default_rng(0).permutation(50).astype(float)
    names = split(SplitRule(by="time"), 50, starts=starts)
    order = names[np.argsort(starts)].tolist()
    assert order == ["train"] * 40 + ["validation"] * 5 + ["test"] * 5


def test_samples_that_begin_together_stay_together_in_time() -> None:
    names = split(SplitRule(by="time"), 40, starts=np.repeat(np.arange(10.0), 4))
    assert (names.reshape(10, 4) == names.reshape(10, 4)[:, :1]).all()


def test_by_parameter_ranges_decide_and_the_rest_is_trained_on() -> None:
    rule = SplitRule(by="parameter", field="viscosity", validation=(0.4, 0.5), test=(0.6, 0.9))
    values = np.linspace(0, 1, 11)
    names = split(rule, 11, viscosity=values)
    assert names.tolist() == ["train"] * 4 + ["validation"] * 2 + ["test"] * 4 + ["train"]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (SplitRule(by="time"), "need.* begin at known times"),
        (
            SplitRule(by="parameter", field="mu", validation=(0, 1), test=(1, 2)),
            "'mu' is no input with one number per sample; there are: viscosity",
        ),
        (
            SplitRule(by="parameter", field="viscosity", validation=(5, 6), test=(0, 1)),
            "leaves no sample for train and validation",
        ),
    ],
)
def test_a_rule_that_cannot_be_applied_is_one_line(rule: SplitRule, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        split(rule, 20, viscosity=np.linspace(0, 1, 20))
    assert "\n" not in str(caught.value)


def test_too_few_groups_for_three_splits_are_refused() -> None:
    with pytest.raises(InputError, match="leaves no sample for train"):
        split(SplitRule(), 10, groups=np.array([0] * 5 + [1] * 5))


def test_joining_follows_chains_over_all_keys() -> None:
    runs, inputs = np.array([0, 0, 1, 2, 3]), np.array([7, 8, 8, 9, 9])
    assert joined(runs, inputs).tolist() == [0, 0, 0, 1, 1]
    assert joined(np.array([5, 3, 5])).tolist() == [0, 1, 0]


def test_moments_count_what_is_not_finite_and_measure_the_rest():
    values = np.random.default_rng(0).normal(size=(4, 50)).astype(np.float32)
    values[1, 3], values[2, :] = np.inf, np.nan
    total = reduce(add, map(Moments.of, values))
    finite = values[np.isfinite(values)].astype(np.float64)
    assert (total.count, total.missing) == (149, 51)
    assert (total.min, total.max) == (finite.min(), finite.max())
    assert total.mean == pytest.approx(finite.mean(), rel=1e-13)
    assert total.std == pytest.approx(finite.std(), rel=1e-13)


def test_moments_of_nothing_finite_have_no_spread_and_change_no_sum():
    nothing, something = Moments.of(np.full(3, np.nan)), Moments.of(np.arange(4.0))
    assert math.isnan(nothing.std) and (nothing + nothing).missing == 6
    assert nothing + something == something + nothing
    assert (nothing + something).std == something.std


def test_margins_say_where_values_lie_below_their_limit():
    limit = 3e-5
    values = np.array([0.0, 1e-9, 1.0, 0.5, 0.011, 0.0099, 1.0001, math.nan]) * limit
    margins = Margins.of(values, limit)
    assert sum(margins.counts) == len(values)
    found = {place: count for place, count in enumerate(margins.counts) if count}
    # Steps of a quarter of a decade: the limit itself is in the 32nd, what exceeds it in the 33rd.
    assert found == {0: 2, 24: 1, 25: 1, 31: 1, 32: 1, 33: 2}


def test_margins_of_parts_add_to_those_of_the_whole():
    values = 10 ** np.random.default_rng(1).uniform(-12, 1, size=300)
    parts = [Margins.of(part, 1.0) for part in np.array_split(values, 7)]
    assert len(parts) > 1
    assert reduce(add, parts) == Margins.of(values, 1.0)


def test_a_limit_of_zero_that_is_kept_counts_as_far_below():
    margins = Margins.of(np.array([0.0, -1.0, 0.1]), 0.0)
    assert (margins.counts[0], margins.counts[-1], sum(margins.counts)) == (2, 1, 3)
