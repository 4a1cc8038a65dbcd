"""Which sensor, where, and of what: the names behind the readings of a file, as numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from mno.core.errors import InputError
from mno.imports.units import check_unit, conversion

MAX_SERIES = 100_000
"""Sensors, places and quantities, all together; more come of a column taken for another."""
_MAX_NAME = 200
NOWHERE = -1
"""Place of a reading that holds for all of the plant."""


@dataclass(frozen=True)
class Series:
    """The readings of one quantity by one sensor in one place and unit.

    Attributes:
        number: Of the series, the same for every unit.
        factor: What readings are multiplied by.
        offset: What is added to them then.
        uncertainty: Standard uncertainty of a reading that has none of its own, converted.
    """

    number: int
    factor: float
    offset: float
    uncertainty: float


@dataclass
class Catalogue:
    """All that was found in a file so far; grows as it is read.

    Args:
        wanted: Units that quantities are to have; the first one that is read, for the others.

    Attributes:
        units: Unit of each quantity.
        sensors: Names of sensors.
        quantities: Names of quantities.
        places: Coordinates.
        series: Numbers of sensor, place (or `NOWHERE`) and quantity of each series.
    """

    wanted: Mapping[str, str]
    units: dict[str, str] = field(default_factory=dict)
    sensors: dict[str, int] = field(default_factory=dict)
    quantities: dict[str, int] = field(default_factory=dict)
    places: dict[tuple[float, ...], int] = field(default_factory=dict)
    series: dict[tuple[int, int, int], int] = field(default_factory=dict)

    def add(
        self,
        sensor: str,
        place: tuple[tuple[str, float], ...],
        quantity: str,
        unit: str,
        where: str,
        uncertainty: float = float("nan"),
    ) -> Series:
        """Return a series, a new one if there is none like it.

        Args:
            sensor: Its name; made of the place where it is empty.
            place: Axes and coordinates; empty for one that holds for all of the plant.
            quantity: What is measured.
            unit: Of the readings; empty where the file does not say.
            where: File and line, for messages.
            uncertainty: Standard uncertainty of a reading, in its unit.

        Raises:
            InputError: The unit does not fit, a name is none, or there are too many series.
        """
        sensor, quantity, unit = (" ".join(text.split()) for text in (sensor, quantity, unit))
        name = sensor or " ".join(f"{axis}={at!r}" for axis, at in place) or quantity
        if not quantity or max(len(name), len(quantity), len(unit)) > _MAX_NAME:
            raise InputError(
                f"{where}: quantity {quantity[:40]!r}; expected names of 1 to {_MAX_NAME} "
                "characters: name what is measured"
            )
        wanted = self.wanted.get(quantity, self.wanted.get(field_name(quantity)))
        unit = unit or wanted or "1"
        target = self.units.setdefault(quantity, wanted or unit)
        check_unit(unit, f"{where}: {quantity}")
        factor, offset = conversion(unit, target, f"{where}: {quantity}")
        key = (
            self.sensors.setdefault(name, len(self.sensors)),
            self.places.setdefault(tuple(at for _, at in place), len(self.places))
            if place
            else NOWHERE,
            self.quantities.setdefault(quantity, len(self.quantities)),
        )
        number = self.series.setdefault(key, len(self.series))
        if number >= MAX_SERIES:
            raise InputError(
                f"{where}: more than {MAX_SERIES} sensors and places; expected sensors that stay "
                "where they are: is a column of readings named like one of positions?"
            )
        return Series(number, factor, offset, uncertainty * abs(factor))


def field_name(quantity: str) -> str:
    """Return the name that a quantity has as a field: letters, digits and underscores."""
    name = re.sub(r"[^A-Za-z0-9]+", "_", quantity).strip("_")
    return name if name[:1].isalpha() else f"q_{name}".rstrip("_")
