"""An imported dataset: files that were converted one by one, and the list of them.

<folder>/import.json     kind, mapping and files, written after each file
<folder>/parts/<16>/     one converted file, named by the SHA-256 of its store's root
<folder>/work/           shards of conversions that are not finished

`import_files` and `look` read in this process; commands call `caged_import` and `caged_look`.
"""

import json
import os
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mno.core.config import Config
from mno.core.errors import InputError, MnoError, reading
from mno.core.fields import PLAIN
from mno.core.files import file_sha256, folder_sha256, write_json
from mno.data.generate.run import Progress
from mno.data.reading import Schema, difference, read_schema
from mno.imports.cage import Cage, printable
from mno.imports.convert import FileParameters, FileSource, convert_file
from mno.imports.importer import Contents, importer_class
from mno.imports.mapping import Mapping
from mno.imports.readings import sensor_columns

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


class Outcome(Config):
    """What an import did."""

    list: ImportList  # the dataset's files, those of earlier imports included
    added: tuple[Part, ...]  # files that were converted now
    known: tuple[Part, ...]  # files that were in it before, and were not converted again


@dataclass(frozen=True)
class Step:
    """How far an import is."""

    path: Path
    doing: str  # `checksum` or `convert`
    done: int  # checksums, or samples
    total: int


Told = Callable[[Step], None]


def caged_import(
    folder: Path, paths: Sequence[Path], kind: str, mapping: Mapping | None,
    progress: Told = lambda _: None, *, replace: bool = False,
) -> Outcome:  # fmt: skip
    """Call `import_files` in a cage."""
    arguments = dict(folder=folder, paths=list(paths), kind=kind, mapping=mapping, replace=replace)

    def told(step: dict[str, Any]) -> None:
        progress(Step(**{**step, "path": Path(step["path"])}))

    with Cage() as cage:
        outcome = cage.call(import_files, arguments, paths, told)
    return Outcome.model_validate_json(json.dumps(outcome))


def caged_look(paths: Sequence[Path], kind: str, mapping: Mapping) -> list[dict[str, Any]]:
    """Return what files hold, as the mapping makes it, as plain values; nothing is written."""
    with Cage() as cage:
        return cage.call(_facts, {"paths": list(paths), "kind": kind, "mapping": mapping}, paths)


def _facts(paths: list[Path], kind: str, mapping: Mapping, progress: Told) -> list[dict[str, Any]]:
    found = []
    for path in paths:
        contents = look(path, kind, mapping)
        sizes = {axis.name: len(axis.points) for axis in contents.axes}
        fields = [
            {"name": field.name, "found": contents.sources[field.name], "units": field.units,
             "role": field.role, "dims": field.dims, "shape": [sizes[dim] for dim in field.dims],
             "gaps": field.gaps}
            for field in contents.fields
        ]  # fmt: skip
        lines = [
            f"{contents.sources[field.name]} → {field.name} [{field.units}], {field.role}, "
            f"({', '.join(f'{d} {sizes[d]}' for d in field.dims) or 'one number per sample'})"
            for field in contents.fields
        ]
        axes = {
            axis.name: {"units": axis.units, "points": sizes[axis.name], "extent": axis.extent}
            for axis in contents.axes
        }
        found.append(
            {"file": path, "samples": contents.samples, "fields": fields, "axes": axes,
             "lines": [*map(printable, lines)], "remarks": [*map(printable, contents.remarks)]}
        )  # fmt: skip
    return found


def caged_draft(path: Path, kind: str) -> dict[str, Any]:
    """Return a mapping file's content: what a file was found to hold, for a person to correct."""
    with Cage() as cage:
        return cage.call(_draft, {"path": path, "kind": kind}, [path])


def _draft(path: Path, kind: str, progress: Told) -> dict[str, Any]:
    _require_readable(path, kind)
    if kind == "csv":
        with reading(path):
            names = sensor_columns(path)
        quantities = {name: re.sub(r"[\W_]*\d+$", "", name) or name for name in names}
        rules = {n: {"quantity": q, "units": "1", "x": None} for n, q in quantities.items()}
        if rules:
            return {"sensors": {"interval": None, "frames": 32, "columns": rules}}
    with importer_class(kind)(path, Mapping()) as importer:
        found = importer.contents
    plain = all(field.scale == PLAIN for field in found.fields)  # a unit of one's own ends a scale
    fields, sources = {}, [*found.sources.values()]
    for field in found.fields:
        source = found.sources[field.name]
        rule = {"name": field.name, "role": field.role} | ({"units": field.units} if plain else {})
        fields[source if sources.count(source) == 1 else field.name] = rule
    return {"fields": fields, "axes": {axis.name: {"units": axis.units} for axis in found.axes}}


def read_list(folder: Path) -> ImportList | None:
    """Return what was imported into a folder; none if nothing was."""
    try:
        return ImportList.model_validate_json((folder / _LIST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValidationError, UnicodeDecodeError):
        raise MnoError(
            f"{folder / _LIST} was damaged; remove {folder} and import its files again"
        ) from None


def look(path: Path, kind: str, mapping: Mapping) -> Contents:
    """Return what a file holds, as the mapping makes it; nothing is written."""
    _require_readable(path, kind)
    file = FileParameters.of(path, kind, mapping, "look")
    return FileSource(file, path.resolve().parent).contents


def import_files(
    folder: Path, paths: Sequence[Path], kind: str, mapping: Mapping | None,
    progress: Told = lambda _: None, *, replace: bool = False,
) -> Outcome:  # fmt: skip
    """Convert files into a dataset's folder, besides those that are in it.

    Each file is finished, and listed, before the next is begun; one that was interrupted goes on
    where it was. The folder is named like the dataset, and used by one import at a time. Without a
    mapping, that of the first import holds. To `replace` is to list these files alone: what was
    converted of others stays until `sweep`, so that the old dataset can be made meanwhile.

    Raises:
        InputError: A file cannot be imported, or does not fit the others; those before it are kept.
        MnoError: The disk is full.
    """
    before = None if replace else read_list(folder)
    if before:
        _require_continuation(folder, before, kind, mapping)
    mapping = mapping or (before.mapping if before else Mapping())
    listed = ImportList(kind=kind, mapping=mapping, parts=before.parts if before else [])
    parts, files = listed.parts, {}
    for path in paths:
        _require_readable(path, kind)
        progress(Step(path, "checksum", 0, 1))
        file = FileParameters.of(path, kind, mapping, folder.name)
        files[path] = file.model_copy(update={"sha256": checksum(path)})
        progress(Step(path, "checksum", 1, 1))
    _require_alike(folder, parts, files)
    added, known = [], []
    for path, file in files.items():
        if part := next((part for part in parts if part.sha256 == file.sha256), None):
            known.append(part)
            if _store(folder, part).exists():
                continue
            parts.remove(part)
        part = _convert(folder, path, file, progress)
        parts.append(part)
        added.append(part)
        write_json(folder / _LIST, listed.model_dump(mode="json"))
    shutil.rmtree(folder / "work", ignore_errors=True)
    return Outcome(list=listed, added=tuple(added), known=tuple(known))


def sweep(folder: Path, kept: ImportList) -> None:
    """Remove what was converted of files that are not in the list."""
    stores = {_store(folder, part) for part in kept.parts}
    for path in set((folder / "parts").iterdir()) - stores:
        shutil.rmtree(path)


def checksum(path: Path) -> str:
    """Return the SHA-256 of a file; of a folder, that of the paths and checksums in it."""
    return (folder_sha256 if path.is_dir() else file_sha256)(path)


def _require_continuation(
    folder: Path, before: ImportList, kind: str, mapping: Mapping | None
) -> None:
    if before.kind != kind:
        raise InputError(
            f"{folder.name} was imported as {before.kind}, not {kind}; choose another --name, or "
            "start over with --replace"
        )
    if mapping and mapping != before.mapping:
        raise InputError(
            f"{folder.name} was imported with another mapping; leave --mapping out to use that "
            "one, choose another --name, or start over with --replace"
        )
    version = importer_class(kind).version
    for part in before.parts:
        if part.importer_version != version:
            raise InputError(
                f"{part.file} was imported by version {part.importer_version} of {kind}, this is "
                f"{version}; start over with --replace"
            )


def _require_alike(folder: Path, parts: Sequence[Part], files: dict[Path, FileParameters]) -> None:
    known = {part.sha256 for part in parts}
    stores = (_store(folder, part) for part in parts)
    first: Contents | Schema | None = next((read_schema(s) for s in stores if s.exists()), None)
    for path, file in files.items():
        if first is not None and file.sha256 in known:
            continue
        contents = FileSource(file, path.resolve().parent).contents
        if first is not None and (other := difference(first, contents)):
            raise InputError(
                f"{path} {other}; files of one dataset have the same fields at the same "
                "places: import it under another --name"
            )
        first = first or contents


def _store(folder: Path, part: Part) -> Path:
    return folder / "parts" / part.content[:16]


def _convert(folder: Path, path: Path, file: FileParameters, progress: Told) -> Part:
    def told(state: Progress) -> None:
        progress(Step(path, "convert", state.samples_done, state.samples))

    fresh = folder / "work/converted"
    report = convert_file(path, file, fresh, folder / "work/shards", told)
    part = Part(
        file=path.name, sha256=file.sha256, content=file_sha256(fresh / "zarr.json"),
        samples=report.samples, importer_version=file.importer_version,
    )  # fmt: skip
    target = _store(folder, part)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(target, ignore_errors=True)
    os.replace(fresh, target)
    return part


def _require_readable(path: Path, kind: str) -> None:
    if not path.exists():
        raise InputError(f"{path} does not exist; give the path of a file to import")
    if not os.access(path, os.R_OK):
        raise InputError(f"{path} cannot be read (permission denied); make it readable")
    importer_class(kind).require(path)
