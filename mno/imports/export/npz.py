"""Export as one npz file of NumPy's, readable with `allow_pickle=False`."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy_format

from mno.imports.export.selection import Selection


def write_npz(selection: Selection, path: Path, progress: Callable[[int, int], None]) -> None:
    """Write a selection, one field after the other, a few samples at a time.

    Each field is an array of shape `(samples, *dims)`; coordinates of axes and what is known of
    each sample are further arrays. Units have no place in the format.

    Args:
        selection: What is written.
        path: A file that does not exist yet.
        progress: Is told how many samples of how many are written, counted over all fields.
    """
    total = len(selection.samples) * len(selection.fields)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for index, field in enumerate(selection.fields):
            shape = (len(selection.samples), *selection.shape(field))
            with _member(archive, field.name, shape, np.dtype("<f4")) as stream:
                for run in selection.runs():
                    stream.write(selection.read(field, run).astype("<f4", copy=False).data)
                    progress(index * len(selection.samples) + run.place.stop, total)
        small = {axis.name: axis.points for axis in selection.axes if axis.name != "point"}
        for name, values in {**small, **selection.per_sample()}.items():
            plain = values.astype("U") if values.dtype.kind in "OT" else values
            with _member(archive, name, plain.shape, plain.dtype) as stream:
                stream.write(np.ascontiguousarray(plain).tobytes())


@contextmanager
def _member(
    archive: zipfile.ZipFile, name: str, shape: tuple[int, ...], dtype: np.dtype
) -> Iterator[IO[bytes]]:
    """Yield a stream for the values of an array, in C order."""
    # A member's information without a time: the same values give the same bytes.
    with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as stream:
        header = {"shape": shape, "fortran_order": False, "descr": npy_format.dtype_to_descr(dtype)}
        npy_format.write_array_header_1_0(stream, header)
        yield stream
