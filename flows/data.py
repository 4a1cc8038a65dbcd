"""Data in and out: `mno import`, `mno export`, `mno inspect`."""

import io
import re
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.filesize import decimal
from rich.table import Table

from flows import options
from flows.options import Json, Quiet, answer, console
from flows.workspace import RUN_LOCK, find_workspace, progress_bar, read_json, require, require_new
from mno import __version__
from mno.core.absent import Absent
from mno.core.errors import InputError
from mno.imports import KINDS
from mno.lineage.record import candidate_digest

if TYPE_CHECKING:
    from mno.imports.collection import Outcome, Step
    from mno.report.inspection import Inspection

inspect_app = options.command_group("Look at what the line has made, before going on with it.")
_REPORT = "reports/dataset.json"
_MOST_SAMPLES = 10_000_000
_TO_THE_RIGHT = {"samples", "share", "min", "max", "mean", "std", "not finite"}


def import_(
    kind: Annotated[str, typer.Argument(
        help=f"{', '.join(KINDS[:-1])} or {KINDS[-1]} (sensor logs).")],
    files: Annotated[list[Path], typer.Argument(help="Files of one kind with the same fields.")],
    name: Annotated[str | None, typer.Option(
        help="Name of the dataset and its models; the first file's.")] = None,
    mapping: Annotated[Path | None, typer.Option(
        help="YAML file of names, roles, units and splits.", metavar="FILE")] = None,
    dry_run: Annotated[bool, typer.Option(
        "--dry-run", help="Show what would become which field; write nothing.")] = False,
    write_mapping: Annotated[Path | None, typer.Option(
        help="Write a mapping file of what is found, to correct; import nothing.",
        metavar="FILE")] = None,
    replace: Annotated[bool, typer.Option(
        "--replace", help="Forget what was imported under this name before.")] = False,
    quiet: Quiet = False, as_json: Json = False,
) -> None:  # fmt: skip
    """Make files of others the workspace's data; the same name again adds files to a dataset.

    Example: mno import pdebench 2D_DarcyFlow_beta1.0_Train.hdf5 --dry-run
    """
    paths = list(dict.fromkeys(files))
    for path in paths:
        require(path, "a file to import")
    require(mapping, "a mapping file, as --write-mapping makes one")
    from mno.imports.collection import caged_look
    from mno.imports.importer import importer_class
    from mno.imports.mapping import read_mapping

    with options.interruptible():
        importer_class(kind)
        if write_mapping:
            _draft_mapping(kind, paths[0], write_mapping, quiet, as_json)
            return
        name = _checked_name(name, paths)
        if dry_run:
            result = {"name": name, "files": caged_look(paths, kind, read_mapping(mapping))}
        else:
            result = _bring_in(kind, paths, name, mapping, replace, quiet or as_json)
    answer(result, as_json, quiet, _print_preview if dry_run else _print_import)


_HEAD = """# What {file} was found to hold: correct it, and leave out what may stay. Roles are
# input, output, state and coordinate. Of a sensor x, y and z say where it is; one without is of the
# whole plant. All that can be said: docs/how-to/import-data.md
"""


def _draft_mapping(kind: str, path: Path, file: Path, quiet: bool, as_json: bool) -> None:
    """Write a mapping file of what is found in a file; refuse to replace one."""
    from mno.core.config import yaml_writer
    from mno.core.files import write_text
    from mno.imports.collection import caged_draft

    require_new(file)
    found, text = caged_draft(path, kind), io.StringIO(_HEAD.format(file=path.name))
    text.seek(0, io.SEEK_END)
    yaml_writer().dump(found, text)
    with options.writing_to(file):
        write_text(file, text.getvalue())
    said = f"Mapping:  {file}\nNext:     mno import {kind} {path} --mapping {file} --dry-run"
    answer({"mapping": str(file), **found}, as_json, quiet, lambda _: print(said))


def _bring_in(
    kind: str, paths: list[Path], name: str, mapping: Path | None, replace: bool, quiet: bool
) -> dict[str, Any]:
    """Make the files the workspace's data; where that fails the parameters are as before."""
    from flows.params import fitting_settings, load_params, replace_params
    from mno.core.config import IMPORTED, validate
    from mno.core.fields import PLAIN
    from mno.core.files import locked
    from mno.data.imported import FOLDER, Imported
    from mno.imports.collection import caged_import, sweep
    from mno.imports.mapping import read_mapping
    from mno.scenarios.imported import ImportedParameters

    root = find_workspace()
    rules = read_mapping(mapping) if mapping else None
    folder = root / FOLDER / name
    with locked(root / RUN_LOCK, "an import"), progress_bar(quiet) as show:

        def told(step: "Step") -> None:
            verb = "reading" if step.doing == "checksum" else "importing"
            show(f"{verb} {step.path.name}", step.done, step.total)

        outcome = caged_import(folder, paths, kind, rules, told, replace=replace)
        values = _parameters(root, name, outcome)
        changed = replace_params(root, values | fitting_settings(root, values))
        if replace:
            sweep(folder, outcome.list)
        params = load_params(root)
        own = validate(ImportedParameters, params.scenarios[IMPORTED])
        source = Imported.open(own, params.generate, root)
    spans = source.spans()
    scales = {field.name: field.scale for field in source.fields if field.scale != PLAIN}
    return {
        "name": name,
        "added": [part.file for part in outcome.added],
        "known": [part.file for part in outcome.known],
        "samples": sum(part.samples for part in outcome.list.parts),
        "scales": {n: {"scale": scale, "span": spans.get(n)} for n, scale in scales.items()},
        "changed": changed,
    }


def _checked_name(name: str | None, paths: Sequence[Path]) -> str:
    from mno.core.config import EXTERNAL, IMPORTED
    from mno.scenarios.base import scenario_names

    name = name or re.sub(r"[^a-z0-9]+", "-", paths[0].stem.lower()).strip("-")
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,62}", name):
        raise InputError(
            f"--name {name!r} must be lower-case letters, digits, - and _, as in plant-2; give one"
        )
    if name in (*scenario_names(), IMPORTED, EXTERNAL):
        raise InputError(
            f"--name {name}: that is a scenario, whose models these data must not be mixed with; "
            f"give another name, for example --name {name}-imported"
        )
    return name


def _parameters(root: Path, name: str, outcome: "Outcome") -> dict[str, Any]:
    """Return the parameters that make the line take these data, and all of their samples."""
    from mno.core.config import IMPORTED, read_params, section
    from mno.data.config import GenerateConfig

    parts = outcome.list.parts
    files = [part.model_dump(include={"file", "sha256", "content"}) for part in parts]
    split = outcome.list.mapping.split.model_dump(mode="json", exclude_none=True)
    wanted = section(read_params(root), "generate", GenerateConfig).samples
    samples = sum(part.samples for part in parts)
    return {
        "scenario": IMPORTED,
        f"scenarios.{IMPORTED}": {"name": name, "files": files, "split": split},
        "generate.samples": max(wanted, samples),
    }


def _print_preview(found: dict[str, Any]) -> None:
    for file in found["files"]:
        print(f"{file['file']}  {file['samples']} samples")
        remarks = (f"remark: {remark}" for remark in file["remarks"])
        for line in (*file["lines"], *remarks):
            print(f"  {line}")
    print(
        f"\nNothing was written. Without --dry-run this becomes the dataset {found['name']}; "
        "names, units, roles and splits can be set in a mapping file (--mapping)."
    )


def _print_import(result: dict[str, Any]) -> None:
    for file in result["known"]:
        print(f"{file} was imported before")
    for file in result["added"]:
        print(f"{file} imported")
    print(f"\nDataset {result['name']}: {result['samples']} samples.")
    for name, found in result["scales"].items():
        span = " (from {:.3g} to {:.3g})".format(*found["span"]) if found["span"] else ""
        print(f"Models take {name}{span} on the scale {found['scale']}; train.scales changes that.")
    if result["changed"]:
        print(f"Set in params.yaml: {', '.join(result['changed'])}")
    print("Next:     mno run;  or look at the data first: mno generate; mno inspect data")


def export(
    source: Annotated[Path, typer.Argument(
        help="Zarr store: a dataset, or what mno predict has written; or a model, as for mno "
        "predict.")],
    destination: Annotated[Path, typer.Argument(
        help="What to write: .nc, .npz, or a folder of VTK (for ParaView); of a model .onnx, of an "
        "observer .fmu.")],
    field: Annotated[list[str] | None, typer.Option(
        help="This field only; may be repeated.", metavar="NAME")] = None,
    sample: Annotated[list[str] | None, typer.Option(
        help="This sample only, or a range as 0:10; may be repeated.", metavar="N")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export.")] = False,
    opset: Annotated[int | None, typer.Option(help="Version of ONNX's operators; 20.")] = None,
    fmi: Annotated[int | None, typer.Option(help="Version of FMI, 2 or 3; 3.")] = None,
    quiet: Quiet = False, as_json: Json = False,
) -> None:  # fmt: skip
    """Write fields as NetCDF, VTK or npz, or a model as ONNX or FMU, for other programs.

    Example: mno export predictions.zarr out.nc --sample 0:10    or: mno export MODEL model.onnx
    """
    kind, of_model = destination.suffix, destination.suffix in (".onnx", ".fmu")
    unfit = {"--field": of_model and field, "--sample": of_model and sample}
    unfit |= {"--opset": kind != ".onnx" and opset, "--fmi": kind != ".fmu" and fmi}
    if option := next((option for option, given in unfit.items() if given), None):
        raise InputError(f"{option} means nothing for {destination}; leave it out")
    if of_model:
        version = fmi or 3 if kind == ".fmu" else opset or 20
        _export_model(str(source), destination, version, force, quiet, as_json)
        return
    require(source, "a dataset, or what mno predict has written", folder=True)
    from mno.imports.export import export_store

    numbers, begun = _sample_numbers(sample), time.monotonic()
    with progress_bar(quiet or as_json, "parts") as show:
        done = export_store(
            source, destination, fields=field or (), samples=numbers, force=force,
            progress=lambda part, parts: show("exporting", part, parts),
        )  # fmt: skip
    result = {
        "source": str(source), "destination": str(destination), **done._asdict(),
        "seconds": round(time.monotonic() - begun, 2),
    }  # fmt: skip
    answer(result, as_json, quiet, _print_export)


def _export_model(
    model: str, path: Path, version: int, force: bool, quiet: bool, as_json: bool
) -> None:
    from flows.predict import model_folder, trust_of
    from mno.portable.fmu import write_fmu
    from mno.portable.graph import graph_of
    from mno.portable.onnx_file import write_onnx
    from mno.surrogate.surrogate import Surrogate

    if path.exists() and not force:
        raise InputError(f"{path} exists already; name another, or replace it with --force")
    begun, folder = time.monotonic(), model_folder(model)
    trust, surrogate = trust_of(model, folder), Surrogate.load(folder)
    about = {
        "title": surrogate.description.scenario, "description": model, "tool": f"mno {__version__}",
        "model_sha256": candidate_digest(folder),
    }  # fmt: skip
    about |= {"no_trust": str(trust)} if isinstance(trust, Absent) else {}
    options.teller(quiet or as_json)(f"exporting {model}, which takes up to a minute")
    write = write_fmu if path.suffix == ".fmu" else write_onnx
    with options.writing_to(path), options.interruptible("nothing was written"):
        found = write(graph_of(surrogate, trust), path, about, version)
    found |= {"destination": str(path), "seconds": round(time.monotonic() - begun, 2)}

    def show(_: dict[str, Any]) -> None:
        size, far = decimal(path.stat().st_size), found["largest_difference"]
        print(f"{path}: {size}, in {found['seconds']:.0f} s")
        print(f"The runtime answers as the model does, within {far:.1g} of the largest number.")
        print("Next:     ask it where there is no Python: docs/how-to/use-a-model-elsewhere.md")

    answer(found, as_json, quiet, show)


def _sample_numbers(given: Sequence[str] | None) -> list[int] | None:
    """Return the samples that options such as `3` and `10:20` name; all if there are none."""
    if not given:
        return None
    numbers: dict[int, None] = {}
    for text in given:
        match = re.fullmatch(r"(\d{1,8})(?::(\d{1,8}))?", text)
        start = int(match[1]) if match else 0
        stop = int(match[2] or start + 1) if match else 0
        if not start < stop <= _MOST_SAMPLES:
            raise InputError(
                f"--sample {text} is neither a number nor a range; expected as in --sample 3 or "
                "--sample 0:10, which ends with sample 9"
            )
        numbers.update(dict.fromkeys(range(start, stop)))
    return list(numbers)


def _print_export(result: dict[str, Any]) -> None:
    path = Path(result["destination"])
    print(
        f"{result['samples']} samples of {', '.join(result['fields'])} written in "
        f"{result['seconds']:.1f} s: {path} ({decimal(result['bytes'])}, {result['files']} file(s))"
    )
    first = min(path.glob("*.pvd"), default=path) if path.is_dir() else path
    following = {
        "netcdf": f"python -c \"import xarray; print(xarray.open_dataset('{path}'))\"",
        "npz": f"python -c \"import numpy; print(numpy.load('{path}'))\"",
        "vtk": f"paraview {first}    (there: Apply, then colour by a field)",
    }
    print(f"Next: {following[result['format']]}")


@inspect_app.command("data")
def inspect_data(
    data: Annotated[Path | None, typer.Option(
        help="The dataset; the workspace's if not given.", metavar="PATH")] = None,
    output: Annotated[Path | None, typer.Option(
        help="Where to write; reports/inspection/ if not given.", metavar="FOLDER")] = None,
    quiet: Quiet = False, as_json: Json = False,
) -> None:  # fmt: skip
    """Measure and draw a dataset: ranges, splits, duplicates, gaps, noise, spectra, checks.

    Example: mno inspect data --output inspection
    """
    require(data, "the folder of a dataset", folder=True)
    from mno.report.inspection import inspect_store
    from mno.report.inspection_page import write_inspection

    root = find_workspace() if data is None else workspace_or_none() or Path()
    store, folder = data or root / "data", output or root / "reports/inspection"
    beside = store.resolve().parent  # a dataset's own report lies there, or in the workspace
    report = read_json(beside / _REPORT) or read_json(root / _REPORT) or None
    with progress_bar(quiet or as_json) as show:
        inspection = inspect_store(store, report, lambda done, n: show("inspecting", done, n))
    with options.writing_to(folder, "; name another with --output"):
        page = write_inspection(inspection, folder)
    told = {**inspection.to_dict(), "page": str(page)}
    answer(told, as_json, quiet, lambda _: _print_inspection(inspection, page))


def _print_inspection(inspection: "Inspection", page: Path) -> None:
    from mno.report.inspection_page import tables

    scenario, samples, out = inspection.schema.scenario, len(inspection.splits), console(width=120)
    out.print(f"{from_here(inspection.store)}  {scenario}, {samples} samples")
    for rows in filter(None, tables(inspection).values()):
        lines = [{k: v for k, v in row.items() if k != "quantity"} for row in rows]
        out.print()
        out.print(table(lines, right=_TO_THE_RIGHT, whole={"field"}))
    notes = [f"problem  {problem}" for problem in inspection.problems]
    notes += [f"remark   {remark}" for remark in inspection.remarks]
    notes += [f"verdict  {inspection.verdict}"] if inspection.verdict else []
    if notes:
        out.print("\n" + "\n".join(notes))
    if inspection.problems:
        following = "make the dataset without its problems: mno generate --help"
    elif not all(judgement.holds for judgement in inspection.judgements):
        following = "add what is missing and import again: mno import --help"
    else:
        following = "mno train"
    out.print(f"\nNext: open {from_here(page)}; then {following}")


def table(rows: Sequence[dict[str, str]], right: Collection[str], whole: Collection[str]) -> Table:
    """Return rows, cells by column, as a table; columns on the `right` and `whole` never fold."""
    made = Table(box=None, pad_edge=False)
    for name in rows[0]:
        justify, fixed = "right" if name in right else "left", name in right or name in whole
        title = name[:1].upper() + name[1:]
        made.add_column(title, justify=justify, no_wrap=fixed, overflow="fold")
    for row in rows:
        made.add_row(*row.values())
    return made


def from_here(path: Path) -> Path:
    """Return a path from the current folder on, where it is in it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def workspace_or_none() -> Path | None:
    """Return the workspace, if the current folder is in one."""
    try:
        return find_workspace()
    except InputError:
        return None
