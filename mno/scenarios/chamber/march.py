"""The run of a furnace: solids, surfaces and gas advanced together, reading by reading.

A step of length `dt` first finds the balance of surfaces and gas (`exchange.py`) at its middle,
where a cell behind a surface is what it is now, what conduction adds until then, less what it gives
to its neighbours as it warms, and what the surface itself adds; so surfaces are implicit, and never
too stiff. Then conduction takes the whole step with that heat (`conduction.py`). For runs whose
powers are smooth the error falls with the square of `dt`.

Heat is counted as it is handed over: what burners supply is what solids store, what leaves by the
outer surface and by the flue, to rounding.
"""

from typing import NamedTuple, Self

import numpy as np

from mno.core.compiled import compiled, inlined
from mno.scenarios.chamber.conduction import conduct, look_up
from mno.scenarios.chamber.exchange import SIGMA, exchange, probe, secant


class Solids(NamedTuple):
    """The solid cells, one after the other, and how they touch.

    Here and below numbers of cells are unsigned where there are many: compiled code need not ask
    whether one counts from the end.
    """

    material: np.ndarray  # number of the table, uint32
    volume: np.ndarray  # m3
    first: np.ndarray  # cells of each link, uint32
    second: np.ndarray
    near: np.ndarray  # half width over area on the side of `first`, 1/m
    far: np.ndarray
    lowest: np.ndarray  # of the tables, by material
    step: np.ndarray
    temperatures: np.ndarray  # shape `(material, entry)`
    conductivities: np.ndarray


class Surfaces(NamedTuple):
    """Faces between solids and gas, and what they exchange."""

    cell: np.ndarray  # solid cell behind each, int64
    half: np.ndarray  # its half width, m
    area: np.ndarray
    emissivity: np.ndarray
    zone: np.ndarray  # of the gas in front, int64
    starts: np.ndarray  # of the upper half of `direct`, compressed by rows, uint32
    columns: np.ndarray  # uint32
    direct: np.ndarray
    absorbed: np.ndarray  # shape `(face, zone)`


class Outside(NamedTuple):
    """Faces between the furnace and the hall."""

    cell: np.ndarray
    half: np.ndarray
    area: np.ndarray


class Gas(NamedTuple):
    """What determines the gas and what surfaces have of it."""

    most_power: np.ndarray  # of each zone, W
    band: float  # of temperature, over which the power falls, K
    flow: float  # of gases, W/K for each watt of power
    leak: float  # of air into each zone, W/K
    mixing: float  # between neighbouring zones, W/K
    flue: int  # zone from which the gases leave
    film: float  # to surfaces, W m-2 K-1
    lag: np.ndarray  # time constant of each zone's thermocouple, s
    outer_film: float  # W m-2 K-1
    outer_emissivity: float


class Record(NamedTuple):
    """What there is at each frame; heat is counted from the start, in J."""

    cells: np.ndarray  # temperatures of solid cells, K, shape `(frame, cell)`
    surfaces: np.ndarray  # of surfaces
    gas: np.ndarray  # of the gas of each zone
    power: np.ndarray  # of each zone, W
    readings: np.ndarray  # of the thermocouples that zones are controlled by, K
    probes: np.ndarray  # of thermocouples in the zones, without lag
    accounts: np.ndarray
    """Stored in solids, lost to the hall and by the flue, handed on, then supplied to each zone."""

    @classmethod
    def empty(cls, frames: int, cells: int, faces: int, zones: int) -> Self:
        """Return one to be filled."""
        sizes = (cells, faces, zones, zones, zones, zones, 4 + zones)
        return cls(*(np.zeros((frames, size)) for size in sizes))


@inlined
def _outer(
    outside, at, resists, capacity, volume, gains, ties, of_cell, gas, ambient, length, source,
):  # fmt: skip
    """Take from the outer cells what they lose to the hall, W; return all of it."""
    lost = 0.0
    for n in range(outside.cell.size):
        c = outside.cell[n]
        stores = capacity[c] * volume[c] + 0.5 * length * ties[c]
        inner = at[c] + 0.5 * length * gains[c] / stores
        slow = 0.5 * length * of_cell[c] / stores
        inside = 1.0 / (outside.half[n] * resists[c] + slow)
        skin = inner
        for _ in range(4):
            film = gas.outer_film + gas.outer_emissivity / secant(skin, ambient)
            skin = (inside * inner + film * ambient) / (inside + film)
        heat = outside.area[n] * inside * (inner - skin)
        source[c] -= heat
        lost += heat
    return lost


@compiled
def run(
    solids, surfaces, outside, gas, setpoints, ambient, warm, interval, steps, stages, tolerance,
    enthalpy, record,
):  # fmt: skip
    """March through all intervals between frames, and fill the record.

    `setpoints` has a row for each interval and a column for each zone, K; thermocouples begin at
    `warm`. A step of conduction has so many `stages`, and a balance ends where no gas has moved by
    more than `tolerance`, K. `enthalpy` is the state, which is advanced.
    """
    cells, faces, zones = enthalpy.size, surfaces.cell.size, gas.most_power.size
    at, resists, capacity = np.empty(cells), np.empty(cells), np.empty(cells)
    gains, source, of_cell = np.empty(cells), np.zeros(cells), np.zeros(cells)
    ties = np.empty(cells)
    stage_work = np.empty((5, cells))
    inner, inside, heat = np.empty(faces), np.empty(faces), np.empty(faces)
    work = np.empty((10, max(faces * zones, faces + zones)))
    surface, solution = np.empty(faces), np.empty(faces + zones)
    temperature, power, handed = np.empty(zones), np.zeros(zones), np.zeros(zones)
    reading, response, flows = np.empty(zones), np.empty(zones), np.empty(1 + zones)
    look_up(
        enthalpy, solids.material, solids.lowest, solids.step, solids.temperatures,
        solids.conductivities, at, resists, capacity,
    )  # fmt: skip
    for f in range(faces):
        of_cell[surfaces.cell[f]] += surfaces.area[f]
        surface[f] = at[surfaces.cell[f]]
        solution[f] = SIGMA * surface[f] ** 4
    for n in range(outside.cell.size):
        of_cell[outside.cell[n]] += outside.area[n]
    total = np.zeros(zones)
    weight = np.zeros(zones)
    for f in range(faces):
        total[surfaces.zone[f]] += surfaces.area[f] * surface[f]
        weight[surfaces.zone[f]] += surfaces.area[f]
    for z in range(zones):
        temperature[z], reading[z] = total[z] / weight[z], warm
        solution[faces + z] = SIGMA * temperature[z] ** 4
    account = np.zeros(4 + zones)
    begun = 0.0
    for c in range(cells):
        begun += enthalpy[c] * solids.volume[c]
    length = interval / steps
    intervals = setpoints.shape[0]
    for frame in range(intervals + 1):
        for part in range(steps + 1):
            if part and frame == intervals:
                break
            # First what is there at the moment of the frame: a step of no length.
            dt = length if part else 0.0
            setpoint = setpoints[frame] if part else setpoints[max(frame - 1, 0)]
            for c in range(cells):
                gains[c] = 0.0
                ties[c] = 0.0
                source[c] = 0.0
            if part:
                for n in range(solids.first.size):
                    a, b = solids.first[n], solids.second[n]
                    tie = 1.0 / (solids.near[n] * resists[a] + solids.far[n] * resists[b])
                    gains[a] += tie * (at[b] - at[a])
                    gains[b] -= tie * (at[b] - at[a])
                    ties[a] += tie
                    ties[b] += tie
            for f in range(faces):
                c = surfaces.cell[f]
                # With what it gives to its neighbours as it warms, so that thin cells stay bounded.
                stores = capacity[c] * solids.volume[c] + 0.5 * dt * ties[c]
                inner[f] = at[c] + 0.5 * dt * gains[c] / stores
                slow = 0.5 * dt * of_cell[c] / stores
                inside[f] = 1.0 / (surfaces.half[f] * resists[c] + slow)
            for z in range(zones):
                response[z] = 1.0 - np.exp(-0.5 * dt / gas.lag[z])
            exchange(
                surfaces.starts, surfaces.columns, surfaces.direct, surfaces.absorbed,
                surfaces.area, surfaces.emissivity, surfaces.zone, gas.film, inside, inner,
                setpoint, gas.band, gas.most_power, gas.flow, gas.leak, gas.mixing, gas.flue,
                ambient, reading, response, handed, surface, temperature, solution, power, heat,
                flows, tolerance, work,
            )  # fmt: skip
            for z in range(zones):
                total[z] = weight[z] = 0.0
            for f in range(faces):
                total[surfaces.zone[f]] += surfaces.area[f] * solution[f]
                weight[surfaces.zone[f]] += surfaces.area[f]
            if not part:
                account[0] = -begun
                for c in range(cells):
                    account[0] += enthalpy[c] * solids.volume[c]
                record.cells[frame] = at
                record.surfaces[frame] = surface
                record.gas[frame] = temperature
                record.power[frame] = power
                record.readings[frame] = reading
                record.accounts[frame] = account
                for z in range(zones):
                    record.probes[frame, z] = probe(temperature[z], total[z] / weight[z])
                continue
            for f in range(faces):
                source[surfaces.cell[f]] += heat[f]
            lost = _outer(
                outside, at, resists, capacity, solids.volume, gains, ties, of_cell, gas, ambient,
                dt, source,
            )  # fmt: skip
            account[1] += lost * dt
            account[2] += flows[0] * dt
            account[3] = 0.0
            for z in range(zones):
                handed[z] = flows[1 + z]
                account[3] += handed[z] * dt
                account[4 + z] += power[z] * dt
            for z in range(zones):
                follows = 1.0 - np.exp(-dt / gas.lag[z])
                reading[z] += follows * (probe(temperature[z], total[z] / weight[z]) - reading[z])
            conduct(
                enthalpy, solids.material, solids.volume, solids.first, solids.second,
                solids.near, solids.far, solids.lowest, solids.step, solids.temperatures,
                solids.conductivities, source, dt, stages, at, resists, capacity, stage_work,
            )  # fmt: skip
