"""Readings on disk: more of them than memory holds, put in order of their windows."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from mno.core.errors import MnoError
from mno.imports.sensors.parse import CHUNK, ROW


class Spill:
    """Rows of dtype `ROW` in a file without a name, which is gone when it is closed.

    Raises:
        MnoError: There is no room for it; so do its methods.
    """

    def __init__(self) -> None:
        with _room():
            self._file: Any = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - kept open
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def append(self, rows: np.ndarray) -> None:
        """Write rows behind the others."""
        self._write(rows, self._count)
        self._count += len(rows)

    def rows(self, start: int, stop: int) -> Iterator[np.ndarray]:
        """Yield the rows from `start` to before `stop`, at most `CHUNK` at a time."""
        for first in range(start, stop, CHUNK):
            count = min(CHUNK, stop - first)
            with _room():
                yield np.fromfile(self._file, ROW, count, offset=self._seek(first))

    def ordered(self, window: Callable[[np.ndarray], np.ndarray], counts: np.ndarray) -> Spill:
        """Return the same rows by window; those of one window keep their order. This one is closed.

        Args:
            window: Returns the window of each of some rows.
            counts: Rows in each window.
        """
        result = Spill()
        free = np.concatenate([[0], np.cumsum(counts)[:-1]])  # where the next row of each goes
        for rows in self.rows(0, len(self)):
            windows = window(rows)
            order = np.argsort(windows, kind="stable")
            rows, windows = rows[order], windows[order]
            firsts = np.flatnonzero(np.diff(windows, prepend=-1))
            for first, last in zip(firsts, [*firsts[1:], len(rows)], strict=True):
                result._write(rows[first:last], int(free[windows[first]]))
                free[windows[first]] += last - first
        result._count = len(self)
        self.close()
        return result

    def close(self) -> None:
        """Give the room back."""
        self._file.close()

    def _seek(self, row: int) -> int:
        self._file.seek(0)
        return row * ROW.itemsize

    def _write(self, rows: np.ndarray, at: int) -> None:
        data, offset = memoryview(rows.tobytes()), at * ROW.itemsize
        while data:
            with _room():
                written = os.pwrite(self._file.fileno(), data, offset)
            data, offset = data[written:], offset + written


@contextmanager
def _room() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise MnoError(
            f"cannot keep readings in {tempfile.gettempdir()}: {error.strerror or error}; make "
            "room there, or set TMPDIR to a folder with room"
        ) from None
