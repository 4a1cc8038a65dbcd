"""A file for libraries that crash when a disk is full."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Self


class WaryFile:
    """A file that takes every write and remembers the first that failed.

    HDF5 tries again to write what it could not when the file is closed and when the process ends,
    and then crashes. Here it never hears of the failure; whoever writes asks `check`.

    Args:
        path: A file that does not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("w+b", buffering=0)
        self._failure: OSError | None = None

    def check(self) -> None:
        """Raise what went wrong.

        Raises:
            OSError: A write failed.
        """
        if self._failure is not None:
            raise self._failure

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place; see `io.IOBase.seek`."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Return the place."""
        return self._file.tell()

    def read(self, size: int) -> bytes:
        """Read some bytes from the place on."""
        return self._file.read(size)

    def readinto(self, buffer: memoryview) -> int:
        """Read from the place on."""
        return self._file.readinto(buffer)

    def write(self, values: memoryview) -> int:
        """Write all bytes, unless a write has failed before."""
        left = memoryview(values).cast("B")
        try:
            while len(left) and self._failure is None:
                left = left[self._file.write(left) :]
        except OSError as error:
            self._failure = error
        return len(values)

    def truncate(self, size: int) -> int:
        """Set the length of the file."""
        try:
            return self._file.truncate(size)
        except OSError as error:
            self._failure = self._failure or error
            return size

    def flush(self) -> None:
        """Do nothing: nothing is held back."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
