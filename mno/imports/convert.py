"""Converting a file into a store of the dataset's schema, shard by shard, resumably."""

import hashlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pydantic

from mno.core.config import Config
from mno.core.errors import InputError, MnoError
from mno.core.fields import Axis, Field
from mno.core.files import folder_files, sha256
from mno.data.config import ExecutionConfig, SamplesConfig
from mno.data.generate.plan import DatasetPlan
from mno.data.generate.run import DatasetReport, Progress, generate
from mno.imports.cage import make_room
from mno.imports.importer import Contents, importer_class
from mno.imports.mapping import MappedFile, Mapping
from mno.scenarios.base import FilesSource

SHARD_BYTES = 32 * 2**20
"""Size aimed at for one shard of all fields; a task holds a few times as much."""

_SAMPLES_AT_ONCE = 8  # of the largest, which may be larger than a shard: read, checked, compressed
# Checksums and compression use all cores as it is: more processes only take more memory.
_HERE = ExecutionConfig(workers=1)


class FileParameters(Config):
    """One file, and what is to become of it.

    The checksum need not be known to look into it. The stamp tells the file from what has been at
    its path before (see `stamp`); it decides no sample, and is no part of the dataset.
    """

    dataset: str
    kind: str
    file: str
    sha256: str = ""
    stamp: str = pydantic.Field(exclude=True)
    importer_version: int
    mapping: Mapping

    @classmethod
    def of(cls, path: Path, kind: str, mapping: Mapping, dataset: str) -> Self:
        """Return the parameters of a file as it is now."""
        return cls(
            dataset=dataset, kind=kind, file=path.name, stamp=stamp(path),
            importer_version=importer_class(kind).version, mapping=mapping,
        )  # fmt: skip


class FileSource(FilesSource):
    """The samples of one file, in `folder`, so that an import is made like any dataset."""

    name: ClassVar[str] = "file"
    Parameters: ClassVar[type[Config]] = FileParameters
    may_repeat: ClassVar[bool] = True
    tells_spans: ClassVar[bool] = True

    def __init__(self, parameters: FileParameters, folder: Path) -> None:
        self.parameters = parameters
        self.path = folder / parameters.file
        self.title = f"{parameters.file}, imported as {parameters.kind}"
        mapping = parameters.mapping.model_dump_json()
        self._file = _opened(parameters.kind, self.path, mapping, parameters.stamp)
        self.contents: Contents = self._file.contents  # as they will be in the dataset
        self.fields: tuple[Field, ...] = self.contents.fields

    @classmethod
    def open(cls, parameters: FileParameters, config: Any, root: Path) -> Self:
        """Open the file in the folder `root`."""
        return cls(parameters, root)

    @property
    def axes(self) -> tuple[Axis, ...]:
        """The coordinate axes."""
        return self.contents.axes

    @property
    def dataset_name(self) -> str:
        """The dataset that the file belongs to."""
        return self.parameters.dataset

    @property
    def provenance(self) -> dict[str, Any]:
        """The file, its checksum and its importer."""
        p, found = self.parameters, dict(self.contents.parameters)
        source = {"file": p.file, "sha256": p.sha256, "importer": p.kind}
        source |= {"importer_version": p.importer_version, "found": found}
        return {"sources": [source]}

    @property
    def limit(self) -> int:
        """The samples in the file."""
        return self.contents.samples

    def coordinates(self) -> dict[str, np.ndarray]:
        """The group of each sample and when it begins, where the file tells."""
        known = {"group": self.contents.groups, "start": self.contents.starts}
        return {name: values for name, values in known.items() if values is not None}

    def read(self, samples: range) -> dict[str, np.ndarray]:
        """Read some samples."""
        of = samples.start, samples.stop
        return {field.name: self._file.read(field.name, *of) for field in self.fields}

    def not_finite(self, field: Field, values: np.ndarray, sample: int) -> InputError:
        """Return what the user is told of values that no sample may have."""
        what, where = f"{self.path}: {field.name} has", f"in sample {sample}"
        if np.isinf(values).any():
            return InputError(
                f"{what} infinite values {where}; expected finite numbers: correct the file"
            )
        return InputError(
            f"{what} missing values (NaN) {where}; correct the file, or say that they may be "
            f"missing, in a mapping file: `fields: {{{field.name}: {{gaps: true}}}}`"
        )


@lru_cache(maxsize=1)
def _opened(kind: str, path: Path, mapping: str, stamp: str) -> MappedFile:
    """Open a file, as it was when it had the stamp; the last one that was opened stays open."""
    rules = Mapping.model_validate_json(mapping)
    return MappedFile(importer_class(kind)(path, rules), rules)


def convert_file(
    path: Path, file: FileParameters, destination: Path, work: Path,
    progress: Callable[[Progress], None] = lambda _: None,
) -> DatasetReport:  # fmt: skip
    """Convert a file, or go on with a conversion that was interrupted.

    `file` says what is to become of it, with its checksum. The store appears whole or not at all;
    finished shards are in the folder `work`, used by one conversion at a time. They are kept where
    the file was changed meanwhile, or the disk is full, which is an MnoError.
    """
    folder = path.resolve().parent
    source = FileSource(file, folder)
    sample = 4 * sum(int(np.prod(shape)) for shape in source.shapes.values())
    make_room(_SAMPLES_AT_ONCE * sample)
    shard_size = max(1, min(source.limit, SHARD_BYTES // max(sample, 1)))
    config = SamplesConfig(samples=source.limit, resolution=1, shard_size=shard_size, seed=0)
    # Shards are made by the importers, and of the file as it is.
    code = [module.read_bytes() for module in sorted(Path(__file__).parent.glob("*.py"))]
    digest = sha256(file.stamp.encode() + b"".join(code))
    plan = DatasetPlan(FileSource, file, config, digest, folder)
    report = generate(plan, work / plan.digest[:24], destination, _HERE, progress)
    if stamp(path) != file.stamp:
        raise MnoError(f"{path} was changed while it was imported; import it again")
    return report


def stamp(path: Path) -> str:
    """Return what changes when somebody writes to a file, or to one in a folder, or replaces it."""
    digest = hashlib.sha256()
    for name, file in (folder_files(path) if path.is_dir() else {"": path}).items():
        facts = file.stat()
        digest.update(f"{name}\0{facts.st_ino} {facts.st_size} {facts.st_mtime_ns}\n".encode())
    return digest.hexdigest()
