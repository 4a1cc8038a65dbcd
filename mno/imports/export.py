"""Getting data out: fields of datasets and predictions as NetCDF, VTK or npz, for other programs.

A file is written beside, a few samples at a time, and put in its place when it is whole.
"""

from __future__ import annotations

import math
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from numpy.lib import format as npy_format

from mno.core.errors import InputError, MnoError, first_line
from mno.core.fields import Axis, Field
from mno.imports.mapping import Mapping
from mno.imports.zarr import ZarrGroup

FORMATS = ("netcdf", "vtk", "npz")
_BY_SUFFIX = {
    ".nc": "netcdf", ".nc4": "netcdf", ".npz": "npz", ".vtr": "vtk", ".vtu": "vtk",
}  # fmt: skip
_OURS = {".vtr", ".vtu", ".pvd"}
_BLOCK_BYTES = 32 * 2**20
_BLOCK_SAMPLES = 64

Report = Callable[[int, int], None]
"""Is told how much of how much is done."""


@dataclass(frozen=True)
class ExportRequest:
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


def export_store(request: ExportRequest, progress: Report = lambda done, total: None) -> Exported:
    """Export fields of a store; memory does not grow with it.

    Args:
        request: What, and where to.
        progress: Is told how much of how much is done.

    Raises:
        InputError: The source, the fields, the samples or the destination cannot be used.
        MnoError: The destination cannot be written to.
    """
    from mno.imports.export_netcdf import write_netcdf
    from mno.imports.export_vtk import check_vtk, write_vtk

    name, target = _format(request), request.destination
    check_target(target, request.source, request.force)
    with Selection(request.source, request.fields, request.samples) as selection:
        if name == "vtk":
            check_vtk(selection, target)
        with _beside(target, selection.sample_bytes * len(selection.samples)) as partial:
            writer = {"netcdf": write_netcdf, "vtk": write_vtk, "npz": _write_npz}[name]
            writer(selection, partial, progress)
        files = [p for p in target.rglob("*") if p.is_file()] if target.is_dir() else [target]
        return Exported(
            format=name,
            samples=len(selection.samples),
            fields=tuple(field.name for field in selection.fields),
            files=len(files),
            nbytes=sum(file.stat().st_size for file in files),
        )


class Run(NamedTuple):
    """Samples that follow one another in the store, and in the export.

    Attributes:
        position: Where the first one is in the export.
        start: Number of the first one in the store.
        stop: One behind the last.
    """

    position: int
    start: int
    stop: int

    @property
    def place(self) -> slice:
        """Where they are in the export."""
        return slice(self.position, self.position + self.stop - self.start)


class Selection:
    """Fields and samples of an open store.

    Args:
        source: A dataset or a store of predictions: a Zarr group.
        fields: Names of fields; all if none are given. Coordinates of points always belong.
        samples: Numbers of samples, in the order of the export; all if not given.

    Attributes:
        fields: The fields.
        samples: Numbers of the samples.
        axes: The axes of the fields, time first.
        about: What the store says of the whole of it, as plain values.

    Raises:
        InputError: The store cannot be read, or has no such field or sample.
    """

    def __init__(
        self, source: Path, fields: Sequence[str] = (), samples: Sequence[int] | None = None
    ) -> None:
        self._group = ZarrGroup(source, Mapping(), default="output")
        found = self._group.contents
        known = [field.name for field in found.fields]
        unknown = [name for name in fields if name not in known]
        if unknown or not known:
            raise InputError(
                f"{source} has no field {unknown[0] if unknown else 'at all'}; it has "
                f"{', '.join(known) or 'none'}"
            )
        self.fields: tuple[Field, ...] = tuple(
            field
            for field in found.fields
            if not fields or field.name in fields or field.role == "coordinate"
        )
        self.samples = tuple(range(found.samples) if samples is None else samples)
        outside = [number for number in self.samples if not 0 <= number < found.samples]
        if outside or not self.samples:
            raise InputError(
                f"sample {outside[0] if outside else 'none'} is not in {source}; it has "
                f"{found.samples}, numbered from 0 to {found.samples - 1}"
            )
        used = {dim for field in self.fields for dim in field.dims}
        self.axes: tuple[Axis, ...] = tuple(axis for axis in found.axes if axis.name in used)
        self.about = found.parameters

    @property
    def lengths(self) -> dict[str, int]:
        """Number of points along each axis."""
        return {axis.name: len(axis.points) for axis in self.axes}

    def shape(self, field: Field) -> tuple[int, ...]:
        """Shape of a field in one sample."""
        return tuple(self.lengths[dim] for dim in field.dims)

    @property
    def sample_bytes(self) -> int:
        """Bytes of all fields of one sample, as float32."""
        return sum(4 * math.prod(self.shape(field)) for field in self.fields)

    def per_sample(self) -> dict[str, np.ndarray]:
        """Return what else is known of each sample: its number, split, group and beginning."""
        chosen = np.asarray(self.samples, dtype=np.int64)
        contents = self._group.contents
        known = {
            "split": self._group.labels("split"),
            "group": contents.groups,
            "start": contents.starts,
        }
        told = {name: values[chosen] for name, values in known.items() if values is not None}
        return {"sample": chosen, **told}

    def runs(self) -> Iterator[Run]:
        """Yield the samples, a few at a time."""
        most = max(1, min(_BLOCK_SAMPLES, _BLOCK_BYTES // max(1, self.sample_bytes)))
        position = 0
        while position < len(self.samples):
            start = stop = self.samples[position]
            while (
                stop - start < most
                and position + stop - start < len(self.samples)
                and self.samples[position + stop - start] == stop
            ):
                stop += 1
            yield Run(position, start, stop)
            position += stop - start

    def read(self, field: Field, run: Run) -> np.ndarray:
        """Read a field of some samples, shape `(samples, *dims)`, float32."""
        return self._group.read(field.name, run.start, run.stop)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._group.close()


def check_target(target: Path, source: Path, force: bool) -> None:
    """Refuse a place where an export would do harm.

    Args:
        target: Where the export is to go.
        source: The store it is made of.
        force: Whether an earlier export there may be replaced.

    Raises:
        InputError: Something is there that must stay.
    """
    there, store = target.resolve(), source.resolve()
    if there == store or there in store.parents or store in there.parents:
        raise InputError(f"{target} is the store itself, or holds it, or lies in it; name another")
    if not (target.exists() or target.is_symlink()):
        return
    if not force:
        raise InputError(f"{target} exists already; name another, or replace it with --force")
    if target.is_dir() and any(
        path.is_file() and path.suffix not in _OURS for path in target.rglob("*")
    ):
        raise InputError(
            f"{target} is a folder with other files than an export's (.vtr, .vtu, .pvd), which "
            "--force does not remove; name another"
        )


@contextmanager
def _beside(target: Path, size: int) -> Iterator[Path]:
    """Yield a path to write to; what is there in the end takes the target's place.

    Args:
        target: A file or a folder.
        size: Bytes that will be written, about.

    Raises:
        InputError: There is no room, or no folder.
        MnoError: Writing fails.
    """
    partial = target.with_name(f"{target.stem}.partial{target.suffix}")
    old = target.with_name(f"{target.stem}.replaced{target.suffix}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(target.parent).free
        if size > free:
            raise InputError(
                f"{target} would take {size / 2**20:.0f} MiB, but {free / 2**20:.0f} MiB are free; "
                "make room, or choose less with --field and --sample"
            )
        for leftover in (partial, old):
            _remove(leftover)
        yield partial
        if target.is_dir():
            target.rename(old)
        os.replace(partial, target)
        _remove(old)
    except (OSError, RuntimeError) as error:  # h5py raises either
        reason = getattr(error, "strerror", None) or first_line(error)
        raise MnoError(
            f"{target} cannot be written ({reason}); nothing is left of it: put that right and run "
            "again"
        ) from None
    finally:
        _remove(partial)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif path.exists() or path.is_symlink():
        path.unlink()


def _format(request: ExportRequest) -> str:
    by_suffix = _BY_SUFFIX.get(request.destination.suffix)
    given = request.format or by_suffix
    if given is None:
        raise InputError(
            f"{request.destination} does not tell the format by its suffix; expected .nc, .npz, "
            f".vtr or .vtu, or --format {', '.join(FORMATS)}"
        )
    if given not in FORMATS:
        raise InputError(f"--format {given} is not known; expected one of {', '.join(FORMATS)}")
    if by_suffix not in (None, given):
        raise InputError(
            f"{request.destination} has the suffix of another format than {given}; leave out "
            "--format, or name another file"
        )
    return given


def _write_npz(selection: Selection, path: Path, progress: Report) -> None:
    """Write one npz file of NumPy's, readable with `allow_pickle=False`, field after field.

    Each field is an array of shape `(samples, *dims)`; coordinates of axes and what is known of
    each sample are further arrays. Units have no place in the format.
    """
    count = len(selection.samples)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:

        def put(name: str, shape: tuple[int, ...], dtype: np.dtype, parts: Iterator) -> None:
            # A member's information without a time: the same values give the same bytes.
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as stream:
                descr = npy_format.dtype_to_descr(dtype)
                header = {"shape": shape, "fortran_order": False, "descr": descr}
                npy_format.write_array_header_1_0(stream, header)
                for part in parts:
                    stream.write(part)

        def blocks(index: int, field: Field) -> Iterator[memoryview]:
            for run in selection.runs():
                yield selection.read(field, run).astype("<f4", copy=False).data
                progress(index * count + run.place.stop, count * len(selection.fields))

        for index, field in enumerate(selection.fields):
            shape = (count, *selection.shape(field))
            put(field.name, shape, np.dtype("<f4"), blocks(index, field))
        small = {axis.name: axis.points for axis in selection.axes if axis.name != "point"}
        for name, values in {**small, **selection.per_sample()}.items():
            plain = values.astype("U") if values.dtype.kind in "OT" else values
            put(name, plain.shape, plain.dtype, iter([np.ascontiguousarray(plain).tobytes()]))
