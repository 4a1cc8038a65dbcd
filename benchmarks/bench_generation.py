"""Generation of a dataset: two workers against one, and the memory that a shard takes."""

from __future__ import annotations

import shutil
import statistics
import tempfile
from pathlib import Path

from benchmarks.memory import extra_peak, is_told
from benchmarks.page import Section, Table, figure
from benchmarks.timing import Times, in_turn, median_ratio
from mno.data.config import ExecutionConfig, GenerateConfig
from mno.data.generate.plan import DatasetPlan
from mno.data.generate.run import generate
from mno.scenarios.base import scenario_class

THREADS = 1
ROUNDS = 1
SHARDS, SHARD_SIZE, RESOLUTION, FRAMES = 16, 50, 128, 101
MIB = 2**20


def run() -> Section:
    plan = plan_of(SHARDS * SHARD_SIZE, SHARD_SIZE)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        workers = {
            name: lambda n=n: make(plan, root, n) for n, name in enumerate(("one", "two"), 1)
        }
        times = in_turn(workers, ROUNDS, warm_up=0)
        ratio = figure(median_ratio(times, "one", "two"))
        parts: list[str | Table] = [about(times), f"Two workers take {ratio} times less."]
        if is_told():
            parts.append(Table(("shard, MiB", "peak beyond start, MiB", "ratio"), memory(root)))
    return Section("Generation", parts)


def plan_of(samples: int, shard_size: int) -> DatasetPlan:
    """Return the plan of a dataset of diffusion_reaction."""
    scenario = scenario_class("diffusion_reaction")
    config = GenerateConfig.model_validate(
        {
            "samples": samples, "resolution": RESOLUTION, "shard_size": shard_size, "seed": 0,
            "split": {"train": 0.8, "validation": 0.1, "test": 0.1},
        }
    )  # fmt: skip
    return DatasetPlan(
        scenario, scenario.Parameters.model_validate({"frames": FRAMES}), config, code="benchmark"
    )


def make(plan: DatasetPlan, root: Path, workers: int) -> None:
    """Make the dataset from nothing, and remove it."""
    generate(plan, root / "work", root / "dataset", ExecutionConfig(workers=workers))
    for made in ("work", "dataset"):
        shutil.rmtree(root / made)


def about(times: Times) -> str:
    """Say what was timed."""
    one, two = (statistics.median(times[name]) for name in ("one", "two"))
    return (
        f"A dataset of `diffusion_reaction` on {RESOLUTION} x {RESOLUTION} cells with {FRAMES} "
        f"frames, {SHARDS} shards of {SHARD_SIZE} samples: {figure(one / SHARDS)} s for each. In "
        f"this process it takes {figure(one)} s, on two workers of Dask {figure(two)} s, their "
        "start included. The peak is that of this process while it makes a dataset of two shards."
    )


def memory(root: Path) -> list[tuple[str, ...]]:
    """Return what a shard takes at its peak, of two sizes: the code and its caches come first."""
    rows = []
    make(plan_of(20, 10), root, workers=1)
    for size in (10, 20):
        peak = extra_peak(lambda size=size: make(plan_of(2 * size, size), root, workers=1))
        shard = size * 2 * FRAMES * RESOLUTION**2 * 4
        rows.append((figure(shard / MIB), figure(peak / MIB), figure(peak / shard)))
    return rows
