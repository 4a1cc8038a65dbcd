"""Times as logs write them: seconds, or ISO 8601 dates, which are counted from the first one."""

from datetime import datetime, timedelta

_FARTHEST = 1e11  # seconds; some 3,000 years: dates as 202603011250 are more
_NUMBERS = "seconds"


class Clock:
    """Reads the times of one log; the first decides whether all are seconds or dates.

    Dates with a zone may have different ones, since each is one moment; those without are taken as
    they stand, and both are not mixed.

    Attributes:
        said: What was decided, of which the same clock can be made again: nothing yet, `seconds`,
            or the first date.
    """

    def __init__(self, said: str = "") -> None:
        self.said = said
        dated = said and said != _NUMBERS
        self._first = datetime.fromisoformat(said) if dated else None

    def date(self, seconds: float) -> str | None:
        """Return the date of a time as ISO 8601; None where times are no dates."""
        return self._first and (self._first + timedelta(seconds=seconds)).isoformat()

    def seconds(self, text: str) -> float:
        """Return the seconds of a time as it is written; a `ValueError` says what is expected."""
        try:
            number = float(text)
        except ValueError:
            number = None
        if self.said == _NUMBERS and number is None:
            raise ValueError("expected seconds, as in the rows before: correct it")
        if self._first or number is None:
            number = self._since_first(text.strip())
        if not abs(number) < _FARTHEST:
            raise ValueError(f"expected seconds below {_FARTHEST:g}, or a date: correct it")
        self.said = self.said or _NUMBERS
        return number

    def _since_first(self, text: str) -> float:
        try:
            date = datetime.fromisoformat(text)
        except ValueError:
            raise ValueError(
                "expected seconds, or a date such as 2026-03-01T12:00:00Z: write all times so"
            ) from None
        if self._first is None:
            self._first, self.said = date, date.isoformat()
        if (date.tzinfo is None) != (self._first.tzinfo is None):
            has = "no zone" if date.tzinfo is None else "a zone"
            raise ValueError(f"it has {has}, unlike those before: give all of them one, or none")
        return (date - self._first).total_seconds()
