"""Generate a dataset: one task per shard, in this process or on a Dask cluster."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np

import mno
from mno.core.errors import InputError, MnoError
from mno.core.memory import keep_freed_memory
from mno.data.config import ExecutionConfig
from mno.data.generate.plan import DatasetPlan
from mno.data.generate.report import DatasetReport, summarise
from mno.data.generate.work import ShardRecord, WorkFolder, differing, loaded_sources, solve_shard
from mno.data.store import sample_shape

# A foreign process that imports this module later on keeps what it imported now.
loaded_sources()


class Progress(NamedTuple):
    """How far a dataset is; finished shards of earlier attempts are included."""

    shards_done: int
    shards: int
    samples_done: int
    samples: int
    earlier_rate: float | None = None
    """Samples per second of earlier attempts; none where they finished nothing."""


def generate(
    plan: DatasetPlan,
    work: Path,
    destination: Path,
    execution: ExecutionConfig,
    progress: Callable[[Progress], None] = lambda _: None,
    released_as: Callable[[], DatasetPlan] | None = None,
) -> DatasetReport:
    """Make a dataset, or what is missing of it, and release it when all of it is good.

    Args:
        plan: What the dataset is determined by.
        work: Folder that keeps finished shards through a failure or a kill; the same for every
            attempt, for example named by `plan.digest`, and used by one call at a time.
        destination: Where the dataset appears, whole or not at all.
        execution: Where to compute; changes no bit.
        progress: Called with what earlier attempts have left, then after each shard.
        released_as: Called when all shards are made; returns the plan that the dataset says it was
            made by, where that says more of the same samples than was known before.

    Raises:
        InputError: The plan cannot be carried out.
        MnoError: A physics check failed, two samples are the same, the disk is full or too small,
            workers died or refuse; finished shards are kept, nothing is released.
    """
    scenario = plan.build()
    folder = WorkFolder(work, plan)
    records = folder.resume()
    missing = [shard for shard in range(plan.num_shards) if shard not in records]
    done, rate = set(records), _rate(records.values())

    def tell() -> None:
        samples = sum(len(plan.samples_of(shard)) for shard in done)
        progress(Progress(len(done), plan.num_shards, samples, plan.config.samples, rate))

    tell()
    if missing:
        _require_space(plan, folder, missing)
        folder.prepare()
        scenario.compile()
        for shard in _solve(plan, folder, missing, execution):
            done.add(shard)
            tell()
        records = folder.finished()
    _refuse_duplicates(plan, records)
    if released_as:
        plan = released_as()
    WorkFolder(work, plan).release(destination, records)
    return summarise(plan, records.values())


def _rate(records: Iterable[ShardRecord]) -> float | None:
    """Return samples per second of the time in which at least one of the shards was being made.

    So neither the number of workers nor the breaks between attempts need be known.
    """
    samples, seconds, until = 0, 0.0, datetime.min.replace(tzinfo=UTC)
    for record in sorted(records, key=lambda record: record.begun):
        samples += record.samples[1] - record.samples[0] + 1
        seconds += max(0.0, (record.time - max(record.begun, until)).total_seconds())
        until = max(until, record.time)
    return samples / seconds if seconds else None


def _require_space(plan: DatasetPlan, folder: WorkFolder, missing: Iterable[int]) -> None:
    """Refuse to start what the disk cannot hold, uncompressed and with as much again to spare."""
    scenario = plan.build()
    values = sum(int(np.prod(sample_shape(scenario, field))) for field in scenario.fields)
    samples = sum(len(plan.samples_of(shard)) for shard in missing)
    needed = 2 * samples * values * np.dtype(np.float32).itemsize
    free = shutil.disk_usage(folder.path).free
    if free < needed:
        raise MnoError(
            f"{folder.path} has {free / 1e9:.3g} GB free; {samples} samples may need "
            f"{needed / 1e9:.3g} GB; free some space, or make fewer samples "
            "(generate.samples) or coarser ones (generate.resolution)"
        )


def _refuse_duplicates(plan: DatasetPlan, records: Mapping[int, ShardRecord]) -> None:
    first: dict[str, int] = {}
    name = plan.scenario.name
    splits = plan.splits() if plan.scenario.may_repeat else None
    for shard, record in records.items():
        for sample, digest in zip(plan.samples_of(shard), record.inputs, strict=True):
            other = first.get(digest)
            first[digest] = sample
            if other is None or (splits is not None and splits[other] == splits[sample]):
                continue
            same = f"samples {other} and {sample}"
            if splits is not None:
                raise InputError(
                    f"{same} have the same inputs, but one is in {splits[other]} and the other in "
                    f"{splits[sample]}; split otherwise (scenarios.imported.split), or remove one "
                    "of them"
                )
            raise MnoError(
                f"{same} of {name} have the same inputs, so that a test sample could be one that "
                f"was trained on; widen scenarios.{name} or lower generate.samples"
            )


@dataclass(frozen=True)
class _ShardTask:
    """One shard, with what lets a worker tell that it may make it."""

    plan: DatasetPlan
    work: Path
    token: str
    sources: dict[str, str]
    shard: int | None = None

    def refusal(self) -> str | None:
        """Return why this process must not work on the dataset, if there is a reason."""
        folder = WorkFolder(self.work, self.plan)
        try:
            shared = folder.token.read_text(encoding="utf-8") == self.token
        except OSError:
            shared = False
        if not shared:
            return f"does not see {self.work}; workers need the same file system"
        other = differing(self.sources, loaded_sources(self.plan.scenario.__module__))
        if other:
            return (
                f"runs other code than this process ({', '.join(other)}); run again, and restart "
                "the workers of a given scheduler with this code and environment"
            )
        return None

    def __call__(self) -> str | None:
        """Make the shard, if there is one to make; return why not, if refused."""
        keep_freed_memory()
        refusal = self.refusal()
        folder = WorkFolder(self.work, self.plan)
        # Dask runs a task again where it lost sight of it, not knowing that it was done.
        if refusal is None and self.shard is not None and not folder.record(self.shard):
            folder.write(*solve_shard(self.plan, self.shard))
        return refusal


def _solve_here(plan: DatasetPlan, folder: WorkFolder, missing: list[int]) -> Iterator[int]:
    """Make shards in this process: each is compressed and written while the next is solved."""
    written: Future[ShardRecord] | None = None
    with ThreadPoolExecutor(1) as writer:
        for shard in missing:
            solved = solve_shard(plan, shard)
            if written:
                yield written.result().shard
            written = writer.submit(folder.write, *solved)
        if written:
            yield written.result().shard


def _solve(
    plan: DatasetPlan, folder: WorkFolder, missing: list[int], execution: ExecutionConfig
) -> Iterator[int]:
    """Make the missing shards; yield the number of each as it is done."""
    if execution.scheduler is None and min(execution.workers, len(missing)) == 1:
        yield from _solve_here(plan, folder, missing)
        return
    # Imported here: starting Dask takes longer than solving a small dataset.
    from mno.data.generate.dask import connect, run_tasks

    sources = loaded_sources(plan.scenario.__module__)
    token = folder.token.read_text(encoding="utf-8")
    probe = _ShardTask(plan, folder.path, token, sources)
    root = str(Path(mno.__path__[0]).parent)
    tasks = {shard: pickle.dumps(replace(probe, shard=shard)) for shard in missing}
    with connect(execution, len(missing), folder.scratch) as client:
        yield from run_tasks(client, root, pickle.dumps(probe), tasks)
