"""The rows of a text table: encodings, comments, delimiters, and whatever a hostile file does."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from mno.core.errors import InputError, first_line

MAX_LINE = 1_000_000
"""Characters; a longer line is not one of readings, and must not be held in memory."""


class Table:
    """A text file of cells: a header, and rows of as many cells.

    Cells are parted by `,`, `;` or tab, whichever the header has most of, and may be quoted. Blank
    lines, and lines that begin with `#`, are skipped; so is a byte order mark.

    Args:
        path: The file, UTF-8.

    Attributes:
        header: Names of the columns, without the spaces around them.
        decimal_comma: Whether a number may have a comma for its point, as the delimiter is another.

    Raises:
        InputError: There is no such file, or no header in it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._line = 0
        try:
            self._file = path.open(encoding="utf-8-sig", newline="")
        except OSError as error:
            raise InputError(
                f"{path} cannot be read: {error.strerror or error}; expected a CSV file of readings"
            ) from None
        try:
            self._lines = self._read_lines()
            first = next(self._lines, "")
            delimiter = max(",;\t", key=first.count)
            self.decimal_comma = delimiter != ","
            cells = next(csv.reader([first], delimiter=delimiter), [])
            self.header = tuple(cell.strip() for cell in cells)
            self._check_header()
        except BaseException:
            self._file.close()
            raise
        self._cells = csv.reader(self._lines, delimiter=delimiter, strict=True)

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """Yield the number of each row's line, and its cells; the file is closed at the end.

        Raises:
            InputError: A row has more or fewer cells than the header, or is no text.
        """
        width = len(self.header)
        with self._file:
            try:
                for cells in self._cells:
                    if len(cells) != width:
                        raise InputError(
                            f"{self.path}, line {self._line}: {len(cells)} cells; expected {width}"
                            ", as in the header: complete the row, or remove it"
                        )
                    yield self._line, cells
            except csv.Error as error:
                raise InputError(
                    f"{self.path}, line {self._line}: {first_line(error)}; expected quotes around "
                    "whole cells: correct the row"
                ) from None

    def _check_header(self) -> None:
        named = [name.lower() for name in self.header if name]
        twice = sorted({name for name in named if named.count(name) > 1})
        if not named or twice:
            found = f"the columns {', '.join(twice)} twice" if twice else "no header"
            raise InputError(
                f"{self.path} has {found}; expected a first line that names each column, such as "
                "time,x,quantity,value,unit"
            )

    def _read_lines(self) -> Iterator[str]:
        while True:
            try:
                line = self._file.readline(MAX_LINE + 1)
            except UnicodeDecodeError:
                raise InputError(
                    f"{self.path} is not UTF-8 text (after line {self._line}); save it as CSV in "
                    "UTF-8"
                ) from None
            if not line:
                return
            self._line += 1
            if len(line) > MAX_LINE or "\0" in line:
                what = "NUL bytes" if "\0" in line else f"more than {MAX_LINE} characters"
                raise InputError(
                    f"{self.path}, line {self._line}: {what}; expected a text file of readings: "
                    "save it as CSV in UTF-8"
                )
            if not line.isspace() and not line.lstrip().startswith("#"):
                yield line
