"""What determines a dataset, how its samples are split, and statistics that add."""

import copy
import json
import math
import subprocess
import sys
from dataclasses import asdict
from functools import reduce
from operator import add

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from mno.core.config import section
from mno.core.errors import InputError, MnoError
from mno.data.config import SPLITS, ExecutionConfig, GenerateConfig, SplitConfig
from mno.data.generate.run import Faults, generate
from mno.data.imported import assign, joined
from mno.data.statistics import Margins, Moments, count_duplicates
from mno.scenarios.imported import SplitRule
from tests.data.conftest import ALONE, HERE, ROOT, make, make_plan

VALID = {
    "samples": 10,
    "resolution": 16,
    "shard_size": 4,
    "seed": 0,
    "split": {"train": 0.8, "validation": 0.1, "test": 0.1},
}


def refused(**changes):
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


def test_shares_that_leave_a_split_empty_or_do_not_sum_to_one_are_refused():
    assert (
        refused(train=0.9, validation=0.2)
        == "params.yaml: generate.split: sums to 1.2; train, validation and test must sum to 1"
    )
    assert refused(samples=3) == (
        "params.yaml: generate: samples=3 leaves no sample for validation and test; "
        "10 samples give every split at least one"
    )


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
    with pytest.raises(InputError, match=r"execution\.scheduler='here'.*tcp"):
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
    assigned = plan.splits
    names, counts = np.unique(assigned.astype(str), return_counts=True)
    assert dict(zip(names.tolist(), counts.tolist(), strict=True)) == plan.config.split_counts
    other = make_plan(samples=samples, shard_size=1, seed=seed, resolution=8)
    assert np.array_equal(assigned, other.splits)
    seeds = (make_plan(50, seed=given).splits for given in (seed, seed + 1))
    assert not np.array_equal(*seeds)


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


def config(seed=0):
    return GenerateConfig(samples=100, resolution=8, shard_size=4, seed=seed, split=SHARES)


def split(rule, samples=100, seed=0, **known):
    groups = known.pop("groups", np.arange(samples))
    return assign(rule, config(seed), groups, known.pop("starts", None), known)


def test_random_takes_the_shares_and_depends_on_the_seed():
    names = split(SplitRule())
    assert {n: int((names == n).sum()) for n in ("train", "validation", "test")} == {
        "train": 80, "validation": 10, "test": 10,
    }  # fmt: skip
    assert np.array_equal(names, split(SplitRule()))
    assert not np.array_equal(names, split(SplitRule(), seed=1))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 12), min_size=20, max_size=60), st.integers(0, 5))
def test_no_group_is_in_two_splits(groups, seed):
    keys = np.array([*groups, 20, 21, 22])
    names = split(SplitRule(), len(keys), seed, groups=keys)
    for key in set(keys.tolist()):
        assert len(set(names[keys == key])) == 1


def test_by_time_the_latest_are_tested_on():
    starts = np.random.default_rng(0).permutation(50).astype(float)
    order = split(SplitRule(by="time"), 50, starts=starts)[np.argsort(starts)].tolist()
    assert order == ["train"] * 40 + ["validation"] * 5 + ["test"] * 5
    together = split(SplitRule(by="time"), 40, starts=np.repeat(np.arange(10.0), 4)).reshape(10, 4)
    assert (together == together[:, :1]).all()


def test_by_parameter_ranges_decide_and_the_rest_is_trained_on():
    rule = SplitRule(by="parameter", field="viscosity", validation=(0.4, 0.5), test=(0.6, 0.9))
    names = split(rule, 11, viscosity=np.linspace(0, 1, 11))
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
def test_a_rule_that_cannot_be_applied_is_one_line(rule, message):
    with pytest.raises(InputError, match=message) as caught:
        split(rule, 20, viscosity=np.linspace(0, 1, 20))
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="leaves no sample for train"):
        split(SplitRule(), 10, groups=np.array([0] * 5 + [1] * 5))


def test_joining_follows_chains_over_all_keys():
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


def fails(folder, match, **plan):
    with pytest.raises(MnoError, match=match) as caught:
        make(folder, make_plan(**plan))
    assert "\n" not in str(caught.value)
    assert [path.name for path in folder.iterdir()] == ["work"], "nothing is released"


def test_statistics_are_those_of_the_whole_arrays(made):
    assert made.report.shards == 3
    group = zarr.open_group(made.store, mode="r")
    for name, field in made.report.fields.items():
        values = group[name][:].astype(np.float64)
        assert field.min == values.min()
        assert field.max == values.max()
        assert field.mean == pytest.approx(values.mean(), rel=1e-13)
        assert field.std == pytest.approx(values.std(), rel=1e-11)
        assert field.shape == values.shape[1:]


def test_checks_are_those_of_the_samples(made):
    group, scenario = zarr.open_group(made.store, mode="r"), made.plan.build()
    fields = {name: group[name][:] for name in ("initial", "temperature")}
    measured = [
        scenario.check({"initial": fields["initial"][i]}, {"temperature": fields["temperature"][i]})
        for i in range(10)
    ]
    for check in scenario.checks:
        values = [m[check.name] for m in measured]
        report = made.report.checks[check.name]
        assert report.max == max(values)
        assert report.mean == pytest.approx(np.mean(values), rel=1e-12)
        assert report.tolerance == check.tolerance >= report.max
        assert report.margins == Margins.of(np.array(values), check.tolerance)
        assert sum(report.margins.counts) == 10 and report.margins.counts[-1] == 0


def test_the_report_is_plain_json_without_times_or_workers(made):
    text = json.dumps(asdict(made.report))
    assert json.loads(text)["splits"] == {"train": 6, "validation": 2, "test": 2}
    assert set(asdict(made.report)) == {
        *("scenario", "samples", "shards", "splits", "fields", "checks", "faults")
    }


def test_the_report_counts_what_would_have_been_refused(made):
    assert made.report.faults == Faults(0, 0, 0)
    splits = ["train", "train", "test", "test", "validation"]
    assert count_duplicates("abcde", splits) == (0, 0)
    assert count_duplicates("aabac", splits) == (2, 1)
    assert count_duplicates("aabbc", splits) == (2, 0)


def test_moments_keep_their_digits_where_the_mean_is_large():
    parts = [1e6 + np.random.default_rng(k).normal(size=100 + k) for k in range(5)]
    total = Moments.of(parts[0])
    for part in parts[1:]:
        total = total + Moments.of(part)
    assert total.count == 510
    assert total.std == pytest.approx(np.concatenate(parts).std(), rel=1e-9)


def test_progress_is_told_after_every_shard(tmp_path):
    told = []
    generate(make_plan(), tmp_path / "work", tmp_path / "data", ALONE, told.append)
    assert [(p.shards_done, p.samples_done) for p in told] == [(0, 0), (1, 4), (2, 8), (3, 10)]


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize(
    ("plan", "match"),
    [
        (
            {"tolerated_imbalance": -1.0},
            r"sample 0 of heat: heat_balance \(change of the mean temperature\) is .*; "
            r"tolerance -1; nothing is released",
        ),
        ({"tolerated_imbalance": math.nan}, "heat_balance .* tolerance nan"),
        ({"diffusivity": math.inf}, "sample 0 of heat: temperature has values that are not finite"),
        # Without waves every rod is the same; the samples named lie in one shard or in two.
        ({"modes": 0}, "samples 0 and 1 of heat have the same inputs"),
        ({"modes": 0, "shard_size": 1}, "samples 0 and 1 of heat have the same inputs"),
        (
            {"samples": 10**12, "shard_size": 10**9},
            r"GB free; 1000000000000 samples may need .* GB; free some space",
        ),
    ],
)
def test_what_is_wrong_is_one_line_and_releases_nothing(tmp_path, plan, match):
    fails(tmp_path, match, **plan)


def test_shards_before_a_failure_are_kept(tmp_path):
    # Choose a tolerance that the first shard meets and a later one does not.
    plan = make_plan()
    scenario = plan.build()
    losses = []
    for sample in range(10):
        inputs = scenario.sample(plan.rng(sample))
        losses.append(scenario.check(inputs, scenario.solve(inputs))["heat_balance"])
    limit, later = max(losses[:4]), max(losses[4:])
    assert later > limit
    fails(tmp_path, "heat_balance", tolerated_imbalance=limit)
    assert (tmp_path / "work/done/0.json").exists()


def in_a_process(folder, code):
    """Run code that may make datasets in a folder, by a process of its own."""
    script = (
        "import pathlib, resource, signal, sys; sys.path[:0] = sys.argv[1:3]\n"
        f"from conftest import make, make_plan; folder = pathlib.Path(sys.argv[3])\n{code}"
    )
    command = [sys.executable, "-c", script, str(ROOT), str(HERE), str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_failed_write_names_the_folder_and_keeps_finished_shards(tmp_path, made):
    # The limit lets metadata and small shards through and stops the first large file, as a full
    # disk would; a process of its own, since limits cannot be raised again.
    done = in_a_process(
        tmp_path,
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); sys.dont_write_bytecode = True\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))\n"
        "try: make(folder, make_plan(samples=40, shard_size=20, resolution=64))\n"
        "except Exception as error: sys.exit(f'{type(error).__name__}: {error}')",
    )
    assert done.returncode == 1
    assert done.stderr.strip() == (
        f"MnoError: cannot write to {tmp_path / 'work'}: File too large; put that right and run "
        "again (finished shards are kept)"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["work"]
    assert not list((tmp_path / "work").rglob("*.partial"))


def test_one_worker_starts_no_cluster(tmp_path):
    done = in_a_process(
        tmp_path,
        "make(folder, make_plan())\n"
        "print([m for m in ('distributed', 'torch', 'dask') if m in sys.modules])",
    )
    assert done.stdout.strip() == "[]", done.stderr
