"""Export for ParaView: a folder with a file for each sample and frame, and collections of them.

out/sample_0003/frame_0000.vtr    one frame of one sample; .vtu on unordered points
out/sample_0003.pvd               all frames of the sample
out/sample_0003.vtr, samples.pvd  where nothing is over time

Files are VTK's XML: rectilinear grids (`.vtr`), points (`.vtu`), collections (`.pvd`). Values are
in Base64, little-endian, each array behind its length.
"""

import base64
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np

from mno.core.errors import InputError
from mno.core.fields import Axis, Field
from mno.imports.export import Report, Selection
from mno.imports.importer import SPACE

_TYPES = {"f4": "Float32", "f8": "Float64", "i8": "Int64", "u1": "UInt8"}
_VERTEX = 1  # VTK's number of a cell that is one point
_HEAD = '<?xml version="1.0"?>\n<VTKFile type="{}" version="1.0" byte_order="LittleEndian" '
_HEAD += 'header_type="UInt64">\n'


def check_vtk(selection: Selection) -> None:
    """Refuse what cannot be written as VTK."""
    if not (space := _space(selection)):
        raise InputError(
            "VTK files hold fields in space, and there are only numbers per sample; choose fields "
            "with --field, or export as npz"
        )
    if space[0].name == "point" and not 1 <= len(_places(selection)) <= 3:
        raise InputError(
            "the store does not say where its points are; expected coordinates x, y or z with the "
            "dimensions (sample, point), as mno generate and mno predict write them"
        )


def write_vtk(selection: Selection, folder: Path, progress: Report) -> None:
    """Write a selection, a few samples at a time, to a folder; `check_vtk` must have passed."""
    times = _times(selection).tolist()
    ending = ".vtu" if _space(selection)[0].name == "point" else ".vtr"
    written: list[tuple[float, str]] = []
    for run in selection.runs():
        block = {field.name: selection.read(field, run) for field in selection.fields}
        for row, number in enumerate(range(run.start, run.stop)):
            values = {name: array[row] for name, array in block.items()}
            name = f"sample_{number:04d}"
            written.append((float(number), f"{name}{ending}"))
            if times:
                files = [f"{name}/frame_{frame:04d}{ending}" for frame in range(len(times))]
                (folder / name).mkdir()
                for frame, file in enumerate(files):
                    _write_frame(folder / file, selection, values, frame)
                _write_collection(folder / f"{name}.pvd", zip(times, files, strict=True))
            else:
                _write_frame(folder / f"{name}{ending}", selection, values, None)
        progress(len(written), len(selection.samples))
    if not times:
        _write_collection(folder / "samples.pvd", written)


def _write_frame(
    path: Path, selection: Selection, values: Mapping[str, np.ndarray], frame: int | None
) -> None:
    """Write one sample at one frame, with all that is not over time.

    An axis that a rectilinear grid lacks has one point, at 0; unordered points are a vertex each.
    What is along other axes, as readings are along pieces, are numbers of the whole.
    """
    space = {axis.name: axis.points for axis in _space(selection)}
    along = ("point",) if "point" in space else SPACE
    times, fields = _times(selection).astype("f8"), ""
    numbers = "" if frame is None else _array("TimeValue", times[[frame]])
    for field in (field for field in selection.fields if field.role != "coordinate"):
        array, dims = values[field.name], field.dims
        if "time" in dims:
            array, dims = array[frame], dims[1:]
        if dims and set(dims) <= set(along):
            shape = tuple(selection.lengths.get(name, 1) for name in along)
            whole = array[tuple(slice(None) if name in dims else None for name in along)]
            # Of VTK's points x varies fastest.
            flat = np.broadcast_to(whole, shape).ravel(order="F")
            fields += _array(field.name, flat)
        else:
            numbers += _array(field.name, np.asarray(array, dtype="f4").reshape(1, -1))
    if "point" in space:
        axes = [values[field.name] for field in _places(selection)]
        count = len(axes[0])
        places = np.zeros((count, 3), dtype=axes[0].dtype)
        places[:, : len(axes)] = np.stack(axes, axis=-1)
        kind, whole_grid = "UnstructuredGrid", ""
        part = f'NumberOfPoints="{count}" NumberOfCells="{count}"'
        place = f"<Points>\n{_array('points', places)}</Points>\n<Cells>\n"
        place += _array("connectivity", np.arange(count, dtype="i8"))
        place += _array("offsets", np.arange(1, count + 1, dtype="i8"))
        place += _array("types", np.full(count, _VERTEX, dtype="u1")) + "</Cells>\n"
    else:
        grid = [space.get(name, np.zeros(1)).astype("f8") for name in SPACE]
        part = f'Extent="{" ".join(f"0 {len(points) - 1}" for points in grid)}"'
        kind, whole_grid = "RectilinearGrid", f" Whole{part}"
        place = f"<Coordinates>\n{''.join(map(_array, SPACE, grid))}</Coordinates>\n"
    path.write_text(
        f"{_HEAD.format(kind)}<{kind}{whole_grid}>\n<FieldData>\n{numbers}</FieldData>\n"
        f"<Piece {part}>\n<PointData>\n{fields}</PointData>\n{place}</Piece>\n</{kind}>\n"
        "</VTKFile>\n",
        encoding="utf-8",
    )


def _array(name: str, values: np.ndarray) -> str:
    """Return an array of a file, shape `(tuples,)` or `(tuples, components)`."""
    values = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    data = base64.b64encode(struct.pack("<Q", values.nbytes) + values.tobytes()).decode()
    components = 1 if values.ndim == 1 else values.shape[1]
    return (
        f'<DataArray type="{_TYPES[values.dtype.str[1:]]}" Name={quoteattr(name)} '
        f'NumberOfComponents="{components}" NumberOfTuples="{len(values)}" format="binary">{data}'
        "</DataArray>\n"
    )


def _places(selection: Selection) -> list[Field]:
    """Return the fields that say where unordered points are, in the order of the axes."""
    places = (field for field in selection.fields if field.role == "coordinate")
    return sorted(places, key=lambda field: field.name)


def _space(selection: Selection) -> tuple[Axis, ...]:
    return tuple(axis for axis in selection.axes if axis.name in (*SPACE, "point"))


def _times(selection: Selection) -> np.ndarray:
    """Return the times of the frames; none where no field is over time."""
    return next((axis.points for axis in selection.axes if axis.name == "time"), np.empty(0))


def _write_collection(path: Path, files: Iterable[tuple[float, str]]) -> None:
    """Write a collection of files, by time and path from the collection's folder."""
    entries = "".join(
        f'<DataSet timestep="{time!r}" part="0" file={quoteattr(file)}/>\n' for time, file in files
    )
    path.write_text(
        f"{_HEAD.format('Collection')}<Collection>\n{entries}</Collection>\n</VTKFile>\n",
        encoding="utf-8",
    )
