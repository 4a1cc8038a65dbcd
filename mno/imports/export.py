"""Getting data out: fields of datasets and predictions as NetCDF, VTK or npz, for other programs.

A file is written beside, a few samples at a time, and put in its place when it is whole.
"""

import io
import math
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import h5netcdf
import h5py
import numpy as np
from numpy.lib import format as npy_format

from mno.core.errors import InputError, MnoError, first_line
from mno.core.fields import PLAIN, Axis, Field
from mno.core.files import replacing, replacing_folder
from mno.imports.mapping import Mapping
from mno.imports.zarr import ZarrGroup

FORMATS = {".nc": "netcdf", ".npz": "npz", "": "vtk"}  # by the destination's suffix

_OURS = {".vtr", ".vtu", ".pvd"}
_BLOCK_BYTES, _BLOCK_SAMPLES = 32 * 2**20, 64
_CF_AXES = {"time": "T", "x": "X", "y": "Y", "z": "Z"}

Report = Callable[[int, int], None]  # is told how much of how much is done


class Exported(NamedTuple):
    """What was exported: in which format, how many samples, which fields; files and their size."""

    format: str
    samples: int
    fields: list[str]
    files: int
    bytes: int


def export_store(
    source: Path, destination: Path, *, fields: Sequence[str] = (),
    samples: Sequence[int] | None = None, force: bool = False,
    progress: Report = lambda done, total: None,
) -> Exported:  # fmt: skip
    """Export fields of a store; memory does not grow with it.

    All `fields` and `samples`, if none are named, of a dataset or a store of predictions go to a
    file, `.nc` or `.npz`, or for VTK a folder; an earlier export is replaced by `force` alone. What
    cannot be used is refused; a destination that cannot be written to is an MnoError.
    """
    from mno.imports.export_vtk import check_vtk, write_vtk

    if (format := FORMATS.get(destination.suffix)) is None:
        raise InputError(
            f"{destination} does not tell the format by its suffix; expected .nc, .npz, or the "
            "name of a folder, without a suffix, for VTK"
        )
    _check_target(destination, source, force)
    with Selection(source, fields, samples) as selection:
        if format == "vtk":
            check_vtk(selection)
        replaced = replacing_folder if format == "vtk" else replacing
        with _writing(destination), replaced(destination) as partial:
            writer = {"netcdf": _write_netcdf, "vtk": write_vtk, "npz": _write_npz}[format]
            writer(selection, partial, progress)
        files = [p for p in (destination, *destination.rglob("*")) if p.is_file()]
        names = [field.name for field in selection.fields]
        nbytes = sum(file.stat().st_size for file in files)
        return Exported(format, len(selection.samples), names, len(files), nbytes)


class Run(NamedTuple):
    """Samples that follow one another, `start` to before `stop`, and their place in the export."""

    start: int
    stop: int
    place: slice


class Selection(AbstractContextManager["Selection", None]):
    """Fields and samples of an open store: a dataset or predictions, a Zarr group.

    All fields if none are named, and coordinates of points always; samples by their numbers in the
    order of the export, all if not given. `about` has plain values, of the whole of the store.
    """

    def __init__(
        self, source: Path, fields: Sequence[str] = (), samples: Sequence[int] | None = None
    ) -> None:
        self._group = ZarrGroup(source, Mapping(), default="output")
        found = self._group.contents
        known = [field.name for field in found.fields]
        if (unknown := [name for name in fields if name not in known]) or not known:
            raise InputError(
                f"{source} has no field {unknown[0] if unknown else 'at all'}; it has "
                f"{', '.join(known) or 'none'}"
            )
        chosen = fields or known
        kept = (f for f in found.fields if f.name in chosen or f.role == "coordinate")
        self.fields: tuple[Field, ...] = tuple(kept)
        self.samples = tuple(range(found.samples) if samples is None else samples)
        outside = [number for number in self.samples if not 0 <= number < found.samples]
        if outside or not self.samples:
            raise InputError(
                f"sample {outside[0] if outside else 'none'} is not in {source}; it has "
                f"{found.samples}, numbered from 0 to {found.samples - 1}"
            )
        used = {dim for field in self.fields for dim in field.dims}
        self.axes: tuple[Axis, ...] = tuple(axis for axis in found.axes if axis.name in used)
        self.lengths = {axis.name: len(axis.points) for axis in self.axes}
        self.about = found.parameters

    def shape(self, field: Field) -> tuple[int, ...]:
        """Shape of a field in one sample."""
        return tuple(self.lengths[dim] for dim in field.dims)

    def per_sample(self) -> dict[str, np.ndarray]:
        """Return what else is known of each sample: its number, split, group and beginning."""
        chosen = np.asarray(self.samples, dtype=np.int64)
        contents, split = self._group.contents, self._group.labels("split")
        known = {"split": split, "group": contents.groups, "start": contents.starts}
        told = {name: values[chosen] for name, values in known.items() if values is not None}
        return {"sample": chosen, **told}

    def runs(self) -> Iterator[Run]:
        """Yield the samples, a few at a time."""
        sample = sum(4 * math.prod(self.shape(field)) for field in self.fields)  # as float32
        most = max(1, min(_BLOCK_SAMPLES, _BLOCK_BYTES // max(1, sample)))
        begin = 0
        for end, number in enumerate(self.samples, 1):
            goes_on = end < len(self.samples) and self.samples[end] == number + 1
            if not goes_on or end - begin == most:
                yield Run(self.samples[begin], number + 1, slice(begin, end))
                begin = end

    def read(self, field: Field, run: Run) -> np.ndarray:
        """Read a field of some samples, shape `(samples, *dims)`, float32."""
        return self._group.read(field.name, run.start, run.stop)

    def __exit__(self, *_: object) -> None:
        self._group.close()


def _check_target(target: Path, source: Path, force: bool) -> None:
    there, store = target.resolve(), source.resolve()
    if there == store or there in store.parents or store in there.parents:
        raise InputError(f"{target} is the store itself, or holds it, or lies in it; name another")
    if not (target.exists() or target.is_symlink()):
        return
    if not force:
        raise InputError(f"{target} exists already; name another, or replace it with --force")
    others = (path for path in target.rglob("*") if path.suffix not in _OURS)
    if target.is_dir() and any(path.is_file() for path in others):
        raise InputError(
            f"{target} is a folder with other files than an export's (.vtr, .vtu, .pvd), which "
            "--force does not remove; name another"
        )


@contextmanager
def _writing(target: Path) -> Iterator[None]:
    """Say in one line what fails."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield
    except (OSError, RuntimeError) as error:  # h5py raises either
        reason = getattr(error, "strerror", None) or first_line(error)
        raise MnoError(
            f"{target} cannot be written ({reason}); nothing is left of it: put that right and run "
            "again, or choose less with --field and --sample"
        ) from None


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


def _write_netcdf(selection: Selection, path: Path, progress: Report) -> None:
    """Write one file by the CF conventions, that `mno import netcdf` reads back."""
    with _WaryFile(path, "w+b") as target:
        with h5netcdf.File(target, "w") as file:
            variables = _create(file, selection)
            for run in selection.runs():
                for field in selection.fields:
                    variables[field.name][run.place] = selection.read(field, run)
                target.check()
                progress(run.place.stop, len(selection.samples))
        target.check()


def _create(file: h5netcdf.File, selection: Selection) -> dict[str, h5netcdf.Variable]:
    """Write all but the fields' values; return the fields' variables by name."""

    def add(name: str, dim: str, values: np.ndarray, attributes: dict[str, Any]) -> None:
        text = values.dtype.kind in "OU"
        variable = file.create_variable(name, (dim,), h5py.string_dtype() if text else values.dtype)
        variable[...] = values.astype(object) if text else values
        variable.attrs.update(attributes)

    file.attrs["Conventions"] = "CF-1.11"
    for name in ("title", "scenario"):
        if name in selection.about:
            file.attrs[name] = str(selection.about[name])
    file.dimensions = {"sample": len(selection.samples), **selection.lengths}
    for axis in selection.axes:
        about: dict[str, Any] = {"units": axis.units, "long_name": axis.long_name, **axis.flags}
        if axis.name in _CF_AXES:
            about["axis"] = _CF_AXES[axis.name]
        about["extent"] = np.asarray(axis.extent, dtype=np.float64)
        add(axis.name, axis.name, axis.points.astype(np.float64), about)
    told = selection.per_sample()
    for name, values in told.items():
        add(name, "sample", values, {"units": "s"} if name == "start" else {})
    places = [field.name for field in selection.fields if field.role == "coordinate"]
    variables = {}
    for field in selection.fields:
        dims, fill = ("sample", *field.dims), np.float32(np.nan) if field.gaps else None
        variable = file.create_variable(field.name, dims, np.dtype("<f4"), fillvalue=fill)
        variables[field.name] = variable
        variable.attrs.update(units=field.units, long_name=field.long_name, role=field.role)
        located = places if "point" in field.dims and field.role != "coordinate" else []
        if others := [*(name for name in told if name != "sample"), *located]:
            variable.attrs["coordinates"] = " ".join(others)
        if field.gaps:
            variable.attrs["gaps"] = np.int32(1)
        if field.scale != PLAIN:
            variable.attrs["scale"] = field.scale
    return variables


class _WaryFile(io.FileIO):
    """A file that takes every write and remembers the first that failed.

    HDF5 tries again to write what it could not when the file is closed and when the process ends,
    and then crashes. Here it never hears of the failure; whoever writes asks `check`.
    """

    _failure: OSError | None = None

    def check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def write(self, values: Any) -> int:
        left = memoryview(values).cast("B")
        size = len(left)
        try:
            while len(left) and self._failure is None:
                left = left[super().write(left) :]
        except OSError as error:
            self._failure = error
        return size

    def truncate(self, size: int | None = None) -> int:
        try:
            return super().truncate(size)
        except OSError as error:
            self._failure = self._failure or error
            return size or 0
