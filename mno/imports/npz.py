"""Files of NumPy's: `.npz`, and `.npy` with one array.

An uncompressed array is read where it is in the file. A compressed one is unpacked once, at the
first read, into a temporary file (in `TMPDIR`, which must have room for it), and so is an array in
Fortran order, whose rows lie apart.
"""

from __future__ import annotations

import math
import shutil
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from numpy.lib import format as npy_format

from mno.core.errors import InputError, first_line
from mno.imports.arrays import Array, arrange
from mno.imports.importer import Importer, Layout
from mno.imports.mapping import Mapping
from mno.imports.tiles import Box, SampleTiles, boxes

_EXPECTED = "a file of arrays as numpy.save and numpy.savez write them"
_LONGEST_HEADER = 10_000
_MOST_MEMBERS = 1000
# Deflate reaches 1032; fields of few different values reach some hundred. Small ones do no harm.
_MOST_RATIO = 500
_HARMLESS = 64 * 2**20
_LOCAL_HEADER = struct.Struct("<4s22xHH")


class Header(NamedTuple):
    """What the header of an array says."""

    shape: tuple[int, ...]
    dtype: np.dtype
    fortran: bool  # whether the first axis is the one that varies fastest
    length: int  # bytes of the header itself

    @property
    def nbytes(self) -> int:
        """Bytes of the values."""
        return math.prod(self.shape) * self.dtype.itemsize


class NumpyFile(Importer):
    """An open `.npz` or `.npy` file."""

    kind = "npz"

    def lay_out(self, mapping: Mapping, stack: ExitStack) -> Layout:
        """Read the headers and find out what the arrays are."""
        self._archive: zipfile.ZipFile | None = None
        self._opened: dict[str, Rows | SampleTiles] = {}
        stack.callback(self._opened.clear)
        with reading(self.path, _EXPECTED):
            self._file = stack.enter_context(self.path.open("rb"))
            magic = self._file.read(4)
        names = [self.path.stem]
        if magic.startswith(b"PK"):
            self._archive = stack.enter_context(open_archive(self.path, _EXPECTED))
            names = [n[:-4] for n in self._archive.namelist() if n.endswith(".npy")]
        self._headers = {n: self._header(n) for n in names if n not in mapping.dropped}
        found = {name: Array(h.shape, h.dtype) for name, h in self._headers.items()}
        whole = lambda name: self._rows(name, 0, (*found[name].shape, 1)[0])  # noqa: E731
        return arrange(self, found, mapping, whole, self._rows)

    def _header(self, name: str) -> Header:
        with reading(self.path, _EXPECTED):
            if self._archive is None:
                self._file.seek(0)
                return read_header(self.path, "the file", self._file, self.path.stat().st_size)
            member = self._archive.getinfo(f"{name}.npy")
            with self._archive.open(member) as stream:
                return read_header(self.path, name, stream, member.file_size)

    def _rows(self, array: str, start: int, stop: int) -> np.ndarray:
        with reading(self.path, _EXPECTED):
            if array not in self._opened:
                self._opened[array] = self._open_rows(array)
            return self._opened[array].read(start, stop)

    def _open_rows(self, array: str) -> Rows | SampleTiles:
        header = self._headers[array]
        file, offset = self._file, header.length
        if self._archive is not None:
            member = self._archive.getinfo(f"{array}.npy")
            if member.compress_type == zipfile.ZIP_STORED:
                offset += self._offset(member)
            else:
                file = self._unpacked(self._archive, member)
        rows = Rows(file, header, offset)
        return rows.tiles(self.path) if header.fortran and len(header.shape) > 1 else rows

    def _offset(self, member: zipfile.ZipInfo) -> int:
        """Return where in the archive the bytes of a member begin."""
        self._file.seek(member.header_offset)
        magic, name, extra = _LOCAL_HEADER.unpack(self._file.read(_LOCAL_HEADER.size))
        if magic != b"PK\x03\x04":
            raise EOFError(f"{member.filename} is not where the archive says")
        return member.header_offset + _LOCAL_HEADER.size + name + extra

    def _unpacked(self, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> IO[bytes]:
        """Unpack a member, no byte more than it claims; zipfile compares its checksum."""
        folder = tempfile.gettempdir()
        free = shutil.disk_usage(folder).free
        if member.file_size > free:
            raise InputError(
                f"{self.path} unpacks to {member.file_size} bytes, but {folder} has {free} free; "
                "make room, or let TMPDIR name a folder that has it"
            )
        target = self._stack.enter_context(tempfile.TemporaryFile(dir=folder))  # noqa: SIM115
        with archive.open(member) as stream:
            shutil.copyfileobj(stream, target, 2**20)
        target.flush()
        return target


class Rows:
    """The rows of an array, read from an open file, where they begin at `offset`, when needed."""

    def __init__(self, file: IO[bytes], header: Header, offset: int) -> None:
        self._file, self._header, self._offset = file, header, offset

    def read(self, start: int, stop: int) -> np.ndarray:
        """Read some rows in C order, shape `(stop - start, *)`; all of an array without axes."""
        shape = self._header.shape
        rows = (stop - start, *shape[1:]) if shape else ()
        return self._values(start * math.prod(shape[1:]), math.prod(rows)).reshape(rows)

    def tiles(self, path: Path) -> SampleTiles:
        """Put the samples of an array in Fortran order one behind the other, on disk."""
        shape = self._header.shape
        strides = np.cumprod([1, *shape[:-1]]).tolist()

        def parts() -> Iterator[tuple[Box, np.ndarray]]:
            # Boxes as long as can be along the first axes are one run of bytes each.
            for box in boxes(shape, None, self._header.dtype.itemsize, range(len(shape))):
                lengths = [part.stop - part.start for part in box]
                first = sum(part.start * s for part, s in zip(box, strides, strict=True))
                yield box, self._values(first, math.prod(lengths)).reshape(lengths, order="F")

        return SampleTiles(path, shape, parts())

    def _values(self, first: int, count: int) -> np.ndarray:
        dtype = self._header.dtype
        self._file.seek(self._offset + first * dtype.itemsize)
        values = np.fromfile(self._file, dtype, count)
        if len(values) != count:
            raise EOFError(f"the file ends {count - len(values)} values early")
        return values


def read_header(path: Path, name: str, stream: IO[bytes], size: int) -> Header:
    """Read the header at the beginning of a stream of `size` bytes, which the array must fill.

    Python objects are refused, which only running code of the file could read.
    """
    before = stream.tell()
    readers = {(1, 0): npy_format.read_array_header_1_0, (2, 0): npy_format.read_array_header_2_0}
    try:
        read = readers[npy_format.read_magic(stream)]
        shape, fortran, dtype = read(stream, max_header_size=_LONGEST_HEADER)
    except KeyError:
        raise InputError(
            f"{path}: {name} has an unknown version of the npy format; save it anew by numpy.save"
        ) from None
    except (ValueError, SyntaxError, TypeError, EOFError, RecursionError, MemoryError) as error:
        raise InputError(
            f"{path}: {name} is no array of NumPy's ({first_line(error)[:100]}); expected one as "
            "numpy.save and numpy.savez write it"
        ) from None
    header = Header(tuple(shape), dtype, bool(fortran), stream.tell() - before)
    if dtype.hasobject:
        raise InputError(
            f"{path}: {name} holds pickled Python objects, which are never loaded; expected "
            "numbers: save it as an array of numbers"
        )
    if min(shape, default=0) < 0 or header.length + header.nbytes != size:
        raise InputError(
            f"{path}: {name} claims shape {tuple(shape)} of {dtype}, {header.nbytes} bytes, but "
            f"has {size - header.length}; expected as many: the file is damaged, get it anew"
        )
    return header


def open_archive(path: Path, expected: str) -> zipfile.ZipFile:
    """Open a zip archive; refuse one that unpacks to far more than it can hold."""
    with reading(path, expected):
        archive = zipfile.ZipFile(path)
    members = archive.infolist()
    names = {member.filename for member in members}
    wrong = next((fault for fault in map(_fault, members) if fault), None)
    if sum(member.compress_size for member in members) > path.stat().st_size:
        wrong = "claims more packed bytes than it has: its members overlap, as in a zip bomb"
    elif len(members) > _MOST_MEMBERS or len(names) < len(members):
        wrong = f"has {len(members)} members of {len(names)} names"
    if wrong:
        archive.close()
        raise InputError(
            f"{path} {wrong}; expected {expected}, stored or deflated, of different names"
        )
    return archive


def _fault(member: zipfile.ZipInfo) -> str | None:
    packed, size, name = member.compress_size, member.file_size, member.filename
    if member.flag_bits & 1:
        return f"has {name}, which is encrypted"
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return f"has {name}, which is packed by method {member.compress_type}"
    if size > (packed if not member.compress_type else max(_HARMLESS, _MOST_RATIO * packed)):
        return f"has {name}, which claims to unpack from {packed} bytes to {size}, as in a zip bomb"
    return None


@contextmanager
def reading(path: Path, expected: str) -> Iterator[None]:
    """Turn a failure to read an archive into one line."""
    try:
        yield
    except (
        OSError, EOFError, ValueError, KeyError, struct.error, zlib.error, zipfile.BadZipFile,
        NotImplementedError, RuntimeError, OverflowError, MemoryError,
    ) as error:  # fmt: skip
        reason = first_line(error) or type(error).__name__
        raise InputError(
            f"{path} cannot be read ({reason}); expected {expected}: get or write it anew"
        ) from None


IMPORTER = NumpyFile
