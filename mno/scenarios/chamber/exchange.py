"""Heat between gas, surfaces and each other at one moment: a network of conductances.

Glossary; emissive powers are sigma T^4, W/m2, and conductances per emissive power are areas, m2
    radiosity  J of a face: what leaves it, emitted and reflected
    emitted    E of a face's surface, which has no heat capacity and a temperature of its own
    inner      E of what lies behind the surface: the cell's centre, or what it will be
    flame      E of the gas of each zone
    skin       area over `1/eps - 1`: between E and J of a face
    inside     between E of a face and `inner`: half a cell, in conduction
    film       between E of a face and `flame` of its zone: convection
    direct, absorbed   between faces, and between faces and gas (`view_factors.py`)

Conduction and convection go by temperatures. Between surfaces and gas, conductances per emissive
power are secants, `1 / (sigma (T1^2 + T2^2) (T1 + T2))`, exact for the temperatures they are made
of; of what lies behind a surface, and of what the flue takes, they are tangents, as Newton's method
has them. They are made anew until the gas stays as it is. With given conductances the radiosities
and flames solve a linear, symmetric, positive definite system: a face's E is eliminated, and
conjugate gradients begin from the moment before.

A zone's gas is stirred and stores no heat. Burners bring their power, and with it gases that come
in at ambient temperature, `flow` watts per kelvin for a watt; leaks bring more air. All gases pass
from zone to zone to the flue. Power follows from a set-point: it falls from full to none while the
reading of the zone's thermocouple rises through a band below the set-point. The reading
follows the gas and the radiosities around with a lag.

Heat goes pairwise, so none is lost, however far the iteration has come. What then is missing in the
balance of a zone's gas is handed on, for the next moment to make up for.
"""

import numpy as np

from mno.core.compiled import inlined

SIGMA = 5.670374419e-8  # Stefan and Boltzmann's constant, W m-2 K-4
COLDEST = SIGMA * 1e8
"""Emissive power below which nothing falls while the balance is looked for: that at 100 K."""
PROBE_EMISSIVITY = 0.8
PROBE_FILM = 60.0
"""Between a thermocouple's sheath and the gas, W m-2 K-1: thin ones have more than walls."""

RESIDUAL = 1e-4
"""Of conjugate gradients, relative: each round begins from the one before."""
MOST_ITERATIONS = 200
MOST_ROUNDS = 40
FULL_ROUNDS = 6
"""After these, rounds go half of their way: where power comes to an end of its band, they may go
back and forth."""


@inlined
def secant(first, second):
    """Return (T1 - T2) / (E1 - E2)."""
    return 1.0 / (SIGMA * (first * first + second * second) * (first + second))


@inlined
def temperature(emissive):
    """Return the temperature of a black body of that emissive power."""
    return np.sqrt(np.sqrt(emissive / SIGMA))


@inlined
def _behind(conductance, surface, inner):
    """Return the heat that goes into a cell as `a E - b`, W, by Newton's method: a, m2, and b."""
    slope = conductance / (4.0 * SIGMA * surface**3)
    return slope, slope * SIGMA * surface**4 - conductance * (surface - inner)


@inlined
def probe(gas, radiosity):
    """Return the temperature of a thermocouple between gas and surfaces, by its heat balance."""
    found = gas
    for _ in range(3):
        film = PROBE_FILM * secant(found, gas)
        flame = SIGMA * gas**4
        both = (PROBE_EMISSIVITY * radiosity + film * flame) / (PROBE_EMISSIVITY + film)
        found = temperature(max(both, COLDEST))
    return found


@inlined
def _product(starts, columns, direct, diagonal, ties, x, out):
    """Multiply by the matrix: faces first, the gas of each zone behind them.

    It is symmetric, and `direct` has its upper half.
    """
    faces, zones = ties.shape
    for i in range(faces + zones):
        out[i] = diagonal[i] * x[i]
    for i in range(faces):
        own, total = x[i], out[i]
        for p in range(starts[i], starts[i + 1]):
            other = columns[p]
            total -= direct[p] * x[other]
            out[other] -= direct[p] * own
        for z in range(zones):
            total -= ties[i, z] * x[faces + z]
            out[faces + z] -= ties[i, z] * own
        out[i] = total


@inlined
def _solve(starts, columns, direct, diagonal, ties, rhs, x, work):
    """Conjugate gradients from `x`, preconditioned by the diagonal."""
    residual, search, image = work[0], work[1], work[2]
    _product(starts, columns, direct, diagonal, ties, x, image)
    size, old = 0.0, 0.0
    for i in range(x.size):
        residual[i] = rhs[i] - image[i]
        search[i] = residual[i] / diagonal[i]
        old += residual[i] * search[i]
        size += rhs[i] * rhs[i] / diagonal[i]
    for _ in range(MOST_ITERATIONS):
        if old <= RESIDUAL * RESIDUAL * size:
            return
        _product(starts, columns, direct, diagonal, ties, search, image)
        along = 0.0
        for i in range(x.size):
            along += search[i] * image[i]
        step, new = old / along, 0.0
        for i in range(x.size):
            x[i] += step * search[i]
            residual[i] -= step * image[i]
            new += residual[i] * residual[i] / diagonal[i]
        for i in range(x.size):
            search[i] = residual[i] / diagonal[i] + new / old * search[i]
        old = new


@inlined
def power_of(reading, setpoint, band, most):
    """Return a zone's power by its thermocouple, W."""
    return most * min(max((setpoint - reading) / band, 0.0), 1.0)


@inlined
def exchange(
    starts, columns, direct, absorbed, area, emissivity, zone_of, film, inside, inner,
    setpoint, band, most_power, flow, leak, mixing, flue, ambient, reading, response, handed,
    surface, gas, solution, power, heat, flows, tolerance, work,
):  # fmt: skip
    """Find the balance; return how often conductances were made anew.

    Given are, beside the network: `inside`, W m-2 K-1, and `inner`, K, of each face; of each zone
    the set-point, the reading before and how far it follows (`response`, 0 to 1), and the watts
    `handed` on. In and out go `surface` and `gas`, K, and `solution`, radiosities and flames, W/m2.
    Out come the `power` of each zone, the `heat` that each face takes up, W, and the `flows`:
    the heat that leaves by the flue, and what is missing in each zone's balance. It ends where no
    gas has changed by more than `tolerance`, K.
    """
    faces, zones = absorbed.shape
    diagonal, rhs, skin = work[3], work[4], work[5]
    ties = work[6][: faces * zones].reshape(faces, zones)
    around, weight, before = work[7], work[8], work[9]
    rounds = 0
    while True:
        rounds += 1
        for z in range(zones):
            around[z] = weight[z] = 0.0
            diagonal[faces + z] = rhs[faces + z] = 0.0
        for i in range(faces):
            around[zone_of[i]] += area[i] * solution[i]
            weight[zone_of[i]] += area[i]
        for i in range(faces):
            z = zone_of[i]
            thermal, known = _behind(area[i] * inside[i], surface[i], inner[i])
            moved = area[i] * film * secant(surface[i], gas[z])
            skin[i] = area[i] * emissivity[i] / (1.0 - emissivity[i])
            total = skin[i] + thermal + moved
            diagonal[i] = area[i] + skin[i] * (thermal + moved) / total
            rhs[i] = skin[i] * known / total
            for other in range(zones):
                ties[i, other] = absorbed[i, other]
                diagonal[faces + other] += absorbed[i, other]
            ties[i, z] += skin[i] * moved / total
            diagonal[faces + z] += moved * (skin[i] + thermal) / total
            rhs[faces + z] += moved * known / total
        _gas_rows(
            setpoint, band, most_power, flow, leak, mixing, flue, ambient, reading, response,
            handed, gas, around, weight, power, diagonal[faces:], rhs[faces:],
        )  # fmt: skip
        for i in range(faces + zones):
            before[i] = solution[i]
        _solve(starts, columns, direct, diagonal, ties, rhs, solution, work)
        share = 1.0 if rounds <= FULL_ROUNDS else 0.5
        for i in range(faces + zones):
            solution[i] = before[i] + share * (solution[i] - before[i])
        change = 0.0
        for z in range(zones):
            found = temperature(max(solution[faces + z], COLDEST))
            change = max(change, abs(found - gas[z]) / share)
            gas[z] = found
        for i in range(faces):
            z = zone_of[i]
            thermal, known = _behind(area[i] * inside[i], surface[i], inner[i])
            moved = area[i] * film * secant(surface[i], gas[z])
            known += skin[i] * solution[i] + moved * solution[faces + z]
            surface[i] = temperature(max(known / (skin[i] + thermal + moved), COLDEST))
        if change <= tolerance or rounds == MOST_ROUNDS:
            break
    _take(
        starts, columns, direct, absorbed, area, zone_of, film, flow, leak, mixing, flue, ambient,
        handed, surface, gas, solution, power, heat, flows,
    )  # fmt: skip
    return rounds


@inlined
def _gas_rows(
    setpoint, band, most_power, flow, leak, mixing, flue, ambient, reading, response, handed,
    gas, around, weight, power, diagonal, rhs,
):  # fmt: skip
    """Add to the rows of the gas what burners, the flow to the flue and the mixing bring."""
    zones = gas.size
    for z in range(zones):
        flame = SIGMA * gas[z] ** 4
        seen = probe(gas[z], around[z] / weight[z])
        now = reading[z] + response[z] * (seen - reading[z])
        power[z] = power_of(now, setpoint[z], band, most_power[z])
        rhs[z] += power[z] + handed[z]
        if 0.0 < power[z] < most_power[z]:
            # Newton's method: power falls where the flame rises, and the surfaces along with it.
            higher = temperature(1.01 * flame)
            change = response[z] * (probe(higher, 1.01 * around[z] / weight[z]) - seen)
            # With the power fall the gases that burners bring, and the heat that warms them.
            slope = most_power[z] / band * change / (0.01 * flame)
            slope *= max(1.0 - flow * (gas[z] - ambient), 0.0)
            diagonal[z] += slope
            rhs[z] += slope * flame
        for other in (z - 1, z + 1):
            if 0 <= other < zones:
                tie = mixing * secant(gas[z], gas[other])
                diagonal[z] += tie
                rhs[z] += tie * SIGMA * gas[other] ** 4
    for z in range(zones):
        own, through = gases(z, power, flow, leak, flue)
        diagonal[z] += (own + through) / (4.0 * SIGMA * gas[z] ** 3)
        rhs[z] += own * ambient - 0.75 * (own + through) * gas[z]
        for other in (z - 1, z + 1):
            if 0 <= other < zones and (other < z <= flue or flue <= z < other):
                first, second = gases(other, power, flow, leak, flue)
                rhs[z] += (first + second) * gas[other]


@inlined
def gases(zone, power, flow, leak, flue):
    """Return what comes into a zone from outside, and from other zones, W/K."""
    own, through = flow * power[zone] + leak, 0.0
    for other in range(power.size):
        before = other < zone <= flue or flue <= zone < other
        if before:
            through += flow * power[other] + leak
    return own, through


@inlined
def _take(
    starts, columns, direct, absorbed, area, zone_of, film, flow, leak, mixing, flue, ambient,
    handed, surface, gas, solution, power, heat, flows,
):  # fmt: skip
    """Sum up pairwise what every face takes up, and what is missing of each zone's balance."""
    faces, zones = absorbed.shape
    for z in range(zones):
        flows[1 + z] = power[z] + handed[z]
    for i in range(faces):
        heat[i] = 0.0
    for i in range(faces):
        z, total = zone_of[i], heat[i]
        for p in range(starts[i], starts[i + 1]):
            given = direct[p] * (solution[columns[p]] - solution[i])
            heat[columns[p]] -= given
            total += given
        for other in range(zones):
            given = absorbed[i, other] * (solution[faces + other] - solution[i])
            flows[1 + other] -= given
            total += given
        moved = area[i] * film * (gas[z] - surface[i])
        flows[1 + z] -= moved
        heat[i] = total + moved
    for z in range(zones):
        own, through = gases(z, power, flow, leak, flue)
        out = (own + through) * (gas[z] - ambient)
        flows[1 + z] -= out
        if z == flue:
            flows[0] = out
        for other in (z - 1, z + 1):
            if 0 <= other < zones:
                flows[1 + z] += mixing * (gas[other] - gas[z])
                if other < z <= flue or flue <= z < other:  # its gases come here
                    first, second = gases(other, power, flow, leak, flue)
                    flows[1 + z] += (first + second) * (gas[other] - ambient)
