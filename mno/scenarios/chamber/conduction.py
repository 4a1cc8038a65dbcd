"""Conduction of heat in solids whose properties depend on temperature, by stabilised steps.

    dh/dt = div(kappa(T) grad T),    T = T(h)

The state is the enthalpy `h` of each cell, J/m3, above that at 0 degrees Celsius. Each material has
tables over equal steps of it: temperature and conductivity. So a peak of the heat capacity or the
latent heat of a melt is nothing special, and no heat is lost: what one cell gives, another takes.

A step is that of the second-order Runge-Kutta-Legendre method (Meyer, Balsara and Aslam 2014,
doi:10.1016/j.jcp.2013.08.021), explicit, of an odd number of stages `s` by which it may be
`(s^2 + s - 2) / 4` times as long as an explicit Euler step. Heat from surfaces is constant in it.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mno.core.compiled import inlined

ZERO_CELSIUS = 273.15
COLDEST, HOTTEST = 200.0, 2600.0
"""Temperatures that tables reach over, K."""
ENTRIES = 8192


class Table(NamedTuple):
    """What a material's cells are at each enthalpy, in `ENTRIES` equal steps."""

    lowest: float  # enthalpy of the first entry, J/m3
    step: float
    temperature: np.ndarray  # K
    conductivity: np.ndarray  # W m-1 K-1
    stiffest: float  # greatest conductivity over heat capacity, m2/s


def make_table(
    conductivity: Sequence[Sequence[float]],
    heat_capacity: Sequence[Sequence[float]],
    density: float,
    latent: Sequence[float] | None = None,
) -> Table:
    """Make a material's table of pairs of temperature, K, and value, linear between them.

    Heat capacity is in J kg-1 K-1 and density in kg/m3. Beyond the ends of a list its last values
    hold. `latent` is where melting begins and ends, K, and the heat it takes, J/kg.
    """
    fine = np.linspace(COLDEST, HOTTEST, 24_001)
    capacity = density * np.interp(fine, *np.transpose(heat_capacity))
    conducts = np.interp(fine, *np.transpose(conductivity))
    steps = 0.5 * (capacity[1:] + capacity[:-1]) * np.diff(fine)
    enthalpy = np.concatenate([[0.0], np.cumsum(steps)])
    if latent:
        begin, end, heat = latent
        enthalpy += density * heat * np.clip((fine - begin) / (end - begin), 0.0, 1.0)
    enthalpy -= np.interp(ZERO_CELSIUS, fine, enthalpy)
    entries = np.linspace(enthalpy[0], enthalpy[-1], ENTRIES)
    temperature = np.interp(entries, enthalpy, fine)
    step = float(entries[1] - entries[0])
    stiffest = float(np.max(conducts / capacity))
    return Table(
        float(entries[0]), step, temperature, np.interp(temperature, fine, conducts), stiffest
    )


def enthalpy_of(table: Table, temperature: np.ndarray) -> np.ndarray:
    """Return the enthalpy at which a table has a temperature."""
    entries = table.lowest + table.step * np.arange(ENTRIES)
    return np.interp(temperature, table.temperature, entries)


def stages_for(length: float, explicit: float) -> int:
    """Return how many stages a step of that length needs, given the longest explicit one."""
    stages = math.ceil(0.5 * (math.sqrt(9.0 + 16.0 * length / explicit) - 1.0))
    return max(3, stages + (stages + 1) % 2)


@inlined
def look_up(enthalpy, material, lowest, step, temperatures, conductivities, at, resists, capacity):
    """Fill temperature, thermal resistivity, m K/W, and heat capacity, J m-3 K-1, of cells."""
    last = temperatures.shape[1] - 2
    for c in range(enthalpy.size):
        m = material[c]
        place = (enthalpy[c] - lowest[m]) / step[m]
        entry = min(max(int(place), 0), last)
        share = place - entry
        below, rise = temperatures[m, entry], temperatures[m, entry + 1] - temperatures[m, entry]
        at[c] = below + share * rise
        under = conductivities[m, entry]
        resists[c] = 1.0 / (under + share * (conductivities[m, entry + 1] - under))
        capacity[c] = step[m] / max(rise, 1e-9)


@inlined
def _gain(first, second, near, far, at, resists, source, out):
    """Fill what every cell gains, W: heat from surfaces, and by conduction from its neighbours."""
    for c in range(source.size):
        out[c] = source[c]
    for n in range(first.size):
        a, b = first[n], second[n]
        heat = (at[b] - at[a]) / (near[n] * resists[a] + far[n] * resists[b])
        out[a] += heat
        out[b] -= heat


@inlined
def conduct(
    enthalpy, material, volume, first, second, near, far, lowest, step, temperatures,
    conductivities, source, length, stages, at, resists, capacity, work,
):  # fmt: skip
    """Advance the enthalpy of all cells by one step; `source` is what surfaces give each, W.

    `first` and `second` are the cells of each link, `near` and `far` their half widths over the
    link's area, 1/m. In `at`, `resists` and `capacity` are the cells' properties at its start;
    at its end those at the end.
    """
    begin, gain, now, before, again = work[0], work[1], work[2], work[3], work[4]
    _gain(first, second, near, far, at, resists, source, gain)
    share = 4.0 / (stages * stages + stages - 2.0)
    for c in range(enthalpy.size):
        begin[c] = before[c] = enthalpy[c]
        now[c] = enthalpy[c] + share / 3.0 * length * gain[c] / volume[c]
    b_before, b_last = 1.0 / 3.0, 1.0 / 3.0
    for j in range(2, stages + 1):
        b = (j * j + j - 2.0) / (2.0 * j * (j + 1.0))
        mu = (2.0 * j - 1.0) / j * b / b_last
        nu = -(j - 1.0) / j * b / b_before
        first_share, start_share = mu * share, -(1.0 - b_last) * mu * share
        look_up(now, material, lowest, step, temperatures, conductivities, at, resists, capacity)
        _gain(first, second, near, far, at, resists, source, again)
        for c in range(enthalpy.size):
            new = mu * now[c] + nu * before[c] + (1.0 - mu - nu) * begin[c]
            new += length * (first_share * again[c] + start_share * gain[c]) / volume[c]
            before[c], now[c] = now[c], new
        b_before, b_last = b_last, b
    for c in range(enthalpy.size):
        enthalpy[c] = now[c]
    look_up(enthalpy, material, lowest, step, temperatures, conductivities, at, resists, capacity)
