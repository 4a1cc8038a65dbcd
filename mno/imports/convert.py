"""Converting a file into a store of the dataset's schema, shard by shard, resumably."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mno.core.errors import MnoError
from mno.data.config import ExecutionConfig, SamplesConfig
from mno.data.generate import Progress, generate
from mno.data.plan import DatasetPlan
from mno.data.report import DatasetReport
from mno.data.store import sample_shape
from mno.imports import code_files, importer_class
from mno.imports.identity import stamp
from mno.imports.mapping import Mapping
from mno.imports.source import FileParameters, FileSource

SHARD_BYTES = 32 * 2**20
"""Size aimed at for one shard of all fields; a task holds a few times as much."""


@dataclass(frozen=True)
class FileImport:
    """What is to be imported, and as what.

    Attributes:
        dataset: Name of the dataset that the file becomes part of.
        kind: Which importer reads it.
        path: The file, or the folder of a Zarr store.
        mapping: What the user says of it.
        stamp: What the file system said of it before any of it was read; see `identity.stamp`.
    """

    dataset: str
    kind: str
    path: Path
    mapping: Mapping
    stamp: str


def plan_of(file: FileImport, sha256: str = "") -> DatasetPlan:
    """Return the plan of a file's conversion.

    Args:
        file: What and how.
        sha256: The file's checksum, if it is known yet; until then its stamp tells it from others.

    Raises:
        InputError: The file cannot be imported.
    """
    parameters = FileParameters(
        dataset=file.dataset,
        kind=file.kind,
        file=file.path.name,
        sha256=sha256,
        stamp=file.stamp,
        importer_version=importer_class(file.kind).version,
        mapping=file.mapping,
    )
    folder = file.path.resolve().parent
    one = SamplesConfig(samples=1, resolution=1, shard_size=1, seed=0)
    source = FileSource.open(parameters, one, folder)
    sample = 4 * sum(int(np.prod(sample_shape(source, field))) for field in source.fields)
    config = SamplesConfig(
        samples=source.limit,
        resolution=1,
        shard_size=max(1, min(source.limit, SHARD_BYTES // max(sample, 1))),
        seed=0,
    )
    return DatasetPlan(FileSource, parameters, config, _code(file.stamp), folder)


def convert_file(
    file: FileImport,
    sha256: Callable[[], str],
    destination: Path,
    work: Path,
    execution: ExecutionConfig,
    progress: Callable[[Progress], None] = lambda _: None,
) -> DatasetReport:
    """Convert a file, or go on with a conversion that was interrupted.

    Args:
        file: What and how.
        sha256: Returns the file's checksum; called last, so that it may be taken meanwhile.
        destination: Where the store appears, whole or not at all.
        work: Folder for finished shards, used by one conversion at a time; those of other files
            or mappings are told apart by their plan.
        execution: Where to compute; changes no bit.
        progress: Is told how far the file is.

    Raises:
        InputError: The file cannot be imported.
        MnoError: The file was changed meanwhile, the disk is full, or a worker failed; finished
            shards are kept.
    """

    def known_by_checksum() -> DatasetPlan:
        plan = plan_of(file, sha256())
        if stamp(file.path) != file.stamp:
            raise MnoError(f"{file.path} was changed while it was imported; import it again")
        return plan

    plan = plan_of(file)
    work = work / plan.digest[:24]
    return generate(plan, work, destination, execution, progress, known_by_checksum)


def _code(stamp: str) -> str:
    """Return the digest of what shards are made by: the importers, and the file as it is."""
    digest = hashlib.sha256(stamp.encode())
    for path in code_files():
        digest.update(path.read_bytes())
    return digest.hexdigest()
