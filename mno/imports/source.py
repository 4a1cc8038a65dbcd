"""One file as a source of samples, so that an import is made like any dataset: shard by shard."""

from __future__ import annotations

from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pydantic

from mno.core.config import Config
from mno.core.errors import InputError
from mno.core.fields import Axis, Field
from mno.imports import importer_class
from mno.imports.base import Contents
from mno.imports.mapped import MappedFile
from mno.imports.mapping import Mapping
from mno.scenarios.base import FilesSource


class FileParameters(Config):
    """One file, and what is to become of it.

    The checksum may be unknown while samples are read. The stamp tells the file from what has been
    at its path before; it decides no sample, and is no part of the dataset.
    """

    dataset: str
    kind: str
    file: str
    sha256: str
    stamp: str = pydantic.Field(exclude=True)
    importer_version: int
    mapping: Mapping


class FileSource(FilesSource):
    """The samples of one file.

    Args:
        parameters: Which file, and how it is read.
        folder: Where the file is.

    Raises:
        InputError: The file cannot be imported.
    """

    name: ClassVar[str] = "file"
    Parameters: ClassVar[type[Config]] = FileParameters
    may_repeat: ClassVar[bool] = True

    def __init__(self, parameters: FileParameters, folder: Path) -> None:
        self.parameters = parameters
        self.path = folder / parameters.file
        self.title = f"{parameters.file}, imported as {parameters.kind}"
        mapping = parameters.mapping.model_dump_json()
        self._file = _opened(parameters.kind, self.path, mapping, parameters.stamp)
        self.fields: tuple[Field, ...] = self.contents.fields

    @classmethod
    def open(cls, parameters: FileParameters, config: Any, root: Path) -> FileSource:
        """Open the file in the folder `root`."""
        return cls(parameters, root)

    @property
    def contents(self) -> Contents:
        """What the file holds, as it will be in the dataset."""
        return self._file.contents

    @property
    def axes(self) -> tuple[Axis, ...]:
        """The coordinate axes."""
        return self.contents.axes

    @property
    def dataset_name(self) -> str:
        """The dataset that the file belongs to."""
        return self.parameters.dataset

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """The file, its checksum and its importer."""
        p = self.parameters
        source = {
            "file": p.file,
            "sha256": p.sha256,
            "importer": p.kind,
            "importer_version": p.importer_version,
            "found": dict(self.contents.parameters),
        }
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
        return {
            field.name: self._file.read(field.name, samples.start, samples.stop)
            for field in self.fields
        }

    def not_finite(self, field: Field, values: np.ndarray, sample: int) -> InputError:
        """Return what the user is told of values that no sample may have."""
        where = f"{self.path}: {field.name} has {{}} in sample {sample}"
        if np.isinf(values).any():
            return InputError(
                f"{where.format('infinite values')}; expected finite numbers: correct the file"
            )
        return InputError(
            f"{where.format('missing values (NaN)')}; correct the file, or say that they may be "
            f"missing, in a mapping file: `fields: {{{field.name}: {{gaps: true}}}}`"
        )


@lru_cache(maxsize=1)
def _opened(kind: str, path: Path, mapping: str, stamp: str) -> MappedFile:
    """Open a file, as it was when it had the stamp; the last one that was opened stays open."""
    rules = Mapping.model_validate_json(mapping)
    return MappedFile(importer_class(kind)(path, rules), path, rules)
