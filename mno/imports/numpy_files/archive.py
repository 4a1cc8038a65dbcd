"""Zip archives from strangers: what is claimed is checked before anything is unpacked."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mno.core.errors import InputError, first_line

_MOST_MEMBERS = 1000
# Deflate reaches 1032; fields of few different values reach some hundred. Small ones do no harm.
_MOST_RATIO = 500
_HARMLESS = 64 * 2**20
_ENCRYPTED = 0x1
_LOCAL_HEADER = struct.Struct("<4s22xHH")


def open_archive(path: Path, expected: str) -> zipfile.ZipFile:
    """Open a zip archive whose members can be unpacked safely.

    Args:
        path: The file.
        expected: What it should be, for messages.

    Raises:
        InputError: It is no zip archive, or one that unpacks to far more than it can hold.
    """
    with reading(path, expected):
        archive = zipfile.ZipFile(path)
    try:
        _check(path, archive, expected)
    except BaseException:
        archive.close()
        raise
    return archive


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


def data_offset(path: Path, member: zipfile.ZipInfo) -> int:
    """Return where in the archive the bytes of a member begin.

    Raises:
        InputError: There is no such member there.
    """
    with open(path, "rb") as file:
        file.seek(member.header_offset)
        header = file.read(_LOCAL_HEADER.size)
    if len(header) < _LOCAL_HEADER.size or not header.startswith(b"PK\x03\x04"):
        raise InputError(f"{path}: {member.filename} is not where the archive says; get it anew")
    _, name, extra = _LOCAL_HEADER.unpack(header)
    return member.header_offset + _LOCAL_HEADER.size + name + extra


def _check(path: Path, archive: zipfile.ZipFile, expected: str) -> None:
    members = archive.infolist()
    names = {member.filename for member in members}
    packed = sum(member.compress_size for member in members)
    if len(members) > _MOST_MEMBERS or len(names) < len(members):
        raise InputError(
            f"{path} has {len(members)} members of {len(names)} names; expected {expected}, with "
            f"at most {_MOST_MEMBERS} members of different names: write it anew"
        )
    if packed > path.stat().st_size:
        raise InputError(
            f"{path} claims {packed} packed bytes in a file of {path.stat().st_size}: its members "
            f"overlap, as in a zip bomb; expected {expected}"
        )
    for member in members:
        if member.flag_bits & _ENCRYPTED:
            raise InputError(f"{path}: {member.filename} is encrypted; expected {expected}")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise InputError(
                f"{path}: {member.filename} is packed by method {member.compress_type}; expected "
                "stored or deflated members, as numpy.savez and numpy.savez_compressed write them"
            )
        stored = member.compress_type == zipfile.ZIP_STORED
        most = member.compress_size if stored else _MOST_RATIO * member.compress_size
        if member.file_size > max(most, 0 if stored else _HARMLESS):
            raise InputError(
                f"{path}: {member.filename} claims to unpack from {member.compress_size} bytes to "
                f"{member.file_size}, as in a zip bomb; expected at most {_MOST_RATIO} times as "
                "much: store it uncompressed if it is right"
            )
