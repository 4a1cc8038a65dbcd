from __future__ import annotations

import copy

import numpy as np
import pytest
from conftest import make_plan
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mno.core.config import section
from mno.core.errors import InputError
from mno.data.config import SPLITS, ExecutionConfig, GenerateConfig, SplitConfig

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
        {"samples": 0},
        {"samples": 10.5},
        {"resolution": 0},
        {"shard_size": 0},
        {"seed": -1},
        {"test": 0.0},
        {"train": float("nan")},
        {"samples": True},
        {"samples": "10"},
    ],
)
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
