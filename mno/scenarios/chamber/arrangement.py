"""One run of a plant: what is drawn of it, and the cells that are fitted to it.

Cells are bounded by planes through every face of walls, layers and pieces, so that none is cut, and
between these by planes at distances of at most the width of a cell; towards the hot face, where
temperatures are steep, the lining's are thinner.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import scipy.sparse as sp

from mno.core.errors import InputError
from mno.scenarios.chamber.march import Gas, Outside, Solids, Surfaces
from mno.scenarios.chamber.plant import THINNEST, Layer, Plant
from mno.scenarios.chamber.view_factors import Faces, find_faces, find_views

HOUR = 3600.0
HOT_FACE = 0.25
"""Width of the lining's first cell, in cells."""
GROWTH = 1.7
"""Of the widths of the lining's cells, from one to the next."""
_ROUNDED = 1e-4  # m, so that lengths outlive being stored in float32


@dataclass(frozen=True)
class Piece:
    """A piece of the charge."""

    corner: tuple[float, float, float]  # the lower one, m
    size: tuple[float, float, float]
    grade: int  # number among the plant's materials
    temperature: float  # at the start, K


@dataclass(frozen=True)
class Draw:
    """What varies from run to run."""

    pieces: tuple[Piece, ...]
    wear: float  # m
    ambient: float  # K
    warm: float  # of the lining at the start, K
    lag: np.ndarray  # of each zone's thermocouple, s
    setpoints: np.ndarray  # shape `(interval, zone)`, K


def draw_run(plant: Plant, rng: np.random.Generator) -> Draw:
    """Draw a run."""
    pieces = _draw_pieces(plant, rng)
    wear = _rounded(rng.uniform(plant.wear[0], plant.wear[1]), 1e-3)
    ambient = rng.uniform(plant.ambient[0], plant.ambient[1])
    warm = rng.uniform(plant.warm[0], plant.warm[1])
    shortest, longest = np.log(plant.lag)
    lag = np.exp(rng.uniform(shortest, longest, size=len(plant.zones)))
    return Draw(pieces, wear, ambient, max(warm, ambient), lag, _draw_setpoints(plant, rng))


def refuse_impossible(plant: Plant, draw: Draw) -> None:
    """Refuse, by an `InputError` of one line, pieces, wear or air that the plant cannot have."""
    flame = plant.gas.flame_temperature
    if plant.gas.heating == "burner" and draw.ambient >= flame:
        raise InputError(
            f"ambient_temperature={draw.ambient:g} K; expected less than the flame's {flame:g}"
        )
    most = min(plant.lining.walls[0].thickness, plant.lining.roof[0].thickness) - THINNEST
    if not 0.0 <= draw.wear <= most:
        raise InputError(f"wear={draw.wear:g} m; expected from 0 to {most:g} for this lining")
    grades, corners = list(plant.materials), [np.array(piece.corner) for piece in draw.pieces]
    for number, piece in enumerate(draw.pieces, 1):
        if not 0 <= piece.grade < len(grades):
            raise InputError(
                f"piece_grade={piece.grade} of piece {number}; expected a number from 0 to "
                f"{len(grades) - 1}: {', '.join(grades)}"
            )
        ends = corners[number - 1] + piece.size
        for axis, room in enumerate(plant.chamber.size):
            low, high = piece.corner[axis], ends[axis]
            if not 0.0 <= low < high <= room + _ROUNDED:
                raise InputError(
                    f"piece {number} reaches from {low:g} to {high:g} m along {'xyz'[axis]}; "
                    f"expected a size, and a place within 0 and {room:g}: move it"
                )
        for other in range(number - 1):
            after = corners[other] + draw.pieces[other].size
            if np.all((after > corners[number - 1]) & (corners[other] < ends)):
                raise InputError(f"pieces {other + 1} and {number} overlap; move one of them")


def _draw_pieces(plant: Plant, rng: np.random.Generator) -> tuple[Piece, ...]:
    rules, step = plant.pieces, plant.pieces.step
    count = int(rng.integers(rules.count[0], rules.count[1] + 1))

    def measure(limits: list[float]) -> float:
        low, high = (round(limit / step) for limit in limits)
        return _rounded(step * int(rng.integers(low, high + 1)))

    sizes = [[measure(m) for m in (rules.width, rules.height, rules.length)] for _ in range(count)]
    row, other = (0, 2) if rules.row == "across" else (2, 0)
    room, rest = plant.chamber.size[row], plant.chamber.size[other]
    free = room - sum(size[row] for size in sizes) - (count + 1) * rules.gap
    spare = math.floor(free / step + 1e-6)
    moved = np.sort(rng.integers(0, spare + 1, size=count))
    at, pieces = 0.0, []
    for number, size in enumerate(sizes):
        at += rules.gap
        slots = math.floor((rest - size[other] - 2.0 * rules.gap) / step + 1e-6)
        corner = [0.0, rules.support, 0.0]
        corner[row] = _rounded(at + step * int(moved[number]))
        corner[other] = _rounded(rules.gap + step * int(rng.integers(0, slots + 1)))
        at += size[row]
        name = rules.grades[int(rng.integers(len(rules.grades)))]
        grade = list(plant.materials).index(name)
        temperature = rng.uniform(rules.temperature[0], rules.temperature[1])
        x, y, z = corner
        width, height, length = size
        pieces.append(Piece((x, y, z), (width, height, length), grade, temperature))
    return tuple(pieces)


def _draw_setpoints(plant: Plant, rng: np.random.Generator) -> np.ndarray:
    """Draw corners and each zone's difference at them; hold the middle of each interval."""
    rules, zones = plant.schedule, len(plant.zones)
    hours, low, high = np.transpose(rules.corners)
    hours = hours.copy()
    hours[1:-1] += rng.uniform(-rules.shift, rules.shift, size=len(hours) - 2)
    common = rng.uniform(low, high)
    apart = rules.zone_difference * rng.uniform(-1.0, 1.0, size=(zones, len(hours)))
    middles = rules.interval * (np.arange(rules.intervals) + 0.5)
    return np.stack([np.interp(middles, hours, common + own) for own in apart], axis=1)


def _rounded(value: float, unit: float = _ROUNDED) -> float:
    return round(round(value / unit) * unit, 6)


@dataclass(frozen=True)
class Cells:
    """The cells of a run, fitted to it; a place is as the plant's file says it."""

    plant: Plant
    draw: Draw
    edges: tuple[np.ndarray, np.ndarray, np.ndarray]
    material: np.ndarray
    """Number among the plant's materials, -1 of gas; shape `(x, y, z)`."""
    piece: np.ndarray
    """Number of the piece, or -1."""
    zone: np.ndarray
    """Of the gas; -1 in solids."""

    @classmethod
    def fitted(cls, plant: Plant, draw: Draw, width: float) -> Self:
        """Return cells that are at most so wide, m."""
        x, y, z = (_edges(plant, draw, axis, width) for axis in range(3))
        edges = x, y, z
        centres = np.meshgrid(*(0.5 * (e[1:] + e[:-1]) for e in edges), indexing="ij")
        material = _lining(plant, draw, centres)
        piece = np.full(material.shape, -1, np.int64)
        for number, one in enumerate(draw.pieces):
            inside = np.ones(material.shape, bool)
            for at, low, length in zip(centres, one.corner, one.size, strict=True):
                inside &= (at > low) & (at < low + length)
            piece[inside] = number
            material[inside] = one.grade
        ends = np.array([zone.end for zone in plant.zones[:-1]])
        zone = np.where(material < 0, np.searchsorted(ends, centres[2]), -1)
        return cls(plant, draw, edges, material, piece, zone)

    @cached_property
    def widths(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Widths of the cells along each axis, m."""
        x, y, z = self.edges
        return np.diff(x), np.diff(y), np.diff(z)

    @cached_property
    def volume(self) -> np.ndarray:
        """Of every cell, m3."""
        return np.einsum("x,y,z->xyz", *self.widths)

    @cached_property
    def number(self) -> np.ndarray:
        """Which of the solid cells each is, -1 of gas."""
        number = np.full(self.material.shape, -1, np.int64)
        solid = self.material >= 0
        number[solid] = np.arange(solid.sum())
        return number

    @cached_property
    def faces(self) -> Faces:
        """The faces between solids and gas."""
        return find_faces(self.zone, self.widths)

    @cached_property
    def solids(self) -> Solids:
        """The solid cells, as the march takes them."""
        tables = [material.table for material in self.plant.materials.values()]
        solid = self.material >= 0
        first, second, near, far = [], [], [], []
        for axis, width in enumerate(self.widths):
            shape = [1, 1, 1]
            shape[axis] = len(width)
            half = np.broadcast_to(0.5 * width.reshape(shape), solid.shape)
            over_area = half * width.reshape(shape) / self.volume
            low = tuple(slice(0, -1) if a == axis else slice(None) for a in range(3))
            high = tuple(slice(1, None) if a == axis else slice(None) for a in range(3))
            both = solid[low] & solid[high]
            first.append(self.number[low][both])
            second.append(self.number[high][both])
            near.append(over_area[low][both])
            far.append(over_area[high][both])
        return Solids(
            self.material[solid].astype(np.uint32), self.volume[solid],
            np.concatenate(first).astype(np.uint32), np.concatenate(second).astype(np.uint32),
            np.concatenate(near), np.concatenate(far),
            np.array([t.lowest for t in tables]), np.array([t.step for t in tables]),
            np.stack([t.temperature for t in tables]), np.stack([t.conductivity for t in tables]),
        )  # fmt: skip

    def surfaces(self, rays: int) -> Surfaces:
        """The faces between solids and gas, as the march takes them."""
        faces, zones = self.faces, len(self.plant.zones)
        absorption = self.plant.gas.absorption
        views = find_views(faces, self.zone, self.widths, zones, absorption, rays)
        pairs, behind = sp.csr_matrix(sp.triu(views.direct, 1)), tuple(faces.solid.T)
        lengths = np.stack([self.widths[a][faces.solid[:, a]] for a in range(3)], axis=1)
        half = 0.5 * lengths[np.arange(len(faces.axis)), faces.axis]
        emissivity = np.array([m.emissivity for m in self.plant.materials.values()])
        return Surfaces(
            self.surfaces_cell, half, faces.area, emissivity[self.material[behind]],
            self.zone[tuple(faces.gas.T)], pairs.indptr.astype(np.uint32),
            pairs.indices.astype(np.uint32), pairs.data, views.absorbed,
        )  # fmt: skip

    @cached_property
    def surfaces_cell(self) -> np.ndarray:
        """The solid cell behind each face."""
        return self.number[tuple(self.faces.solid.T)]

    def zone_at(self, z: float) -> int:
        """Return the zone at a place along the chamber."""
        return int(np.searchsorted([zone.end for zone in self.plant.zones[:-1]], z))

    @cached_property
    def outside(self) -> Outside:
        """The faces to the hall."""
        cell, half, area = [], [], []
        for axis, width in enumerate(self.widths):
            for end in (0, -1):
                cell.append(np.take(self.number, end, axis).ravel())
                area.append(np.take(self.volume, end, axis).ravel() / width[end])
                half.append(np.full(len(cell[-1]), 0.5 * width[end]))
        return Outside(np.concatenate(cell), np.concatenate(half), np.concatenate(area))

    @property
    def gas(self) -> Gas:
        """What determines the gas."""
        plant = self.plant
        burner = plant.gas.heating == "burner"
        flow = 1.0 / (plant.gas.flame_temperature - self.draw.ambient) if burner else 0.0
        flue = [zone.name for zone in plant.zones].index(plant.gas.flue)
        return Gas(
            np.array([zone.power for zone in plant.zones]), plant.control.band, flow,
            plant.gas.leak, plant.gas.mixing, flue, plant.gas.film,
            np.asarray(self.draw.lag, np.float64), plant.outside.film, plant.outside.emissivity,
        )  # fmt: skip

    @cached_property
    def longest_step(self) -> float:
        """The longest step of explicit Euler for the conduction in the solids, s."""
        tables = [material.table for material in self.plant.materials.values()]
        stiffest = np.array([table.stiffest for table in tables])
        solids, rate = self.solids, np.zeros(len(self.solids.volume))
        same = solids.material[solids.first] == solids.material[solids.second]
        for one, own in ((solids.first, solids.near), (solids.second, solids.far)):
            # Of a better conductor the other half may be without resistance.
            between = np.where(same, solids.near + solids.far, own)
            gain = stiffest[solids.material[one]] / (between * solids.volume[one])
            np.add.at(rate, one, gain)
        return float(1.0 / np.max(rate))

    def at_start(self) -> np.ndarray:
        """Return the temperature of each solid cell at the start, K."""
        given = np.full(self.material.shape, self.draw.warm)
        for number, piece in enumerate(self.draw.pieces):
            given[self.piece == number] = piece.temperature
        return given[self.material >= 0]

    def at_place(
        self, place: tuple[float, ...], cells: np.ndarray, faces: np.ndarray
    ) -> np.ndarray:
        """Interpolate temperatures of solid cells and of faces, `(time, number)`, at a place.

        Linear between the centres of cells of one material, and towards a hot face to that. The
        place must lie in a solid.
        """
        home, options = [], []
        for at, edges in zip(place, self.edges, strict=True):
            centres = 0.5 * (edges[1:] + edges[:-1])
            here = int(np.clip(np.searchsorted(edges, at, "right") - 1, 0, len(centres) - 1))
            there = here + (1 if at >= centres[here] else -1)
            inside = 0 <= there < len(centres)
            share = (at - centres[here]) / (centres[there] - centres[here]) if inside else 0.0
            half = 2.0 * (at - centres[here]) / (edges[here + 1] - edges[here])
            home.append(here)
            options.append(([(here, 1.0 - share), (there if inside else here, share)], there, half))
        material, total, found = self.material[tuple(home)], 0.0, np.zeros(len(cells))
        for index in np.ndindex(2, 2, 2):
            parts = [options[axis][0][n] for axis, n in enumerate(index)]
            cell, weight = tuple(p[0] for p in parts), float(np.prod([p[1] for p in parts]))
            if self.material[cell] == material:
                total += weight
                found = found + weight * cells[:, self.number[cell]]
        found, own = found / total, cells[:, self.number[tuple(home)]]
        for axis, (_, there, half) in enumerate(options):
            beside = [*home]
            beside[axis] = there
            if 0 <= there < self.material.shape[axis] and self.zone[tuple(beside)] >= 0:
                face = self.faces.index[(*beside, 2 * axis + (there < home[axis]))]
                found = found + abs(half) * (faces[:, face] - own)
        return found

    def is_solid(self, place: tuple[float, ...]) -> bool:
        """Whether a place lies in a solid."""
        at = zip(self.edges, place, strict=True)
        cell = [np.clip(np.searchsorted(e, p, "right") - 1, 0, len(e) - 2) for e, p in at]
        return bool(self.material[tuple(cell)] >= 0)

    def averages(self, values: np.ndarray, edges: tuple[np.ndarray, ...]) -> np.ndarray:
        """Return averages over the cells of another grid, of values of shape `(..., x, y, z)`."""
        for axis, (fine, coarse) in enumerate(zip(self.edges, edges, strict=True)):
            low = np.maximum(fine[None, :-1], coarse[:-1, None])
            high = np.minimum(fine[None, 1:], coarse[1:, None])
            shares = np.maximum(high - low, 0.0) / np.diff(coarse)[:, None]
            moved = np.moveaxis(values, axis - 3, -1) @ shares.T
            values = np.moveaxis(moved, -1, axis - 3)
        return values


def _edges(plant: Plant, draw: Draw, axis: int, width: float) -> np.ndarray:
    size, wear, lining = plant.chamber.size[axis], draw.wear, plant.lining
    low, high = (lining.hearth, lining.roof) if axis == 1 else (lining.walls, lining.walls)
    start, end = (0.0 if axis == 1 else -wear), size + wear
    planes = {start, end}
    if axis == 2:
        planes |= {zone.end for zone in plant.zones}
    for piece in draw.pieces:
        planes |= {piece.corner[axis], piece.corner[axis] + piece.size[axis]}
    ordered = _distinct(sorted(planes))
    inside = [ordered[0]]
    for before, after in zip(ordered, ordered[1:], strict=False):
        middle = 0.5 * (before + after)
        in_piece = any(0.0 < middle - p.corner[axis] < p.size[axis] for p in draw.pieces)
        count = max(1 + in_piece, math.ceil((after - before) / width - 1e-9))
        inside += list(before + (after - before) * np.arange(1, count + 1) / count)
    below = _layers(low, 0.0 if axis == 1 else wear, width)
    above = _layers(high, wear, width)
    outward = start - np.cumsum(below)
    return np.concatenate([outward[::-1], inside, inside[-1] + np.cumsum(above)])


def _distinct(planes: list[float]) -> list[float]:
    kept = planes[:1]
    for plane in planes[1:]:
        if plane - kept[-1] > _ROUNDED / 2.0:
            kept.append(plane)
    return kept


def _layers(layers: list[Layer], wear: float, width: float) -> list[float]:
    """Return widths of cells from the hot face outwards."""
    found: list[float] = []
    first = min(HOT_FACE * width, layers[0].thickness / 3.0)
    for number, layer in enumerate(layers):
        thickness = layer.thickness - (0.0 if number else wear)
        own: list[float] = []
        while sum(own) < thickness - 1e-9:
            own.append(first)
            first = min(first * GROWTH, width)
        own = list(np.array(own) * (thickness / sum(own)))
        found += own
        first = min(own[-1] * GROWTH, width)
    return found


def _lining(plant: Plant, draw: Draw, centres: Sequence[np.ndarray]) -> np.ndarray:
    """Return the material of the lining in every cell, -1 in the chamber."""
    x, y, z = centres
    width, height, length = plant.chamber.size
    beside = np.maximum.reduce([-x, x - width, -z, z - length])
    names = list(plant.materials)
    found = np.full(x.shape, -1, np.int64)
    for layers, depth, wear, chosen in (
        (plant.lining.walls, beside, draw.wear, (y > 0.0) & (y < height + draw.wear)),
        (plant.lining.roof, y - height, draw.wear, y > height + draw.wear),
        (plant.lining.hearth, -y, 0.0, y < 0.0),
    ):
        thicknesses = np.cumsum([layer.thickness for layer in layers])
        number = np.minimum(np.searchsorted(thicknesses, depth), len(layers) - 1)
        of_layer = np.array([names.index(layer.material) for layer in layers])
        solid = chosen & (depth > wear)
        found[solid] = of_layer[number][solid]
    return found
