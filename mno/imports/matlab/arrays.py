"""Arrays of MATLAB files, of version 5 or 7.3, whose samples are read a few at a time.

MATLAB keeps the first axis, that of the samples, fastest. So samples are put in order once, on
disk, before the first of them is read. In HDF5, arrays of version 7.3 have their axes reversed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import h5py
import numpy as np

from mno.imports.hdf5.files import Hdf5File
from mno.imports.matlab.version5 import Mat5File
from mno.imports.shared.tiles import Box, boxes


class MatFile(Protocol):
    """A MATLAB file, by the arrays of real numbers in it.

    Attributes:
        shapes: Their shapes, as MATLAB has them, by name.
        others: Names of variables of other kinds.
    """

    shapes: dict[str, tuple[int, ...]]
    others: list[str]

    def parts(self, name: str) -> Iterator[tuple[Box, np.ndarray]]:
        """Yield all values of an array, box after box.

        Raises:
            InputError: The file is damaged.
        """
        ...


def open_mat(path: Path, stack: ExitStack) -> MatFile:
    """Open a MATLAB file of either version.

    Args:
        path: The file.
        stack: Closes it.

    Raises:
        InputError: It is no MATLAB file.
    """
    if h5py.is_hdf5(path):
        return _Mat73(stack.enter_context(Hdf5File(path)))
    return _Mat5(path)


class _Mat73:
    def __init__(self, file: Hdf5File) -> None:
        self._file = file
        # Names with # are MATLAB's own; text, and the shape of what is empty, are numbers, too.
        names = [name for name in file.members(file.root) if not name.startswith("#")]
        numeric = [name for name in names if self._is_numeric(name)]
        self.others = [name for name in names if name not in numeric]
        self._arrays = {name: file.needed(file.root, name) for name in numeric}
        self.shapes = {name: array.shape[::-1] for name, array in self._arrays.items()}

    def _is_numeric(self, name: str) -> bool:
        if not self._file.is_numeric(self._file.root, name):
            return False
        owner = self._file.root[name]
        kind = self._file.attribute(owner, "MATLAB_class")
        return kind not in ("char", "cell", "struct") and not self._file.attribute(
            owner, "MATLAB_empty"
        )

    def parts(self, name: str) -> Iterator[tuple[Box, np.ndarray]]:
        array = self._arrays[name]
        chunks, itemsize = array.dataset.chunks, array.dataset.dtype.itemsize
        for box in boxes(array.shape, chunks, itemsize, reversed(range(len(array.shape)))):
            yield box[::-1], array.part(box).T


class _Mat5:
    def __init__(self, path: Path) -> None:
        self._file = Mat5File(path)
        self.others = self._file.others
        self.shapes = {name: found.shape for name, found in self._file.variables.items()}

    def parts(self, name: str) -> Iterator[tuple[Box, np.ndarray]]:
        shape = self.shapes[name]
        # First axis fastest: one box begins in the file where the last one ends.
        places = list(boxes(shape, None, 8, range(len(shape))))
        lengths = [tuple(part.stop - part.start for part in box) for box in places]
        blocks = self._file.blocks(name, map(math.prod, lengths))
        for box, length, values in zip(places, lengths, blocks, strict=True):
            yield box, values.reshape(length, order="F")
