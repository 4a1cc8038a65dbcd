"""Numbers in the cells of a table of readings, and what stands for a missing one."""

from __future__ import annotations

import math
from pathlib import Path

from mno.core.errors import InputError

_LARGEST = 3.4e38  # of a float32
_MISSING = {"", "-", "?", "na", "n/a", "#n/a", "nan", "null", "none", "missing", "bad", "no data"}


class Cells:
    """Reads the numbers of one file.

    Args:
        path: The file, for messages.
        decimal_comma: Whether a number may have a comma for its point.
    """

    def __init__(self, path: Path, decimal_comma: bool) -> None:
        self._path = path
        self._comma = decimal_comma

    def number(self, text: str, line: int, column: str) -> float | None:
        """Return a number, None where the cell is empty or has a word for a missing one.

        Raises:
            InputError: It is neither.
        """
        if self._comma and "," in text:
            text = text.replace(",", ".")
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if -_LARGEST < number < _LARGEST and "_" not in text:
            return number
        if text.strip().lower() in _MISSING:
            return None
        raise InputError(
            f"{self._path}, line {line}, {column}: {text[:40]!r}; expected a number (or nothing, "
            "where there is none): correct the cell"
        )

    def uncertainty(self, text: str, line: int) -> float:
        """Return a standard uncertainty, NaN where there is none.

        Raises:
            InputError: It is no number, or negative.
        """
        number = self.number(text, line, "uncertainty")
        if number is not None and number < 0:
            raise InputError(
                f"{self._path}, line {line}, uncertainty: {text[:40]!r}; expected a number that is "
                "not negative: correct the cell"
            )
        return math.nan if number is None else number
