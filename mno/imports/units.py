"""Units: checked and converted by pint."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from mno.core.errors import InputError

_LONGEST = 40
# pint works out powers of numbers: 9**9**9 in a file would never end.
_NUMBERS_TO_POWERS = re.compile(r"\d[\s)]*(\*\*|\^|[⁰¹²³⁴-⁹])|(\*\*|\^)\s*\(|\d{3}|[⁰¹²³⁴-⁹]{3}")
# As CF conventions write powers: m3 h-1.
_CF_POWER = re.compile(r"(?<=[A-Za-z])(-?\d+)(?![\w.])")


@cache
def _registry() -> Any:
    import pint

    return pint.UnitRegistry(autoconvert_offset_to_baseunit=True, cache_folder=None)


def conversion(given: str, wanted: str, what: str) -> tuple[float, float]:
    """Return factor and offset that turn values of one unit into values of another.

    Args:
        given: Unit of the values, for example `degC`.
        wanted: Unit that they are to have, for example `K`.
        what: What has the unit, for the message.

    Raises:
        InputError: One of them is no unit, or they measure different things.
    """
    if given == wanted:
        return 1.0, 0.0
    source, target = _unit(given, what), _unit(wanted, what)
    registry = _registry()
    if source.dimensionality != target.dimensionality:
        raise InputError(
            f"{what} is given in {given} ({source.dimensionality}), which cannot be converted to "
            f"{wanted} ({target.dimensionality}); correct the unit"
        )
    zero = float(registry.Quantity(0.0, source).to(target).magnitude)
    one = float(registry.Quantity(1.0, source).to(target).magnitude)
    return one - zero, zero


def check_unit(unit: str, what: str) -> None:
    """Refuse what is no unit.

    Raises:
        InputError: It is none.
    """
    _unit(unit, what)


def _unit(text: str, what: str) -> Any:
    registry = _registry()
    if text.strip() in ("1", ""):
        return registry.dimensionless
    try:
        if len(text) > _LONGEST or _NUMBERS_TO_POWERS.search(text):
            raise ValueError(text)
        return registry.Unit(_CF_POWER.sub(r"**\1", text))
    except Exception:  # pint raises errors of many kinds for text that is no unit
        raise InputError(
            f"{what}: {text[:_LONGEST]!r} is no unit that is known here; write it like W/m^2, "
            "degC or 1"
        ) from None
