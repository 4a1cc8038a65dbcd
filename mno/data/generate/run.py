"""Generate a dataset: one task per shard, in this process or on a Dask cluster; and its report."""

import pickle
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from pathlib import Path
from typing import NamedTuple

import mno
from mno.core.errors import MnoError
from mno.core.files import file_sha256
from mno.core.memory import keep_freed_memory
from mno.data.config import SPLITS, ExecutionConfig
from mno.data.generate.plan import DatasetPlan
from mno.data.generate.work import ShardRecord, WorkFolder, refuse_duplicates, solve_shard
from mno.data.statistics import Margins, count_duplicates
from mno.scenarios.base import SampleSource

# What decides the bits of an array or of a compressed file.
_LIBRARIES = ("numpy", "numba", "zarr", "numcodecs")
# A process keeps running what it once imported, whatever the files say now; a cluster that was
# started yesterday may run yesterday's solver.
_seen: dict[str, str] = {}


def loaded_sources(*modules: str) -> dict[str, str]:
    """Return what this process runs: of `mno`, the modules named here, and what decides bits.

    That is the SHA-256 of the source file by module, and the versions of Python and of libraries. A
    module is read when it is first seen here and never again.
    """
    for name, module in list(sys.modules.items()):
        if name in _seen:
            continue
        if name in modules or name.split(".")[0] == "mno":
            path = getattr(getattr(module, "__spec__", None), "origin", None)
            if path:
                _seen[name] = file_sha256(path)
        elif name in _LIBRARIES:
            _seen[name] = str(getattr(module, "__version__", "unknown"))
    return {"python": platform.python_version(), **_seen}


# A foreign process that imports this module later on keeps what it imported now.
loaded_sources()


class Progress(NamedTuple):
    """How far a dataset is; finished shards of earlier attempts are included."""

    shards_done: int
    shards: int
    samples_done: int
    samples: int


def generate(
    plan: DatasetPlan,
    work: Path,
    destination: Path,
    execution: ExecutionConfig,
    progress: Callable[[Progress], None] = lambda _: None,
) -> "DatasetReport":
    """Make a dataset, or what is missing of it, and release it when all of it is good.

    Args:
        plan: What the dataset is determined by.
        work: Folder that keeps finished shards through a failure or a kill; the same for every
            attempt, for example named by `plan.digest`, and used by one call at a time.
        destination: Where the dataset appears, whole or not at all.
        execution: Where to compute; changes no bit.
        progress: Called with what earlier attempts have left, then after each shard.

    Raises:
        InputError: The plan cannot be carried out.
        MnoError: A physics check failed, two samples are the same, the disk is full or too small,
            workers died or refuse; finished shards are kept, nothing is released.
    """
    scenario, folder = plan.build(), WorkFolder(work, plan)
    records = folder.resume()
    missing = [shard for shard in range(plan.num_shards) if shard not in records]

    def tell() -> None:
        samples = sum(len(record.inputs) for record in records.values())
        progress(Progress(len(records), plan.num_shards, samples, plan.samples))

    tell()
    if missing:
        folder.require_space(missing)
        scenario.compile()
        for record in _solve(plan, folder, missing, execution):
            records[record.shard] = record
            tell()
        records = dict(sorted(records.items()))
    refuse_duplicates(plan, records)
    folder.release(destination, records)
    return summarise(scenario, plan.splits.tolist(), list(records.values()))


@dataclass(frozen=True)
class _ShardTask:
    """One shard, with what lets a worker tell that it may make it."""

    plan: DatasetPlan
    work: Path
    token: str
    sources: dict[str, str]
    shard: int | None = None

    def __call__(self) -> str | None:
        """Make the shard, if there is one to make; return why not, if this process must not."""
        keep_freed_memory()
        folder = WorkFolder(self.work, self.plan)
        try:
            shared = folder.token.read_text(encoding="utf-8") == self.token
        except OSError:
            shared = False
        if not shared:
            return f"does not see {self.work}; workers need the same file system"
        ours, theirs = self.sources, loaded_sources(self.plan.scenario.__module__)
        other = sorted(name for name in ours.keys() & theirs.keys() if ours[name] != theirs[name])
        if other:
            return (
                f"runs other code than this process ({', '.join(other)}); run again, and restart "
                "the workers of a given scheduler with this code and environment"
            )
        # Dask runs a task again where it lost sight of it, not knowing that it was done.
        if self.shard is not None and not folder.record(self.shard):
            folder.write(*solve_shard(self.plan, self.shard))
        return None


def _solve(
    plan: DatasetPlan, folder: WorkFolder, missing: list[int], execution: ExecutionConfig
) -> Iterator[ShardRecord]:
    if execution.scheduler is None and min(execution.workers, len(missing)) == 1:
        written: Future[ShardRecord] | None = None
        with ThreadPoolExecutor(1) as writer:  # one is compressed while the next is solved
            for shard in missing:
                solved = solve_shard(plan, shard)
                if written:
                    yield written.result()
                written = writer.submit(folder.write, *solved)
            if written:
                yield written.result()
        return
    # Imported here: starting Dask takes longer than solving a small dataset.
    from mno.data.generate.dask import connect, run_tasks

    sources = loaded_sources(plan.scenario.__module__)
    token = folder.token.read_text(encoding="utf-8")
    probe = _ShardTask(plan, folder.path, token, sources)
    root = str(Path(mno.__path__[0]).parent)
    tasks = {shard: pickle.dumps(replace(probe, shard=shard)) for shard in missing}
    with connect(execution, len(missing), folder.scratch) as client:
        for shard in run_tasks(client, root, pickle.dumps(probe), tasks):
            record = folder.record(shard)
            if record is None:
                raise MnoError(
                    f"shard {shard} in {folder.path} is missing or was altered after it was made; "
                    "run again to make it"
                )
            yield record


@dataclass(frozen=True)
class FieldReport:
    """One field over the whole dataset; figures in its unit; `missing` counts those not finite."""

    role: str
    units: str
    shape: tuple[int, ...]
    min: float
    max: float
    mean: float
    std: float
    missing: int


@dataclass(frozen=True)
class CheckReport:
    """One physics check over all samples; `margins` tells where they lie below the tolerance."""

    description: str
    tolerance: float
    max: float
    mean: float
    margins: Margins


@dataclass(frozen=True)
class Faults:
    """What a dataset must not have; counted, although generation refuses what is not zero."""

    duplicate_samples: int  # whose inputs an earlier sample has too
    samples_in_two_splits: int  # inputs that are in more than one split
    values_not_finite: int


@dataclass(frozen=True)
class DatasetReport:
    """What a dataset holds; `dataclasses.asdict` gives it as plain values."""

    scenario: str
    samples: int
    shards: int
    splits: dict[str, int]  # samples
    fields: dict[str, FieldReport]
    checks: dict[str, CheckReport]
    faults: Faults


def summarise(
    scenario: SampleSource, splits: Sequence[str], records: Sequence[ShardRecord]
) -> DatasetReport:
    """Add up the records of all shards, in order."""
    fields: dict[str, FieldReport] = {}
    checks: dict[str, CheckReport] = {}
    not_finite = 0
    for field in scenario.fields:
        total = reduce(add, (record.statistics[field.name] for record in records))
        figures = (total.min, total.max, total.mean, total.std, total.missing)
        shape = scenario.shapes[field.name]
        fields[field.name] = FieldReport(field.role, field.units, shape, *figures)
        not_finite += 0 if field.gaps else total.missing
    for check in scenario.checks:
        total = reduce(add, (record.checks[check.name] for record in records))
        margins = reduce(add, (record.margins[check.name] for record in records))
        figures = (check.tolerance, total.max, total.mean, margins)
        checks[check.name] = CheckReport(check.description, *figures)
    digests = [digest for record in records for digest in record.inputs]
    faults = Faults(*count_duplicates(digests, splits), not_finite)
    counts = {name: splits.count(name) for name in dict.fromkeys([*SPLITS, *splits])}
    name, samples, shards = scenario.dataset_name, len(splits), len(records)
    return DatasetReport(name, samples, shards, counts, fields, checks, faults)
