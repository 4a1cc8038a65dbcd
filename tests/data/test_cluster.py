"""Generation on a cluster: the bytes of one process, whatever is killed."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import time

import psutil
import pytest

from mno.core.errors import MnoError
from mno.data.config import ExecutionConfig
from mno.data.generate.plan import DatasetPlan
from mno.data.generate.run import _ShardTask, generate, loaded_sources
from mno.data.generate.work import WorkFolder
from mno.data.reading import read_split
from mno.scenarios.darcy import Darcy
from tests.data.conftest import HERE, ROOT, hashes, make, make_plan

TWO = ExecutionConfig(workers=2)
# Enough steps that a shard takes a few tenths of a second: time to kill something in the middle.
LONG = {"samples": 24, "steps": 2000}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return make(tmp_path_factory.mktemp("undisturbed"), make_plan(**LONG))


PATIENCE = 60.0  # seconds until something that must happen has happened


def wait_for(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.005)


def records(folder):
    return {
        p.name: (p.stat().st_ino, p.stat().st_mtime_ns)
        for p in (folder / "work" / "done").glob("*.json")
    }


def family(pid):
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    return []


def workers_of(pid):
    found = []
    for process in family(pid)[1:]:
        with contextlib.suppress(psutil.NoSuchProcess):
            if "spawn_main" in " ".join(process.cmdline()):
                found.append(process)
    return found


def test_two_workers_give_the_bytes_of_one(made, tmp_path):
    assert made.report.shards > 1
    told = []
    report = generate(made.plan, tmp_path / "work", tmp_path / "data", TWO, told.append)
    assert hashes(tmp_path / "data") == made.hashes
    assert report == made.report
    assert [p.shards_done for p in told] == [0, 1, 2, 3]


def test_a_killed_worker_is_replaced_and_finished_shards_stay(undisturbed, tmp_path):
    killed, kept = [], {}

    def kill_one(progress) -> None:
        if progress.shards_done == 2 and not killed:
            kept.update(records(tmp_path))
            killed.append(workers_of(os.getpid())[0])
            killed[0].kill()

    generate(undisturbed.plan, tmp_path / "work", tmp_path / "data", TWO, kill_one)
    assert killed and not killed[0].is_running()
    assert hashes(tmp_path / "data") == undisturbed.hashes
    assert len(kept) >= 2
    assert kept.items() <= records(tmp_path).items()


def test_darcy_is_the_same_for_one_and_two_workers(tmp_path):
    plan = DatasetPlan(Darcy, Darcy.Parameters(), make_plan().config, code="code")
    alone = make(tmp_path / "alone", plan)
    assert alone.report.shards == 3
    assert set(alone.report.checks) == {check.name for check in Darcy.checks}
    assert read_split(alone.store, "train").fields["pressure"].shape == (6, 16, 16)
    assert make(tmp_path / "two", plan, TWO).hashes == alone.hashes


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_killed_run_is_taken_up_where_it_ended(undisturbed, tmp_path, start, workers):
    process = start("run_heat.py", tmp_path, LONG["samples"], LONG["steps"], workers, "-")
    wait_for(lambda: process.poll() is not None or len(records(tmp_path)) >= 2)
    pids = [process.pid, *(p.pid for p in workers_of(process.pid))]
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    wait_for(lambda: not any(psutil.pid_exists(pid) for pid in pids))
    kept = records(tmp_path)
    assert 2 <= len(kept) < undisturbed.report.shards == 6
    assert not (tmp_path / "data").exists()

    resumed = make(tmp_path, undisturbed.plan)
    assert kept.items() <= records(tmp_path).items(), "finished shards are not made again"
    assert resumed.hashes == undisturbed.hashes
    assert resumed.report == undisturbed.report


def test_a_cluster_of_others_gives_the_same_bytes(made, tmp_path, start):
    # Its processes know nothing of the project but what the client tells them.
    cluster = start(
        "run_cluster.py", path=(HERE,), cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    address = cluster.stdout.readline().strip()
    theirs = make(tmp_path, made.plan, ExecutionConfig(workers=1, scheduler=address))
    assert made.report.shards > 1
    assert theirs.hashes == made.hashes


@pytest.mark.slow
def test_workers_that_run_older_code_are_refused(tmp_path, start):
    root = tmp_path / "checkout"
    shutil.copytree(ROOT / "mno", root / "mno", ignore=shutil.ignore_patterns("__pycache__"))
    cluster = start(
        "run_cluster.py", path=(HERE,), cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    address = cluster.stdout.readline().strip()

    def run(folder: str) -> tuple[int, str]:
        process = start(
            *("run_heat.py", tmp_path / folder, 10, 4, 1, address),
            path=(root, HERE, ROOT),
            stderr=subprocess.PIPE,
        )
        _, error = process.communicate()
        return process.returncode, error.strip()

    assert run("before") == (0, "")
    with (root / "mno/data/generate/work.py").open("a") as file:
        file.write("\n# An edit that the workers have not seen.\n")
    code, error = run("after")
    assert code == 1
    assert error.startswith("worker tcp://127.0.0.1:") and "\n" not in error
    assert (
        "runs other code than this process (mno.data.generate.work); run again, and restart"
        in error
    )
    assert not (tmp_path / "after" / "data").exists()


@pytest.mark.slow
def test_a_scheduler_that_is_lost_is_one_line_and_keeps_shards(undisturbed, tmp_path, start):
    cluster = start("run_cluster.py", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    address = cluster.stdout.readline().strip()

    def kill_scheduler(progress) -> None:
        if progress.shards_done == 1:
            cluster.kill()

    execution = ExecutionConfig(scheduler=address)
    with pytest.raises(MnoError, match="the Dask scheduler was lost .*; start it and run again"):
        generate(undisturbed.plan, tmp_path / "work", tmp_path / "data", execution, kill_scheduler)
    assert not (tmp_path / "data").exists()
    kept = records(tmp_path)
    assert len(kept) >= 1
    assert make(tmp_path, undisturbed.plan).hashes == undisturbed.hashes
    assert kept.items() <= records(tmp_path).items()


def test_a_scheduler_that_does_not_answer_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("mno.data.generate.dask._CONNECT_SECONDS", 1)
    execution = ExecutionConfig(scheduler="tcp://127.0.0.1:1")
    with pytest.raises(MnoError) as caught:
        make(tmp_path, make_plan(), execution)
    message = str(caught.value)
    assert message.startswith("execution.scheduler=tcp://127.0.0.1:1 does not answer")
    assert "\n" not in message


def test_a_worker_that_sees_another_folder_refuses(made, tmp_path):
    folder = WorkFolder(tmp_path / "work", made.plan)
    folder.resume()
    sources = loaded_sources(made.plan.scenario.__module__)
    token = folder.token.read_text()
    assert _ShardTask(made.plan, folder.path, token, sources)() is None
    elsewhere = _ShardTask(made.plan, tmp_path / "missing", token, sources, shard=0)
    assert "does not see" in elsewhere() and "the same file system" in elsewhere()
    # A folder of the same name that is not the same folder.
    assert "does not see" in _ShardTask(made.plan, folder.path, "other", sources, shard=0)()
    assert folder.finished() == {}


def test_a_worker_with_another_solver_or_library_refuses(made, tmp_path):
    folder = WorkFolder(tmp_path / "work", made.plan)
    folder.resume()
    token = folder.token.read_text()
    sources = loaded_sources(made.plan.scenario.__module__)
    for name in ("heat", "mno.scenarios.base", "mno.data.store", "numpy", "zarr", "python"):
        theirs = {**sources, name: "another"}
        refusal = _ShardTask(made.plan, folder.path, token, theirs, shard=0)()
        assert refusal.startswith(f"runs other code than this process ({name})")
    # What only the client runs does not matter.
    theirs = {**sources, "mno.of_the_client": "any"}
    assert _ShardTask(made.plan, folder.path, token, theirs, shard=0)() is None
    assert set(folder.finished()) == {0}


def test_a_failed_check_on_a_worker_is_the_same_one_line(tmp_path):
    with pytest.raises(MnoError, match="heat_balance .* tolerance -1; nothing is released"):
        make(tmp_path, make_plan(tolerated_imbalance=-1.0), TWO)
    assert [path.name for path in tmp_path.iterdir()] == ["work"]


SHARDS, STEPS = 48, 1500  # a shard takes about a tenth of a second
# Each row is one start of the generation, each word a kill: of a worker; of the process that
# generates, which is Dask's scheduler; of everything at once. The last of a row ends it. Dask gives
# a shard up when four workers died of it, so no row kills more than three.
ROWS = (
    "scheduler",
    "worker worker worker everything",
    "worker worker worker scheduler",
    "everything",
    "worker worker worker scheduler",
    "worker worker everything",
    "worker worker scheduler",
)


def kill(kind, run, rng):
    """Kill with a signal that cannot be caught; return what may live on for a moment."""
    left = family(run.pid)
    assert left and run.poll() is None, "the generation ended before it was killed"
    if kind == "worker":
        wait_for(lambda: workers_of(run.pid))
        victims = [rng.choice(workers_of(run.pid))]
    else:
        victims = left if kind == "everything" else left[:1]
    for process in victims:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    return left


@pytest.mark.slow
def test_a_generation_killed_at_twenty_random_moments_ends_in_the_same_bytes(tmp_path, start):
    plan = make_plan(samples=4 * SHARDS, steps=STEPS)
    undisturbed = make(tmp_path / "undisturbed", plan)
    folder, rng = tmp_path / "killed", random.Random(7)
    kills, left, seen = [], [], [0]
    for row in ROWS:
        run = start("run_heat.py", folder, plan.config.samples, STEPS, 2, "-")
        for kind in row.split():
            if row == kind:  # at any moment of starting
                time.sleep(rng.uniform(0.0, 2.0))
            else:  # at any moment of the work, some shards on
                more = len(records(folder)) + rng.randint(0, 2)
                wait_for(lambda run=run, more=more: len(records(folder)) >= more or run.poll())
                time.sleep(rng.uniform(0.0, 0.1))
            left += kill(kind, run, rng)
            kills.append(kind)
        run.wait()
        seen.append(len(records(folder)))
    assert len(kills) >= 20 and set(kills) == {"worker", "scheduler", "everything"}
    assert len(set(seen)) > 4 and seen[-1] < SHARDS, "kills were spread over the work"
    assert not (folder / "data").exists()

    # Workers that have lost their scheduler end by themselves.
    wait_for(lambda: not any(map(psutil.Process.is_running, left)))
    resumed = make(folder, plan)
    assert resumed.hashes == undisturbed.hashes
    assert resumed.report == undisturbed.report
    assert sorted(path.name for path in folder.iterdir()) == ["data", "work"]
    assert hashes(folder / "work/store") == hashes(tmp_path / "undisturbed/work/store")
    assert sorted(path.name for path in (folder / "work").iterdir()) == ["done", "store", "token"]
    assert len(list((folder / "work/done").iterdir())) == SHARDS
