"""Numbers as people read them."""

import math

_SPACE = "\u202f"  # narrow and never broken at the end of a line
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def percent(fraction: float) -> str:
    """Return a fraction in per cent with two significant digits, for example `3.1 %`.

    Above 99 % it is three, and what is not all is never `100 %`.
    """
    if not math.isfinite(fraction):
        return number(fraction)
    if 0.99 < abs(fraction) < 1.0:
        return f"{number(math.copysign(min(100.0 * abs(fraction), 99.9), fraction), 3)}{_SPACE}%"
    return f"{number(100.0 * fraction, 2)}{_SPACE}%"


def number(value: float, digits: int = 4) -> str:
    """Return a number with so many significant digits, whole numbers in full.

    Whole parts are kept, thousands set apart, and very large or small values get powers of ten.
    """
    if isinstance(value, int):
        return _grouped(f"{value:,}")
    if math.isnan(value):
        return "not a number"
    if math.isinf(value):
        return "infinite" if value > 0 else "minus infinite"
    if value == 0:
        return "0"
    text = f"{value:.{digits - 1}e}"
    magnitude = int(text.partition("e")[2])
    if -6 < magnitude < 6:
        return _grouped(f"{value:,.{max(digits - 1 - magnitude, 0)}f}")
    return _power_of_ten(text)


def setting(value: float) -> str:
    """Return a number that somebody chose, as short as it was written, up to six digits."""
    if isinstance(value, int) or not math.isfinite(value):
        return number(value)
    return _power_of_ten(f"{value:.6g}")


def _power_of_ten(text: str) -> str:
    mantissa, e, exponent = text.partition("e")
    if not e:
        return text
    return f"{mantissa}{_SPACE}×{_SPACE}10{str(int(exponent)).translate(_SUPERSCRIPT)}"


def _grouped(text: str) -> str:
    return text.replace(",", _SPACE)
