"""Files of NumPy's: `.npz`, and `.npy` with one array.

An uncompressed member of an npz file is read where it is. A compressed one is unpacked once, at
the first read, into a temporary file (in `TMPDIR`, which must have room for it), and so is an array
in Fortran order, whose rows lie apart.
"""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from contextlib import ExitStack
from typing import IO

import numpy as np

from mno.core.errors import InputError
from mno.imports.base import Contents
from mno.imports.mapping import Mapping as FieldMapping
from mno.imports.numpy_files.archive import data_offset, open_archive, reading
from mno.imports.numpy_files.npy import Header, Rows, read_header, tiles
from mno.imports.shared.arrangement import arrange
from mno.imports.shared.arrays import ArrayFile, Piece
from mno.imports.shared.tiles import SampleTiles

_EXPECTED = "a file of arrays as numpy.save and numpy.savez write them"
_BLOCK = 2**20


class NumpyFile(ArrayFile):
    """An open `.npz` or `.npy` file."""

    kind = "npz"
    version = 1

    def _open(self, mapping: FieldMapping) -> tuple[Contents, Mapping[str, Piece]]:
        self._stack = ExitStack()
        self._archive: zipfile.ZipFile | None = None
        self._opened: dict[str, Rows | SampleTiles] = {}
        with reading(self.path, _EXPECTED):
            self._file = self._stack.enter_context(self.path.open("rb"))
            magic = self._file.read(4)
        if magic.startswith(b"PK"):
            self._archive = self._stack.enter_context(open_archive(self.path, _EXPECTED))
            self._members = {
                name.removesuffix(".npy"): self._archive.getinfo(name)
                for name in self._archive.namelist()
                if name.endswith(".npy")
            }
            names = list(self._members)
        else:
            names = [self.path.stem]
        dropped = {name for name, rule in mapping.fields.items() if rule.drop}
        self._headers = {name: self._header(name) for name in names if name not in dropped}
        return arrange(self.path, self._headers, mapping, self._whole)

    def close(self) -> None:
        """Close the file, and remove the temporary ones."""
        self._opened.clear()
        self._stack.close()

    def _header(self, name: str) -> Header:
        with reading(self.path, _EXPECTED):
            if self._archive is None:
                self._file.seek(0)
                return read_header(self.path, "the file", self._file, self.path.stat().st_size)
            member = self._members[name]
            with self._archive.open(member) as stream:
                return read_header(self.path, name, stream, member.file_size)

    def _whole(self, array: str) -> np.ndarray:
        shape = self._headers[array].shape
        return self._rows(array, 0, shape[0] if shape else 1)

    def _rows(self, array: str, start: int, stop: int) -> np.ndarray:
        with reading(self.path, _EXPECTED):
            if array not in self._opened:
                self._opened[array] = self._open_rows(array)
            return self._opened[array].read(start, stop)

    def _open_rows(self, array: str) -> Rows | SampleTiles:
        header = self._headers[array]
        file, offset = self._file, header.length
        if self._archive is not None:
            member = self._members[array]
            if member.compress_type == zipfile.ZIP_STORED:
                offset += data_offset(self.path, member)
            else:
                file, offset = self._unpacked(member, header), 0
        if header.fortran and len(header.shape) > 1:
            return tiles(self.path, file, header, offset)
        return Rows(file, header, offset)

    def _unpacked(self, member: zipfile.ZipInfo, header: Header) -> IO[bytes]:
        """Unpack the values of a member, and no byte more than its header says."""
        assert self._archive is not None
        target = self._temporary(header.nbytes)
        left = header.nbytes
        with self._archive.open(member) as stream:
            stream.read(header.length)
            while block := stream.read(_BLOCK):  # to the end, where the checksum is compared
                left -= len(block)
                if left < 0:
                    raise EOFError(f"{member.filename} unpacks to more than it claims")
                target.write(block)
        if left:
            raise EOFError(f"{member.filename} unpacks to {left} bytes less than it claims")
        target.flush()
        return target

    def _temporary(self, size: int) -> IO[bytes]:
        folder = tempfile.gettempdir()
        free = shutil.disk_usage(folder).free
        if size > free:
            raise InputError(
                f"{self.path} unpacks to {size} bytes, but {folder} has {free} free; make room, or "
                "let TMPDIR name a folder that has it"
            )
        return self._stack.enter_context(tempfile.TemporaryFile(dir=folder))


IMPORTER = NumpyFile
