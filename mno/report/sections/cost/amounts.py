"""Amounts of time, money and energy as a report says them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mno.report.language import Words

_SPACE = "\u202f"
_UNITS = ((3600.0, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms"))


def duration(seconds: float, words: Words) -> str:
    """Return a time with two digits and the largest unit in which it is 1 or more, at least ms."""
    if not math.isfinite(seconds):
        return words.number(seconds)
    size, unit = next((found for found in _UNITS if seconds >= found[0]), _UNITS[-1])
    amount = seconds / size
    return f"{words.number(amount, 3 if amount >= 10 else 2)}{_SPACE}{unit}"


def price(amount: float, currency: str, words: Words) -> str:
    """Return an amount of money; without a currency it is a bare number."""
    return f"{words.number(amount, 3)}{_SPACE}{currency}" if currency else words.number(amount, 3)
