"""One generation that is killed again and again, wherever it is, ends in the bits of another."""

from __future__ import annotations

import contextlib
import random
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from conftest import hashes, make, make_plan

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
PATIENCE = 60.0  # seconds until something that must happen has happened


def wait_for(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"did not happen: {what}"
        time.sleep(0.005)


def finished(folder: Path) -> int:
    return len(list((folder / "work" / "done").glob("*.json")))


def family(pid: int) -> list[psutil.Process]:
    """A process and all it has started, the process first."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    return []


def workers(pid: int) -> list[psutil.Process]:
    found = []
    for process in family(pid)[1:]:
        with contextlib.suppress(psutil.NoSuchProcess):
            if "spawn_main" in " ".join(process.cmdline()):
                found.append(process)
    return found


def kill(kind: str, run: subprocess.Popen[str], rng: random.Random) -> list[psutil.Process]:
    """Kill with a signal that cannot be caught; return what may live on for a moment."""
    left = family(run.pid)
    assert left and run.poll() is None, "the generation ended before it was killed"
    if kind == "worker":
        wait_for(lambda: workers(run.pid), "a worker")
        victims = [rng.choice(workers(run.pid))]
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
                more = finished(folder) + rng.randint(0, 2)
                wait_for(lambda run=run, more=more: finished(folder) >= more or run.poll(), "shard")
                time.sleep(rng.uniform(0.0, 0.1))
            left += kill(kind, run, rng)
            kills.append(kind)
        run.wait()
        seen.append(finished(folder))
    assert len(kills) >= 20 and set(kills) == {"worker", "scheduler", "everything"}
    assert len(set(seen)) > 4 and seen[-1] < SHARDS, "kills were spread over the work"
    assert not (folder / "data").exists()

    # Workers that have lost their scheduler end by themselves.
    wait_for(lambda: not any(map(psutil.Process.is_running, left)), "the orphans' end")
    resumed = make(folder, plan)
    assert resumed.hashes == undisturbed.hashes
    assert resumed.report == undisturbed.report
    assert sorted(path.name for path in folder.iterdir()) == ["data", "work"]
    assert hashes(folder / "work/store") == hashes(tmp_path / "undisturbed/work/store")
    assert sorted(path.name for path in (folder / "work").iterdir()) == ["done", "store", "token"]
    assert len(list((folder / "work/done").iterdir())) == SHARDS
