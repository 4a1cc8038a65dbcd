"""One export: which format, where to, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mno.core.errors import InputError
from mno.imports.export.netcdf import write_netcdf
from mno.imports.export.npz import write_npz
from mno.imports.export.selection import Selection
from mno.imports.export.target import beside, check_target
from mno.imports.export.vtk import check_vtk, write_vtk

FORMATS = ("netcdf", "vtk", "npz")
_BY_SUFFIX = {
    ".nc": "netcdf", ".nc4": "netcdf", ".npz": "npz", ".vtr": "vtk", ".vtu": "vtk",
}  # fmt: skip
_WRITERS = {"netcdf": write_netcdf, "vtk": write_vtk, "npz": write_npz}


@dataclass(frozen=True)
class Wanted:
    """What is to be exported.

    Attributes:
        source: A dataset or a store of predictions.
        destination: A file, or for `vtk` a folder.
        format: One of `FORMATS`; from the destination's suffix if not given.
        fields: Names of fields; all if none are given.
        samples: Numbers of samples; all if not given.
        force: Whether an earlier export may be replaced.
    """

    source: Path
    destination: Path
    format: str | None = None
    fields: Sequence[str] = ()
    samples: Sequence[int] | None = None
    force: bool = False


@dataclass(frozen=True)
class Exported:
    """What was exported.

    Attributes:
        format: In which format.
        samples: How many samples.
        fields: Names of the fields.
        files: How many files.
        nbytes: Their size.
    """

    format: str
    samples: int
    fields: tuple[str, ...]
    files: int
    nbytes: int


def export_store(
    wanted: Wanted, progress: Callable[[int, int], None] = lambda done, total: None
) -> Exported:
    """Export fields of a store; memory does not grow with it.

    Args:
        wanted: What, and where to.
        progress: Is told how much of how much is done.

    Raises:
        InputError: The source, the fields, the samples or the destination cannot be used.
        MnoError: The destination cannot be written to.
    """
    name = _format(wanted)
    target = wanted.destination
    check_target(target, wanted.source, wanted.force)
    with Selection(wanted.source, wanted.fields, wanted.samples) as selection:
        if name == "vtk":
            check_vtk(selection, target)
        with beside(target, selection.nbytes) as partial:
            _WRITERS[name](selection, partial, progress)
        files = [p for p in target.rglob("*") if p.is_file()] if target.is_dir() else [target]
        return Exported(
            format=name,
            samples=len(selection.samples),
            fields=tuple(field.name for field in selection.fields),
            files=len(files),
            nbytes=sum(file.stat().st_size for file in files),
        )


def _format(wanted: Wanted) -> str:
    by_suffix = _BY_SUFFIX.get(wanted.destination.suffix)
    given = wanted.format or by_suffix
    if given is None:
        raise InputError(
            f"{wanted.destination} does not tell the format by its suffix; expected .nc, .npz, "
            f".vtr or .vtu, or --format {', '.join(FORMATS)}"
        )
    if given not in FORMATS:
        raise InputError(f"--format {given} is not known; expected one of {', '.join(FORMATS)}")
    if by_suffix not in (None, given):
        raise InputError(
            f"{wanted.destination} has the suffix of another format than {given}; leave out "
            "--format, or name another file"
        )
    return given
