"""An imported dataset: files that were converted one by one, and the list of them.

<folder>/import.json     kind, mapping and files, written after each file, beside and in place
<folder>/parts/<16>/     one converted file, named by the SHA-256 of its store's root
<folder>/work/           shards of conversions that are not finished
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from mno.core.config import Config
from mno.core.errors import InputError, MnoError
from mno.data.config import ExecutionConfig
from mno.data.generate import Progress
from mno.data.reading import Schema, read_schema
from mno.imports import importer_class
from mno.imports.base import Contents
from mno.imports.convert import FileImport, convert_file, plan_of
from mno.imports.identity import Checksums, stamp
from mno.imports.mapped import same_schema
from mno.imports.mapping import Mapping
from mno.imports.source import FileSource

_LIST = "import.json"


class Part(Config):
    """A file that was converted."""

    file: str
    sha256: str
    content: str
    samples: int
    importer_version: int


class ImportList(Config):
    """What is known of an imported dataset."""

    kind: str
    mapping: Mapping
    parts: list[Part]


@dataclass(frozen=True)
class Step:
    """How far an import is.

    Attributes:
        path: The file.
        doing: `checksum` or `convert`.
        done: Checksums, or samples.
        total: Of these.
    """

    path: Path
    doing: str
    done: int
    total: int


@dataclass(frozen=True)
class Outcome:
    """What an import did.

    Attributes:
        list: The dataset's files, those of earlier imports included.
        added: Files that were converted now.
        known: Files that were in it before, and were not converted again.
    """

    list: ImportList
    added: tuple[Part, ...]
    known: tuple[Part, ...]


def read_list(folder: Path) -> ImportList | None:
    """Return what was imported into a folder; none if nothing was.

    Raises:
        MnoError: Its list was damaged.
    """
    try:
        text = (folder / _LIST).read_text(encoding="utf-8")
        return ImportList.model_validate_json(text)
    except FileNotFoundError:
        return None
    except (OSError, ValidationError, UnicodeDecodeError):
        raise MnoError(
            f"{folder / _LIST} was damaged; remove {folder} and import its files again"
        ) from None


def look(path: Path, kind: str, mapping: Mapping) -> Contents:
    """Return what a file holds, as the mapping makes it; nothing is written.

    Raises:
        InputError: The file cannot be imported.
    """
    _require_file(path)
    return _source(FileImport("look", kind, path, mapping, stamp(path))).contents


def import_files(
    folder: Path,
    paths: Sequence[Path],
    kind: str,
    mapping: Mapping | None,
    execution: ExecutionConfig,
    progress: Callable[[Step], None] = lambda _: None,
    *,
    replace: bool = False,
) -> Outcome:
    """Convert files into a dataset's folder, besides those that are in it.

    Each file is finished, and listed, before the next is begun; one that was interrupted goes on
    where it was.

    Args:
        folder: Of the dataset, named like it; used by one import at a time.
        paths: The files.
        kind: Which importer reads them.
        mapping: What the user says of them; what was said at the first import if not given.
        execution: Where to compute.
        progress: Is told how far it is.
        replace: Make a list of these files alone. What was converted of others stays until `sweep`,
            so that the dataset can be made as it was until the new one is whole.

    Raises:
        InputError: A file cannot be imported, or does not fit the others; those before it are kept.
        MnoError: The disk is full, or a worker failed.
    """
    before = None if replace else read_list(folder)
    if before and before.kind != kind:
        raise InputError(
            f"{folder.name} was imported as {before.kind}, not {kind}; choose another --name, or "
            "start over with --replace"
        )
    if before and mapping and mapping != before.mapping:
        raise InputError(
            f"{folder.name} was imported with another mapping; leave --mapping out to use that "
            "one, choose another --name, or start over with --replace"
        )
    mapping = mapping or (before.mapping if before else Mapping())
    version = importer_class(kind).version
    parts = list(before.parts) if before else []
    for part in parts:
        if part.importer_version != version:
            raise InputError(
                f"{part.file} was imported by version {part.importer_version} of {kind}, this is "
                f"{version}; start over with --replace"
            )
    for path in paths:
        _require_file(path)
    files = [FileImport(folder.name, kind, path, mapping, stamp(path)) for path in paths]
    added, known = [], []
    with Checksums(paths) as checksums:

        def found(file: FileImport) -> Part | None:
            """Return what a file was imported as; only then must its checksum be waited for."""
            if not parts:
                return None
            progress(Step(file.path, "checksum", 0, 1))
            sha256 = checksums[file.path]
            progress(Step(file.path, "checksum", 1, 1))
            return next((part for part in parts if part.sha256 == sha256), None)

        _require_alike(folder, parts, files, found)
        for file in files:
            part = found(file)
            if part:
                known.append(part)
                if (folder / "parts" / part.content[:16]).exists():
                    continue
                parts.remove(part)
            part = _convert(folder, file, checksums, execution, progress)
            parts.append(part)
            added.append(part)
            _write_list(folder, ImportList(kind=kind, mapping=mapping, parts=parts))
    shutil.rmtree(folder / "work", ignore_errors=True)
    return Outcome(ImportList(kind=kind, mapping=mapping, parts=parts), tuple(added), tuple(known))


def sweep(folder: Path, kept: ImportList) -> None:
    """Remove what was converted of files that are not in the list."""
    names = {part.content[:16] for part in kept.parts}
    for path in (folder / "parts").iterdir():
        if path.name not in names:
            shutil.rmtree(path)


def _require_alike(
    folder: Path,
    parts: Sequence[Part],
    files: Sequence[FileImport],
    found: Callable[[FileImport], Part | None],
) -> None:
    """Refuse files that are unlike those before them, before any is converted."""
    stores = (folder / "parts" / part.content[:16] for part in parts)
    first: Contents | Schema | None = next((read_schema(s) for s in stores if s.exists()), None)
    for file in files:
        if first is not None and found(file):
            continue
        contents = _source(file).contents
        difference = same_schema(first, contents) if first is not None else None
        if difference:
            raise InputError(
                f"{file.path} {difference}; files of one dataset have the same fields at the same "
                "places: import it under another --name"
            )
        first = first or contents


def _source(file: FileImport) -> FileSource:
    source = plan_of(file).build()
    assert isinstance(source, FileSource)  # noqa: S101  (that is what plan_of plans)
    return source


def _convert(
    folder: Path,
    file: FileImport,
    checksums: Checksums,
    execution: ExecutionConfig,
    progress: Callable[[Step], None],
) -> Part:
    def told(state: Progress) -> None:
        progress(Step(file.path, "convert", state.samples_done, state.samples))

    fresh = folder / "work" / "converted"
    shards = folder / "work" / "shards"
    report = convert_file(file, lambda: checksums[file.path], fresh, shards, execution, told)
    content = hashlib.sha256((fresh / "zarr.json").read_bytes()).hexdigest()
    target = folder / "parts" / content[:16]
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        shutil.rmtree(target)
    os.replace(fresh, target)
    return Part(
        file=file.path.name,
        sha256=checksums[file.path],
        content=content,
        samples=report.samples,
        importer_version=importer_class(file.kind).version,
    )


def _write_list(folder: Path, content: ImportList) -> None:
    partial = folder / f"{_LIST}.partial"
    partial.write_text(json.dumps(content.model_dump(mode="json"), indent=2), encoding="utf-8")
    os.replace(partial, folder / _LIST)


def _require_file(path: Path) -> None:
    if not path.exists():
        raise InputError(f"{path} does not exist; give the path of a file to import")
    if not os.access(path, os.R_OK):
        raise InputError(f"{path} cannot be read (permission denied); make it readable")
