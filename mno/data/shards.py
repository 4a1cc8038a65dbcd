"""The work folder: shards, their completion records, and the release of a dataset.

    work/store/           the Zarr store, as far as it is done
    work/done/<k>.json    the record of shard k, written last, with the SHA-256 of its files

A shard is done when its record says so and the files have the recorded checksums; that they can
be read proves nothing, since Zarr reads a missing file as fill values.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from mno.core.errors import MnoError
from mno.core.files import file_sha256
from mno.data.plan import DatasetPlan
from mno.data.solve import SolvedShard
from mno.data.statistics import Margins, Moments
from mno.data.store import create_store, seal, shard_file, write_values

_Stamp = tuple[int, int, int]  # what changes when somebody writes to a file


@dataclass(frozen=True)
class ShardRecord:
    """What is known of a finished shard.

    Attributes:
        shard: Its number.
        plan: Digest of the plan it was made by.
        code: Digest of the code it was made by.
        seed: The dataset's seed.
        samples: First and last sample; their numbers are the spawn keys of their streams.
        files: SHA-256 by path in the store.
        inputs: Digest of each sample's inputs and initial states.
        statistics: Moments by field.
        checks: Moments by physics check.
        margins: How far values stay below the tolerance, by physics check.
        begun: When work on the shard began, UTC.
        time: When the record was written, UTC.
    """

    shard: int
    plan: str
    code: str
    seed: int
    samples: tuple[int, int]
    files: Mapping[str, str]
    inputs: list[str]
    statistics: Mapping[str, Moments]
    checks: Mapping[str, Moments]
    margins: Mapping[str, Margins]
    begun: datetime
    time: datetime


class WorkFolder:
    """Shards of one plan, kept until the dataset is released.

    One process at a time may resume, prepare and release; any number may write shards.

    Args:
        path: The folder; made when it is missing.
        plan: What the shards belong to.
    """

    def __init__(self, path: Path, plan: DatasetPlan) -> None:
        self.path = path.resolve()
        self.plan = plan
        self._checked: dict[Path, tuple[str, _Stamp]] = {}

    @property
    def store(self) -> Path:
        """The unfinished store."""
        return self.path / "store"

    @property
    def done(self) -> Path:
        """The completion records."""
        return self.path / "done"

    @property
    def scratch(self) -> Path:
        """For temporary files of workers, which killed ones leave behind."""
        return self.path / "scratch"

    @property
    def token(self) -> Path:
        """A file that only processes on the same file system can read."""
        return self.path / "token"

    def finished(self) -> dict[int, ShardRecord]:
        """Return the records of all shards whose files are as recorded, by number."""
        numbers = sorted(int(path.stem) for path in self.done.glob("*.json") if path.stem.isdigit())
        with ThreadPoolExecutor(os.cpu_count()) as pool:  # checksums are taken outside Python
            records = zip(numbers, pool.map(self.record, numbers), strict=True)
        return {number: record for number, record in records if record}

    def record(self, shard: int) -> ShardRecord | None:
        """Return the record of a shard if the shard is finished and its files are as recorded."""
        try:
            text = (self.done / f"{shard}.json").read_text(encoding="utf-8")
            content = json.loads(text)
            content["samples"] = tuple(content["samples"])
            for key in ("statistics", "checks"):
                content[key] = {name: Moments(**m) for name, m in content[key].items()}
            for key in ("begun", "time"):
                content[key] = datetime.fromisoformat(content[key])
            margins = content["margins"].items()
            content["margins"] = {name: Margins(tuple(m["counts"])) for name, m in margins}
            record = ShardRecord(**content)
            ours = (record.plan, record.shard) == (self.plan.digest, shard)
            expected = {shard_file(field, shard) for field in self.plan.fields}
            intact = (
                ours
                and set(record.files) == expected
                and all(self._is_intact(name, sha) for name, sha in record.files.items())
            )
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
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
        """Return the finished shards, and remove everything that is not part of one.

        Raises:
            MnoError: The folder cannot be written to.
        """
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
        """Make the store ready for shards to be written: metadata, coordinates, splits.

        Raises:
            MnoError: The folder cannot be written to.
        """
        fresh = self.path / "store.partial"
        with writing(self.path):
            shutil.rmtree(fresh, ignore_errors=True)
            create_store(fresh, self.plan)
            for source in fresh.rglob("*"):
                if not source.is_dir():
                    target = self.store / source.relative_to(fresh)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    os.replace(source, target)
            shutil.rmtree(fresh)
            self.token.write_text(uuid.uuid4().hex, encoding="utf-8")

    def write(self, shard: int, solved: SolvedShard) -> ShardRecord:
        """Write a shard and, when all of it is on disk, its record.

        Args:
            shard: Its number.
            solved: Its samples; `values` is emptied, so that memory is free for compression.

        Returns:
            The record.

        Raises:
            MnoError: The folder cannot be written to, for example because the disk is full.
        """
        samples = self.plan.samples_of(shard)
        files: dict[str, str] = {}
        with writing(self.path):
            for field in self.plan.fields:
                name = shard_file(field, shard)
                values = solved.values.pop(field.name)
                files[name] = write_values(self.store, field.name, samples.start, values)
                self._checked[self.store / name] = files[name], _stamp(self.store / name)
            record = ShardRecord(
                shard=shard,
                plan=self.plan.digest,
                code=self.plan.code,
                seed=self.plan.config.seed,
                samples=(samples.start, samples.stop - 1),
                files=files,
                inputs=solved.inputs,
                statistics=solved.statistics,
                checks=solved.checks,
                margins=solved.margins,
                begun=solved.begun,
                time=datetime.now(UTC),
            )
            # Dask may run a task twice when it loses sight of a worker: names must not clash.
            beside = self.done / f"{shard}.{uuid.uuid4().hex}.partial"
            text = json.dumps(asdict(record), default=datetime.isoformat)
            beside.write_text(text, encoding="utf-8")
            os.replace(beside, self.done / f"{shard}.json")
        return record

    def release(self, destination: Path, records: Mapping[int, ShardRecord]) -> None:
        """Turn the finished shards into a dataset; it appears whole or not at all.

        Files are hard links to the work folder's where the file system allows it. Whoever changes
        one in the destination changes it here, and the records' checksums tell.

        Args:
            destination: Where the dataset goes; what is there is replaced.
            records: All shards, as `finished` returned them.

        Raises:
            MnoError: A shard is missing, or the destination cannot be written to.
        """
        missing = sorted(set(range(self.plan.num_shards)) - set(records))
        if missing:
            raise MnoError(
                f"shards {missing} in {self.path} are missing or were altered while the others "
                "were made; run again to make them"
            )
        partial = destination.with_name(f"{destination.name}.partial")
        replaced = destination.with_name(f"{destination.name}.replaced")
        files = {name: sha for record in records.values() for name, sha in record.files.items()}
        with writing(destination):
            destination.parent.mkdir(parents=True, exist_ok=True)
            for leftover in (partial, replaced):
                shutil.rmtree(leftover, ignore_errors=True)
            try:
                create_store(partial, self.plan, self._identities(records))
                for name in files:
                    _link(self.store / name, partial / name)
                seal(partial, files)
            except BaseException:
                shutil.rmtree(partial, ignore_errors=True)
                raise
            if destination.exists():
                destination.rename(replaced)
            partial.rename(destination)
            shutil.rmtree(replaced, ignore_errors=True)
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


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)


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
