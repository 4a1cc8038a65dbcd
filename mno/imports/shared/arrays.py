"""Files of named arrays: what all their importers share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mno.imports.base import Contents, Importer
from mno.imports.mapping import Mapping as FieldMapping


@dataclass(frozen=True)
class Found:
    """An array of a file."""

    shape: tuple[int, ...]
    dtype: np.dtype


@dataclass(frozen=True)
class Piece:
    """Where the values of a field are.

    Attributes:
        array: The array that holds them.
        channel_axis: Its axis of which they are one place; none if they are the whole array.
        channel: That place.
        order: Order into which the axes are brought then, the sample's first; as they are, if not
            given.
    """

    array: str
    channel_axis: int | None = None
    channel: int = 0
    order: tuple[int, ...] | None = None

    def of(self, rows: np.ndarray) -> np.ndarray:
        """Take the field from rows of the array, shape `(samples, *dims)`; float32."""
        if self.channel_axis is not None:
            rows = rows.take(self.channel, axis=self.channel_axis)
        if self.order is not None:
            rows = rows.transpose(self.order)
        with np.errstate(over="ignore"):  # what is too large becomes infinite, which is refused
            return np.ascontiguousarray(rows, dtype=np.float32)


class ArrayFile(Importer):
    """An open file of named arrays; a subclass finds them and reads their rows."""

    def __init__(self, path: Path, mapping: FieldMapping) -> None:
        self.path = path
        self._rows_at: tuple[str, int, int] | None = None
        self._last_rows = np.empty(0)
        try:
            self._contents, self._pieces = self._open(mapping)
        except BaseException:
            self.close()
            raise

    @property
    def contents(self) -> Contents:
        """What the file holds."""
        return self._contents

    def read(self, name: str, start: int, stop: int) -> np.ndarray:
        """Read one field of some samples; see `Importer.read`."""
        piece = self._pieces[name]
        if piece.channel_axis is None:
            return piece.of(self._rows(piece.array, start, stop))
        wanted = (piece.array, start, stop)  # once for all channels, which are read in turn
        if self._rows_at != wanted:
            self._rows_at, self._last_rows = None, np.empty(0)
            self._last_rows = self._rows(*wanted)
            self._rows_at = wanted
        return piece.of(self._last_rows)

    @abstractmethod
    def _open(self, mapping: FieldMapping) -> tuple[Contents, Mapping[str, Piece]]:
        """Open the file; return what it holds, and where each field's values are."""

    @abstractmethod
    def _rows(self, array: str, start: int, stop: int) -> np.ndarray:
        """Read rows of an array, shape `(stop - start, *)`, as the file has them."""
