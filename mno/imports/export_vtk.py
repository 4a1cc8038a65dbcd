"""Export for ParaView: one file for each sample and frame, and collections that play them.

out/sample_0003/frame_0000.vtr    one frame of one sample; .vtu on unordered points
out/sample_0003.pvd               all frames of the sample
out/sample_0003.vtr, samples.pvd  where nothing is over time

Files are VTK's XML: rectilinear grids (`.vtr`), points (`.vtu`), collections (`.pvd`). Values
follow the text as raw bytes (`appended`), little-endian, each array behind its length.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from mno.core.errors import InputError
from mno.core.fields import Axis, Field
from mno.imports.export import Report, Selection
from mno.imports.importer import SPACE

SUFFIXES = (".vtr", ".vtu")
_MOST_FILES = 10_000
_TYPES = {"f4": "Float32", "f8": "Float64", "i8": "Int64", "u1": "UInt8"}
_VERTEX = 1  # VTK's number of a cell that is one point


def check_vtk(selection: Selection, path: Path) -> None:
    """Refuse what cannot be written as VTK to that path, a file with a suffix or a folder."""
    samples, frames = len(selection.samples), max(1, len(_frames(selection)))
    if not _space(selection):
        raise InputError(
            "VTK files hold fields in space, and there are only numbers per sample; choose fields "
            "with --field, or export as npz"
        )
    ending = _suffix(selection)
    if ending == ".vtu" and not 1 <= len(_places(selection)) <= 3:
        raise InputError(
            "the store does not say where its points are; expected coordinates x, y or z with the "
            "dimensions (sample, point), as mno generate and mno predict write them"
        )
    if path.suffix in SUFFIXES and (samples * frames > 1 or path.suffix != ending):
        raise InputError(
            f"{path} is one {path.suffix} file, but there are {samples} samples of {frames} "
            f"frames, each a {ending} file; name a folder and add --format vtk"
        )
    if samples * frames > _MOST_FILES:
        raise InputError(
            f"{samples} samples of {frames} frames would be {samples * frames} files; expected at "
            f"most {_MOST_FILES}: choose some, as in --sample 0:10"
        )


def write_vtk(selection: Selection, path: Path, progress: Report) -> None:
    """Write a selection, a few samples at a time, to a new path; `check_vtk` must have passed."""
    frames, ending = [float(time) for time in _frames(selection)], _suffix(selection)
    written: list[tuple[float, str]] = []
    for number, values in _samples(selection):
        name = f"sample_{number:04d}"
        written.append((float(number), f"{name}{ending}"))
        if path.suffix in SUFFIXES:
            _write_frame(path, selection, values, 0 if frames else None)
        elif frames:
            (path / name).mkdir(parents=True)
            files = [f"{name}/frame_{frame:04d}{ending}" for frame in range(len(frames))]
            for frame, file in enumerate(files):
                _write_frame(path / file, selection, values, frame)
            _write_collection(path / f"{name}.pvd", zip(frames, files, strict=True))
        else:
            path.mkdir(parents=True, exist_ok=True)
            _write_frame(path / f"{name}{ending}", selection, values, None)
        progress(len(written), len(selection.samples))
    if not frames and path.suffix not in SUFFIXES:
        _write_collection(path / "samples.pvd", written)


def _samples(selection: Selection) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    for run in selection.runs():
        block = {field.name: selection.read(field, run) for field in selection.fields}
        for row, number in enumerate(range(run.start, run.stop)):
            yield number, {name: values[row] for name, values in block.items()}


class _Array(NamedTuple):
    """An array of a file, shape `(tuples,)` or `(tuples, components)`, of one of `_TYPES`."""

    name: str
    values: np.ndarray
    units: str = ""


def _write_frame(
    path: Path, selection: Selection, values: Mapping[str, np.ndarray], frame: int | None
) -> None:
    """Write one sample at one frame, with all that is not over time.

    On a rectilinear grid, an axis without coordinates has one point, at 0; unordered points are
    a vertex each.
    """
    space = {axis.name: axis.points for axis in _space(selection)}
    along = ("point",) if "point" in space else SPACE
    fields: list[_Array] = []
    numbers: list[_Array] = []
    if frame is not None:
        numbers.append(_Array("TimeValue", np.array([_frames(selection)[frame]], dtype="f8")))
    for field in selection.fields:
        array, dims = values[field.name], field.dims
        if "time" in dims:
            array, dims = array[frame], dims[1:]
        if field.role == "coordinate":
            continue
        if not dims:
            numbers.append(_Array(field.name, np.array([array], dtype="f4"), field.units))
            continue
        shape = tuple(selection.lengths.get(name, 1) for name in along)
        whole = array[tuple(slice(None) if name in dims else None for name in along)]
        # Of VTK's points x varies fastest.
        flat = np.broadcast_to(whole, shape).ravel(order="F")
        fields.append(_Array(field.name, flat, field.units))
    if "point" in space:
        axes = [values[field.name] for field in _places(selection)]
        count = len(axes[0])
        places = np.zeros((count, 3), dtype=axes[0].dtype)
        places[:, : len(axes)] = np.stack(axes, axis=-1)
        cells = [
            _Array("connectivity", np.arange(count, dtype="i8")),
            _Array("offsets", np.arange(1, count + 1, dtype="i8")),
            _Array("types", np.full(count, _VERTEX, dtype="u1")),
        ]
        piece = {"PointData": fields, "Points": [_Array("points", places)], "Cells": cells}
        part = f'NumberOfPoints="{count}" NumberOfCells="{count}"'
        _write(path, "UnstructuredGrid", "", part, piece, numbers)
    else:
        grid = [_Array(name, space.get(name, np.zeros(1)).astype("f8")) for name in SPACE]
        extent = f'Extent="{" ".join(f"0 {len(axis.values) - 1}" for axis in grid)}"'
        piece = {"PointData": fields, "Coordinates": grid}
        _write(path, "RectilinearGrid", f"Whole{extent}", extent, piece, numbers)


def _suffix(selection: Selection) -> str:
    """Return the suffix of files that hold one frame."""
    return ".vtu" if _space(selection)[0].name == "point" else ".vtr"


def _places(selection: Selection) -> list[Field]:
    """Return the fields that say where unordered points are, in the order of the axes."""
    places = (field for field in selection.fields if field.role == "coordinate")
    return sorted(places, key=lambda field: field.name)


def _space(selection: Selection) -> tuple[Axis, ...]:
    return tuple(axis for axis in selection.axes if axis.name != "time")


def _frames(selection: Selection) -> np.ndarray:
    """Return the times of the frames; none where no field is over time."""
    return next((axis.points for axis in selection.axes if axis.name == "time"), np.empty(0))


def _write_collection(path: Path, files: Iterable[tuple[float, str]]) -> None:
    """Write a collection of files, by time and path from the collection's folder."""
    entries = "".join(
        f'    <DataSet timestep="{time!r}" part="0" file={quoteattr(file)}/>\n'
        for time, file in files
    )
    path.write_text(
        '<?xml version="1.0"?>\n<VTKFile type="Collection" version="1.0">\n  <Collection>\n'
        f"{entries}  </Collection>\n</VTKFile>\n",
        encoding="utf-8",
    )


def _write(
    path: Path,
    kind: str,
    whole: str,
    part: str,
    piece: Mapping[str, Sequence[_Array]],
    numbers: Sequence[_Array],
) -> None:
    arrays: list[np.ndarray] = []

    def declare(array: _Array, indent: str, tuples: bool = False) -> str:
        values = np.ascontiguousarray(array.values)
        values = values.astype(values.dtype.newbyteorder("<"), copy=False)
        offset = sum(8 + before.nbytes for before in arrays)
        arrays.append(values)
        parts = [
            f'type="{_TYPES[values.dtype.str[1:]]}"', f"Name={quoteattr(array.name)}",
            f'NumberOfComponents="{1 if values.ndim == 1 else values.shape[1]}"',
            *([f'NumberOfTuples="{len(values)}"'] if tuples else []),
            f'format="appended" offset="{offset}"',
        ]  # fmt: skip
        if not array.units:
            return f"{indent}<DataArray {' '.join(parts)}/>\n"
        label = '<InformationKey name="UNITS_LABEL" location="vtkDataArray">'
        return (
            f"{indent}<DataArray {' '.join(parts)}>\n{indent}  {label}{escape(array.units)}"
            f"</InformationKey>\n{indent}</DataArray>\n"
        )

    text = (
        '<?xml version="1.0"?>\n'
        f'<VTKFile type="{kind}" version="1.0" byte_order="LittleEndian" header_type="UInt64">\n'
        f"  <{kind} {whole}>\n    <FieldData>\n"
    )
    text += "".join(declare(array, " " * 6, tuples=True) for array in numbers)
    text += f"    </FieldData>\n    <Piece {part}>\n"
    for section, contained in piece.items():
        text += f"      <{section}>\n"
        text += "".join(declare(array, " " * 8) for array in contained)
        text += f"      </{section}>\n"
    text += f'    </Piece>\n  </{kind}>\n  <AppendedData encoding="raw">\n_'
    with path.open("wb") as file:
        file.write(text.encode())
        for array in arrays:
            file.write(np.uint64(array.nbytes).astype("<u8").tobytes())
            file.write(array.data if array.size else b"")
        file.write(b"\n  </AppendedData>\n</VTKFile>\n")
