from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import zarr
from conftest import ALONE, HERE, ROOT, Made, make, make_plan

from mno.core.errors import MnoError
from mno.data.generate.report import Faults, count_duplicates
from mno.data.generate.run import generate
from mno.data.statistics import Margins, Moments


def fails(folder: Path, match: str, **plan) -> None:
    with pytest.raises(MnoError, match=match) as caught:
        make(folder, make_plan(**plan))
    assert "\n" not in str(caught.value)
    assert [path.name for path in folder.iterdir()] == ["work"], "nothing is released"


def test_statistics_are_those_of_the_whole_arrays(made: Made):
    assert made.report.shards == 3
    group = zarr.open_group(made.store, mode="r")
    for name, field in made.report.fields.items():
        values = group[name][:].astype(np.float64)
        assert field.min == values.min()
        assert field.max == values.max()
        assert field.mean == pytest.approx(values.mean(), rel=1e-13)
        assert field.std == pytest.approx(values.std(), rel=1e-11)
        assert field.shape == values.shape[1:]


def test_checks_are_those_of_the_samples(made: Made):
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


def test_the_report_is_plain_json_without_times_or_workers(made: Made):
    text = json.dumps(asdict(made.report))
    assert json.loads(text)["splits"] == {"train": 6, "validation": 2, "test": 2}
    assert set(asdict(made.report)) == {
        *("scenario", "samples", "shards", "splits", "fields", "checks", "faults")
    }


def test_the_report_counts_what_would_have_been_refused(made: Made):
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


def test_progress_tells_the_rate_of_earlier_attempts_without_the_breaks(tmp_path, copy: Made):
    done = copy.store.parent / "work" / "done"
    # Two shards of four samples overlap by a second in an attempt; one of two was made a day later.
    times = {
        0: ("2026-01-01T00:00:00+00:00", "2026-01-01T00:00:03+00:00"),
        1: ("2026-01-01T00:00:02+00:00", "2026-01-01T00:00:04+00:00"),
        2: ("2026-01-02T00:00:00+00:00", "2026-01-02T00:00:01+00:00"),
    }
    for shard, (begun, time) in times.items():
        record = json.loads((done / f"{shard}.json").read_text())
        (done / f"{shard}.json").write_text(json.dumps({**record, "begun": begun, "time": time}))
    told = []
    generate(copy.plan, done.parent, copy.store, ALONE, told.append)
    assert [p.earlier_rate for p in told] == [pytest.approx(10 / 5)]
    generate(copy.plan, tmp_path / "fresh", tmp_path / "other", ALONE, told.append)
    assert {p.earlier_rate for p in told[1:]} == {None}


def test_a_failed_physics_check_releases_nothing(tmp_path):
    fails(
        tmp_path,
        r"sample 0 of heat: heat_balance \(change of the mean temperature\) is .*; "
        r"tolerance -1; nothing is released",
        tolerated_imbalance=-1.0,
    )


def test_a_check_that_is_not_a_number_fails(tmp_path):
    fails(tmp_path, "heat_balance .* tolerance nan", tolerated_imbalance=math.nan)


@pytest.mark.filterwarnings("ignore:invalid value")
def test_values_that_are_not_finite_fail(tmp_path):
    fails(
        tmp_path,
        "sample 0 of heat: temperature has values that are not finite",
        diffusivity=math.inf,
    )


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


def test_samples_with_the_same_inputs_are_refused(tmp_path):
    # Without waves every rod is the same; the samples named lie in one shard or in two.
    fails(tmp_path, "samples 0 and 1 of heat have the same inputs", modes=0)
    fails(tmp_path, "samples 0 and 1 of heat have the same inputs", modes=0, shard_size=1)


def test_a_dataset_larger_than_the_disk_is_refused_before_anything_is_made(tmp_path):
    fails(
        tmp_path,
        r"GB free; 1000000000000 samples may need .* GB; free some space",
        samples=10**12,
        shard_size=10**9,
    )


def in_a_process(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run code that may make datasets in a folder, by a process of its own."""
    script = (
        "import pathlib, resource, signal, sys; sys.path[:0] = sys.argv[1:3]\n"
        f"from conftest import make, make_plan; folder = pathlib.Path(sys.argv[3])\n{code}"
    )
    command = [sys.executable, "-c", script, str(ROOT), str(HERE), str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_failed_write_names_the_folder_and_keeps_finished_shards(tmp_path, made: Made):
    # The limit lets metadata and small shards through and stops the first large file, as a full
    # disk would; a process of its own, since limits cannot be raised again.
    done = in_a_process(
        tmp_path,
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
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
