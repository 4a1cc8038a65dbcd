"""Converting a file into a store of the dataset's schema, shard by shard, resumably."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mno.data.checksums import file_sha256
from mno.data.config import ExecutionConfig, SamplesConfig
from mno.data.generate import Progress, generate
from mno.data.importers import code_files, importer_class
from mno.data.importers.mapping import Mapping
from mno.data.importers.source import FileParameters, FileSource
from mno.data.plan import DatasetPlan
from mno.data.report import DatasetReport
from mno.data.store import sample_shape

SHARD_BYTES = 32 * 2**20
"""Size aimed at for one shard of all fields; a task holds a few times as much."""


@dataclass(frozen=True)
class FileImport:
    """What is to be imported, and as what.

    Attributes:
        dataset: Name of the dataset that the file becomes part of.
        kind: Which importer reads it.
        path: The file, or the folder of a Zarr store.
        sha256: Its checksum, from `checksum`.
        mapping: What the user says of it.
    """

    dataset: str
    kind: str
    path: Path
    sha256: str
    mapping: Mapping

    @property
    def parameters(self) -> FileParameters:
        """All that the converted store depends on, apart from code."""
        return FileParameters(
            dataset=self.dataset,
            kind=self.kind,
            file=self.path.name,
            sha256=self.sha256,
            importer_version=importer_class(self.kind).version,
            mapping=self.mapping,
        )


def checksum(path: Path) -> str:
    """Return the SHA-256 of a file; of a folder, that of the paths and checksums in it."""
    if not path.is_dir():
        return file_sha256(path)
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        digest.update(f"{file.relative_to(path).as_posix()}\0{file_sha256(file)}\n".encode())
    return digest.hexdigest()


def plan_of(file: FileImport) -> DatasetPlan:
    """Return the plan of a file's conversion.

    Raises:
        InputError: The file cannot be imported.
    """
    parameters, folder = file.parameters, file.path.resolve().parent
    one = SamplesConfig(samples=1, resolution=1, shard_size=1, seed=0)
    source = FileSource.open(parameters, one, folder)
    sample = 4 * sum(int(np.prod(sample_shape(source, field))) for field in source.fields)
    config = SamplesConfig(
        samples=source.limit,
        resolution=1,
        shard_size=max(1, min(source.limit, SHARD_BYTES // max(sample, 1))),
        seed=0,
    )
    return DatasetPlan(FileSource, parameters, config, _code(), folder)


def convert_file(
    file: FileImport,
    destination: Path,
    work: Path,
    execution: ExecutionConfig,
    progress: Callable[[Progress], None] = lambda _: None,
) -> DatasetReport:
    """Convert a file, or go on with a conversion that was interrupted.

    Args:
        file: What and how.
        destination: Where the store appears, whole or not at all.
        work: Folder for finished shards, used by one conversion at a time; those of other files
            or mappings are told apart by their plan.
        execution: Where to compute; changes no bit.
        progress: Is told how far the file is.

    Raises:
        InputError: The file cannot be imported.
        MnoError: The disk is full, or a worker failed; finished shards are kept.
    """
    plan = plan_of(file)
    return generate(plan, work / plan.digest[:24], destination, execution, progress)


def _code() -> str:
    digest = hashlib.sha256()
    for path in code_files():
        digest.update(path.read_bytes())
    return digest.hexdigest()
