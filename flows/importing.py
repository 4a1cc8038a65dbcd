"""`mno import`: files of others become the workspace's data."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from flows.params import fitting_settings, replace_params
from flows.progress import progress_bar
from flows.workspace import RUN_LOCK, find_workspace
from mno.core.config import IMPORTED, read_params, section
from mno.core.errors import InputError
from mno.core.files import locked
from mno.data.config import ExecutionConfig, GenerateConfig
from mno.data.imported import FOLDER
from mno.imports import importer_class
from mno.imports.base import Contents
from mno.imports.collection import Outcome, Step, import_files, look, sweep
from mno.imports.mapped import describe
from mno.imports.mapping import Mapping, read_mapping
from mno.scenarios.base import scenario_names

IN_THIS_PROCESS = ExecutionConfig(workers=1)
"""Checksums and compression use all cores as it is: more processes only take more memory."""

_TABLES = {".csv", ".tsv", ".txt"}


@dataclass(frozen=True)
class ImportOptions:
    """What a person may say of an import.

    Attributes:
        kind: Which importer.
        files: Files, or for sensor logs folders of them.
        name: Of the dataset; made from the first file's if not given.
        mapping: A mapping file.
        replace: Forget what was imported under the name before.
        quiet: Print no progress.
    """

    kind: str
    files: Sequence[Path]
    name: str | None = None
    mapping: Path | None = None
    replace: bool = False
    quiet: bool = False


def preview(options: ImportOptions) -> dict[str, Any]:
    """Return what an import would make of the files; nothing is written.

    Keys: `name`; `files`, each with `file`, `samples`, `fields` (name, units, role, dims, shape,
    found), `remarks`.

    Raises:
        InputError: A file cannot be imported.
    """
    importer_class(options.kind)
    mapping = read_mapping(options.mapping) if options.mapping else Mapping()
    paths = _files(options)
    looked = [(path, look(path, options.kind, mapping)) for path in paths]
    return {
        "name": _name(options, paths),
        "files": [_facts(path, contents) for path, contents in looked],
    }


def run_import(options: ImportOptions) -> dict[str, Any]:
    """Convert the files and make them the workspace's data.

    Returns:
        `name`, `added`, `known` (files), `samples` (of all), `changed` (parameters that were set,
        by dotted key).

    Raises:
        InputError: A file, the name or the mapping cannot be used; the parameters are as before.
        MnoError: Another run is active, or the disk is full; what is converted is kept.
    """
    importer_class(options.kind)
    root = find_workspace()
    mapping = read_mapping(options.mapping) if options.mapping else None
    paths = _files(options)
    name = _name(options, paths)
    folder = root / FOLDER / name
    with locked(root / RUN_LOCK, "an import"), progress_bar(options.quiet) as show:

        def told(step: Step) -> None:
            verb = "reading" if step.doing == "checksum" else "importing"
            show(f"{verb} {step.path.name}", step.done, step.total)

        outcome = import_files(
            folder, paths, options.kind, mapping, IN_THIS_PROCESS, told, replace=options.replace
        )
        values = _parameters(root, name, outcome)
        changed = replace_params(root, values | fitting_settings(root, values))
        if options.replace:
            sweep(folder, outcome.list)
    return {
        "name": name,
        "added": [part.file for part in outcome.added],
        "known": [part.file for part in outcome.known],
        "samples": sum(part.samples for part in outcome.list.parts),
        "changed": changed,
    }


def print_preview(found: dict[str, Any], console: Console) -> None:
    """Say what would become which field."""
    for file in found["files"]:
        console.print(f"{file['file']}  {file['samples']} samples")
        for line in file["lines"]:
            console.print(f"  {line}")
        for remark in file["remarks"]:
            console.print(f"  remark: {remark}")
    console.print(
        f"\nNothing was written. Without --dry-run this becomes the dataset {found['name']}; "
        "names, units, roles and splits can be set in a mapping file (--mapping)."
    )


def print_import(result: dict[str, Any], console: Console) -> None:
    """Say what was imported and what to do next."""
    for file in result["known"]:
        console.print(f"{file} was imported before")
    for file in result["added"]:
        console.print(f"{file} imported")
    console.print(f"\nDataset {result['name']}: {result['samples']} samples.")
    if result["changed"]:
        console.print(f"Set in params.yaml: {', '.join(result['changed'])}")
    console.print("Next:     mno run;  or look at the data first: mno generate; mno inspect data")


def _files(options: ImportOptions) -> list[Path]:
    """Return the files, those in folders of tables one by one."""
    paths: list[Path] = []
    for path in options.files:
        if options.kind == "csv" and path.is_dir():
            found = sorted(p for p in path.iterdir() if p.suffix.lower() in _TABLES)
            if not found:
                raise InputError(
                    f"{path} holds no table; expected files ending in {', '.join(sorted(_TABLES))}"
                )
            paths += found
        else:
            paths.append(path)
    return list(dict.fromkeys(paths))


def _name(options: ImportOptions, paths: Sequence[Path]) -> str:
    name = options.name or re.sub(r"[^a-z0-9]+", "-", paths[0].stem.lower()).strip("-")
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,62}", name):
        raise InputError(
            f"--name {name!r} must be lower-case letters, digits, - and _, as in plant-2; give one"
        )
    if name in (*scenario_names(), IMPORTED):
        raise InputError(
            f"--name {name}: that is a scenario, whose models these data must not be mixed with; "
            f"give another name, for example --name {name}-imported"
        )
    return name


def _parameters(root: Path, name: str, outcome: Outcome) -> dict[str, Any]:
    """Return the parameters that make the line take these data, and all of their samples."""
    files = [
        {"file": part.file, "sha256": part.sha256, "content": part.content}
        for part in outcome.list.parts
    ]
    split = outcome.list.mapping.split.model_dump(mode="json", exclude_none=True)
    wanted = section(read_params(root), "generate", GenerateConfig).samples
    samples = sum(part.samples for part in outcome.list.parts)
    return {
        "scenario": IMPORTED,
        f"scenarios.{IMPORTED}": {"name": name, "files": files, "split": split},
        "generate.samples": max(wanted, samples),
    }


def _facts(path: Path, contents: Contents) -> dict[str, Any]:
    sizes = {axis.name: len(axis.points) for axis in contents.axes}
    return {
        "file": str(path),
        "samples": contents.samples,
        "fields": [
            {
                "name": field.name,
                "found": contents.sources[field.name],
                "units": field.units,
                "role": field.role,
                "dims": list(field.dims),
                "shape": [sizes[dim] for dim in field.dims],
                "gaps": field.gaps,
            }
            for field in contents.fields
        ],
        "axes": {
            axis.name: {
                "units": axis.units,
                "points": sizes[axis.name],
                "extent": list(axis.extent),
            }
            for axis in contents.axes
        },
        "lines": list(describe(contents).values()),
        "remarks": list(contents.remarks),
    }
