"""The work of generation: solved shard by shard, and released as a dataset.

    work/store/           the shards that are done, each where it lies in the dataset
    work/done/<k>.json    the record of shard k, written last, with the SHA-256 of its files

A shard is done when its record says so and the files have the recorded checksums; that they can
be read proves nothing, since Zarr reads a missing file as fill values.
"""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import reduce
from operator import add
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter
from threadpoolctl import threadpool_limits

from mno.core.errors import InputError, MnoError
from mno.core.files import file_sha256, replacing_folder, write_text
from mno.data.generate.plan import DatasetPlan
from mno.data.shard_file import write_shard_file
from mno.data.statistics import Decades, Margins, Moments
from mno.data.store import seal, shard_file
from mno.scenarios.base import FilesSource, split_samples

SPAN = (0.05, 0.999)
"""Quantiles between which a field's span lies. Of numbers drawn evenly from 0 to 1, or the sizes of
normal ones, it does not reach over two decades, though the least may be as small as you like."""


@dataclass(frozen=True)
class ShardRecord:
    """What is known of a shard: its files, and what was measured on its samples.

    `inputs` has the digest of each sample's inputs and initial states, of states with gaps the
    whole.
    """

    shard: int
    plan: str  # digest
    files: Mapping[str, str]  # SHA-256 by path in the store
    inputs: list[str]
    statistics: Mapping[str, Moments]  # by field
    checks: Mapping[str, Moments]  # by physics check
    margins: Mapping[str, Margins]  # below the tolerance, by physics check
    decades: Mapping[str, Decades] = field(default_factory=dict)  # by input, where that is told


_RECORD = TypeAdapter(ShardRecord)


def solve_shard(plan: DatasetPlan, shard: int) -> tuple[ShardRecord, dict[str, np.ndarray]]:
    """Sample, solve and check every sample of a shard.

    Its record, of no files yet, is returned, and arrays of shape `(samples, *sample shape)`,
    float32, by field name. An `MnoError` says that a value is not finite, a check exceeds its
    tolerance, or the scenario yields arrays that are not what it declares.
    """
    scenario, samples = plan.build(), plan.samples_of(shard)
    read = scenario.read(samples) if isinstance(scenario, FilesSource) else None
    values = read or {
        name: np.empty((len(samples), *shape), np.float32)
        for name, shape in scenario.shapes.items()
    }
    shapes = {rate.name: (len(samples), *plan.shapes[rate.name]) for rate in plan.rates}
    rates = {name: np.full(shape, np.nan, np.float32) for name, shape in shapes.items()}
    measured = {check.name: np.empty(len(samples)) for check in scenario.checks}
    # Their first frames are the same where nothing was measured: whole recordings tell them apart.
    recorded = [f.name for f in scenario.fields if f.role == "state" and f.gaps]
    inputs: list[str] = []
    statistics: dict[str, Moments] = {}
    # One thread, so that the order of summation in BLAS does not depend on the machine's cores.
    with threadpool_limits(limits=1):
        made = split_samples(scenario.fields, read) if read else plan.make(scenario, samples)
        for row, (sample, (given, solved)) in enumerate(zip(samples, made, strict=True)):
            for name in rates.keys() & solved.keys():
                rates[name][row] = solved[name]
            solved = {name: array for name, array in solved.items() if name not in rates}
            if not read:
                _store_row(scenario.dataset_name, {**given, **solved}, row, values)
            for field in scenario.fields:
                array = values[field.name][row]
                moments = Moments.of(array)
                statistics[field.name] = statistics[field.name] + moments if row else moments
                if moments.missing and not (field.gaps and not np.isinf(array).any()):
                    raise scenario.not_finite(field, array, sample)
            digest = hashlib.sha256()
            for name, array in sorted({**given, **{n: solved[n] for n in recorded}}.items()):
                digest.update(name.encode())
                digest.update(array.tobytes())
            inputs.append(digest.hexdigest())
            for name, value in scenario.check(given, solved).items():
                measured[name][row] = value
            for check in scenario.checks:
                found = measured[check.name][row]
                if not found <= check.tolerance:  # so that NaN fails too
                    raise MnoError(
                        f"sample {sample} of {scenario.dataset_name}: {check.name} "
                        f"({check.description}) is {found:.3g}; tolerance {check.tolerance:.3g}; "
                        "nothing is released"
                    )
    checks = {name: Moments.of(array) for name, array in measured.items()}
    margins = {c.name: Margins.of(measured[c.name], c.tolerance) for c in scenario.checks}
    told = [f.name for f in scenario.fields if f.role == "input"] if scenario.tells_spans else []
    decades = {name: Decades.of(values[name]) for name in told}
    record = ShardRecord(shard, plan.digest, {}, inputs, statistics, checks, margins, decades)
    return record, {**values, **rates}


def _store_row(
    dataset: str, arrays: Mapping[str, np.ndarray], row: int, values: dict[str, np.ndarray]
) -> None:
    if set(arrays) != set(values):
        raise MnoError(
            f"scenario {dataset} yields fields {sorted(arrays)}; it declares {sorted(values)}"
        )
    for name, array in arrays.items():
        expected = values[name].shape[1:]
        if array.dtype != np.float32 or array.shape != expected:
            raise MnoError(
                f"scenario {dataset} yields {name} as {array.dtype} of shape {array.shape}; "
                f"expected float32 of shape {expected}"
            )
        values[name][row] = array


class WorkFolder:
    """Shards of one plan, kept until the dataset is released.

    One process at a time may resume and release; any number may write shards. Whatever writes
    raises an `MnoError` that names the folder where it cannot.
    """

    def __init__(self, path: Path, plan: DatasetPlan) -> None:
        self.path, self.plan = path.resolve(), plan
        self.store = self.path / "store"
        self.done = self.path / "done"
        self.scratch = self.path / "scratch"  # of workers; killed ones leave things behind
        self.token = self.path / "token"  # that only processes on the same file system can read

    def finished(self) -> dict[int, ShardRecord]:
        """Return the records of all shards whose files are as recorded, by number."""
        numbers = sorted(int(path.stem) for path in self.done.glob("*.json") if path.stem.isdigit())
        with ThreadPoolExecutor(os.cpu_count()) as pool:  # checksums are taken outside Python
            records = zip(numbers, pool.map(self.record, numbers), strict=True)
        return {number: record for number, record in records if record}

    def record(self, shard: int) -> ShardRecord | None:
        """Return the record of a shard if the shard is finished and its files are as recorded."""
        expected = {shard_file(field, shard) for field in self.plan.fields}
        try:
            record = _RECORD.validate_json((self.done / f"{shard}.json").read_bytes())
            intact = (
                (record.plan, record.shard) == (self.plan.digest, shard)
                and set(record.files) == expected
                and all(file_sha256(self.store / n) == sha for n, sha in record.files.items())
            )
        except (OSError, ValueError):
            return None  # torn, or of another version: the shard is made again
        return record if intact else None

    def resume(self) -> dict[int, ShardRecord]:
        """Return the finished shards, remove all that is not part of one, make ready for others."""
        records = self.finished()
        keep = {self.done / f"{shard}.json" for shard in records}
        keep |= {self.store / name for record in records.values() for name in record.files}
        with writing(self.path):
            shutil.rmtree(self.scratch, ignore_errors=True)
            for folder in (self.store, self.done):
                folder.mkdir(parents=True, exist_ok=True)
                for path in folder.rglob("*"):
                    if path not in keep and not path.is_dir():
                        path.unlink()
            self.token.write_text(uuid.uuid4().hex, encoding="utf-8")
        return records

    def require_space(self, missing: list[int]) -> None:
        """Refuse to start what the disk cannot hold uncompressed, with as much again to spare."""
        values = sum(int(np.prod(shape)) for shape in self.plan.shapes.values())
        samples = sum(len(self.plan.samples_of(shard)) for shard in missing)
        needed = 2 * samples * values * np.dtype(np.float32).itemsize
        free = shutil.disk_usage(self.path).free
        if free < needed:
            raise MnoError(
                f"{self.path} has {free / 1e9:.3g} GB free; {samples} samples may need "
                f"{needed / 1e9:.3g} GB; free some space, or make fewer samples "
                "(generate.samples) or coarser ones (generate.resolution)"
            )

    def write(self, record: ShardRecord, values: dict[str, np.ndarray]) -> ShardRecord:
        """Write a shard and, when all of it is on disk, its record, which is returned.

        Both are as `solve_shard` returned them; values are emptied, to free memory for compression.
        """
        files, size = {}, self.plan.config.shard_size
        with writing(self.path):
            for field in self.plan.fields:
                name = shard_file(field, record.shard)
                files[name] = write_shard_file(self.store / name, values.pop(field.name), size)
            record = replace(record, files=files)
            write_text(self.done / f"{record.shard}.json", json.dumps(asdict(record)))
        return record

    def release(self, destination: Path, records: Mapping[int, ShardRecord]) -> None:
        """Turn the finished shards, all of them in order, into a dataset in place of what is there.

        It appears whole or not at all. Files are hard links to the work folder's where the file
        system allows it. Whoever changes one in the destination changes it here, and the records'
        checksums tell.
        """
        numbers = {}
        if self.plan.scenario.may_repeat:  # by what samples with the same inputs are known
            digests = [digest for record in records.values() for digest in record.inputs]
            heads = b"".join(bytes.fromhex(digest[:16]) for digest in digests)
            numbers = {"identity": np.frombuffer(heads, dtype=">i8").astype(np.int64)}
        files = {name: sha for record in records.values() for name, sha in record.files.items()}
        with writing(destination):
            with replacing_folder(destination) as fresh:
                self.plan.create_store(fresh, numbers, _spans(list(records.values())))
                for name in files:
                    target = fresh / name
                    target.parent.mkdir(parents=True, exist_ok=True)
                    try:
                        os.link(self.store / name, target)
                    except OSError:  # another file system, or one without hard links
                        shutil.copyfile(self.store / name, target)
                seal(fresh, files)
            shutil.rmtree(self.scratch, ignore_errors=True)


def _spans(records: Sequence[ShardRecord]) -> dict[str, tuple[float, float]]:
    """Return the span of fields that are positive, where that is told."""
    spans = {}
    for name in records[0].decades:
        span = reduce(add, (record.decades[name] for record in records)).span(*SPAN)
        if span:
            extremes = reduce(add, (record.statistics[name] for record in records))
            spans[name] = (max(span[0], extremes.min), min(span[1], extremes.max))
    return spans


def refuse_duplicates(plan: DatasetPlan, records: Mapping[int, ShardRecord]) -> None:
    """Refuse samples with the same inputs; those that may repeat only in different splits."""
    first: dict[str, int] = {}
    digests = (digest for record in records.values() for digest in record.inputs)
    for sample, digest in enumerate(digests):
        other = first.get(digest)
        first[digest] = sample
        if other is None:
            continue
        same, name = f"samples {other} and {sample}", plan.scenario.name
        if not plan.scenario.may_repeat:
            raise MnoError(
                f"{same} of {name} have the same inputs, so that a test sample could be one that "
                f"was trained on; widen scenarios.{name} or lower generate.samples"
            )
        one, two = plan.splits[other], plan.splits[sample]
        if one != two:
            raise InputError(
                f"{same} have the same inputs, but one is in {one} and the other in {two}; split "
                "otherwise (scenarios.imported.split), or remove one of them"
            )


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn a failure to write, such as a full disk, into one line that names the folder."""
    try:
        yield
    except OSError as error:
        raise MnoError(
            f"cannot write to {folder}: {error.strerror or error}; put that right and run again "
            "(finished shards are kept)"
        ) from error
