"""A plant: what a furnace is built of and what varies in it, as a file of `plants/` says.

Lengths are in m, temperatures in K, times in hours. Places are measured from the inner lower corner
of the chamber as it was built: `x` across, `y` up, `z` along. Inside the lining they are negative,
or greater than the chamber is wide, high or long.
"""

import math
from collections.abc import Iterator, Mapping
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field as Key
from pydantic import ValidationInfo, field_validator, model_validator

from mno.core.bodies import Body
from mno.core.config import Config, read_file
from mno.core.errors import InputError
from mno.core.observing import Sensor
from mno.scenarios.chamber.conduction import COLDEST, HOTTEST, Table, make_table

FOLDER = Path("plants")
SIZES = ("width", "height", "length")
ELASTIC = ("youngs_modulus", "thermal_expansion", "poisson_ratio")
SMALL = 1e-9
THINNEST = 0.005
"""Of a layer, m: thinner ones would be conducted through in seconds, by thousands of stages."""
NARROWEST = 0.01
"""Of gaps, supports, zones and steps of sizes and places, m."""

Length = Annotated[float, Key(gt=0.0, le=50.0)]
Kelvin = Annotated[float, Key(ge=COLDEST, le=HOTTEST)]
Pair = Annotated[list[float], Key(min_length=2, max_length=2)]
Place = Annotated[list[float], Key(min_length=3, max_length=3)]
Name = Annotated[str, Key(pattern="^[a-z][a-z0-9_]*$")]


class Material(Config):
    """A solid by its tables, pairs of temperature and value, which are linear between."""

    density: float = Key(gt=0.0, le=30_000.0, description="kg/m3")
    conductivity: list[Pair] = Key(min_length=1, description="K and W m-1 K-1")
    heat_capacity: list[Pair] = Key(min_length=1, description="K and J kg-1 K-1")
    emissivity: float = Key(gt=0.0, lt=1.0)
    melting: Pair | None = Key(default=None, description="K, where it begins and ends")
    latent_heat: float = Key(default=0.0, ge=0.0, le=1e7, description="Of melting, J/kg")
    youngs_modulus: list[Pair] | None = Key(default=None, min_length=1, description="K and Pa")
    thermal_expansion: list[Pair] | None = Key(
        default=None, min_length=1, description="K and 1/K, of a length, at a temperature"
    )
    poisson_ratio: list[Pair] | None = Key(
        default=None, min_length=1, description="K and 1, below 0.5"
    )

    @field_validator(
        "conductivity", "heat_capacity", "youngs_modulus", "thermal_expansion", "poisson_ratio"
    )
    @classmethod
    def _can_be_used(cls, table: list[Pair] | None, about: ValidationInfo) -> list[Pair] | None:
        for (before, _), (after, _) in pairwise(table or ()):
            if not before < after:
                raise ValueError(
                    f"{after:g} K follows {before:g} K; expected temperatures that rise, sort them"
                )
        for at, value in table or ():
            if not (math.isfinite(value) and value > 0.0 and math.isfinite(at)):
                raise ValueError(f"{value:g} at {at:g} K; expected positive numbers, correct it")
            if about.field_name == "poisson_ratio" and value >= 0.5:
                raise ValueError(f"{value:g} at {at:g} K; expected less than 0.5, correct it")
        return table

    @model_validator(mode="after")
    def _melts_in_order(self) -> Self:
        if self.melting and not COLDEST < self.melting[0] < self.melting[1] < HOTTEST:
            raise ValueError(
                f"melting={self.melting}; expected where it begins and where it ends, from "
                f"{COLDEST:g} to {HOTTEST:g} K"
            )
        if bool(self.melting) != (self.latent_heat > 0.0):
            raise ValueError(
                f"melting={self.melting} with latent_heat={self.latent_heat:g}; expected both or "
                "neither, add the other one"
            )
        return self

    @model_validator(mode="after")
    def _is_elastic_or_not(self) -> Self:
        missing = [key for key in ELASTIC if getattr(self, key) is None]
        if 0 < len(missing) < len(ELASTIC):
            raise ValueError(
                f"without {' and '.join(missing)}; expected {', '.join(ELASTIC)} or none of them, "
                "add what is missing"
            )
        return self

    @cached_property
    def table(self) -> Table:
        """What its cells are at each enthalpy."""
        latent = (*self.melting, self.latent_heat) if self.melting else None
        return make_table(self.conductivity, self.heat_capacity, self.density, latent)

    def at(self, temperature: float) -> tuple[float, float]:
        """Return conductivity and heat capacity, J m-3 K-1, at a temperature."""
        conducts, stores = (
            float(np.interp(temperature, *np.transpose(table)))
            for table in (self.conductivity, self.heat_capacity)
        )
        return conducts, stores * self.density

    def thermal_stress(self, temperature: np.ndarray, mean: np.ndarray) -> np.ndarray:
        """Estimate the stress at places of a free body that has a mean temperature, Pa.

            E alpha / (1 - nu) |T - T_mean|,   with E, alpha and nu at T

        Exact at the surface of a plate whose temperature is symmetric about its middle (Timoshenko
        and Goodier, Theory of Elasticity, 1970, chapter 13), of constant E, alpha and nu. What a
        body would follow by bending is counted, yielding and creep are not.
        """
        modulus, expansion, ratio = (
            np.interp(temperature, *np.transpose(getattr(self, key))) for key in ELASTIC
        )
        return modulus * expansion / (1.0 - ratio) * np.abs(temperature - mean)


class Chamber(Config):
    """The space inside of the lining, as it was built."""

    width: Length = Key(description="Along x, m")
    height: Length = Key(description="Along y, m")
    length: Length = Key(description="Along z, m")

    @property
    def size(self) -> tuple[float, float, float]:
        """All three."""
        return self.width, self.height, self.length


class Layer(Config):
    """A layer of the lining."""

    material: str
    thickness: float = Key(ge=THINNEST, le=50.0, description="m")


class Lining(Config):
    """What is around the chamber: layers, from the hot face outwards."""

    walls: list[Layer] = Key(min_length=1, description="At both sides and both ends")
    roof: list[Layer] = Key(min_length=1)
    hearth: list[Layer] = Key(min_length=1)

    @property
    def thicknesses(self) -> tuple[float, float, float]:
        """Of walls, roof and hearth, all layers together, m."""
        walls, roof, hearth = (sum(layer.thickness for layer in layers) for _, layers in self)
        return walls, roof, hearth


class Zone(Config):
    """A part of the chamber's length with a power of its own."""

    name: Name
    end: Length = Key(description="Where it ends along z, m; it begins where the one before ends")
    power: float = Key(gt=0.0, le=1e9, description="Most power, W")


class Gas(Config):
    """What fills the chamber."""

    heating: Literal["burner", "electric"] = "burner"
    flame_temperature: Kelvin = Key(
        default=2200.0, description="Of burning without any loss, K: how much gas a watt brings"
    )
    leak: float = Key(default=20.0, gt=0.0, le=1e6, description="Air into each zone, W/K")
    mixing: float = Key(default=200.0, ge=0.0, le=1e6, description="Between neighbours, W/K")
    film: float = Key(default=15.0, gt=0.0, le=1000.0, description="To surfaces, W m-2 K-1")
    absorption: float = Key(default=0.15, ge=0.0, le=5.0, description="Of radiation, 1/m")
    flue: Name = Key(description="The zone from which gases leave")


class Control(Config):
    """How power follows from a set-point and the reading of the zone's thermocouple."""

    band: float = Key(
        default=60.0, gt=0.0, le=1000.0,
        description="Below the set-point, in which power falls from full to none, K",
    )  # fmt: skip


class Outside(Config):
    """What the outer surface of the furnace gives heat to."""

    film: float = Key(default=8.0, gt=0.0, le=1000.0, description="W m-2 K-1")
    emissivity: float = Key(default=0.8, ge=0.0, lt=1.0)


class Pieces(Config):
    """The charge: pieces beside each other, their sizes and places in steps, as plans say them."""

    count: Annotated[list[int], Key(min_length=2, max_length=2)]
    row: Literal["across", "along"] = Key(
        default="across", description="Whether they lie beside each other along x or along z"
    )
    width: Pair = Key(description="Least and greatest, along x")
    height: Pair
    length: Pair = Key(description="Along z")
    gap: float = Key(
        ge=NARROWEST, le=50.0, description="Least distance between pieces, and to walls"
    )
    support: float = Key(default=0.0, ge=0.0, le=5.0, description="Height above the hearth")
    step: float = Key(
        default=0.05, ge=NARROWEST, le=50.0, description="Of which sizes and places are multiples"
    )
    grades: list[str] = Key(min_length=1, description="Materials, one of which each piece has")
    temperature: Annotated[list[Kelvin], Key(min_length=2, max_length=2)]


class Schedule(Config):
    """The set-points: lines between corners that are drawn, held for an interval each."""

    hours: float = Key(gt=0.0, le=1000.0)
    interval: float = Key(default=0.5, gt=0.0, le=100.0, description="Hours between set-points")
    corners: list[list[float]] = Key(
        min_length=2, description="Hour, least and greatest set-point, K, of each corner"
    )
    shift: float = Key(
        default=0.0, ge=0.0, description="How far corners between are moved, either way, hours"
    )
    zone_difference: float = Key(
        default=0.0, ge=0.0, le=500.0, description="Of a zone from the others at a corner, K"
    )

    @field_validator("corners")
    @classmethod
    def _are_corners(cls, corners: list[list[float]]) -> list[list[float]]:
        for corner in corners:
            if len(corner) != 3 or not COLDEST <= corner[1] <= corner[2] <= HOTTEST:
                raise ValueError(
                    f"{corner}; expected an hour, the least and the greatest set-point in K"
                )
        hours = [corner[0] for corner in corners]
        rise = all(a < b < math.inf for a, b in pairwise(hours))
        if hours[0] != 0.0 or not rise:
            raise ValueError(f"hours {hours}; expected them to rise from 0, sort them")
        return corners

    @model_validator(mode="after")
    def _reaches_the_end(self) -> Self:
        if self.corners[-1][0] < self.hours:
            raise ValueError(
                f"corners end at {self.corners[-1][0]:g} h of hours={self.hours:g}; add one at the "
                "end"
            )
        steps = self.hours / self.interval
        if abs(steps - round(steps)) > 1e-6 or steps < 1:
            raise ValueError(
                f"interval={self.interval:g} does not divide hours={self.hours:g}; choose one that "
                "does"
            )
        closest = min(b[0] - a[0] for a, b in pairwise(self.corners))
        if 2.0 * self.shift >= closest:
            raise ValueError(
                f"shift={self.shift:g} may put corners that are {closest:g} h apart in another "
                f"order; choose less than {closest / 2.0:g}"
            )
        return self

    @property
    def intervals(self) -> int:
        """How many set-points each zone has."""
        return round(self.hours / self.interval)


class Unseen(Config):
    """What no run has otherwise: what models that were trained on the plant have to notice."""

    piece: Annotated[list[Place], Key(min_length=2, max_length=2)] | None = Key(
        default=None, description="Least and greatest width, height and length"
    )
    grade: str | None = Key(default=None, description="Another material")
    schedule: float | None = Key(
        default=None, gt=0.0, le=1000.0, description="How much hotter set-points are, K"
    )


class Plant(Config):
    """A batch furnace, and what varies from run to run."""

    title: str
    chamber: Chamber
    lining: Lining
    zones: list[Zone] = Key(min_length=1, max_length=8)
    gas: Gas
    control: Control = Control()
    outside: Outside = Outside()
    thermocouples: dict[Name, Place] = Key(min_length=1)
    materials: dict[Name, Material] = Key(min_length=1)
    pieces: Pieces
    schedule: Schedule
    ambient: Annotated[list[Kelvin], Key(min_length=2, max_length=2)]
    wear: Pair = Key(
        default=[0.0, 0.0], description="Depth by which walls and roof have lost of their hot face"
    )
    lag: Pair = Key(
        default=[60.0, 60.0],
        description="Time constant of a zone's thermocouple, s: long where it is soiled",
    )
    warm: Pair = Key(default=[300.0, 300.0], description="The lining's temperature at the start, K")
    unseen: Unseen = Unseen()
    sensors: dict[str, Sensor] = Key(
        default={}, description="What observers read, by output, and with which faults"
    )
    hidden: list[str] = Key(default=[], description="Inputs that observers are not given, but tell")
    charge_ready: Kelvin = Key(
        default=1400.0, description="What the whole charge is to be above: the time is a reading"
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        self._in_order()
        self._named()
        self._placed()
        return self

    def _in_order(self) -> None:
        pieces = self.pieces
        named: Mapping[str, list[float]] = {
            **{f"pieces.{key}": getattr(pieces, key) for key in SIZES},
            "pieces.count": [float(n) for n in pieces.count],
            "pieces.temperature": pieces.temperature, "ambient": self.ambient, "wear": self.wear,
            "lag": self.lag, "warm": self.warm,
        }  # fmt: skip
        for key, (low, high) in named.items():
            if not low <= high or (low <= 0.0 and key != "wear") or low < 0.0:
                raise ValueError(
                    f"{key}=[{low:g}, {high:g}]; expected the least and the greatest, positive"
                )
        if 0.0 < pieces.support < NARROWEST:
            raise ValueError(
                f"pieces.support={pieces.support:g}; expected 0, or {NARROWEST:g} m or more"
            )
        if pieces.count[0] < 1 or pieces.count[1] > 6:
            raise ValueError(f"pieces.count={pieces.count}; expected from 1 to 6 pieces")
        for part in ("walls", "roof"):
            layer = getattr(self.lining, part)[0]
            if self.wear[1] > layer.thickness - THINNEST + SMALL:
                raise ValueError(
                    f"wear reaches {self.wear[1]:g}, but the first layer of lining.{part} is "
                    f"{layer.thickness:g} thick, of which {THINNEST:g} have to be left; choose "
                    f"{layer.thickness - THINNEST:g} at most"
                )
        hottest = max(
            self.ambient[1], self.warm[1], pieces.temperature[1],
            *(corner[2] + (self.unseen.schedule or 0.0) for corner in self.schedule.corners),
        )  # fmt: skip
        flame = self.gas.flame_temperature
        if self.gas.heating == "burner" and not flame > hottest:
            raise ValueError(
                f"gas.flame_temperature={flame:g} is below what set-points, unseen.schedule or "
                f"initial temperatures reach, {hottest:g}; choose more than that"
            )

    def _named(self) -> None:
        used = [(f"lining.{part}", one.material) for part, layers in self.lining for one in layers]
        used += [("pieces.grades", grade) for grade in self.pieces.grades]
        if self.unseen.grade:
            used.append(("unseen.grade", self.unseen.grade))
        for key, name in used:
            if name not in self.materials:
                known = ", ".join(self.materials)
                raise ValueError(f"{key}: {name!r} is not among materials ({known}); add it there")
        zones = [zone.name for zone in self.zones]
        if len(set(zones)) < len(zones):
            raise ValueError(f"zones are named {', '.join(zones)}; give each a name of its own")
        if self.gas.flue not in zones:
            raise ValueError(
                f"gas.flue={self.gas.flue!r} is no zone; choose one of {', '.join(zones)}"
            )

    def _placed(self) -> None:
        ends = [zone.end for zone in self.zones]
        rise = all(b - a >= NARROWEST for a, b in zip([0.0, *ends], ends, strict=False))
        if not rise or abs(ends[-1] - self.chamber.length) > SMALL:
            raise ValueError(
                f"zones end at {ends}; expected them to rise to chamber.length="
                f"{self.chamber.length:g} by {NARROWEST:g} at least, so that the chamber is closed"
            )
        self._hold("pieces", self.pieces)
        if self.unseen.piece:
            for key, low, high in zip(SIZES, *self.unseen.piece, strict=True):
                if not 0.0 < low <= high:
                    raise ValueError(
                        f"unseen.piece: {key} from {low:g} to {high:g}; expected the least and "
                        "the greatest, positive"
                    )
            self._hold("unseen.piece", self.with_unseen("piece").pieces)
        for name, place in self.thermocouples.items():
            for axis, (at, (low, high)) in enumerate(zip(place, self.extents, strict=True)):
                if not low < at < high:
                    raise ValueError(
                        f"thermocouples.{name}={place} is outside of the furnace, which reaches "
                        f"from {low:g} to {high:g} along {'xyz'[axis]}; move it"
                    )

    def _hold(self, part: str, pieces: Pieces) -> None:
        """Refuse pieces that do not fit into the chamber, or not beside each other."""
        step = pieces.step
        for key in SIZES:
            for value in getattr(pieces, key):
                if abs(value / step - round(value / step)) > 1e-6:
                    raise ValueError(
                        f"{part}: {key}={value:g} is no multiple of pieces.step={step:g}; choose "
                        f"{max(round(value / step), 1) * step:g}"
                    )
        across = pieces.row == "across"
        side, room = ("width", self.chamber.width) if across else ("length", self.chamber.length)
        other, rest = ("length", self.chamber.length) if across else ("width", self.chamber.width)
        count, greatest = pieces.count[1], getattr(pieces, side)[1]
        needs = count * greatest + (count + 1) * pieces.gap
        if needs > room + SMALL:
            raise ValueError(
                f"{part}: count={count} with {side}={greatest:g} and pieces.gap={pieces.gap:g} "
                f"needs {needs:g} m of {room:g}: pieces would overlap; choose fewer or smaller ones"
            )
        for key, value, space in (
            (other, getattr(pieces, other)[1] + 2.0 * pieces.gap, rest),
            ("height", pieces.height[1] + pieces.support + pieces.gap, self.chamber.height),
        ):
            if value > space + SMALL:
                raise ValueError(
                    f"{part}: {key} with gaps and support needs {value:g} m of {space:g}; choose "
                    "smaller pieces"
                )

    @property
    def extents(self) -> tuple[tuple[float, float], ...]:
        """Where the furnace begins and ends along each axis, with its lining."""
        walls, roof, hearth = self.lining.thicknesses
        width, height, length = self.chamber.size
        return (-walls, width + walls), (-hearth, height + roof), (-walls, length + walls)

    def bodies(self) -> Iterator[Body]:
        """Yield what is built: layers of the lining, zones and thermocouples."""
        width, height, length = self.chamber.size
        depth = 0.0
        for layer in self.lining.walls:
            thick, over = layer.thickness, depth + layer.thickness
            for x in (-over, width + depth):
                size = (thick, height, length + 2.0 * over)
                yield Body(layer.material, "lining", (x, 0.0, -over), size)
            for z in (-over, length + depth):
                size = (width + 2.0 * depth, height, thick)
                yield Body(layer.material, "lining", (-depth, 0.0, z), size)
            depth = over
        below, above = 0.0, height
        across, along = width + 2.0 * depth, length + 2.0 * depth
        for layer in self.lining.hearth:
            below -= layer.thickness
            size = (across, layer.thickness, along)
            yield Body(layer.material, "lining", (-depth, below, -depth), size)
        for layer in self.lining.roof:
            size = (across, layer.thickness, along)
            yield Body(layer.material, "lining", (-depth, above, -depth), size)
            above += layer.thickness
        begin = 0.0
        for number, zone in enumerate(self.zones):
            size = (width, height, zone.end - begin)
            yield Body(zone.name, "zone", (0.0, 0.0, begin), size, ("zone_temperature", number))
            begin = zone.end
        for number, (name, (x, y, z)) in enumerate(self.thermocouples.items()):
            reading = ("thermocouple_temperature", number)
            yield Body(name, "sensor", (x, y, z), (0.0, 0.0, 0.0), reading)

    def with_unseen(self, part: str) -> Self:
        """Return the plant with what its section `unseen` has of a part, `none` for itself."""
        new: dict[str, Any] = {}
        if part == "piece" and self.unseen.piece:
            low, high = self.unseen.piece
            sizes = {k: [low[n], high[n]] for n, k in enumerate(SIZES)}
            new = {"pieces": self.pieces.model_copy(update={**sizes, "count": [1, 1]})}
        elif part == "grade" and self.unseen.grade:
            new = {"pieces": self.pieces.model_copy(update={"grades": [self.unseen.grade]})}
        elif part == "schedule" and self.unseen.schedule:
            more = self.unseen.schedule
            corners = [[hour, low + more, high + more] for hour, low, high in self.schedule.corners]
            new = {"schedule": self.schedule.model_copy(update={"corners": corners})}
        return self.model_copy(update=new)

    @classmethod
    def read(cls, given: str, root: Path = Path()) -> Self:
        """Read a plant by the name of its file in `plants/`, or raise an `InputError`."""
        path = root / FOLDER / f"{given}.yaml"
        if path.is_file():
            return read_file(cls, path)
        known = ", ".join(sorted(p.stem for p in (root / FOLDER).glob("*.yaml"))) or "none"
        raise InputError(
            f"scenarios.batch_furnace.plant={given!r} is no file of {FOLDER}/; it has: {known}"
        )
