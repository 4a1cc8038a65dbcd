"""A table of readings that grows: its rows as they come, and where each begins and ends.

The file has a column of times and one for each sensor, as `mno.imports.readings` reads them. Half a
line at the end waits until it is whole. What takes the file's place, as when logs are rotated, is
read from its beginning, once nothing more comes of the one before; so is a file that was cut off.
"""

import csv
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from mno.core.errors import InputError
from mno.core.files import sha256
from mno.imports.mapping import SensorRules, conversion
from mno.imports.readings import MISSING, NAMES

_MARKED = 1024  # bytes before a position by which it is known again
_POLL = 0.2  # seconds between looks at a file to which nothing came


class Row(NamedTuple):
    """One reading as it is written, cells in the units that are wanted."""

    time: str | None  # none of a row that is not like its header
    cells: Mapping[str, float | None]  # none where it is missing, NaN for what is no number
    begin: int  # where it begins in the file, and where it ends
    end: int


class GrowingLog:
    """The rows of a file, or of standard input where there is none.

    The rules say which columns are sensors; if none are, columns are called as they are `wanted`,
    which has their units by `QUANTITY.PLACE`. With `once` it ends where the file does, rather than
    wait for more. `columns` are those of the table by these names; empty before its header is read.
    """

    def __init__(
        self, path: Path | None, rules: SensorRules, wanted: Mapping[str, str], once: bool
    ) -> None:
        self._path, self._rules, self._wanted, self._once = path, rules, wanted, once
        self.columns: dict[str, tuple[int, float, float]] = {}
        self._inode = self._position = 0

    def rows(self, position: int = 0, mark: str = "") -> Iterator[Row | None]:
        """Yield all rows, those behind a position where its mark is still so; none while it waits.

        A file that cannot be read, or whose header is not what is wanted, is refused.
        """
        lines: Iterator[bytes | None] = self._of_file(position, mark)
        if self._path is None:
            lines = (line for line in sys.stdin.buffer if line.endswith(b"\n"))
        for line in lines:
            if line is None:
                yield None
                continue
            begin, self._position = self._position, self._position + len(line)
            text = line.decode("utf-8", "replace").strip("\r\n\ufeff")
            if not text.strip() or text.lstrip().startswith("#"):
                continue
            if self.columns:
                yield self._row(text, begin)
            else:
                self._read_header(text)
        if not self.columns:
            where = self._path or "standard input"
            raise InputError(f"{where} has no whole line; expected a header")

    def mark(self, position: int) -> str:
        """Return a digest of what lies before a position, by which it is known again."""
        if self._path is None or not self._path.exists():
            return ""
        with self._path.open("rb") as file:
            file.seek(max(position - _MARKED, 0))
            return sha256(file.read(min(position, _MARKED)))

    def _of_file(self, position: int, mark: str) -> Iterator[bytes | None]:
        assert self._path is not None
        try:
            file = self._path.open("rb")
        except OSError as error:
            raise InputError(
                f"{self._path} cannot be read: {error.strerror or error}; expected a CSV file"
            ) from None
        self._inode, replaced = os.fstat(file.fileno()).st_ino, False
        behind = position if self.mark(position) == mark else 0
        while True:
            line = file.readline()
            if line.endswith(b"\n"):
                yield line
                if self.columns and behind:
                    self._position, behind = behind, 0
                    file.seek(self._position)
            elif replaced:  # and nothing more came to the one before
                file.close()
                file, replaced, self._position, self.columns = self._path.open("rb"), False, 0, {}
                self._inode = os.fstat(file.fileno()).st_ino
            elif self._once:
                return
            else:
                file.seek(self._position)
                if not (replaced := self._is_replaced()):
                    yield None
                    time.sleep(_POLL)

    def _is_replaced(self) -> bool:
        try:
            there = (self._path or Path()).stat()
        except OSError:  # another may come
            return False
        return there.st_ino != self._inode or there.st_size < self._position

    def _read_header(self, text: str) -> None:
        self._delimiter = max(",;\t", key=text.count)
        header = [cell.strip() for cell in self._cells(text)]
        names, where = [name.lower() for name in header], self._path or "standard input"
        self._time = next((names.index(name) for name in NAMES["time"] if name in names), -1)
        if self._time < 0 or len(set(header)) < len(header):
            raise InputError(
                f"{where} has the columns {', '.join(header)[:300]}; expected each once, and time "
                f"beside some of {', '.join(self._wanted)}"
            )
        found, rules = {}, self._rules.columns
        if lacking := sorted(set(rules) - set(header)):
            raise InputError(
                f"{where}: the mapping file names column {lacking[0]!r}; the log has "
                f"{', '.join(header)[:500]}"
            )
        for number, name in enumerate(header):
            rule, column = rules.get(name), name
            if number == self._time or (rules and rule is None):
                continue
            if rule is not None:
                column = f"{rule.quantity}.{rule.place}" if rule.place else rule.quantity
            if column not in self._wanted or column in found:
                problem = "which is there twice" if column in found else "which is not known"
                raise InputError(
                    f"{where}: column {name!r} is {column!r}, {problem}; expected some of "
                    f"{', '.join(self._wanted)}: name it so, or in a mapping file"
                )
            units = self._wanted[column]
            factors = conversion(rule.units, units, f"column {name}") if rule else (1.0, 0.0)
            found[column] = (number, *factors)
        self.columns, self._width = found, len(header)

    def _cells(self, text: str) -> list[str]:
        try:
            return next(csv.reader([text], delimiter=self._delimiter), [])
        except csv.Error:
            return []

    def _row(self, text: str, begin: int) -> Row:
        cells = self._cells(text)
        if len(cells) != self._width:
            return Row(None, {}, begin, self._position)
        if self._delimiter != ",":
            cells = [cell.replace(",", ".") for cell in cells]
        found = {}
        for column, (number, factor, offset) in self.columns.items():
            value = _number(cells[number])
            found[column] = None if value is None else value * factor + offset
        return Row(cells[self._time], found, begin, self._position)


def _number(text: str) -> float | None:
    """Return a cell's number, none where it is missing, and NaN where it is none."""
    if text.strip().lower() in MISSING:
        return None
    try:
        return math.nan if "_" in text else float(text)
    except ValueError:
        return math.nan
