"""What becomes of the quantities of a sensor log: points, and fields on them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mno.core.errors import InputError
from mno.core.fields import Field
from mno.imports.sensors.series import NOWHERE, Catalogue, field_name


@dataclass(frozen=True, eq=False)
class Quantity:
    """A quantity as a field.

    Attributes:
        field: Its field: a state on points, or an input over time that holds for all of the plant.
        name: Its name in the file.
        number: Its number in the catalogue.
        points: Number of points at which it is measured; 0 if it holds for all of the plant.
    """

    field: Field
    name: str
    number: int
    points: int


@dataclass(frozen=True, eq=False)
class Layout:
    """Where the sensors of a log are, and what they measure.

    Attributes:
        places: Coordinates of the points, in ascending order, shape `(points, axes)`.
        point: Point of each series, -1 for one that holds for all of the plant.
        quantity: Number of the quantity of each series.
        quantities: All of them.
    """

    places: np.ndarray
    point: np.ndarray
    quantity: np.ndarray
    quantities: tuple[Quantity, ...]

    @property
    def placed(self) -> list[int]:
        """Numbers of the series that have a place."""
        return np.flatnonzero(self.point >= 0).tolist()


def lay_out(path: Path, catalogue: Catalogue, axes: tuple[str, ...]) -> Layout:
    """Make points of places, and fields of quantities.

    Raises:
        InputError: No reading has a place, or a quantity is measured in places and without one.
    """
    if not catalogue.places:
        raise InputError(
            f"{path}: no reading has a position; expected columns x (and y, z), or x in "
            "`sensors: {columns: …}` of a mapping file: say where the sensors are"
        )
    places = np.array(list(catalogue.places), dtype=np.float64)
    order = np.lexsort(places.T[::-1])
    _, place, quantity = np.array(list(catalogue.series), dtype=np.int64).T
    point = np.append(np.argsort(order), NOWHERE)[place]
    found = []
    for name, number in catalogue.quantities.items():
        at = np.unique(point[quantity == number])
        if NOWHERE in at and len(at) > 1:
            raise InputError(
                f"{path}: {name} has readings with a position and readings without; expected one "
                "or the other: add the position, or call what holds for all of the plant otherwise"
            )
        points = 0 if NOWHERE in at else len(at)
        found.append(Quantity(_field(name, catalogue, points > 0, axes), name, number, points))
    names = [one.field.name for one in found]
    twice = [one.name for one in found if names.count(one.field.name) > 1]
    if twice:
        raise InputError(
            f"{path}: quantities {' and '.join(map(repr, twice[:2]))} would be one field; expected "
            "names that differ in letters or digits: rename one"
        )
    return Layout(places[order], point, quantity, tuple(found))


def _field(quantity: str, catalogue: Catalogue, placed: bool, axes: tuple[str, ...]) -> Field:
    name = field_name(quantity)
    return Field(
        f"{name}_value" if name in axes else name,
        catalogue.units[quantity],
        quantity,
        "state" if placed else "input",
        ("time", "point"),
        gaps=True,
    )
