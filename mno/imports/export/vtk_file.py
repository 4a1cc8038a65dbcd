"""Files of VTK's XML formats, for ParaView: grids (`.vtr`), points (`.vtu`), collections (`.pvd`).

Values follow the text as raw bytes (`appended`), little-endian, each array behind its length.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

import numpy as np

_TYPES = {"f4": "Float32", "f8": "Float64", "i8": "Int64", "u1": "UInt8"}
_VERTEX = 1  # VTK's number of a cell that is one point


@dataclass(frozen=True, eq=False)
class Values:
    """An array of a file.

    Attributes:
        name: Its name.
        array: Shape `(tuples,)` or `(tuples, components)`; float32, float64, int64 or uint8.
        units: Unit, for a label.
    """

    name: str
    array: np.ndarray
    units: str = ""


def write_grid(
    path: Path,
    axes: Mapping[str, np.ndarray],
    fields: Mapping[str, tuple[np.ndarray, str]],
    numbers: Sequence[Values],
) -> None:
    """Write fields on the points of a rectilinear grid.

    Args:
        path: The file.
        axes: Coordinates along x, y and z, by axis; an axis without has one point, at 0.
        fields: Values of shape `(x, y, z)` and unit, by name.
        numbers: Arrays that belong to the whole of it.
    """
    places = [axes.get(name, np.zeros(1)) for name in "xyz"]
    extent = " ".join(f"0 {len(points) - 1}" for points in places)
    # Of VTK's points x varies fastest.
    point_data = [Values(n, v.ravel(order="F"), units) for n, (v, units) in fields.items()]
    coordinates = [Values(n, p.astype("f8")) for n, p in zip("xyz", places, strict=True)]
    piece = [("PointData", point_data), ("Coordinates", coordinates)]
    _write(
        path, "RectilinearGrid", f'WholeExtent="{extent}"', f'Extent="{extent}"', piece, numbers
    )  # fmt: skip


def write_points(
    path: Path,
    places: np.ndarray,
    fields: Mapping[str, tuple[np.ndarray, str]],
    numbers: Sequence[Values],
) -> None:
    """Write fields on unordered points, each of them a vertex.

    Args:
        path: The file.
        places: Shape `(points, axes)`, up to three axes.
        fields: Values of shape `(points,)`, and unit, by name.
        numbers: Arrays that belong to the whole of it.
    """
    count, axes = places.shape
    padded = np.zeros((count, 3), dtype=places.dtype)
    padded[:, :axes] = places
    cells = [
        Values("connectivity", np.arange(count, dtype="i8")),
        Values("offsets", np.arange(1, count + 1, dtype="i8")),
        Values("types", np.full(count, _VERTEX, dtype="u1")),
    ]
    point_data = [Values(name, values, units) for name, (values, units) in fields.items()]
    piece = [("PointData", point_data), ("Points", [Values("points", padded)]), ("Cells", cells)]
    counts = f'NumberOfPoints="{count}" NumberOfCells="{count}"'
    _write(path, "UnstructuredGrid", "", counts, piece, numbers)


def write_collection(path: Path, files: Sequence[tuple[float, str]]) -> None:
    """Write a collection of files, each with its time.

    Args:
        path: The file.
        files: Time, and path from the collection's folder.
    """
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
    piece: Sequence[tuple[str, Sequence[Values]]],
    numbers: Sequence[Values],
) -> None:
    arrays: list[np.ndarray] = []
    place = 0

    def declare(values: Values, indent: str, tuples: bool = False) -> str:
        nonlocal place
        array = np.ascontiguousarray(values.array)
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
        offset, place = place, place + 8 + array.nbytes
        arrays.append(array)
        parts = [
            f'type="{_TYPES[array.dtype.str[1:]]}"', f"Name={quoteattr(values.name)}",
            f'NumberOfComponents="{1 if array.ndim == 1 else array.shape[1]}"',
            *([f'NumberOfTuples="{len(array)}"'] if tuples else []),
            f'format="appended" offset="{offset}"',
        ]  # fmt: skip
        if not values.units:
            return f"{indent}<DataArray {' '.join(parts)}/>\n"
        label = '<InformationKey name="UNITS_LABEL" location="vtkDataArray">'
        return (
            f"{indent}<DataArray {' '.join(parts)}>\n{indent}  {label}{escape(values.units)}"
            f"</InformationKey>\n{indent}</DataArray>\n"
        )

    text = (
        '<?xml version="1.0"?>\n'
        f'<VTKFile type="{kind}" version="1.0" byte_order="LittleEndian" header_type="UInt64">\n'
        f"  <{kind} {whole}>\n    <FieldData>\n"
    )
    text += "".join(declare(values, " " * 6, tuples=True) for values in numbers)
    text += f"    </FieldData>\n    <Piece {part}>\n"
    for section, contained in piece:
        text += f"      <{section}>\n"
        text += "".join(declare(values, " " * 8) for values in contained)
        text += f"      </{section}>\n"
    text += f'    </Piece>\n  </{kind}>\n  <AppendedData encoding="raw">\n_'
    with path.open("wb") as file:
        file.write(text.encode())
        for array in arrays:
            file.write(np.uint64(array.nbytes).astype("<u8").tobytes())
            file.write(array.data if array.size else b"")
        file.write(b"\n  </AppendedData>\n</VTKFile>\n")
