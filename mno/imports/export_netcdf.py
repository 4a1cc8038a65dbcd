"""Export as NetCDF by the CF conventions: one file that `mno import netcdf` reads back."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import h5netcdf
import h5py
import numpy as np

from mno.imports.export import Report, Selection

_CF_AXES = {"time": "T", "x": "X", "y": "Y", "z": "Z"}
_LABELS = {
    "sample": "number of the sample in the store",
    "split": "split of the sample",
    "group": "run or trajectory that the sample is part of",
    "start": "when the sample begins",
}


def write_netcdf(selection: Selection, path: Path, progress: Report) -> None:
    """Write a selection, a few samples at a time.

    Args:
        selection: What is written.
        path: A file that does not exist yet.
        progress: Is told how many samples of how many are written.

    Raises:
        OSError: The file cannot be written.
    """
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
    file.attrs["Conventions"] = "CF-1.11"
    for name in ("title", "scenario"):
        if name in selection.about:
            file.attrs[name] = str(selection.about[name])
    file.dimensions = {"sample": len(selection.samples), **selection.lengths}
    for axis in selection.axes:
        about = {"units": axis.units, "long_name": axis.long_name}
        cf = {"axis": _CF_AXES[axis.name]} if axis.name in _CF_AXES else {}
        extent = np.asarray(axis.extent, dtype=np.float64)
        points = axis.points.astype(np.float64)
        _add(file, axis.name, (axis.name,), points, {**about, **cf, "extent": extent})
    told = selection.per_sample()
    for name, values in told.items():
        about = {"long_name": _LABELS[name]} | ({"units": "s"} if name == "start" else {})
        _add(file, name, ("sample",), values, about)
    places = [field.name for field in selection.fields if field.role == "coordinate"]
    variables = {}
    for field in selection.fields:
        variable = variables[field.name] = file.create_variable(
            field.name,
            ("sample", *field.dims),
            np.dtype("<f4"),
            fillvalue=np.float32(np.nan) if field.gaps else None,
        )
        variable.attrs["units"] = field.units
        variable.attrs["long_name"] = field.long_name
        variable.attrs["role"] = field.role
        located = places if "point" in field.dims and field.role != "coordinate" else []
        others = [*(name for name in told if name != "sample"), *located]
        if others:
            variable.attrs["coordinates"] = " ".join(others)
        if field.gaps:
            variable.attrs["gaps"] = np.int32(1)
    return variables


def _add(
    file: h5netcdf.File,
    name: str,
    dims: tuple[str, ...],
    values: np.ndarray,
    attributes: dict[str, Any],
) -> None:
    text = values.dtype.kind in "OU"
    dtype: Any = h5py.string_dtype() if text else values.dtype
    variable = file.create_variable(name, dims, dtype)
    variable[...] = values.astype(object) if text else values
    for key, value in attributes.items():
        variable.attrs[key] = value


class _WaryFile(io.FileIO):
    """A file that takes every write and remembers the first that failed.

    HDF5 tries again to write what it could not when the file is closed and when the process ends,
    and then crashes. Here it never hears of the failure; whoever writes asks `check`.
    """

    _failure: OSError | None = None

    def check(self) -> None:
        """Raise what went wrong.

        Raises:
            OSError: A write failed.
        """
        if self._failure is not None:
            raise self._failure

    def write(self, values: Any) -> int:
        """Write all bytes, unless a write has failed before."""
        left = memoryview(values).cast("B")
        size = len(left)
        try:
            while len(left) and self._failure is None:
                left = left[super().write(left) :]
        except OSError as error:
            self._failure = error
        return size

    def truncate(self, size: int | None = None) -> int:
        """Set the length of the file."""
        try:
            return super().truncate(size)
        except OSError as error:
            self._failure = self._failure or error
            return size or 0
