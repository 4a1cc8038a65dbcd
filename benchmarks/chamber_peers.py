"""A batch furnace's march in numpy and scipy, with implicit steps, on the cells of the scenario's.

A step is implicit Euler or BDF2. It is found in rounds, each of which linearises all that there is:
gas and radiosities by conjugate gradients, where a cell behind a surface answers to its heat; then
the solids, where heat from a surface falls as its cell warms. A round begins from the one before,
and the last one's heat is what the cells get, so none is lost.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import LinearOperator, cg, splu

from mno.scenarios.chamber.arrangement import HOUR, Cells
from mno.scenarios.chamber.conduction import Table, enthalpy_of
from mno.scenarios.chamber.march import Surfaces

SIGMA = 5.670374419e-8
PROBE_EMISSIVITY, PROBE_FILM = 0.8, 60.0
FULL_ROUNDS, MOST_ROUNDS = 6, 40
MOST_ITERATIONS = 12
"""Of conjugate gradients with kept factors, before they are made anew."""


class March(NamedTuple):
    """Temperatures at each frame, K, and what each step gave to the solid cells."""

    cells: np.ndarray  # shape `(frame, cell)`
    surfaces: np.ndarray
    heats: np.ndarray  # W, shape `(step, cell)`
    rounds: int
    factorisations: int


class Solids:
    """Conduction on the solid cells: links, properties, and a matrix whose pattern is kept."""

    def __init__(self, cells: Cells) -> None:
        self.links = cells.solids
        self.first, self.second = (self.links.first.astype(int), self.links.second.astype(int))
        self.volume, self.count = self.links.volume, len(self.links.volume)
        tables = [material.table for material in cells.plant.materials.values()]
        owners = [np.flatnonzero(self.links.material == n) for n in range(len(tables))]
        self._parts = [(t, own) for t, own in zip(tables, owners, strict=True) if len(own)]
        number, diagonal = len(self.first), np.arange(self.count)
        rows = np.concatenate([self.first, self.second, diagonal])
        columns = np.concatenate([self.second, self.first, diagonal])
        order = np.arange(1, len(rows) + 1)
        pattern = sp.csr_matrix((order, (rows, columns)), shape=(self.count, self.count))
        self._order = pattern.data - 1
        self._matrix = sp.csr_matrix(
            (np.zeros(len(rows)), pattern.indices, pattern.indptr), pattern.shape
        )
        self._values = np.empty(2 * number + self.count)

    def enthalpy(self, kelvin: np.ndarray) -> np.ndarray:
        """Return that of every cell, J/m3."""
        return self._each(kelvin, lambda table, at: enthalpy_of(table, at))

    def temperature(self, enthalpy: np.ndarray) -> np.ndarray:
        """Return that of every cell, K."""
        return self._each(enthalpy, lambda t, h: np.interp(h, _entries(t), t.temperature))

    def resistivity(self, kelvin: np.ndarray) -> np.ndarray:
        """Return that of every cell, m K/W."""
        return 1.0 / self._each(kelvin, lambda t, at: np.interp(at, t.temperature, t.conductivity))

    def capacity(self, kelvin: np.ndarray) -> np.ndarray:
        """Return that of every cell, J m-3 K-1, over 1 K."""
        return self.enthalpy(kelvin + 0.5) - self.enthalpy(kelvin - 0.5)

    def _each(self, values: np.ndarray, function: Any) -> np.ndarray:
        found = np.empty(self.count)
        for table, own in self._parts:
            found[own] = function(table, values[own])
        return found

    def ties(self, resistivity: np.ndarray) -> np.ndarray:
        """Return the conductance of every link, W/K."""
        near = self.links.near * resistivity[self.first]
        return 1.0 / (near + self.links.far * resistivity[self.second])

    def gain(self, ties: np.ndarray, kelvin: np.ndarray) -> np.ndarray:
        """Return what every cell gains by conduction, W."""
        heat = ties * (kelvin[self.second] - kelvin[self.first])
        return self.sum_of(self.first, heat) - self.sum_of(self.second, heat)

    def sum_of(self, cell: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Return the sums of values over the cells that they belong to."""
        return np.bincount(cell, values, self.count)

    def matrix(self, ties: np.ndarray, diagonal: np.ndarray) -> sp.csr_matrix:
        """Return the matrix of the links, with what else is on its diagonal."""
        number = len(ties)
        self._values[:number] = self._values[number : 2 * number] = -ties
        self._values[2 * number :] = diagonal
        self._matrix.data = self._values[self._order]
        return self._matrix


def _entries(table: Table) -> np.ndarray:
    return table.lowest + table.step * np.arange(len(table.temperature))


class Factors:
    """Solve the solids' systems by conjugate gradients, with factors kept as long as they serve."""

    def __init__(self, kept: bool, tolerance: float = 1e-2) -> None:
        self.kept, self.made, self._tolerance = kept, 0, tolerance
        self._factors: Any = None

    def solve(self, matrix: sp.csr_matrix, right: np.ndarray) -> np.ndarray:
        """Solve one; without kept factors, the diagonal preconditions."""
        if not self.kept:
            inverse = 1.0 / matrix.diagonal()
            by_diagonal = LinearOperator(matrix.shape, lambda r: inverse * r)
            return cg(matrix, right, rtol=self._tolerance, M=by_diagonal)[0]
        for _ in range(2):
            if self._factors is None:
                # The fastest of splu's orderings for this matrix, which is symmetric.
                self._factors = splu(
                    matrix.tocsc(), permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0,
                    options={"SymmetricMode": True},
                )  # fmt: skip
                self.made += 1
            by_factors = LinearOperator(matrix.shape, self._factors.solve)
            found, failed = cg(
                matrix, right, rtol=self._tolerance, maxiter=MOST_ITERATIONS, M=by_factors
            )
            if not failed:
                break
            self._factors = None
        return found


class Enclosure:
    """Surfaces and gas: one round of the balance, given how the cells behind answer."""

    def __init__(self, cells: Cells, faces: Surfaces) -> None:
        count = len(faces.cell)
        half = sp.csr_matrix((faces.direct, faces.columns, faces.starts), (count, count))
        self.direct = (half + half.T).tocsr()
        self.cell, self.half, self.area = faces.cell, faces.half, faces.area
        self.skin = faces.area * faces.emissivity / (1.0 - faces.emissivity)
        self.emissivity, self.zone, self.absorbed = faces.emissivity, faces.zone, faces.absorbed
        self.gas, self.ambient = cells.gas, cells.draw.ambient
        self.zones = len(cells.plant.zones)
        self.weight = np.bincount(self.zone, self.area, self.zones)

    def around(self, radiosity: np.ndarray) -> np.ndarray:
        """Return the mean radiosity around each zone."""
        return np.bincount(self.zone, self.area * radiosity, self.zones) / self.weight

    def round(
        self, inside: np.ndarray, inner: np.ndarray, surface: np.ndarray, flame: np.ndarray,
        solution: np.ndarray, setpoint: np.ndarray, reading: np.ndarray, response: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
        """Return surfaces and gas, K, and radiosities with flames, of the linearised balance.

        `inside`, W/K, is what is between each surface and `inner`, K.
        """
        count, zone, film = len(self.area), self.zone, self.gas.film
        slope = inside / (4.0 * SIGMA * surface**3)
        known = slope * SIGMA * surface**4 - inside * (surface - inner)
        moved = self.area * film * _secant(surface, flame[zone])
        total = self.skin + slope + moved
        ties = self.absorbed.copy()
        ties[np.arange(count), zone] += self.skin * moved / total
        diagonal = self.area + self.skin * (slope + moved) / total
        of_gas = self.absorbed.sum(axis=0)
        of_gas += np.bincount(zone, moved * (self.skin + slope) / total, self.zones)
        right = np.bincount(zone, moved * known / total, self.zones)
        own, given = self._gas_rows(flame, solution[:count], setpoint, reading, response)
        of_gas, right = of_gas + own, right + given
        whole = np.concatenate([diagonal, of_gas])

        def product(x: np.ndarray) -> np.ndarray:
            y = whole * x
            y[:count] -= self.direct @ x[:count] + ties @ x[count:]
            y[count:] -= ties.T @ x[:count]
            return y

        shape = (len(whole), len(whole))
        rhs = np.concatenate([self.skin * known / total, right])
        found, _ = cg(
            LinearOperator(shape, product), rhs, x0=solution, rtol=1e-4,
            M=LinearOperator(shape, lambda r: r / whole),
        )  # fmt: skip
        found = np.maximum(found, SIGMA * 1e8)
        hot = _temperature(found[count:])
        moved = self.area * film * _secant(surface, hot[zone])
        emitted = known + self.skin * found[:count] + moved * found[count:][zone]
        emitted /= self.skin + slope + moved
        return _temperature(np.maximum(emitted, SIGMA * 1e8)), hot, found

    def _gas_rows(
        self, flame: np.ndarray, radiosity: np.ndarray, setpoint: np.ndarray, reading: np.ndarray,
        response: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
        """Return what burners, flue and mixing add to the diagonal and to the right side."""
        gas, emitted, around = self.gas, SIGMA * flame**4, self.around(radiosity)
        seen = probe(flame, around)
        now = reading + response * seen
        share = np.clip((setpoint - now) / gas.band, 0.0, 1.0)
        power = gas.most_power * share
        change = response * (probe(_temperature(1.01 * emitted), 1.01 * around) - seen)
        slope = gas.most_power / gas.band * change / (0.01 * emitted)
        slope *= np.maximum(1.0 - gas.flow * (flame - self.ambient), 0.0)
        slope[(share <= 0.0) | (share >= 1.0)] = 0.0
        diagonal, right = slope.copy(), power + slope * emitted
        own = gas.flow * power + gas.leak
        for z in range(self.zones):
            before = [o for o in range(self.zones) if o < z <= gas.flue or gas.flue <= z < o]
            out = own[z] + own[before].sum()
            diagonal[z] += out / (4.0 * SIGMA * flame[z] ** 3)
            right[z] += own[z] * self.ambient - 0.75 * out * flame[z]
            for other in (z - 1, z + 1):
                if not 0 <= other < self.zones:
                    continue
                tie = gas.mixing * _secant(flame[z], flame[other])
                diagonal[z] += tie
                right[z] += tie * emitted[other]
                if other in before:
                    beyond = [o for o in before if abs(o - z) > 1]
                    right[z] += (own[other] + own[beyond].sum()) * flame[other]
        return diagonal, right


def probe(gas: np.ndarray, radiosity: np.ndarray) -> np.ndarray:
    """Return the temperature of a thermocouple between gas and surfaces, K."""
    found = gas
    for _ in range(3):
        film = PROBE_FILM * _secant(found, gas)
        both = PROBE_EMISSIVITY * radiosity + film * SIGMA * gas**4
        found = _temperature(both / (PROBE_EMISSIVITY + film))
    return found


def _secant(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return 1.0 / (SIGMA * (first * first + second * second) * (first + second))


def _temperature(emissive: np.ndarray) -> np.ndarray:
    return np.sqrt(np.sqrt(emissive / SIGMA))


def march(
    cells: Cells, solids: Solids, enclosure: Enclosure, steps: int, tolerance: float, kept: bool,
    euler: bool,
) -> March:  # fmt: skip
    """March through all intervals, with so many steps in each.

    A step ends where neither gas nor cells have moved by more than `tolerance` in a round, K;
    `kept` says whether the solids' systems are solved with kept factors, and `euler` whether steps
    are implicit Euler rather than BDF2.
    """
    draw, outside, gas = cells.draw, cells.outside, enclosure.gas
    dt = HOUR * cells.plant.schedule.interval / steps
    factors, cell = Factors(kept), enclosure.cell
    at = cells.at_start()
    enthalpy = before = solids.enthalpy(at)
    surface = at[cell]
    flame = enclosure.around(surface)
    solution = SIGMA * np.concatenate([surface, flame]) ** 4
    reading = seen = np.full(enclosure.zones, draw.warm)
    skin = at[outside.cell]
    of_cell = solids.sum_of(cell, enclosure.area)
    response = 1.0 - np.exp(-dt / gas.lag)
    frames, surfaces, heats, rounds = [at], [surface], [], 0
    for setpoint in draw.setpoints:
        for _ in range(steps):
            new, second = at, not euler and len(heats) > 0
            lead, base = (1.5, (4.0 * enthalpy - before) / 3.0) if second else (1.0, enthalpy)
            share = 0.5 if second else 1.0  # of what a thermocouple sees at the end of the step
            old = reading + response * ((1.0 - share) * seen - reading)
            for number in range(MOST_ROUNDS):
                rounds += 1
                resists = solids.resistivity(new)
                ties = solids.ties(resists)
                film = gas.outer_film + gas.outer_emissivity / _secant(skin, draw.ambient)
                leaves = outside.area / (outside.half * resists[outside.cell] + 1.0 / film)
                # What every cell is short of, without heat from surfaces, and its stiffness.
                lost = solids.sum_of(outside.cell, leaves * (new[outside.cell] - draw.ambient))
                store = lead * solids.volume * (solids.enthalpy(new) - base) / dt
                short = solids.gain(ties, new) - lost - store
                stiff = lead * solids.volume * solids.capacity(new) / dt
                stiff += solids.sum_of(solids.first, ties) + solids.sum_of(solids.second, ties)
                stiff += solids.sum_of(outside.cell, leaves)
                slow = of_cell[cell] / stiff[cell]
                half = enclosure.half * resists[cell]
                inside = enclosure.area / (half + slow)
                inner = new[cell] + short[cell] / stiff[cell]
                surface, hot, solved = enclosure.round(
                    inside, inner, surface, flame, solution, setpoint, old, share * response
                )
                # Where power comes to an end of its band, whole rounds may go back and forth.
                way = 1.0 if number < FULL_ROUNDS else 0.5
                hot = flame + way * (hot - flame)
                solution = solution + way * (solved - solution)
                heat = inside * (surface - inner)
                # How it falls as the cell warms, where what comes to the surface stays the same.
                gives = 4.0 * SIGMA * enclosure.emissivity * surface**3 + gas.film
                falls = enclosure.area / (half + 1.0 / gives)
                met = surface - heat * half / enclosure.area
                given = heat - falls * (new[cell] - met)
                matrix = solids.matrix(ties, stiff + solids.sum_of(cell, falls))
                change = factors.solve(matrix, short + solids.sum_of(cell, given))
                new = new + change
                heat = heat - falls * (new[cell] - met)
                skin = draw.ambient + leaves * (new[outside.cell] - draw.ambient) / (
                    film * outside.area
                )
                moved = max(np.abs(change).max(), np.abs(hot - flame).max())
                flame = hot
                if moved <= tolerance:
                    break
            lost = solids.sum_of(outside.cell, leaves * (new[outside.cell] - draw.ambient))
            heats.append(solids.sum_of(cell, heat) - lost)
            gained = dt * (solids.gain(ties, new) + heats[-1]) / solids.volume
            before, enthalpy = enthalpy, base + gained / lead
            at = solids.temperature(enthalpy)
            around = enclosure.around(solution[: len(cell)])
            seen = probe(flame, around)
            reading = old + share * response * seen
        frames.append(at)
        surfaces.append(surface)
    return March(np.array(frames), np.array(surfaces), np.array(heats), rounds, factors.made)
