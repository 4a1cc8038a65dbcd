"""Files of NumPy's: `.npz`, and `.npy` with one array.

Members of an archive are unpacked once, at the first read, into temporary files (in `TMPDIR`, which
must have room for them), and mapped into memory for each read, so that memory is given back.
"""

import math
import shutil
import tempfile
import zipfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy_format

from mno.core.errors import reading
from mno.imports.arrays import Array, arrange
from mno.imports.cage import make_room
from mno.imports.importer import Importer, Layout
from mno.imports.mapping import Mapping
from mno.imports.stored import Box, FileArray

_EXPECTED = "a file of arrays as numpy.save and numpy.savez write them"


class NumpyFile(Importer):
    """An open `.npz` or `.npy` file."""

    kind = "npz"

    def lay_out(self, mapping: Mapping, stack: ExitStack) -> Layout:
        """Read the headers and find out what the arrays are."""
        self._files: dict[str, Path] = {}  # that have been unpacked
        with reading(self.path, expected=_EXPECTED):
            with self.path.open("rb") as file:
                if file.read(2) != b"PK":  # as archives begin
                    file.seek(0)
                    name, size = self.path.stem, self.path.stat().st_size
                    self._files[name] = self.path
                    make_room(size)
                    return arrange(self, {name: self._array(name, file, size)}, mapping)
            self._archive = stack.enter_context(zipfile.ZipFile(self.path))
            members = {
                member.filename[:-4]: member
                for member in self._archive.infolist()
                if member.filename.endswith(".npy") and member.filename[:-4] not in mapping.dropped
            }
            total, folder = sum(m.file_size for m in members.values()), tempfile.gettempdir()
            if total > shutil.disk_usage(folder).free:
                raise self.error(
                    f"its arrays unpack to {total} bytes, more than {folder} has room for; make "
                    "room, or let TMPDIR name a folder that has it"
                )
            arrays = {}
            for name, member in members.items():
                with self._archive.open(member) as stream:
                    arrays[name] = self._array(name, stream, member.file_size)
        return arrange(self, arrays, mapping)

    def _array(self, name: str, stream: IO[bytes], size: int) -> Array:
        """Read the header at the beginning of a stream of `size` bytes, which the array must fill.

        Python objects are refused, which only running code of the file could read.
        """
        with reading(self.path, name, _EXPECTED):
            first = npy_format.read_magic(stream) == (1, 0)
            read = npy_format.read_array_header_1_0 if first else npy_format.read_array_header_2_0
            shape, fortran, dtype = read(stream)
            begin = stream.tell()
        if dtype.hasobject:
            raise self.error(
                f"{name} holds pickled Python objects, which are never loaded; expected numbers: "
                "save it as an array of numbers"
            )
        nbytes = math.prod(shape) * dtype.itemsize
        if min(shape, default=0) < 0 or begin + nbytes != size:
            raise self.error(
                f"{name} claims shape {shape} of {dtype}, {nbytes} bytes, but has {size - begin}; "
                "expected as many: the file is damaged, get it anew"
            )
        chunks = (shape[0], *[1] * (len(shape) - 1)) if fortran and len(shape) > 1 else None
        return Array(FileArray(self.path, name, shape, dtype, partial(self._part, name), chunks))

    def _part(self, name: str, where: Box) -> np.ndarray:
        with reading(self.path, name, _EXPECTED):
            if name not in self._files:
                self._files[name] = self._unpacked(name)
            return np.array(np.load(self._files[name], mmap_mode="r", allow_pickle=False)[where])

    def _unpacked(self, name: str) -> Path:
        """Unpack a member, no byte more than it claims; zipfile compares its checksum."""
        member = self._archive.getinfo(f"{name}.npy")
        file = tempfile.NamedTemporaryFile(prefix="mno-import-")  # noqa: SIM115 - closed with us
        target = self._stack.enter_context(file)
        with self._archive.open(member) as stream:
            shutil.copyfileobj(stream, target, 2**20)
        target.flush()
        make_room(member.file_size)
        return Path(target.name)


IMPORTER = NumpyFile
