from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mno.core.errors import InputError
from mno.data.config import GenerateConfig, SplitConfig
from mno.data.imported import assign, joined
from mno.scenarios.imported import SplitRule

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
