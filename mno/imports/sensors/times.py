"""Times of readings: seconds, or ISO 8601 dates, turned into seconds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from mno.core.errors import InputError

_FARTHEST = 1e12  # seconds; some 30,000 years


class Clock:
    """Turns the times of one file into seconds; its first time decides what they are.

    Dates are counted from the first one of the file. Those with a zone may have different ones,
    since each is one moment; those without are taken as they stand, and both are not mixed.

    Args:
        path: The file, for messages.
        decimal_comma: Whether seconds may be written with a comma.
    """

    def __init__(self, path: Path, decimal_comma: bool) -> None:
        self._path = path
        self._comma = decimal_comma
        self._first: datetime | None = None
        self._are_numbers: bool | None = None
        self._last: tuple[str | None, float] = (None, 0.0)

    def seconds(self, text: str, line: int) -> float:
        """Return a time in seconds.

        Args:
            text: As it is in the file.
            line: Its number, for messages.

        Raises:
            InputError: It is no time, or not one like those before.
        """
        if text == self._last[0]:
            return self._last[1]
        number = self._number(text.strip())
        if self._are_numbers is None:
            self._are_numbers = number is not None
        if not self._are_numbers:
            number = self._date(text.strip(), line)
        elif number is None:
            raise self._error(text, line, "expected seconds, as in the rows before: correct it")
        if not abs(number) < _FARTHEST:
            raise self._error(text, line, f"expected seconds below {_FARTHEST:g}: correct it")
        self._last = (text, number)
        return number

    def epoch(self, seconds: float) -> str | None:
        """Return the date of a time as ISO 8601, None where times are no dates."""
        if self._first is None:
            return None
        return (self._first + timedelta(seconds=seconds)).isoformat()

    def _number(self, text: str) -> float | None:
        try:
            return float(text.replace(",", ".") if self._comma else text)
        except ValueError:
            return None

    def _date(self, text: str, line: int) -> float:
        try:
            date = datetime.fromisoformat(text)
        except ValueError:
            raise self._error(
                text,
                line,
                "expected seconds, or a date such as 2026-03-01T12:00:00Z: write all times so",
            ) from None
        if self._first is None:
            self._first = date
        if (date.tzinfo is None) != (self._first.tzinfo is None):
            has = "no zone" if date.tzinfo is None else "a zone"
            raise self._error(
                text, line, f"it has {has}, unlike those before: give all of them one, or none"
            )
        return (date - self._first).total_seconds()

    def _error(self, text: str, line: int, rest: str) -> InputError:
        return InputError(f"{self._path}, line {line}: time {text[:40]!r}; {rest}")


def posix_seconds(epoch: str | None) -> float:
    """Return the seconds of an epoch since 1970, taken as UTC where it has no zone; 0 for None."""
    if epoch is None:
        return 0.0
    date = datetime.fromisoformat(epoch)
    return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
