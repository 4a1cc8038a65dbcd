"""The work of generation: shards, solved, written with a record of each, and released as a dataset.

    work/store/           the Zarr store, as far as it is done
    work/done/<k>.json    the record of shard k, written last, with the SHA-256 of its files

A shard is done when its record says so and the files have the recorded checksums; that they can
be read proves nothing, since Zarr reads a missing file as fill values.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import sys
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter
from threadpoolctl import threadpool_limits

from mno.core.errors import MnoError
from mno.core.files import file_sha256, folder_files, replacing_folder, write_text
from mno.data.generate.plan import DatasetPlan
from mno.data.statistics import Margins, Moments
from mno.data.store import create_store, sample_shape, seal, shard_file, write_values
from mno.scenarios.base import FilesSource, SampleSource, split_samples

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


def differing(ours: dict[str, str], theirs: dict[str, str]) -> list[str]:
    """Return the names that both know and that differ, in order."""
    return sorted(name for name in ours.keys() & theirs.keys() if ours[name] != theirs[name])


_Stamp = tuple[int, int, int]  # what changes when somebody writes to a file


@dataclass(frozen=True)
class ShardRecord:
    """What is known of a shard: what made it, its files, and what was measured on its samples.

    `samples` are the first and the last one; their numbers are the spawn keys of their streams.
    `inputs` has the digest of each sample's inputs and initial states, of states with gaps the
    whole. `time` is when the record was written, UTC, as `begun` is.
    """

    shard: int
    plan: str  # digest
    code: str  # digest
    seed: int  # of the dataset
    samples: tuple[int, int]
    files: Mapping[str, str]  # SHA-256 by path in the store
    inputs: list[str]
    statistics: Mapping[str, Moments]  # by field
    checks: Mapping[str, Moments]  # by physics check
    margins: Mapping[str, Margins]  # below the tolerance, by physics check
    begun: datetime
    time: datetime


_RECORD = TypeAdapter(ShardRecord)


def solve_shard(plan: DatasetPlan, shard: int) -> tuple[ShardRecord, dict[str, np.ndarray]]:
    """Sample, solve and check every sample of a shard.

    Returns:
        Its record, of no files yet, and arrays of shape `(samples, *sample shape)`, float32, by
        field name.

    Raises:
        MnoError: A value is not finite, a check exceeds its tolerance, or the scenario yields
            arrays that are not what it declares.
    """
    begun = datetime.now(UTC)
    scenario = plan.build()
    samples = plan.samples_of(shard)
    read = scenario.read(samples) if isinstance(scenario, FilesSource) else None
    values = read or {
        field.name: np.empty((len(samples), *sample_shape(scenario, field)), np.float32)
        for field in scenario.fields
    }
    measured = {check.name: np.empty(len(samples)) for check in scenario.checks}
    # Their first frames are the same where nothing was measured: whole recordings tell them apart.
    recorded = [f.name for f in scenario.fields if f.role == "state" and f.gaps]
    inputs: list[str] = []
    statistics: dict[str, Moments] = {}
    # One thread, so that the order of summation in BLAS does not depend on the machine's cores.
    with threadpool_limits(limits=1):
        made = split_samples(scenario.fields, read) if read else scenario.make(samples, plan.rng)
        for row, (sample, (given, solved)) in enumerate(zip(samples, made, strict=True)):
            if not read:
                _store_row(scenario, {**given, **solved}, row, values)
            for field in scenario.fields:
                array = values[field.name][row]
                moments = Moments.of(array)
                statistics[field.name] = statistics[field.name] + moments if row else moments
                if moments.missing and not (field.gaps and not np.isinf(array).any()):
                    raise scenario.not_finite(field, array, sample)
            inputs.append(_digest({**given, **{name: solved[name] for name in recorded}}))
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
    record = ShardRecord(
        shard=shard,
        plan=plan.digest,
        code=plan.code,
        seed=plan.config.seed,
        samples=(samples.start, samples.stop - 1),
        files={},
        inputs=inputs,
        statistics=statistics,
        checks={name: Moments.of(array) for name, array in measured.items()},
        margins={c.name: Margins.of(measured[c.name], c.tolerance) for c in scenario.checks},
        begun=begun,
        time=begun,
    )
    return record, values


def _store_row(
    scenario: SampleSource,
    arrays: Mapping[str, np.ndarray],
    row: int,
    values: dict[str, np.ndarray],
) -> None:
    dataset = scenario.dataset_name
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


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(name.encode())
        digest.update(arrays[name].tobytes())
    return digest.hexdigest()


class WorkFolder:
    """Shards of one plan, kept until the dataset is released.

    One process at a time may resume, prepare and release; any number may write shards. Whatever
    writes raises an `MnoError` that names the folder where it cannot.
    """

    def __init__(self, path: Path, plan: DatasetPlan) -> None:
        self.path, self.plan = path.resolve(), plan
        self.store = self.path / "store"
        self.done = self.path / "done"
        self.scratch = self.path / "scratch"  # of workers; killed ones leave things behind
        self.token = self.path / "token"  # that only processes on the same file system can read
        self._checked: dict[Path, tuple[str, _Stamp]] = {}

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
                and all(self._is_intact(name, sha) for name, sha in record.files.items())
            )
        except (OSError, ValueError):
            return None  # torn, or of another version: the shard is made again
        return record if intact else None

    def _is_intact(self, name: str, sha256: str) -> bool:
        """Whether a file has this checksum; it is read unless nobody wrote to it since it was."""
        path = self.store / name
        stamp = _stamp(path)
        if self._checked.get(path) == (sha256, stamp):
            return True
        intact = file_sha256(path) == sha256
        if intact:
            self._checked[path] = sha256, stamp
        return intact

    def resume(self) -> dict[int, ShardRecord]:
        """Return the finished shards, and remove everything that is not part of one."""
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
        return records

    def prepare(self) -> None:
        """Make the store ready for shards to be written: metadata, coordinates, splits."""
        fresh = self.path / "store.partial"
        with writing(self.path):
            shutil.rmtree(fresh, ignore_errors=True)
            create_store(fresh, self.plan)
            for name, source in folder_files(fresh).items():
                target = self.store / name
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(source, target)
            shutil.rmtree(fresh)
            self.token.write_text(uuid.uuid4().hex, encoding="utf-8")

    def write(self, record: ShardRecord, values: dict[str, np.ndarray]) -> ShardRecord:
        """Write a shard and, when all of it is on disk, its record, which is returned.

        Both are as `solve_shard` returned them; the values are emptied, so that memory is free for
        compression.
        """
        files: dict[str, str] = {}
        with writing(self.path):
            for field in self.plan.fields:
                name = shard_file(field, record.shard)
                array = values.pop(field.name)
                files[name] = write_values(self.store, field.name, record.samples[0], array)
                self._checked[self.store / name] = files[name], _stamp(self.store / name)
            record = replace(record, files=files, time=datetime.now(UTC))
            text = json.dumps(asdict(record), default=datetime.isoformat)
            write_text(self.done / f"{record.shard}.json", text)
        return record

    def release(self, destination: Path, records: Mapping[int, ShardRecord]) -> None:
        """Turn the finished shards into a dataset; it appears whole or not at all.

        Files are hard links to the work folder's where the file system allows it. Whoever changes
        one in the destination changes it here, and the records' checksums tell.

        Args:
            destination: Where the dataset goes; what is there is replaced.
            records: All shards, as `finished` returned them.
        """
        missing = sorted(set(range(self.plan.num_shards)) - set(records))
        if missing:
            raise MnoError(
                f"shards {missing} in {self.path} are missing or were altered while the others "
                "were made; run again to make them"
            )
        files = {name: sha for record in records.values() for name, sha in record.files.items()}
        with writing(destination):
            with replacing_folder(destination) as fresh:
                create_store(fresh, self.plan, self._identities(records))
                for name in files:
                    target = fresh / name
                    target.parent.mkdir(parents=True, exist_ok=True)
                    try:
                        os.link(self.store / name, target)
                    except OSError:  # another file system, or one without hard links
                        shutil.copyfile(self.store / name, target)
                seal(fresh, files)
            shutil.rmtree(self.scratch, ignore_errors=True)

    def _identities(self, records: Mapping[int, ShardRecord]) -> dict[str, np.ndarray]:
        """Return by what samples with the same inputs are known."""
        if not self.plan.scenario.may_repeat:
            return {}
        digests = [digest for _, record in sorted(records.items()) for digest in record.inputs]
        heads = b"".join(bytes.fromhex(digest[:16]) for digest in digests)
        return {"identity": np.frombuffer(heads, dtype=">i8").astype(np.int64)}


def _stamp(path: Path) -> _Stamp:
    facts = path.stat()
    return facts.st_ino, facts.st_size, facts.st_mtime_ns


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
